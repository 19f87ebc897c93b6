"""Resumable streams as values: what a log is asked and what it answers, whoever keeps it. Design §7.

Nothing here knows Redis. A log answers with these values, and with `LogAway` where it can't be asked; nobody above it
sees another error. Times are seconds, sizes bytes.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, NewType

import msgspec

from gateway.protocol.cursors import START, Cursor, StreamName

SessionDigest = NewType("SessionDigest", str)
"""What stands for a session in keys: a digest, so that a look into Redis gives nobody a session."""

Owner = NewType("Owner", str)
"""One worker incarnation: a random name, made at boot."""

NOBODY: Final = Owner("")
"""The owner of a stream that was released: anybody may take it over at once."""

BATCH_EVENTS: Final = 512
BATCH_BYTES: Final = 1024 * 1024
"""What one append should hold at most: a larger one keeps Redis, which does one thing at a time, from everybody else."""


class Bounds(msgspec.Struct, frozen=True):
    """How much is kept, and how long. Beyond the first two the oldest events go; whoever still needs them is told."""

    events: int = 10_000
    bytes: int = 16 * 1024 * 1024
    finished_seconds: float = 300.0
    live_seconds: float = 420.0  # `finished_seconds`, and the time between two refreshings (`keep_seconds`)
    keep_seconds: float = 120.0
    mark_seconds: float = 900.0  # longer than any stream lives that nobody appends to
    budget_bytes: int | None = None  # for the fleet, as Redis counts it; None: what Redis has (`maxmemory`)


MEMORY_BUDGET_BYTES: Final = 256 * 1024 * 1024
"""The budget where streams are kept in the gateway's own memory, and none is told."""

MAX_ORPHANS: Final = 4096
"""Pumps of one worker that no client follows there: each costs a task and a connection to its backend. So high, because all
clients are away for some seconds when the load balancer in front is restarted."""

CREATE_SHARE: Final = 0.9
"""Of the budget: beyond it no stream begins, so that those under way have room to end. At 1 appends are refused too."""


class Facts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What never changes of a stream. Sealed in Redis: `upstream_session` is a secret, and `principal` a person."""

    session: SessionDigest
    principal: str
    mount: str
    backend: str
    endpoint: str  # its address; empty where any will do
    upstream_session: str  # empty where the backend keeps none
    version: str  # the session's protocol version
    request_id: bytes = b""  # as JSON; empty for a standalone stream, which answers no request
    began_at: float = 0.0  # seconds since 1970, where it began; 0: by a release that doesn't say
    shown_version: str = ""  # what the client of an aggregate was told, where that is another than `version`


class Hold(msgspec.Struct, frozen=True, gc=False):
    """The right to append to a stream. It is one worker's, until a takeover makes another one."""

    stream: StreamName
    epoch: int
    owner: Owner


class Trouble(StrEnum):
    """Why a log can't do what it is asked. A closed list: it labels metrics."""

    AWAY = "away"  # no answer, no connection, or a Redis that is loading or has no primary
    READ_ONLY = "read_only"  # a replica, or a primary that was demoted
    FULL = "full"  # out of memory, or over the budget
    REFUSED = "refused"  # any other error that Redis answered


class Ailment(NamedTuple):
    """What is wrong with one Redis server, and since when."""

    node: str  # host and port, or Sentinel's service
    trouble: Trouble
    detail: str
    seconds: float  # for how long


class LogAway(Exception):
    """The log can't be asked now. Whether something that was asked was done is not known; to repeat it is harmless."""

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        super().__init__(f"{trouble}: {detail}" if detail else str(trouble))
        self.trouble = trouble


class State(StrEnum):
    OPEN = "open"
    FINISHED = "finished"
    LOST = "lost"  # it ends here, and something that belonged behind it is gone


class Appended(StrEnum):
    """What became of an append: all of it or nothing. AWAY alone leaves open which."""

    OK = "ok"
    FENCED = "fenced"  # the hold is no longer good: another has taken over, or the stream was released or finished
    HOLE = "hole"  # the log lacks events before this append's first
    LOST = "lost"  # the log is gone
    FULL = "full"  # no room: nothing was written
    AWAY = "away"


class AppendResult(NamedTuple):
    outcome: Appended
    head: int = 0  # the last event's number, where the log could be asked and exists


class Entry(NamedTuple):
    cursor: Cursor
    payload: bytes


class Reading(msgspec.Struct, frozen=True):
    """A log as it stands, and what is in it behind a cursor."""

    entries: tuple[Entry, ...]
    is_continuous: bool  # False: the cursor is no event of this log, so that what is missing can't be told
    head: Cursor
    floor: Cursor  # of the event before the oldest one that is kept; START where none was trimmed
    state: State
    epoch: int
    owner: Owner
    upstream_cursor: bytes  # the last id that the backend gave; empty where it gave none
    facts: Facts

    @property
    def is_at_end(self) -> bool:
        """Whether nothing can come behind these entries."""
        return self.state is not State.OPEN and (not self.entries or self.entries[-1].cursor == self.head)


class Takeover(msgspec.Struct, frozen=True):
    """A stream that is ours now."""

    hold: Hold
    head: Cursor
    upstream_cursor: bytes
    facts: Facts


class Refusal(StrEnum):
    """Why a stream can't be taken over."""

    LOST = "lost"
    FENCED = "fenced"  # another was first
    ENDED = "ended"


class Standing(msgspec.Struct, frozen=True):
    """Which stream is a session's standalone one, and whose turn it is to follow it."""

    stream: StreamName
    turn: int  # the newest GET has the highest
    delivered: Cursor = START  # up to here the session's client has had it
    follower: Owner = NOBODY  # the worker that feeds the client; NOBODY once the client has left


class Census(NamedTuple):
    """What is known of some sessions' standalone streams."""

    standing: Mapping[SessionDigest, Standing]  # of those that have one
    ended: frozenset[SessionDigest]  # those that were deleted


class Sighting(NamedTuple):
    """One look at the heartbeats."""

    server: str  # which server answered: another one may have lost them
    absent: frozenset[Owner]


def share_of_room(used_bytes: int, max_bytes: int, fleet_bytes: int, budget_bytes: int | None) -> float:
    """How much of the room for streams is used on one Redis server, 1 being all of it.

    `used_bytes` of `max_bytes` is that server's own count (0: it has no `maxmemory`); `fleet_bytes` that of all servers. 1
    comes a tenth before a server is full, so that heartbeats and takeovers still find room when streams no longer do.
    """
    of_server = used_bytes / (0.9 * max_bytes) if max_bytes else 0.0
    of_budget = fleet_bytes / budget_bytes if budget_bytes else 0.0
    return max(of_server, of_budget)
