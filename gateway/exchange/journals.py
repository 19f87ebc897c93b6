"""What a pump writes down before its client sees it: the log of one stream, from its first event to its last.

A client never holds an event that the log doesn't, except while Redis is away: then the attached client is served on, the
events keep their ids, and a bounded tail of them waits to be written when Redis is back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.policy.streams import BATCH_BYTES, BATCH_EVENTS, Appended, Facts, Hold, LogAway
from gateway.ports import EventLog
from gateway.protocol.cursors import Cursor, encode_event_id
from gateway.protocol.events import PRIMER, with_id

VERSION_WITH_PRIMERS: Final = "2025-11-25"
"""From this version on a stream begins with an event that has an id and no data (basic/transports "Sending Messages" 6);
older clients would take it for a message."""

RETRY_SECONDS: Final = 3.0
"""How long clients wait before each attempt to come back, unless the backend wishes otherwise. The SDKs try twice; by themselves
they have done so after 2 to 2.5 s, when a killed replica may not be up again, nor its balancer know."""

BEHIND_SECONDS: Final = 1.0
"""How soon what waits for Redis is written again, while the backend is silent."""

PATIENCE_SECONDS: Final = 60.0
"""How long a finished stream whose end isn't in the log yet is kept trying. Beyond it whoever follows it may ask the backend."""


class Fenced(Exception):
    """Another worker has taken the stream over: what we read belongs to nobody."""


class Journal:
    """One stream's log, as its one pump writes it."""

    __slots__ = ("_has_hole", "_hold", "_is_lost", "_log", "_next_seq", "_tail", "_tail_bytes")

    def __init__(self, log: EventLog, hold: Hold, next_seq: int) -> None:
        self._log = log
        self._hold = hold
        self._next_seq = next_seq
        self._tail: list[bytes] = []  # given to the client, and not yet known to be in the log
        self._tail_bytes = 0
        self._has_hole = False  # events before the tail will never be in the log
        self._is_lost = False

    @property
    def hold(self) -> Hold:
        return self._hold

    @property
    def head(self) -> Cursor:
        """The last event that was written, by us; its number is 0 where there is none yet."""
        return Cursor(self._next_seq - 1, self._hold.epoch)

    @property
    def is_lost(self) -> bool:
        """Whether the log is gone: what is written now is kept nowhere."""
        return self._is_lost

    def revive(self) -> None:
        """The log was begun anew: what is written from now on is kept again."""
        self._is_lost = False

    async def note(self, upstream_cursor: bytes) -> None:
        """Keeps the backend's last event id, though it came without an event. Raises `Fenced`."""
        if not self._is_lost:
            await self._flush(upstream_cursor, is_final=False)

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._tail) and not self._is_lost

    @property
    def is_complete(self) -> bool:
        """Whether all that was written is in the log, so that a client which is let go finds it there."""
        return not self._tail and not self._is_lost

    async def write(self, payloads: Sequence[bytes], upstream_cursor: bytes, *, is_final: bool) -> bytes:
        """The events as the client gets them, once they are in the log or can't be. Raises `Fenced`."""
        given = b"".join(self._number(payload) for payload in payloads)
        if self._is_lost:
            return given
        self._tail += payloads
        self._tail_bytes += sum(map(len, payloads))
        if self._tail or is_final:
            await self._flush(upstream_cursor, is_final)
        return given

    async def close(self, upstream_cursor: bytes) -> None:
        """Returns when the end is in the log, or somebody else may look for it. Raises `Fenced`."""
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE_SECONDS
        while self.is_behind and clock() < until:
            await asyncio.sleep(BEHIND_SECONDS)
            await self.write([], upstream_cursor, is_final=True)
        if self.is_behind:
            await self._tell(self._log.release)

    async def finish(self) -> None:
        """Ends the stream without a further event."""
        await self._tell(self._log.finish)

    async def _tell(self, word: Callable[[Hold], Awaitable[bool]]) -> None:
        """However long Redis is away: else who follows the stream elsewhere would wait for ever. What waits is dropped."""
        self._tail, self._tail_bytes = [], 0
        while True:
            try:
                await word(self._hold)
            except LogAway:
                await asyncio.sleep(BEHIND_SECONDS)
            else:
                return

    def _number(self, payload: bytes) -> bytes:
        event_id = encode_event_id(self._hold.stream, Cursor(self._next_seq, self._hold.epoch))
        self._next_seq += 1
        return with_id(payload, event_id.encode("ascii"))

    async def _flush(self, upstream_cursor: bytes, is_final: bool) -> None:
        for _ in range(2):
            result = await self._log.append(
                self._hold,
                self._next_seq - len(self._tail),
                self._tail,
                upstream_cursor=upstream_cursor,
                is_final=is_final,
                is_across_hole=self._has_hole,
            )
            match result.outcome:
                case Appended.OK:
                    self._tail, self._tail_bytes, self._has_hole = [], 0, False
                    return
                case Appended.FENCED:
                    raise Fenced
                case Appended.LOST:
                    self._is_lost, self._tail, self._tail_bytes = True, [], 0
                    return
                case Appended.HOLE if not self._has_hole:
                    self._has_hole = True  # Redis came back without its last writes: go on behind them, and say so
                case _:
                    self._shorten()
                    return

    def _shorten(self) -> None:
        """Drops the oldest that waits, beyond the bound, never the newest: a resume across it is told what it lost."""
        while len(self._tail) > BATCH_EVENTS or (self._tail_bytes > BATCH_BYTES and len(self._tail) > 1):
            self._tail_bytes -= len(self._tail.pop(0))
            self._has_hole = True


async def open_journal(
    log: EventLog,
    hold: Hold,
    facts: Facts,
    payloads: Sequence[bytes],
    upstream_cursor: bytes,
    retry_seconds: float | None = None,
    request: bytes = b"",
) -> tuple[Journal, bytes] | None:
    """A journal that begins with these events, and what the client gets of them; None where the log is away or full.

    `retry_seconds`: what the backend wants its clients to wait before they come back; the primer tells them.
    `request`: what is to be kept of the call, so that it can be run once more.
    """
    primer = b"retry: %d\n%b" % ((RETRY_SECONDS if retry_seconds is None else retry_seconds) * 1000, PRIMER)
    first = [primer, *payloads] if (facts.shown_version or facts.version) >= VERSION_WITH_PRIMERS else list(payloads)
    result = await log.create(hold, facts, first, upstream_cursor=upstream_cursor, request=request)
    if result.outcome is not Appended.OK:
        return None
    journal = Journal(log, hold, 1)
    return journal, b"".join(journal._number(payload) for payload in first)  # noqa: SLF001  # its own module's
