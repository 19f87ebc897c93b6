"""The `Marks` and `Heartbeats` ports for one process, and the room that has all three ports of it."""

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from gateway.policy.absences import HEARTBEAT_SECONDS
from gateway.policy.streams import NOBODY, Bounds, Census, Owner, SessionDigest, Sighting, Standing
from gateway.protocol.cursors import StreamName
from gateway.state.invalidations import MemoryInvalidations
from gateway.state.keys import wake_channel
from gateway.state.memory_logs import Clock, MemoryLog
from gateway.state.wakes import Bells

Key = TypeVar("Key")
Value = TypeVar("Value")

SERVER = "memory"


class _Shelf(Generic[Key, Value]):
    """Things that expire, oldest first: all of one shelf live equally long."""

    def __init__(self, lifetime_seconds: float, clock: Clock) -> None:
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        self._things: dict[Key, tuple[float, Value]] = {}

    def put(self, key: Key, value: Value) -> None:
        self._things.pop(key, None)
        self._things[key] = (self._clock() + self._lifetime_seconds, value)
        self._expire()

    def get(self, key: Key) -> Value | None:
        self._expire()
        found = self._things.get(key)
        return None if found is None else found[1]

    def drop(self, key: Key) -> None:
        self._things.pop(key, None)

    def _expire(self) -> None:
        now = self._clock()
        while self._things:
            key, (expires, _) = next(iter(self._things.items()))
            if expires > now:
                return
            del self._things[key]


class MemoryMarks:
    """`gateway.ports.Marks`."""

    def __init__(self, bounds: Bounds, clock: Clock, bells: Bells) -> None:
        self._ended: _Shelf[tuple[SessionDigest, bytes | None], bool] = _Shelf(bounds.mark_seconds, clock)
        self._standing: _Shelf[SessionDigest, Standing] = _Shelf(bounds.live_seconds, clock)
        self._bells = bells

    async def mark_ended(self, session: SessionDigest, request_id: bytes | None) -> None:
        self._ended.put((session, request_id), True)
        self._wake(session)

    async def is_ended(self, session: SessionDigest, request_id: bytes | None) -> bool:
        return bool(self._ended.get((session, request_id)) or self._ended.get((session, None)))

    async def join(
        self,
        session: SessionDigest,
        candidate: StreamName,
        replacing: StreamName | None = None,
        follower: Owner = NOBODY,
    ) -> Standing:
        before = self._standing.get(session)
        turn = 1 if before is None else before.turn + 1
        if before is None or before.stream == replacing:
            now = Standing(candidate, turn, follower=follower)
        else:
            now = msgspec.structs.replace(before, turn=turn, follower=follower)
        self._standing.put(session, now)
        self._wake(session)
        return now

    async def standing(self, session: SessionDigest) -> Standing | None:
        return self._standing.get(session)

    async def deliver(self, session: SessionDigest, standing: Standing) -> bool:
        before = self._standing.get(session)
        if before is None or (before.stream, before.turn) != (standing.stream, standing.turn):
            return False
        self._standing.put(session, standing)
        if standing.follower == NOBODY:
            self._wake(session)
        return True

    async def keep_standing(self, sessions: Collection[SessionDigest]) -> Census:
        found: dict[SessionDigest, Standing] = {}
        for session in sessions:
            if (standing := self._standing.get(session)) is not None:
                self._standing.put(session, standing)
                found[session] = standing
        return Census(found, frozenset(session for session in sessions if self._ended.get((session, None))))

    async def leave(self, session: SessionDigest, stream: StreamName, turn: int | None = None) -> bool:
        before = self._standing.get(session)
        if before is None or before.stream != stream or turn not in (None, before.turn):
            return False
        self._standing.drop(session)
        self._wake(session)
        return True

    def _wake(self, session: SessionDigest) -> None:
        self._bells.ring(wake_channel(session), session)


class MemoryHeartbeats:
    """`gateway.ports.Heartbeats`."""

    def __init__(self, ttl_seconds: float, clock: Clock) -> None:
        self._beats: _Shelf[Owner, bool] = _Shelf(ttl_seconds, clock)

    async def beat(self, owner: Owner) -> None:
        self._beats.put(owner, True)

    async def look(self, owners: Collection[Owner]) -> Sighting:
        return Sighting(SERVER, frozenset(owner for owner in owners if self._beats.get(owner) is None))


class MemoryRoom:
    """What `RedisRoom` has, for one process."""

    def __init__(
        self,
        *,
        bounds: Bounds | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or asyncio.get_running_loop().time
        bounds, bells = bounds or Bounds(), Bells()
        self.log = MemoryLog(bounds, clock, bells)
        self.marks = MemoryMarks(bounds, clock, bells)
        self.heartbeats = MemoryHeartbeats(heartbeat_seconds, clock)
        self.invalidations = MemoryInvalidations(bells)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
