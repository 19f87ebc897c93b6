"""The memory that simulated replicas share, and what befalls it: away, full, applied but not answered, set back, emptied.

It is the gateway's own memory room, which is under one contract with Redis. Each replica asks through a `Door` of its own, which
its host can hold up, and it keeps the books: every event that was ever accepted, and what each append was answered.
"""

import copy
from collections.abc import Awaitable, Callable, Collection, Sequence
from enum import Enum, auto
from typing import Any, Final, TypeVar

import msgspec

from gateway.policy.streams import (
    NOBODY,
    Appended,
    AppendResult,
    Census,
    Facts,
    Hold,
    LogAway,
    Owner,
    Reading,
    Refusal,
    SessionDigest,
    Sighting,
    Standing,
    State,
    Takeover,
    Trouble,
)
from gateway.protocol.cursors import Cursor, StreamName, encode_event_id
from gateway.state.memory_logs import MemoryLog
from gateway.state.memory_marks import MemoryRoom
from tests.simulated.hosts import Host

T = TypeVar("T")

HEARTBEAT_SECONDS: Final = 6.0


class Mood(Enum):
    """How the memory is, for a replica that asks."""

    WELL = auto()
    AWAY = auto()  # nothing is done, and nothing answered
    MUTE = auto()  # what is asked is done, and nothing answered
    FULL = auto()  # nothing new is taken; what is there can be read
    READ_ONLY = auto()  # nothing is changed at all


class LeapingLog(MemoryLog):
    """Each takeover makes an epoch that there never was, as on Redis: also where a takeover before it was lost."""

    takeovers = 0

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        taken = await super().take_over(stream, expected_epoch, owner)
        if isinstance(taken, Takeover):
            self.takeovers += 1
            epoch = expected_epoch + self.takeovers
            self._logs[stream].epoch = epoch
            taken = msgspec.structs.replace(taken, hold=msgspec.structs.replace(taken.hold, epoch=epoch))
        return taken


class SharedRoom:
    """One memory, as Redis would be. `accepted`: each event's payload by the id that clients know it by."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.room = MemoryRoom(heartbeat_seconds=HEARTBEAT_SECONDS, clock=clock)
        self.room.log = LeapingLog(clock=clock, bells=self.room.log._bells)
        self.log: LeapingLog = self.room.log
        self.moods: dict[Host, Mood] = {}
        self.lives = 1
        self.accepted: dict[str, bytes] = {}
        self.broken: list[str] = []
        self._kept: Any = None

    def mood(self, host: Host) -> Mood:
        return self.moods.get(host, Mood.WELL)

    def save(self) -> None:
        """What a server that lags behind this one has."""
        self._kept = copy.deepcopy((self.log._logs, self.log._endings, self.log.used_bytes))

    def fail_over(self) -> None:
        """Another server goes on, with what was saved: what was acknowledged since then is lost. It may be nothing at all."""
        logs, endings, used_bytes = copy.deepcopy(self._kept) if self._kept is not None else ({}, [], 0)
        self.log._logs, self.log._endings, self.log.used_bytes = logs, endings, used_bytes
        self.lives += 1

    def empty(self) -> None:
        """It was restarted without its data."""
        self._kept = None
        self.fail_over()
        self.room.heartbeats._beats._things.clear()
        self.room.marks._ended._things.clear()

    def note(self, hold: Hold, first_seq: int, events: Sequence[bytes]) -> None:
        """These events were accepted. One id has one payload for ever."""
        for seq, event in enumerate(events, start=first_seq):
            event_id = encode_event_id(hold.stream, Cursor(seq, hold.epoch))
            if self.accepted.setdefault(event_id, event) != event:
                self.broken.append(f"{event_id} was given to two events")


class Door:
    """`EventLog`, `Marks` and `Heartbeats` as one replica has them. `answered`: what a stream's last append was answered."""

    def __init__(self, shared: SharedRoom, host: Host) -> None:
        self._shared = shared
        self._host = host
        self.answered: dict[StreamName, Appended] = {}

    async def _ask(self, work: Callable[[], Awaitable[T]], *, writes: bool = True, grows: bool = False) -> T:
        """What comes of the work. Raises `LogAway`."""
        await self._host.wait()
        mood = self._shared.mood(self._host)
        if mood is Mood.AWAY:
            raise LogAway(Trouble.AWAY)
        if mood is Mood.FULL and grows:
            raise LogAway(Trouble.FULL)
        if mood is Mood.READ_ONLY and writes:
            raise LogAway(Trouble.READ_ONLY)
        result = await work()
        await self._host.wait()
        if mood is Mood.MUTE:
            raise LogAway(Trouble.AWAY)
        return result

    async def _add(
        self, hold: Hold, first_seq: int, events: Sequence[bytes], work: Callable[[], Awaitable[AppendResult]]
    ) -> AppendResult:
        async def add() -> AppendResult:
            result = await work()
            if result.outcome is Appended.OK:
                self._shared.note(hold, first_seq, events)
            return result

        try:
            result = await self._ask(add, grows=True)
        except LogAway as away:
            result = AppendResult(Appended.FULL if away.trouble is Trouble.FULL else Appended.AWAY)
        self.answered[hold.stream] = result.outcome
        return result

    # ---- EventLog

    async def create(self, hold: Hold, facts: Facts, events: Sequence[bytes], **options: Any) -> AppendResult:
        return await self._add(hold, 1, events, lambda: self._shared.log.create(hold, facts, events, **options))

    async def append(self, hold: Hold, first_seq: int, events: Sequence[bytes], **options: Any) -> AppendResult:
        return await self._add(
            hold, first_seq, events, lambda: self._shared.log.append(hold, first_seq, events, **options)
        )

    async def read(self, stream: StreamName, after: Cursor, *limits: int) -> Reading | None:
        return await self._ask(lambda: self._shared.log.read(stream, after, *limits), writes=False)

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        return await self._ask(lambda: self._shared.log.take_over(stream, expected_epoch, owner), grows=True)

    async def release(self, hold: Hold) -> bool:
        return await self._ask(lambda: self._shared.log.release(hold), grows=True)

    async def finish(self, hold: Hold, state: State = State.FINISHED) -> bool:
        return await self._ask(lambda: self._shared.log.finish(hold, state), grows=True)

    async def keep(self, streams: Collection[StreamName]) -> frozenset[StreamName]:
        return await self._ask(lambda: self._shared.log.keep(streams))

    def wake(self, name: StreamName | SessionDigest, ring: Callable[[], None]) -> Callable[[], None]:
        return self._shared.log.wake(name, lambda: None if self._host.is_dead else ring())

    # ---- Marks

    async def mark_ended(self, session: SessionDigest, request_id: bytes | None) -> None:
        await self._ask(lambda: self._shared.room.marks.mark_ended(session, request_id), grows=True)

    async def is_ended(self, session: SessionDigest, request_id: bytes | None) -> bool:
        return await self._ask(lambda: self._shared.room.marks.is_ended(session, request_id), writes=False)

    async def join(
        self,
        session: SessionDigest,
        candidate: StreamName,
        replacing: StreamName | None = None,
        follower: Owner = NOBODY,
    ) -> Standing:
        return await self._ask(
            lambda: self._shared.room.marks.join(session, candidate, replacing, follower), grows=True
        )

    async def standing(self, session: SessionDigest) -> Standing | None:
        return await self._ask(lambda: self._shared.room.marks.standing(session), writes=False)

    async def deliver(self, session: SessionDigest, standing: Standing) -> bool:
        return await self._ask(lambda: self._shared.room.marks.deliver(session, standing), grows=True)

    async def keep_standing(self, sessions: Collection[SessionDigest]) -> Census:
        return await self._ask(lambda: self._shared.room.marks.keep_standing(sessions))

    async def leave(self, session: SessionDigest, stream: StreamName, turn: int | None = None) -> bool:
        return await self._ask(lambda: self._shared.room.marks.leave(session, stream, turn))

    # ---- Heartbeats

    async def beat(self, owner: Owner) -> None:
        await self._ask(lambda: self._shared.room.heartbeats.beat(owner))

    async def look(self, owners: Collection[Owner]) -> Sighting:
        seen = await self._ask(lambda: self._shared.room.heartbeats.look(owners), writes=False)
        return Sighting(f"life {self._shared.lives}", seen.absent)
