"""The `EventLog` port for one process: `redis: memory`, and the tests' fake. Under one contract with Redis.

Nothing is sealed, because nothing leaves the process; and nothing outlives it.
"""

import asyncio
import heapq
from collections.abc import Callable, Collection, Sequence

from gateway.policy.streams import (
    CREATE_SHARE,
    NOBODY,
    Appended,
    AppendResult,
    Bounds,
    Entry,
    Facts,
    Hold,
    Owner,
    Reading,
    Refusal,
    SessionDigest,
    State,
    Takeover,
)
from gateway.protocol.cursors import START, Cursor, StreamName
from gateway.state.keys import wake_channel
from gateway.state.scripts import ENTRY_BYTES
from gateway.state.wakes import Bells, Ring

Clock = Callable[[], float]


class _Log:
    """One stream."""

    __slots__ = (
        "cursor",
        "entries",
        "epoch",
        "expires",
        "facts",
        "floor",
        "head",
        "owner",
        "request",
        "size_bytes",
        "state",
    )

    def __init__(self, hold: Hold, facts: Facts, request: bytes) -> None:
        self.epoch, self.owner = hold.epoch, hold.owner
        self.facts, self.request = facts, request
        self.state = State.OPEN
        self.head = self.floor = START
        self.cursor = b""
        self.entries: list[Entry] = []
        self.size_bytes = 0
        self.expires = 0.0

    def is_held(self, hold: Hold) -> bool:
        return self.epoch == hold.epoch and self.owner == hold.owner

    def contains(self, cursor: Cursor) -> bool:
        if cursor == self.floor:
            return True
        return (
            self.floor.seq < cursor.seq <= self.head.seq
            and self.entries[cursor.seq - self.floor.seq - 1].cursor == cursor
        )

    def add(self, entry: Entry) -> int:
        self.entries.append(entry)
        self.head = entry.cursor
        size_bytes = len(entry.payload) + ENTRY_BYTES
        self.size_bytes += size_bytes
        return size_bytes

    def drop_oldest(self, low_events: int, low_bytes: int) -> int:
        """Drops as many as it takes to be within both, but never the last; the bytes they had."""
        dropped, size_bytes = 0, 0
        while dropped < len(self.entries) - 1 and (
            len(self.entries) - dropped > low_events or self.size_bytes - size_bytes > low_bytes
        ):
            size_bytes += len(self.entries[dropped].payload) + ENTRY_BYTES
            dropped += 1
        if dropped:
            self.floor = self.entries[dropped - 1].cursor
            del self.entries[:dropped]
            self.size_bytes -= size_bytes
        return size_bytes

    def skip_to(self, cursor: Cursor) -> int:
        size_bytes, self.size_bytes = self.size_bytes, 0
        self.entries.clear()
        self.head = self.floor = cursor
        return size_bytes


class MemoryLog:
    """`gateway.ports.EventLog`."""

    def __init__(self, bounds: Bounds | None = None, clock: Clock | None = None, bells: Bells | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._clock = clock or asyncio.get_running_loop().time
        self._bells = bells or Bells()
        self._logs: dict[StreamName, _Log] = {}
        self._endings: list[tuple[float, StreamName]] = []  # a heap: when to look whether a log has expired
        self.used_bytes = 0

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
        if self._share() >= CREATE_SHARE:
            return AppendResult(Appended.FULL)
        if (log := self._find(hold.stream)) is not None:
            return AppendResult(Appended.OK if log.is_held(hold) else Appended.FENCED, log.head.seq)
        log = self._logs[hold.stream] = _Log(hold, facts, request)
        self._add(log, hold, 1, events, upstream_cursor, is_final)
        self._wake(hold.stream)
        return AppendResult(Appended.OK, log.head.seq)

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
        if self._share() >= 1:
            return AppendResult(Appended.FULL)
        log = self._find(hold.stream)
        if log is None:
            return AppendResult(Appended.LOST)
        head, last = log.head.seq, first_seq + len(events) - 1
        if not log.is_held(hold) or (log.state is not State.OPEN and (last > head or not events)):
            return AppendResult(Appended.FENCED, head)
        if first_seq > head + 1:
            if not is_across_hole:
                return AppendResult(Appended.HOLE, head)
            self.used_bytes -= log.skip_to(Cursor(first_seq - 1, hold.epoch))
        if self._add(log, hold, first_seq, events, upstream_cursor, is_final):
            self._wake(hold.stream)
        return AppendResult(Appended.OK, log.head.seq)

    def _add(
        self, log: _Log, hold: Hold, first_seq: int, events: Sequence[bytes], upstream_cursor: bytes, is_final: bool
    ) -> bool:
        before = log.head.seq
        for seq, event in enumerate(events, start=first_seq):
            if seq > log.head.seq:
                self.used_bytes += log.add(Entry(Cursor(seq, hold.epoch), event))
        if upstream_cursor and first_seq + len(events) - 1 == log.head.seq:
            log.cursor = upstream_cursor
        self._trim(log)
        if is_final:
            log.request = b""
            if log.state is State.OPEN:
                log.state = State.FINISHED
        self._put_off(hold.stream, log)
        return is_final or log.head.seq > before

    def _trim(self, log: _Log) -> None:
        bounds = self._bounds
        if len(log.entries) <= bounds.events and log.size_bytes <= bounds.bytes:
            return
        low_events, low_bytes = bounds.events - bounds.events // 16, bounds.bytes - bounds.bytes // 16
        self.used_bytes -= log.drop_oldest(low_events, low_bytes)

    async def read(
        self, stream: StreamName, after: Cursor, limit_events: int = 512, limit_bytes: int = 1024 * 1024
    ) -> Reading | None:
        log = self._find(stream)
        if log is None:
            return None
        is_continuous = log.contains(after)
        first = after.seq - log.floor.seq
        entries: list[Entry] = []
        for entry in log.entries[first : first + limit_events] if is_continuous else ():
            if limit_bytes <= 0:
                break
            entries.append(entry)
            limit_bytes -= len(entry.payload)
        return Reading(
            entries=tuple(entries),
            is_continuous=is_continuous,
            head=log.head,
            floor=log.floor,
            state=log.state,
            epoch=log.epoch,
            owner=log.owner,
            upstream_cursor=log.cursor,
            facts=log.facts,
        )

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        log = self._find(stream)
        if log is None:
            return Refusal.LOST
        if log.state is not State.OPEN:
            return Refusal.ENDED
        if log.epoch != expected_epoch:
            return Refusal.FENCED
        log.epoch, log.owner = expected_epoch + 1, owner
        self._put_off(stream, log)
        return Takeover(Hold(stream, log.epoch, owner), log.head, log.cursor, log.facts)

    async def take_request(self, hold: Hold) -> bytes:
        log = self._find(hold.stream)
        if log is None or not log.is_held(hold) or log.state is not State.OPEN or not log.request:
            return b""
        request, log.request, log.cursor = log.request, b"", b""
        return request

    async def release(self, hold: Hold) -> bool:
        return self._yield(hold, NOBODY, State.OPEN)

    async def finish(self, hold: Hold, state: State = State.FINISHED) -> bool:
        return self._yield(hold, hold.owner, state)

    def _yield(self, hold: Hold, owner: Owner, state: State) -> bool:
        log = self._find(hold.stream)
        if log is None or not log.is_held(hold) or log.state is not State.OPEN:
            return False
        log.owner, log.state = owner, state
        if state is not State.OPEN:
            log.request = b""
        self._put_off(hold.stream, log)
        self._wake(hold.stream)
        return True

    async def keep(self, streams: Collection[StreamName]) -> frozenset[StreamName]:
        gone = set()
        for stream in streams:
            log = self._find(stream)
            if log is None:
                gone.add(stream)
            elif log.state is State.OPEN:
                self._put_off(stream, log)
        return frozenset(gone)

    def wake(self, name: StreamName | SessionDigest, ring: Ring) -> Callable[[], None]:
        return self._bells.hang(name, ring)

    def _wake(self, stream: StreamName) -> None:
        self._bells.ring(wake_channel(stream), stream)

    def _share(self) -> float:
        budget_bytes = self._bounds.budget_bytes
        self._expire()
        return self.used_bytes / budget_bytes if budget_bytes else 0.0

    def _put_off(self, stream: StreamName, log: _Log) -> None:
        bounds = self._bounds
        before = log.expires
        log.expires = self._clock() + (bounds.live_seconds if log.state is State.OPEN else bounds.finished_seconds)
        if log.expires < before or not before:  # else it is looked at when it would have expired, and pushed again
            heapq.heappush(self._endings, (log.expires, stream))

    def _find(self, stream: StreamName) -> _Log | None:
        self._expire()
        return self._logs.get(stream)

    def _expire(self) -> None:
        now = self._clock()
        while self._endings and self._endings[0][0] <= now:
            _, stream = heapq.heappop(self._endings)
            log = self._logs.get(stream)
            if log is None:
                continue
            if log.expires <= now:
                self.used_bytes -= log.size_bytes
                del self._logs[stream]
            else:
                heapq.heappush(self._endings, (log.expires, stream))
