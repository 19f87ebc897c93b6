"""Requests whose answers may be kept, and what those answers say of it: `ttlMs`, `cacheScope`.

Pure: bytes in, keys and pieces out. Who may have what is kept is decided in `policy/caches`.

Spec: 2026-07-28, server/utilities/caching.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from mcp_types import CLIENT_INFO_META_KEY

from gateway.protocol.changes import Change
from gateway.protocol.messages import RequestId
from gateway.protocol.objects import Pairs, load_pairs
from gateway.protocol.outcomes import Rejected
from gateway.protocol.splices import Doubled, find

CACHEABLE_METHODS: Final = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"}
)
"""The specification lets `resources/read` be kept, too. It isn't: only who has subscribed to its URI hears of its changes."""


CHANGED_METHODS: Final[Mapping[Change, tuple[str, ...]]] = {
    Change.TOOLS: ("tools/list",),
    Change.PROMPTS: ("prompts/list",),
    Change.RESOURCES: ("resources/list", "resources/templates/list"),  # templates span the same resources
}

MAX_REQUEST_BYTES: Final = 4096
"""A list is asked for in some 300 bytes. The answer to a longer request isn't kept."""

_VOLATILE: Final = frozenset({CLIENT_INFO_META_KEY, "progressToken", "traceparent", "tracestate", "baggage"})
"""In `params._meta`, what a result doesn't depend on: servers SHOULD NOT change their behaviour by who the client says it
is (2026-07-28, RequestMetaObject), and the others are about the one request."""

_PER_CALL: Final = frozenset({"inputResponses", "requestState"})
"""Retries of a request that asked for input: their results MUST NOT be cached (2026-07-28, "Cache Key")."""

_ENVELOPE: Final = frozenset({"jsonrpc", "id", "method", "params"})
_ID: Final = re.compile(rb'"id"[ \t\r\n]*:[ \t\r\n]*(-?[0-9]+|"[^"]*")')
_ID_KEY: Final = b'"id"'


def normalize_request(body: bytes) -> bytes | None:
    """All of a request that its answer may depend on, alike where that is; None where its answer must not be kept.

    An object that has a key twice is such a case: the backend may read the copy that isn't read here, and others would then
    get the answer to another request than theirs.
    """
    if len(body) > MAX_REQUEST_BYTES:
        return None
    # Most requests of a client differ in their ids alone. Without escapes, a key that stands once is the one that was found.
    if b"\\" not in body and body.count(_ID_KEY) == 1 and (found := _ID.search(body)) is not None:
        return _normalize_known(body[: found.start(1)] + b"0" + body[found.end(1) :])
    return _normalize(body)


def _normalize(body: bytes) -> bytes | None:
    try:
        message = _plain(load_pairs(body))
    except (Rejected, Doubled, RecursionError):
        return None
    params = message.get("params", {}) if isinstance(message, dict) else None
    if not isinstance(params, dict) or not message.keys() <= _ENVELOPE or not _PER_CALL.isdisjoint(params):
        return None
    if isinstance(meta := params.get("_meta"), dict):
        params["_meta"] = {key: value for key, value in meta.items() if key not in _VOLATILE}
    return json.dumps(params, sort_keys=True, separators=(",", ":")).encode("ascii")


_normalize_known: Final = lru_cache(maxsize=1024)(_normalize)


def _plain(value: Any) -> Any:
    """The value with dicts for pairs. Raises `Doubled`."""
    if isinstance(value, Pairs):
        plain = {key: _plain(item) for key, item in value}
        if len(plain) < len(value):
            raise Doubled("a key stands twice")
        return plain
    return [_plain(item) for item in value] if isinstance(value, list) else value


Scope = Literal["public", "private"]


class _Hints(msgspec.Struct, gc=False):
    ttl_ms: int = msgspec.field(default=0, name="ttlMs")
    scope: str = msgspec.field(default="private", name="cacheScope")
    result_type: str = msgspec.field(default="complete", name="resultType")


_decode_hints: Final = msgspec.json.Decoder(_Hints).decode
_encode: Final = msgspec.json.Encoder().encode


class Cacheable(msgspec.Struct, frozen=True, gc=False):
    """A result that may be kept for a while, cut where its `ttlMs` stands, so that another can be put there."""

    before: bytes
    after: bytes
    ttl_ms: int  # more than 0
    scope: Scope

    def with_ttl(self, ttl_ms: int) -> tuple[bytes, ...]:
        """The result, which may be kept for so long, in pieces: it can be large, and is copied once, into a reply."""
        return self.before, b"%d" % ttl_ms, self.after

    def response(self, request_id: RequestId, ttl_ms: int) -> bytes:
        """The JSON-RPC response with that result."""
        return b'{"jsonrpc":"2.0","id":%b,"result":%b%d%b}' % (_encode(request_id), self.before, ttl_ms, self.after)


def parse_cacheable(result: bytes) -> Cacheable | None:
    """The result, if it may be kept: it is complete, and says for how long. Without a scope it is private."""
    try:
        hints = _decode_hints(result)
        ttl = find(result, "ttlMs")
    except (msgspec.MsgspecError, Doubled, UnicodeDecodeError, RecursionError):
        return None
    # An absent `ttlMs` counts as 0, a negative one too ("Time-to-Live (TTL) Field"); interim results have none.
    if ttl is None or hints.ttl_ms <= 0 or hints.result_type != "complete":
        return None
    scope: Scope = "public" if hints.scope == "public" else "private"
    return Cacheable(result[: ttl.start], result[ttl.end :], hints.ttl_ms, scope)


def parse_freshness(result: bytes) -> tuple[int, Scope]:
    """For how many milliseconds a result may be kept, and by whom; 0 where it may not."""
    cacheable = parse_cacheable(result)
    return (0, "private") if cacheable is None else (cacheable.ttl_ms, cacheable.scope)


def find_result(response: bytes) -> bytes | None:
    """The `result` object of a JSON-RPC response; None where it has none."""
    try:
        found = find(response, "result")
    except (msgspec.MsgspecError, Doubled, UnicodeDecodeError, RecursionError):
        return None
    return None if found is None else found.value
