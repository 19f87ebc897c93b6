"""Calls whose clients have left: they go on, up to a bound, and then the oldest is given up."""

import itertools

import pytest

from gateway.exchange.orphans import Orphans
from gateway.exchange.pumps import Pumps
from gateway.policy.streams import NOBODY, State
from gateway.ports import StreamTurn
from gateway.protocol.cursors import START, StreamName
from gateway.state.memory_logs import MemoryLog
from tests.fakes import NOW, FakeAnswer, FakeClient, FakeTelemetry, World
from tests.flow.scenes import CALL, PRIMER, PROGRESS, event_error, legacy_post, running, sse_answer, token_of
from tests.flow.test_durable import stage
from tests.requirements import proves

A, B, C = StreamName("a"), StreamName("b"), StreamName("c")


class Watched(Orphans):
    """Orphans of which the given-up are listed."""

    def __init__(self, limit: int) -> None:
        self.telemetry = FakeTelemetry()
        self.given_up: list[StreamName] = []
        super().__init__(limit, self.telemetry)

    def start(self, *streams: StreamName) -> None:
        for stream in streams:
            self.begin(stream, lambda stream=stream: self.given_up.append(stream))


@proves("ORPHAN-1")
def test_beyond_the_bound_the_call_goes_that_was_left_first() -> None:
    orphans = Watched(2)
    leave_a, leave_b = orphans.follow(A), orphans.follow(B)
    orphans.start(A, B, C)
    leave_b()
    assert (orphans.given_up, orphans.telemetry.calls) == ([], (1, 2))
    leave_a()
    assert (orphans.given_up, orphans.telemetry.calls) == ([C], (0, 2))
    assert orphans.telemetry.turns == [StreamTurn.ORPHAN_GIVEN_UP]


@proves("ORPHAN-1")
def test_a_client_that_came_back_keeps_its_call() -> None:
    orphans = Watched(1)
    orphans.start(A)
    orphans.follow(A)
    orphans.start(B)
    assert (orphans.given_up, len(orphans)) == ([], 1)
    orphans.start(C)
    assert orphans.given_up == [B]


def test_a_call_with_two_clients_is_an_orphan_when_both_have_left() -> None:
    orphans = Watched(1)
    first, second = orphans.follow(A), orphans.follow(A)
    orphans.start(A)
    first()
    assert len(orphans) == 0
    second()
    assert len(orphans) == 1


def test_what_has_ended_is_no_orphan_whoever_still_follows_it() -> None:
    orphans = Watched(1)
    leave = orphans.follow(A)
    orphans.start(A)
    orphans.end(A)
    leave()
    orphans.start(B)
    orphans.end(B)
    assert (len(orphans), orphans.telemetry.calls, orphans.given_up) == (0, (0, 0), [])


# ---- what becomes of them


def crowd(log: MemoryLog, *answers: FakeAnswer) -> World:
    """A worker that goes on with one call without a client, at most."""
    world = stage(log).will_answer(*answers)  # type: ignore[arg-type]
    world.pumps = world.gateway.pumps = Pumps(world.standing, orphans=Orphans(1, world.telemetry))
    traces = (f"{number:032x}" for number in itertools.count(1))
    world.gateway.new_trace = lambda: next(traces)
    return world


async def leave_a_call(world: World) -> None:
    client = FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        client.leave()


@proves("ORPHAN-1")
@pytest.mark.parametrize("is_resumable", [True, False])
async def test_the_oldest_call_that_was_left_goes_to_whoever_comes_or_ends_with_an_error(*, is_resumable: bool) -> None:
    log = MemoryLog(clock=lambda: NOW)
    first = sse_answer(*([PRIMER] if is_resumable else []), PROGRESS, live=True)
    world = crowd(log, first, sse_answer(PROGRESS, live=True))
    await leave_a_call(world)
    assert world.telemetry.calls == (0, 1)
    (name,) = log._logs
    await leave_a_call(world)
    await first.closed.wait()
    reading = await log.read(name, START)
    assert reading is not None
    if is_resumable:
        assert (reading.state, reading.owner) == (State.OPEN, NOBODY)
    else:
        assert reading.state is State.FINISHED
        request_id, _, text = event_error(reading.entries[-1].payload)
        assert (request_id, "call again" in text) == (1, True)
    assert world.telemetry.calls == (0, 1)
    assert StreamTurn.ORPHAN_GIVEN_UP in world.telemetry.turns
    await world.pumps.close()
