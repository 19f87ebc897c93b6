"""URIs, metadata and challenges of protected resources."""

import json

import pytest

from gateway.protocol.resources import (
    encode_metadata,
    insufficient_scope,
    metadata_url,
    resource_of,
    spell_resource,
    unauthenticated,
)


@pytest.mark.parametrize(
    ("public_url", "mount", "resource"),
    [
        ("https://mcp.test", "/echo", "https://mcp.test/echo/mcp"),
        ("https://mcp.test", "/", "https://mcp.test/mcp"),
        ("https://mcp.test:8443", "/team/weather", "https://mcp.test:8443/team/weather/mcp"),
        (None, "/echo", ""),
    ],
)
def test_a_mount_has_one_canonical_uri(public_url: str | None, mount: str, resource: str) -> None:
    assert resource_of(public_url, mount) == resource


def test_all_spellings_of_a_mount_are_one_resource() -> None:
    echo = "https://mcp.test/echo"
    assert spell_resource(f"{echo}/mcp") == (f"{echo}/mcp", f"{echo}/mcp/", echo, f"{echo}/")
    assert spell_resource("https://mcp.test/mcp") == ("https://mcp.test/mcp", "https://mcp.test/mcp/")
    assert spell_resource("") == ()


def test_the_metadata_are_between_host_and_path() -> None:
    assert metadata_url("https://a.test:1/b/mcp") == "https://a.test:1/.well-known/oauth-protected-resource/b/mcp"


def test_the_metadata_name_the_issuers() -> None:
    document = json.loads(encode_metadata("https://a.test/b/mcp", ["https://i.test"], ["x", "y"], "b"))
    assert document == {
        "resource": "https://a.test/b/mcp",
        "authorization_servers": ["https://i.test"],
        "bearer_methods_supported": ["header"],
        "resource_name": "b",
        "scopes_supported": ["x", "y"],
    }
    assert "scopes_supported" not in json.loads(encode_metadata("https://a.test/b/mcp", ["https://i.test"], [], "b"))


def test_a_challenge_holds_nothing_that_could_break_out_of_it() -> None:
    denied = unauthenticated("https://a.test/b/mcp", ["x"], trouble='a "b" \\ \r\n é')
    (name, value), *_ = denied.headers
    assert name == b"www-authenticate"
    assert value == (
        b'Bearer resource_metadata="https://a.test/.well-known/oauth-protected-resource/b/mcp", error="invalid_token", '
        b"error_description=\"a 'b' ' '' '\", scope=\"x\""
    )


def test_a_scope_challenge_names_each_needed_scope_once() -> None:
    denied = insufficient_scope("", ["b", "a", "b"])
    assert denied.headers[0][1].endswith(b'scope="a b"')
    assert denied.http_status == 403
