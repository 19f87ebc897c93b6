"""What outlives a request, for all replicas: the log of resumable streams, marks of sessions, healings, heartbeats."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NewType, Protocol

import msgspec

from gateway.policy.quotas import Lease, Rate
from gateway.policy.reservations import Reservation
from gateway.policy.streams import (
    NOBODY,
    AppendResult,
    Census,
    Facts,
    Hold,
    Owner,
    Reading,
    Refusal,
    SessionDigest,
    Sighting,
    Standing,
    State,
    Takeover,
)
from gateway.protocol.cursors import Cursor, StreamName


class EventLog(Protocol):
    """The events of resumable streams: dense, sealed, kept for a while, and written by one hold at a time.

    To ask anything again is harmless. Nothing waits longer than 250 ms for a log that doesn't answer: it raises `LogAway`.
    """

    async def create(
        self,
        hold: Hold,
        facts: Facts,
        events: Sequence[bytes],
        *,
        upstream_cursor: bytes = b"",
        is_final: bool = False,
        request: bytes = b"",
    ) -> AppendResult:
        """Begins a stream with these events, numbered from 1. OK, FENCED (the name is another's), FULL or AWAY; never raises."""

    async def append(
        self,
        hold: Hold,
        first_seq: int,
        events: Sequence[bytes],
        *,
        upstream_cursor: bytes = b"",
        is_final: bool = False,
        is_across_hole: bool = False,
    ) -> AppendResult:
        """Adds the events, the first of them as number `first_seq`: all of them or none; those that are there are skipped.

        `upstream_cursor`: the last id the backend gave; empty leaves the one from before. `is_final`: nothing comes behind
        them. `is_across_hole`: events between the head and `first_seq` are lost for good; those before them are dropped,
        so that no reader is led across. Never raises: every `Appended` is possible.
        """

    async def read(
        self, stream: StreamName, after: Cursor, limit_events: int = 512, limit_bytes: int = 1024 * 1024
    ) -> Reading | None:
        """What stands behind `after`, at least one entry where there is one; None where there is no such log."""

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        """Makes the stream ours, unless it has changed hands since `expected_epoch`. From then on older holds are FENCED."""

    async def take_request(self, hold: Hold) -> bytes:
        """The request that `create` was given, for the first who asks; b"" for all others, and where the stream isn't ours.

        The upstream cursor goes with it: whoever takes over from now on can neither run the call again nor resume it.
        """

    async def release(self, hold: Hold) -> bool:
        """Gives the stream up, so that anybody may take it over at once. False: it isn't ours any more."""

    async def finish(self, hold: Hold, state: State = State.FINISHED) -> bool:
        """Ends the stream without a further event, FINISHED or LOST. False: it isn't ours any more, or has ended."""

    async def keep(self, streams: Collection[StreamName]) -> frozenset[StreamName]:
        """Puts off the end of streams that are still pumped or followed; those of them that are gone."""

    def wake(self, name: StreamName | SessionDigest, ring: Callable[[], None]) -> Callable[[], None]:
        """Calls `ring` when the stream, or the session, has something new. Hang it first, and read then. Undone by the result.
        It also rings when something may have been missed. Look every few seconds all the same.
        """


class Marks(Protocol):
    """What is known of a legacy session beside its streams, by all replicas. Raises `LogAway`, waits as `EventLog` does."""

    async def mark_ended(self, session: SessionDigest, request_id: bytes | None) -> None:
        """The request was cancelled (its id as JSON), or the whole session deleted (None). Wakes who waits for the session."""

    async def is_ended(self, session: SessionDigest, request_id: bytes | None) -> bool:
        """Whether the request was cancelled or its session deleted."""

    async def join(
        self,
        session: SessionDigest,
        candidate: StreamName,
        replacing: StreamName | None = None,
        follower: Owner = NOBODY,
    ) -> Standing:
        """The session's standalone stream: the one there is, else `candidate`; and a turn that ends all earlier ones.

        `replacing`: a stream that was found to be gone, instead of which the candidate is to stand. `follower`: who feeds
        the client from now on. Wakes the session.
        """

    async def standing(self, session: SessionDigest) -> Standing | None:
        """Which one it is now."""

    async def deliver(self, session: SessionDigest, standing: Standing) -> bool:
        """Notes how far the client has had it, and who feeds it; wakes the session where nobody does any more.

        False: another has the turn, or nothing is known of it.
        """

    async def keep_standing(self, sessions: Collection[SessionDigest]) -> Census:
        """Puts off the end of what is known of these sessions' standalone streams, and says what that is."""

    async def leave(self, session: SessionDigest, stream: StreamName, turn: int | None = None) -> bool:
        """The session has no standalone stream any more, if that was it, and `turn` the last one. Wakes the session.

        False: another stream stands there, or another turn was taken.
        """


class Remedy(msgspec.Struct, frozen=True):
    """What is known of a session that its backend forgot. `healed`: what stands in for it, sealed by the caller."""

    state: Literal["known", "mine", "busy"]  # `mine`: the caller is to heal it; `busy`: another worker is at it
    healed: bytes = b""


class Healings(Protocol):
    """Which sessions were healed, by all replicas, and who heals one now. Raises `LogAway`, waits as `EventLog` does."""

    async def begin(self, session: SessionDigest, failed: bytes, claim: str) -> Remedy:
        """What stands in for the session, other than what `failed`; else whose it is to find out."""

    async def end(self, session: SessionDigest, claim: str, healed: bytes) -> None:
        """What was found, for all; empty: nothing. Ignored where the claim has expired."""


class Invalidations(Protocol):
    """What has changed, for all workers that may keep something of it."""

    async def tell(self, name: str) -> None:
        """All workers hear of it, this one too. Raises `LogAway`, waits as `EventLog` does."""

    def hear(self, name: str, take: Callable[[], None]) -> Callable[[], None]:
        """Calls `take` when that is told, and when it may have been told unheard. Undone by the result."""


class Heartbeats(Protocol):
    """Which workers live. Raises `LogAway`, waits as `EventLog` does."""

    async def beat(self, owner: Owner) -> None:
        """This worker lives, for another TTL."""

    async def look(self, owners: Collection[Owner]) -> Sighting:
        """Whose heartbeat is absent, as one server has it."""


BucketName = NewType("BucketName", str)  # a digest of the limit, its rate, and whom it holds


class Quotas(Protocol):
    """What callers have left of their limits, for all workers. Raises `LogAway`, waits as `EventLog` does.

    To ask again is harmless: what was granted unheard is forgotten, and admits nothing.
    """

    async def lease(self, bucket: BucketName, rate: Rate, needed: int, wanted: int) -> Lease:
        """At least `needed` tokens of that bucket, and up to `wanted`; or none, and how long to wait."""

    async def reserve(self, bucket: BucketName, worker: Owner, wanted: int, limit: int) -> Reservation:
        """Up to `wanted` of `limit` places for the worker, instead of those that it had, for `RESERVED_SECONDS`."""

    async def count(self, worker: Owner) -> int:
        """This worker is there, and how many there are with it."""
