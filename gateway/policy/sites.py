"""What the configuration says of the whole gateway, compiled for the way of a request.

A `Site` is immutable; a changed configuration is a new one, swapped in whole. An exchange that started with the old
one ends with it.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.policy.admissions import Admission
from gateway.policy.aggregates import Aggregate
from gateway.policy.audits import Auditing
from gateway.policy.backends import Backend
from gateway.policy.caches import CacheBounds
from gateway.policy.grants import Grants
from gateway.policy.quotas import NO_RATES, Rates

RESERVED_PATHS: Final = ("/health", "/livez", "/readyz", "/metrics", "/.well-known")
"""The gateway's own paths. A mount that would hide one of them is refused by `check`."""


class Limits(msgspec.Struct, frozen=True):
    """Bounds, in bytes and seconds. Beyond each: 413, 408, or a JSON-RPC error on the stream."""

    body_bytes: int = 4 * 1024 * 1024  # the SDK's own default
    answer_bytes: int = 64 * 1024 * 1024  # one JSON answer of a backend
    event_bytes: int = 16 * 1024 * 1024  # one SSE event of a backend
    body_seconds: float = 30.0  # for a client to send its body
    rates: Rates = NO_RATES  # of each caller, but where a backend has its own


class Cors(msgspec.Struct, frozen=True):
    """`origins` may hold "*". Only origins listed here (or the gateway's own) may call from a browser."""

    origins: frozenset[str] = frozenset()


class Site(msgspec.Struct, frozen=True):
    """All that the flow asks of the configuration."""

    backends: Mapping[str, Backend]
    routes: Mapping[str, Backend | Aggregate]  # every path that serves MCP, exactly as it stands in a request line
    aggregates: Mapping[str, Aggregate] = {}
    public_url: str | None = None
    admission: Admission | None = None  # None: nobody is asked who they are
    hosts: frozenset[str] = (
        frozenset()
    )  # allowed Host names, lower case, without port; empty: all (auth and Host are off)
    cors: Cors = Cors()
    trusted_proxies: tuple[str, ...] = ()  # CIDR
    expose_mounts: bool = False
    limits: Limits = Limits()
    grants: Grants | None = None  # None: whoever is let in may do everything
    cache: CacheBounds = CacheBounds()
    audit: Auditing | None = None  # None: nobody is told who called what
    digest: str = ""  # of the configuration, first 12 hexadecimal digits of SHA-256


def is_limited(site: Site) -> bool:
    """Whether anybody is held to a limit anywhere."""
    return site.limits.rates != NO_RATES or any(backend.rates != NO_RATES for backend in site.backends.values())


def compile_routes(backends: Iterable[Backend], aggregates: Iterable[Aggregate] = ()) -> dict[str, Backend | Aggregate]:
    """path → what is served there, for every spelling of a mount: `/echo/mcp`, `/echo`, each with and without a last slash.

    No redirect between them: backends that redirect `/mcp/` lose the prefix, and clients lose the body (facts.md).
    """
    routes: dict[str, Backend | Aggregate] = {}
    all_served: tuple[Backend | Aggregate, ...] = (*backends, *aggregates)
    for served in all_served:
        if served.mount is not None:
            routes |= dict.fromkeys(spell_mount(served.mount), served)
    return routes


def spell_mount(mount: str) -> tuple[str, ...]:
    """The paths that serve a mount. The root is no mount's alone, `/mcp` is the one at `/`."""
    prefix = mount.rstrip("/")
    paths = (f"{prefix}/mcp", f"{prefix}/mcp/")
    return (prefix, f"{prefix}/", *paths) if prefix else paths
