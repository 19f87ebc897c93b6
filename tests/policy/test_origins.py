"""Which hosts and origins may call, and what a browser is told."""

import pytest

from gateway.policy.origins import (
    LOOPBACK_HOSTS,
    cors_headers,
    host_name,
    is_host_allowed,
    is_origin_allowed,
    preflight_headers,
)
from gateway.policy.sites import Cors, Site
from tests.fakes import site_of
from tests.requirements import proves

LOOPBACK = site_of(hosts=LOOPBACK_HOSTS)
PUBLIC = site_of(public_url="https://mcp.example.com", hosts=frozenset({"mcp.example.com"}))
LISTED = site_of(hosts=frozenset({"mcp.example.com"}), cors=Cors(frozenset({"https://app.example.com"})))
ANY = site_of(hosts=frozenset({"mcp.example.com"}), cors=Cors(frozenset({"*"})))
OPEN = site_of()


@proves("HOST-1")
@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"Example.COM", "example.com"),
        (b"example.com:8080", "example.com"),
        (b"127.0.0.1:1", "127.0.0.1"),
        (b"[::1]", "::1"),
        (b"[::1]:8080", "::1"),
        (b"[2001:DB8::1]:443", "2001:db8::1"),
        (b" localhost ", "localhost"),
        (b"", ""),
        (b":80", ""),
        (b"[::1]evil.example", ""),
        (b"[::1", ""),
    ],
)
def test_a_host_header_is_a_name_and_perhaps_a_port(host: bytes, name: str) -> None:
    assert host_name(host) == name


@proves("HOST-1")
@pytest.mark.parametrize(
    ("site", "host", "is_allowed"),
    [
        (LOOPBACK, b"localhost:8080", True),
        (LOOPBACK, b"LOCALHOST", True),
        (LOOPBACK, b"127.0.0.1:8080", True),
        (LOOPBACK, b"[::1]:8080", True),
        (LOOPBACK, b"evil.example:8080", False),
        (LOOPBACK, b"localhost.evil.example", False),
        (LOOPBACK, b"[::1]evil.example", False),
        (LOOPBACK, b"", False),
        (LOOPBACK, None, False),
        (PUBLIC, b"mcp.example.com", True),
        (PUBLIC, b"mcp.example.com:443", True),
        (PUBLIC, b"localhost", False),
        (OPEN, b"anything", True),
        (OPEN, None, True),
    ],
)
def test_a_host_is_ours_or_refused(site: Site, host: bytes | None, is_allowed: bool) -> None:
    assert is_host_allowed(site, host) is is_allowed


@proves("HOST-2")
@pytest.mark.parametrize(
    ("site", "origin", "is_allowed"),
    [
        (LOOPBACK, b"http://localhost:6274", True),
        (LOOPBACK, b"http://127.0.0.1", True),
        (LOOPBACK, b"https://[::1]:3000", True),
        (LOOPBACK, b"http://evil.example", False),
        (LOOPBACK, b"http://localhost.evil.example", False),
        (LOOPBACK, b"http://evil.example#http://localhost", False),
        (LOOPBACK, b"null", False),
        (LOOPBACK, b"", False),
        (LOOPBACK, b"localhost", False),
        (LOOPBACK, b"http://[::1", False),
        (LOOPBACK, b"\xff", False),
        (PUBLIC, b"https://mcp.example.com", True),
        (PUBLIC, b"https://MCP.example.com", True),
        (PUBLIC, b"http://mcp.example.com", False),
        (PUBLIC, b"https://mcp.example.com:8443", False),
        (PUBLIC, b"http://localhost:3000", False),
        (PUBLIC, b"null", False),
        (LISTED, b"https://app.example.com", True),
        (LISTED, b"https://other.example.com", False),
        (LISTED, b"null", False),
        (ANY, b"https://other.example.com", True),
        (ANY, b"null", True),
        (OPEN, b"http://localhost:3000", False),
        (OPEN, b"https://other.example.com", False),
    ],
)
def test_an_origin_is_listed_ours_or_of_this_machine_while_we_serve_it(
    site: Site, origin: bytes, is_allowed: bool
) -> None:
    assert is_origin_allowed(site, origin) is is_allowed


@proves("HOST-2")
def test_a_public_url_with_a_path_and_the_default_port_is_the_same_origin() -> None:
    site = site_of(public_url="https://MCP.example.com:443/gateway/")
    assert is_origin_allowed(site, b"https://mcp.example.com")
    assert not is_origin_allowed(site, b"http://mcp.example.com")


@proves("HOST-2")
def test_a_public_gateway_that_also_answers_to_localhost_trusts_no_page_of_this_machine() -> None:
    site = site_of(public_url="https://mcp.example.com", hosts=LOOPBACK_HOSTS | {"mcp.example.com"})
    assert not is_origin_allowed(site, b"http://localhost:3000")


@proves("CORS-1")
def test_a_page_may_read_what_mcp_needs() -> None:
    assert cors_headers(b"https://app.example.com") == [
        (b"access-control-allow-origin", b"https://app.example.com"),
        (
            b"access-control-expose-headers",
            b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, X-Request-Id",
        ),
        (b"vary", b"Origin"),
    ]


ALWAYS = (
    b"accept, authorization, content-type, last-event-id, mcp-method, mcp-name%s, mcp-protocol-version, mcp-session-id, "
    b"traceparent, tracestate, x-api-key, x-request-id"
)


@proves("CORS-2")
@pytest.mark.parametrize(
    ("requested", "params"),
    [
        (None, b""),
        (b"", b""),
        (b"Content-Type, MCP-Protocol-Version", b""),
        (b"content-type,Mcp-Param-Region, mcp-param-user_id", b", mcp-param-region, mcp-param-user_id"),
        (b"x-evil, cookie, mcp-param-", b""),
        (b"mcp-param-a\r\nx: y, mcp-param-\xe4, mcp-param-a b, mcp-param-*", b""),
    ],
)
def test_a_preflight_allows_what_mcp_has(requested: bytes | None, params: bytes) -> None:
    assert preflight_headers(requested) == [
        (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
        (b"access-control-allow-headers", ALWAYS % params),
        (b"access-control-max-age", b"600"),
    ]
