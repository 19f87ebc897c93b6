"""`EventLog` under several who would own it: whatever they do, the log is dense, nothing stands twice, a replay is a suffix.

Each run is tried on memory and on a real Redis, side by side with a model that is a list: all three must say the same.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.policy.streams import NOBODY, Appended, Bounds, Entry, Hold, Owner, State, Takeover
from gateway.protocol.cursors import START, Cursor
from gateway.state.memory_marks import MemoryRoom
from gateway.state.rooms import RedisRoom
from gateway.state.seals import Keyring
from gateway.state.targets import parse_target
from tests.contract.worlds import FACTS, KEY, PATIENCE_SECONDS, Room, new_hold
from tests.redis.servers import RedisServer
from tests.requirements import proves

BOUNDS = Bounds(events=20, bytes=4000)
OWNERS = [Owner(name) for name in ("alice", "bob", "carol")]


class Model:
    """What a log must be, as simply as it can be said: who may write, and all that was ever accepted."""

    def __init__(self, hold: Hold) -> None:
        self.hold: Hold | None = hold
        self.holds = [hold]
        self.accepted: list[Entry] = []  # what was skipped across a hole is not among them
        self.head = 0
        self.state = State.OPEN
        self.cursor = b""

    def append(self, hold: Hold, first: int, events: list[bytes], cursor: bytes, final: bool, across: bool) -> Appended:
        last = first + len(events) - 1
        if hold != self.hold or (self.state is not State.OPEN and (last > self.head or not events)):
            return Appended.FENCED
        if first > self.head + 1:
            if not across:
                return Appended.HOLE
            self.accepted.clear()
            self.head = first - 1
        for seq, event in enumerate(events, start=first):
            if seq > self.head:
                self.accepted.append(Entry(Cursor(seq, hold.epoch), event))
                self.head = seq
        if cursor and last == self.head:
            self.cursor = cursor
        if final:
            self.state = State.FINISHED
        return Appended.OK


class LogMachine(RuleBasedStateMachine):
    """`room` and `run` are set by the test."""

    room: Room
    runner: asyncio.Runner

    def wait(self, awaitable: object) -> object:
        async def now() -> object:
            return await awaitable  # type: ignore[misc]

        return self.runner.run(now())

    @initialize(owner=st.sampled_from(OWNERS), events=st.lists(st.binary(max_size=20), max_size=3))
    def create(self, owner: Owner, events: list[bytes]) -> None:
        hold = new_hold(owner)
        self.stream = hold.stream
        self.model = Model(hold)
        self.model.append(hold, 1, events, b"", False, False)
        assert self.wait(self.room.log.create(hold, FACTS, events)) == (Appended.OK, len(events))

    @rule(
        data=st.data(),
        offset=st.integers(-6, 4),
        events=st.lists(st.binary(max_size=400), max_size=8),
        cursor=st.sampled_from([b"", b"up-1", b"up-2"]),
        final=st.sampled_from([False, False, False, True]),
        across=st.booleans(),
    )
    def append(
        self, data: st.DataObject, offset: int, events: list[bytes], cursor: bytes, final: bool, across: bool
    ) -> None:
        hold = data.draw(st.sampled_from(self.model.holds))
        first = max(1, self.model.head + 1 + offset)
        # A pump repeats what it has numbered: what it says of an event that is there already is what is there.
        known = {entry.cursor.seq: entry.payload for entry in self.model.accepted}
        events = [known.get(seq, event) for seq, event in enumerate(events, start=first)]
        expected = self.model.append(hold, first, events, cursor, final, across)
        for _ in range(2):
            result = self.wait(
                self.room.log.append(hold, first, events, upstream_cursor=cursor, is_final=final, is_across_hole=across)
            )
            assert result[0] is expected  # type: ignore[index]
            assert result[1] == self.model.head  # type: ignore[index]
            if final or not events:
                break  # without an event a finished stream can't tell a repetition

    @rule(data=st.data(), owner=st.sampled_from(OWNERS))
    def take_over(self, data: st.DataObject, owner: Owner) -> None:
        expected = data.draw(st.sampled_from(sorted({hold.epoch for hold in self.model.holds})))
        current = max(hold.epoch for hold in self.model.holds)
        result = self.wait(self.room.log.take_over(self.stream, expected, owner))
        assert isinstance(result, Takeover) == (expected == current and self.model.state is State.OPEN)
        if isinstance(result, Takeover):
            assert result.hold.epoch > current
            assert (result.head.seq, result.upstream_cursor) == (self.model.head, self.model.cursor)
            self.model.hold = result.hold
            self.model.holds.append(result.hold)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.model.holds))
        is_ours = hold == self.model.hold and self.model.state is State.OPEN
        assert self.wait(self.room.log.release(hold)) is is_ours
        if is_ours:
            self.model.hold = None

    @invariant()
    def a_replay_is_a_suffix(self) -> None:
        if not hasattr(self, "model"):
            return
        reading = self.wait(self.room.log.read(self.stream, START))
        assert reading is not None
        model, floor = self.model, reading.floor  # type: ignore[attr-defined]
        assert (reading.head.seq, reading.state) == (model.head, model.state)  # type: ignore[attr-defined]
        assert reading.upstream_cursor == model.cursor  # type: ignore[attr-defined]
        assert reading.owner == (NOBODY if model.hold is None else model.hold.owner)  # type: ignore[attr-defined]
        kept = [entry for entry in model.accepted if entry.cursor.seq > floor.seq]
        assert [entry.cursor.seq for entry in kept] == list(range(floor.seq + 1, model.head + 1))
        assert len(kept) <= BOUNDS.events
        assert len(kept) <= 1 or sum(len(entry.payload) for entry in kept) <= BOUNDS.bytes
        for index, cursor in enumerate([floor, *(entry.cursor for entry in kept)]):
            after = self.wait(self.room.log.read(self.stream, cursor))
            assert after is not None
            assert after.is_continuous  # type: ignore[attr-defined]
            assert list(after.entries) == kept[index:]  # type: ignore[attr-defined]
        for entry in model.accepted[: len(model.accepted) - len(kept)]:
            if entry.cursor != floor:
                lost = self.wait(self.room.log.read(self.stream, entry.cursor))
                assert lost is not None
                assert not lost.is_continuous  # type: ignore[attr-defined]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


def run(room: Room, runner: asyncio.Runner, examples: int) -> None:
    class Machine(LogMachine):
        pass

    Machine.room, Machine.runner = room, runner
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=checks),
    )


@proves("LOG-1", "LOG-2", "LOG-3", "LOG-4", "LOG-6", "HOLD-1", "HOLD-2")
def test_any_history_of_the_log_in_memory_is_the_models(runner: asyncio.Runner) -> None:
    run(MemoryRoom(bounds=BOUNDS, heartbeat_seconds=6.0, clock=lambda: 0.0), runner, 100)


@proves("LOG-1", "LOG-2", "LOG-3", "LOG-4", "LOG-6", "HOLD-1", "HOLD-2")
def test_any_history_of_the_log_in_redis_is_the_models(runner: asyncio.Runner, redis_server: RedisServer) -> None:
    room = RedisRoom(parse_target(redis_server.url), Keyring([KEY]), bounds=BOUNDS, answer_seconds=PATIENCE_SECONDS)
    opened, closing = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with room:
            opened.set()
            await closing.wait()

    async def start() -> "asyncio.Task[None]":
        task = asyncio.ensure_future(live())
        await opened.wait()
        return task

    async def stop(task: "asyncio.Task[None]") -> None:
        closing.set()
        await task

    living = runner.run(start())
    try:
        run(room, runner, 25)
    finally:
        runner.run(stop(living))
