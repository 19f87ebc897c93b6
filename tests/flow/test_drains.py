"""A worker that ends: what others can go on with goes to them, what nobody can resume has the grace, and then says so."""

import asyncio
import re

import pytest

from gateway.exchange.pumps import Pumps
from gateway.exchange.standing import Standing
from gateway.policy.streams import NOBODY, Appended, State
from gateway.ports import Inbound
from gateway.protocol.cursors import START
from gateway.protocol.outcomes import Outcome
from tests.fakes import BOUND_SECONDS, FakeClient, World
from tests.flow.scenes import (
    CALL,
    FINAL,
    PRIMER,
    PROGRESS,
    error_of,
    event_error,
    legacy_post,
    let_others_run,
    modern_body,
    modern_post,
    running,
    sse_answer,
    token_of,
)
from tests.flow.test_durable import FIRST, NAME, STEP, BadLog, numbered, stage
from tests.requirements import proves

LOST = "the gateway is being replaced, and this call did not end in time: see what it has done, then call again"


def drain(world: World) -> None:
    world.standing.drain()
    world.pumps.release()


def end_grace(world: World, *exchanges: "asyncio.Task[None]") -> None:
    """What the server does then."""
    world.standing.give_up()
    world.pumps.give_up()
    for exchange in exchanges:
        exchange.cancel()


@proves("DRAIN-3")
async def test_a_call_without_an_answer_at_the_end_of_the_grace_gets_503_and_is_counted() -> None:
    world, client = World(), FakeClient(modern_body())
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(), client) as exchange:
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        drain(world)
        end_grace(world, exchange)
    assert error_of(client) == (503, 1, -32603, LOST)
    assert client.header(b"retry-after") == b"1"
    assert (world.record.outcome, world.standing.lost) == (Outcome.DRAINING, 1)


@proves("DRAIN-3")
@pytest.mark.parametrize(
    ("inbound", "body"), [(modern_post(), modern_body()), (legacy_post(), CALL)], ids=["modern", "legacy"]
)
async def test_a_stream_without_its_result_at_the_end_of_the_grace_ends_with_an_error(
    inbound: Inbound, body: bytes
) -> None:
    world, client = World().will_answer(sse_answer(PROGRESS, live=True)), FakeClient(body)
    async with running(world, inbound, client) as exchange:
        await client.until(lambda: client.body == PROGRESS)
        drain(world)
        end_grace(world, exchange)
        await client.until(lambda: client.has_ended)
        await world.pumps.close()
    assert event_error(client.writes[-1]) == (1, -32603, LOST)
    assert (world.record.outcome, world.standing.lost) == (Outcome.DRAINING, 1)


@proves("DRAIN-3")
async def test_a_client_that_leaves_at_the_end_of_the_grace_has_left() -> None:
    world, client = World().will_answer(sse_answer(PROGRESS, live=True)), FakeClient(modern_body())
    async with running(world, modern_post(), client):
        await client.until(lambda: client.body)
        drain(world)
        world.standing.give_up()
        client.leave()
    assert (world.record.outcome, world.standing.lost) == (Outcome.CLIENT_LEFT, 0)


@proves("DRAIN-2")
async def test_a_client_whose_stream_is_released_is_told_to_come_back() -> None:
    log = BadLog()
    world, client = stage(log).will_answer(sse_answer(PRIMER, PROGRESS, live=True)), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        drain(world)
        await client.until(lambda: client.has_ended)
    assert client.writes[0] == numbered(1, FIRST) + numbered(2, STEP)
    assert re.fullmatch(rb"retry: 1[0-9]{3}\n\n", client.writes[1])
    assert (world.record.outcome, world.standing.lost) == (Outcome.OK, 0)


@proves("DRAIN-2")
async def test_an_older_client_is_told_nothing_that_it_would_take_for_a_message() -> None:
    log = BadLog()
    world, client = stage(log).will_answer(sse_answer(PRIMER, PROGRESS, live=True)), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world, version="2025-06-18")), client):
        await client.until(lambda: client.body)
        drain(world)
        await client.until(lambda: client.has_ended)
    assert b"retry" not in client.body


@proves("DRAIN-2", "DRAIN-3")
async def test_a_stream_that_its_backend_cannot_resume_has_the_grace_and_is_then_released_and_counted() -> None:
    log = BadLog()
    world, client = stage(log).will_answer(sse_answer(PROGRESS, live=True)), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client) as exchange:
        await client.until(lambda: client.body)
        drain(world)
        await let_others_run()
        assert (client.has_ended, world.pumps.is_busy) == (False, True)
        end_grace(world, exchange)
        await client.until(lambda: client.has_ended)
    reading = await log.read(NAME, START)
    assert reading is not None
    assert (reading.owner, reading.state) == (NOBODY, State.OPEN), "who follows it elsewhere is told of the loss"
    assert b"error" not in client.body
    assert (world.record.outcome, world.standing.lost, world.pumps.is_busy) == (Outcome.DRAINING, 1, False)


@proves("DRAIN-2")
async def test_a_stream_whose_events_wait_for_redis_is_released_when_they_are_written() -> None:
    log, answer = BadLog(), sse_answer(PRIMER, PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        log.answers.append(Appended.AWAY)
        answer.push(PROGRESS)
        await client.until(lambda: numbered(3, STEP) in client.body)
        drain(world)
        await let_others_run()
        assert not client.has_ended
        answer.push(PROGRESS)
        await client.until(lambda: numbered(4, STEP) in client.body)
        world.pumps.release()
        await client.until(lambda: client.has_ended)
    assert await log.payloads() == [FIRST, STEP, STEP, STEP]
    assert world.standing.lost == 0


@proves("DRAIN-2")
async def test_a_stream_in_this_processs_own_memory_is_not_released_since_nobody_else_has_it() -> None:
    log, answer = BadLog(), sse_answer(PRIMER, PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    world.pumps.are_releasable = False
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        drain(world)
        await let_others_run()
        answer.push(FINAL)
        answer.push(b"")
    assert b'"result":{}' in client.body


@proves("DRAIN-2")
async def test_a_standing_stream_is_not_waited_for_wherever_it_is_kept() -> None:
    """There is no end that it could come to."""
    pumps = Pumps(standing := Standing(), are_releasable=False)
    pump = Forever()
    pumps.start(pump, ends_with_client=False, stream=NAME)
    await let_others_run()
    standing.drain()
    pumps.release()
    await asyncio.wait_for(pump.has_ended.wait(), BOUND_SECONDS)
    await let_others_run()
    assert (pumps.is_busy, standing.lost) == (False, 0)


class Forever:
    """The pump of a standing stream."""

    can_be_released = True

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        self.has_ended.set()


@proves("DRAIN-3")
async def test_a_pump_is_given_up_once_so_that_its_leave_taking_is_not_cut_off() -> None:
    log = BadLog()
    world, client = stage(log).will_answer(sse_answer(PRIMER, PROGRESS, live=True)), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        drain(world)
        world.pumps.release()
        world.pumps.give_up()
        await client.until(lambda: client.has_ended)
    reading = await log.read(NAME, START)
    assert reading is not None
    assert (reading.owner, world.standing.lost) == (NOBODY, 0)
