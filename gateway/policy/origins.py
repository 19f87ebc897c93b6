"""Which hosts and origins may call, and what a browser is told about it.

Host and Origin are checked here, against the configuration alone, so that a page that rebinds its name to this address
gets nowhere (DNS rebinding; 2025-11-25, basic/transports "Security Warning"). Backends never see the client's Origin.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from gateway.policy.sites import Site
from gateway.protocol.headers import Headers

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_ALLOWED_METHODS: Final = b"GET, POST, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = frozenset(
    {
        *(
            "accept",
            "authorization",
            "content-type",
            "last-event-id",
            "traceparent",
            "tracestate",
            "x-request-id",
            "x-api-key",
        ),
        *("mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name"),
    }
)
_PARAM_PREFIX: Final = "mcp-param-"
_EXPOSED: Final = b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, X-Request-Id"
_MAX_AGE_SECONDS: Final = b"600"


@lru_cache(maxsize=256)  # clients call us by few names
def host_name(host: bytes) -> str:
    """The name in a Host header: lower case, without port and without the brackets of an IPv6 address; "" for nonsense."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        return name if bracket and port[:1] in ("", ":") else ""
    return text.partition(":")[0]


def is_host_allowed(site: Site, host: bytes | None) -> bool:
    """Whether a request with this Host header is meant for us. A site without hosts takes any."""
    return not site.hosts or (host is not None and host_name(host) in site.hosts)


def is_origin_allowed(site: Site, origin: bytes) -> bool:
    """Whether a page of this origin may call: listed, our own, or of this machine while we serve this machine only."""
    text = origin.decode("latin-1").strip().lower()
    if text in site.cors.origins or "*" in site.cors.origins:
        return True
    if site.public_url is not None and text == _origin_of(site.public_url):
        return True
    try:
        name = urlsplit(text).hostname
    except ValueError:
        return False
    return name in LOOPBACK_HOSTS and _serves_loopback_only(site)


def _serves_loopback_only(site: Site) -> bool:
    if site.public_url is not None and urlsplit(site.public_url).hostname not in LOOPBACK_HOSTS:
        return False  # we listen on loopback behind a proxy that serves the world
    return site.hosts >= LOOPBACK_HOSTS


_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def _origin_of(url: str) -> str:
    """As a browser writes it (RFC 6454 §6.2): lower case, without the scheme's own port."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ':'))}"


def cors_headers(origin: bytes) -> Headers:
    """What every reply to an allowed origin carries, errors included: else the page can't read why it failed."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


def preflight_headers(requested: bytes | None) -> Headers:
    """The answer to a CORS preflight; of the headers that it asks for those that MCP has, `Mcp-Param-*` included."""
    names = [name.strip().lower() for name in (requested or b"").decode("latin-1").split(",")]
    allowed = sorted({name for name in names if name in _REQUEST_HEADERS or _is_param(name)} | _REQUEST_HEADERS)
    return [
        (b"access-control-allow-methods", _ALLOWED_METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode("latin-1")),
        (b"access-control-max-age", _MAX_AGE_SECONDS),
    ]


def _is_param(name: str) -> bool:
    parameter = name.removeprefix(_PARAM_PREFIX)
    return parameter != name and parameter.isascii() and parameter.replace("-", "").replace("_", "").isalnum()
