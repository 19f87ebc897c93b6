"""The schema: every key in Redis, with type, owner and lifetime. Nothing else makes a key.

Each begins with the format's version, so that releases of two formats can share a Redis and never read each other's.
What stands in braces is the hash tag: keys with the same one live on the same node of a Redis Cluster, and so in reach of
one script. No script spans two tags. Every key expires.
"""

import hashlib
import zlib
from typing import Final

from gateway.policy.streams import Owner, SessionDigest
from gateway.ports import BucketName
from gateway.protocol.cursors import NAME_CHARS, StreamName

FORMAT: Final = "mcpgw:1"

WAKE_CHANNELS: Final = 64
"""Channels of each kind on which followers are woken. A fixed set, so that a worker's subscriptions are bounded; several, so
that it isn't woken for every stream of the fleet."""


def log_key(stream: StreamName) -> str:
    """Redis Stream: one entry an event, `<seq>-<epoch>`, one field `p`: the sealed event.

    Owner: the pump. Lives as long as `facts_key`.
    """
    return f"{FORMAT}:log:{{{stream}}}"


def facts_key(stream: StreamName) -> str:
    """Hash: all else about a stream (its fields: `scripts.py`).

    Owner: the pump; a takeover hands it on. Lives `Bounds.live_seconds` after it was last appended to or kept, and
    `Bounds.finished_seconds` once it is finished.
    """
    return f"{FORMAT}:facts:{{{stream}}}"


def ended_key(session: SessionDigest, request_id: bytes | None) -> str:
    """String `1`: this request was cancelled; without an id: the session was deleted.

    Owner: whoever was told by the client. Lives `Bounds.mark_seconds`. The id is the client's, of any length: a digest.
    """
    what = "*" if request_id is None else hashlib.blake2b(request_id, digest_size=16).hexdigest()
    return f"{FORMAT}:ended:{{{session}}}:{what}"


def standing_key(session: SessionDigest) -> str:
    """Hash: the session's standalone stream (`stream`, `turn`, `seq` and `epoch` of what was delivered, `follower`).

    Owner: the follower whose turn it is, and the pump. Lives `Bounds.live_seconds` after it was last kept.
    """
    return f"{FORMAT}:standing:{{{session}}}"


def healed_key(session: SessionDigest) -> str:
    """String: the session that stands in for one that its backend forgot, sealed.

    Owner: the worker that healed it. Lives `HEALED_SECONDS` after it was last needed by a worker that didn't know it.
    """
    return f"{FORMAT}:healed:{{{session}}}"


def healing_key(session: SessionDigest) -> str:
    """String, random: some worker is healing this session. Owner: that worker. Lives `CLAIM_SECONDS`."""
    return f"{FORMAT}:healing:{{{session}}}"


def beat_key(owner: Owner) -> str:
    """String `1`: this worker lives.

    Owner: the worker. Lives one TTL of the heartbeats. All on one node, so that one look sees them as one server has them.
    """
    return f"{FORMAT}:beat:{{owners}}:{owner}"


def bucket_key(bucket: BucketName) -> str:
    """Hash: what one caller has left of one limit (its fields: `quota_scripts.py`).

    Owner: nobody; every worker leases from it. Lives until it would be full (`keep_seconds`), which is as if it weren't there.
    """
    return f"{FORMAT}:bucket:{{{bucket}}}"


def places_key(bucket: BucketName) -> str:
    """Hash: by worker, how many places of one limit it has for what goes on at once, and until when (`count until`).

    Owner: each worker of its own field. Lives `RESERVED_SECONDS` after the last reservation.
    """
    return f"{FORMAT}:places:{{{bucket}}}"


def workers_key() -> str:
    """Sorted set: the workers that hold limits, by when they count as gone. Owner: all. Lives `COUNTED_SECONDS`."""
    return f"{FORMAT}:workers:{{limits}}"


def wake_channel(name: str) -> str:
    """The pub/sub channel on which `name`, a stream or a session, is called when there is something new.

    Streams have channels apart, known by the length of their names: each event of the fleet is called out on one, and a
    worker that only waits for what seldom comes, the end of a call, isn't to hear them.
    """
    kind = "log" if len(name) == NAME_CHARS else "word"
    return f"{FORMAT}:wake:{kind}:{zlib.crc32(name.encode()) % WAKE_CHANNELS}"
