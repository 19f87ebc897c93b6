"""What may be kept of a backend's answers: for whom, for how long, and how much in all (design §10).

Pure. What the bytes say is read in `protocol/cacheables`; the keeping is `exchange/caches`.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from gateway.policy.backends import Backend
from gateway.protocol import headers as h
from gateway.protocol.cacheables import Cacheable


class CacheOutcome(StrEnum):
    """What the cache had for a request: the word in the log and in the metric."""

    HIT = "hit"
    COALESCED = "coalesced"  # the same was being asked: its answer served both
    MISS = "miss"  # asked, and kept
    UNKEPT = "unkept"  # asked, but the answer says that it is not to be kept, or it changed meanwhile
    BYPASS = "bypass"  # not looked up: the backend has `cache: off`, or the request is unlike those that are kept


class CacheBounds(msgspec.Struct, frozen=True):
    """Of one worker, all backends together. Beyond them what was longest not asked for goes first."""

    max_entries: int = 1024  # the pages of all lists of 100 backends, for 2 kinds of client
    max_bytes: int = 64 * 1024 * 1024


MAX_TTL_SECONDS: Final = 24 * 3600.0
"""Whatever a backend says: the bound that the SDK's client has, too."""

ENTRY_BYTES: Final = 1024
"""What an entry costs besides its bytes: key, headers, objects."""


Headers = tuple[tuple[bytes, bytes], ...]


class Asker(NamedTuple):
    """The authorization context in which something is asked."""

    principal: str
    headers: Headers = ()  # of the client's that reach the backend and might matter to it (`material_headers`)
    credential: str = ""  # of that principal's own, by which the backend knows it; "": the gateway's
    is_filtered: bool = False  # whether a grant leaves out some of what the backend answers


class Key(NamedTuple):
    """What must be the same for two requests to get one answer. `principal`: None where all get it.

    The backend's configuration isn't in it: what it changes is dropped.
    """

    backend: str
    method: str
    principal: str | None
    credential: str
    headers: Headers
    params: bytes  # normalized: with protocol version and capabilities, without what is volatile

    @property
    def shared(self) -> "Key":
        """The key of what is everybody's."""
        return self._replace(principal=None)


def key_for(backend: Backend, asker: Asker, method: str, params: bytes) -> Key:
    return Key(backend.name, method, asker.principal, asker.credential, asker.headers, params)


def may_share(backend: Backend, asker: Asker) -> bool:
    """Whether this asker may get what another was answered, and others its answer, once the backend calls it public.

    The backend's word alone doesn't suffice: one that is wrong would show one user's list to all.
    """
    return backend.trust_public and not asker.credential and not asker.is_filtered


def lifetime_seconds(backend: Backend, cacheable: Cacheable) -> float:
    """How long it is kept here. Clients are told what is left of the backend's own `ttlMs`."""
    cap = backend.caching.max_ttl_seconds
    return min(cacheable.ttl_ms / 1000, MAX_TTL_SECONDS, MAX_TTL_SECONDS if cap is None else cap)


_IMMATERIAL: Final = h.NOT_FORWARDED | {
    *(h.VERSION, h.METHOD, b"content-type", b"accept", b"user-agent", b"cache-control", b"pragma"),
    *(b"tracestate", b"baggage", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled"),
    *(b"uber-trace-id", b"x-amzn-trace-id", b"x-cloud-trace-context", b"x-datadog-trace-id", b"x-datadog-parent-id"),
    *(b"x-datadog-sampling-priority", b"x-correlation-id", b"x-request-start", b"cf-ray", b"cf-connecting-ip"),
    *(b"cf-visitor", b"cf-ipcountry", b"cdn-loop", b"true-client-ip", b"x-envoy-expected-rq-timeout-ms"),
    *(b"x-envoy-external-address", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-dest", b"priority", b"dnt"),
}
"""Request headers on which no list depends: the protocol's own, which stand in the body, too; and what tells of this one
request or its way here. Any other reaches the backend and may be a credential, such as an API key: it is part of the key."""


def material_headers(headers: h.Headers) -> Headers:
    """Of the client's headers those that may make a difference to the backend."""
    return tuple([header for header in headers if header[0] not in _IMMATERIAL])
