"""What a result that the gateway makes itself carries besides its content: type, freshness, who made it, who is missing.

Spec: 2026-07-28, Result, CacheableResult, ResultMetaObject; legacy results have none of these but `_meta`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec
from mcp_types import SERVER_INFO_META_KEY

from gateway.protocol.versions import Era

Scope = Literal["public", "private"]

MAX_TTL_MS: Final = 24 * 3600 * 1000
"""A backend's `ttlMs` beyond a day is read as a day: what is kept for longer is a mistake nobody notices."""

LEFT_OUT_META_KEY: Final = "mcp-stateless-gateway/leftOut"
"""In `_meta`: the backends that are missing, each with why. A prefix is labels with dots, and should be a reversed domain
(2026-07-28, MetaObject); the project has no domain, so it is one label: the name of its distribution."""


LEFT_OUT_TTL_MS: Final = 5000
"""The longest that a result may be kept from which somebody is missing: who comes back is to be seen soon."""


class Malformed(Exception):
    """A backend's result isn't what its method's result must be; the message says how."""


class Freshness(NamedTuple):
    """How long a result may be kept, and whether by anybody (`public`) or for the one who asked (`private`)."""

    ttl_ms: int
    scope: Scope


STALE: Final = Freshness(0, "private")
"""Of a result that doesn't say: nobody may keep it."""


SILENT: Final = Freshness(0, "public")
"""Of one who has nothing to say: what others say holds."""


class ServerInfo(msgspec.Struct, frozen=True):
    """Who answers (Implementation)."""

    name: str
    version: str


def read_freshness(ttl_ms: object, scope: object) -> Freshness:
    """What a result says of itself. What isn't said, or is nonsense, is the careful value."""
    is_number = isinstance(ttl_ms, int) and not isinstance(ttl_ms, bool) and ttl_ms > 0
    kept = min(ttl_ms, MAX_TTL_MS) if is_number and isinstance(ttl_ms, int) else 0
    return Freshness(kept, "public" if scope == "public" else "private")


def merge_freshness(each: Iterable[Freshness]) -> Freshness:
    """Of a result made of several: the smallest `ttlMs` that isn't zero, none: 0; any `private` makes it `private`."""
    each = tuple(each)
    ttl_ms = min((one.ttl_ms for one in each if one.ttl_ms), default=0)
    is_public = bool(each) and all(one.scope == "public" for one in each)
    return Freshness(ttl_ms, "public" if is_public else "private")


_encode: Final = msgspec.json.Encoder().encode


def encode_result(
    content: Mapping[str, Any],
    era: Era,
    *,
    freshness: Freshness | None = None,
    server: ServerInfo | None = None,
    left_out: Mapping[str, str] | None = None,
) -> bytes:
    """A `result` object: the content, and what its era has besides. `left_out`: backend → why it is missing.

    Who is missing may depend on who asked: then it is private, and soon stale.
    """
    fields, meta = dict(content), dict[str, Any]()
    if era is Era.MODERN:
        fields["resultType"] = "complete"
        if freshness is not None and left_out:
            freshness = Freshness(min(freshness.ttl_ms, LEFT_OUT_TTL_MS), "private")
        if freshness is not None:
            fields["ttlMs"], fields["cacheScope"] = freshness
        if server is not None:
            meta[SERVER_INFO_META_KEY] = server
    if left_out:
        meta[LEFT_OUT_META_KEY] = dict(left_out)
    if meta:
        fields["_meta"] = meta
    return _encode(fields)
