"""What the configuration says of one backend: frozen shapes, no behaviour beyond reading them.

Times are seconds, sizes bytes. Nothing here knows whether an endpoint is alive: that is `upstream/`.
"""

from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from gateway.policy.quotas import NO_RATES, Rates

Address = str
"""An endpoint's URL, the name by which pools, balancers and session tokens know it: `http://10.0.0.7:9000/mcp`."""

EraChoice = Literal["auto", "legacy", "modern", "dual"]

Reexecute = Literal["never", "read_only"]
"""Which lost calls are run once more. `read_only` trusts what the backend's annotations say of its tools."""


class Timeouts(msgspec.Struct, frozen=True):
    """`idle` is reset by every byte that arrives from the backend (progress); `total` is not."""

    connect_seconds: float = 3.0
    idle_seconds: float = 300.0
    total_seconds: float = 3600.0


class Tls(msgspec.Struct, frozen=True):
    """How the gateway proves the backend, and itself to the backend. Paths of PEM files; None: the system's roots."""

    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    server_name: str | None = None  # for SNI and verification, where it isn't the URL's host
    digest: str = ""  # of the files' contents: a renewed certificate makes another `Tls`, and so another TLS context


class HealthCheck(msgspec.Struct, frozen=True):
    """An active check: GET `path` on each endpoint's host; below 500 is healthy. Off unless configured."""

    path: str = "/"
    interval_seconds: float = 10.0
    timeout_seconds: float = 2.0


class Ejection(msgspec.Struct, frozen=True):
    """Passive ejection: after `failures` in a row an endpoint rests for `rest_seconds`, doubled up to `max_rest_seconds`."""

    failures: int = 5
    rest_seconds: float = 1.0
    max_rest_seconds: float = 60.0


class Caching(msgspec.Struct, frozen=True):
    """Whether discovery and lists are kept, and for how long at most; None: for as long as the backend says."""

    is_on: bool = True
    max_ttl_seconds: float | None = None


class Backend(msgspec.Struct, frozen=True):
    """One MCP server behind the gateway: one or more endpoints that serve the same thing."""

    name: str
    endpoints: tuple[Address, ...]
    mount: str | None = None  # "/echo"; None hides it
    era: EraChoice = "auto"
    resolve: Literal["none", "dns"] = "none"
    resolve_seconds: float = 5.0
    timeouts: Timeouts = Timeouts()
    tls: Tls = Tls()
    proxy: str | None = None  # http://[user:password@]host:port, for CONNECT (https) or absolute-form (http)
    headers: tuple[tuple[str, str], ...] = ()  # set on every upstream request, replacing the client's
    ejection: Ejection = Ejection()
    health_check: HealthCheck | None = None
    max_connections: int = 1024  # calls per endpoint and worker; beyond it OVERLOADED. Standing streams don't count
    heal: bool = True
    allow_link_local: bool = False  # whether it may be at an address of `policy/addresses`
    reexecute: Reexecute = "never"
    caching: Caching = Caching()
    rates: Rates = NO_RATES  # of each caller; each of them stands in the place of the site's
    trust_public: bool = False  # whether what it calls public is shared between principals


class Endpoint(msgspec.Struct, frozen=True):
    """One place to dial. With `resolve: dns` the address has the resolved IP, and `host_header` still the configured host."""

    address: Address
    tls: bool
    host: str  # what to dial: a name or an IP, IPv6 without brackets
    port: int
    target: bytes  # path and query for the request line
    host_header: bytes
    server_name: str  # SNI, and the name that the certificate must have


_DEFAULT_PORT: Final = {"http": 80, "https": 443}


def parse_endpoint(url: Address, *, ip: str | None = None, server_name: str | None = None) -> Endpoint:
    """The endpoint that `url` names, dialled at `ip` instead of its host where given.

    Raises ValueError, with a sentence, for anything but an absolute http(s) URL without credentials or fragment.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an endpoint's URL must not carry credentials: use `headers:` with a secret")
    if parts.fragment or any(c.isspace() or ord(c) < 0x21 or ord(c) > 0x7E for c in url):
        raise ValueError(f"{url!r} must be plain ASCII without a fragment or white space")
    port = parts.port or _DEFAULT_PORT[parts.scheme]  # .port raises ValueError itself when it isn't a number
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.hostname
    netloc = parts.netloc
    address = url
    if ip is not None:
        bracketed = f"[{ip}]" if ":" in ip else ip
        address = f"{parts.scheme}://{bracketed}:{port}{target}"
    return Endpoint(
        address=address,
        tls=parts.scheme == "https",
        host=ip or host,
        port=port,
        target=target.encode("ascii"),
        host_header=netloc.encode("ascii"),
        server_name=server_name or host,
    )
