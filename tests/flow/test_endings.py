"""What a client has ended stays ended, on whichever replica its word lands."""

import pytest

from gateway.exchange.sessions import digest_session
from gateway.policy.streams import Bounds, Owner, State
from gateway.protocol.cursors import START
from gateway.state.memory_marks import MemoryMarks
from gateway.state.wakes import Bells
from tests.fakes import NOW, FakeAnswer, FakeClient, World
from tests.flow.scenes import CALL, PROGRESS, legacy_post, request, run, running, session_headers, sse_answer, token_of
from tests.flow.test_durable import NAME, BadLog, begin, resume, stage
from tests.requirements import proves

CANCEL = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}'
GONE = Owner("")


def marked_stage() -> tuple[World, BadLog]:
    bells = Bells()
    log = BadLog()
    log._bells = bells
    world = stage(log)
    world.gateway.marks = MemoryMarks(Bounds(), lambda: NOW, bells)
    return world, log


def accepted(status: int = 202) -> FakeAnswer:
    return FakeAnswer(status, [], b"", whole=True)


@proves("MARK-9")
async def test_a_cancellation_marks_its_request_and_no_other() -> None:
    world, _ = marked_stage()
    token = token_of(world)
    await run(world.will_answer(accepted()), legacy_post(token=token), CANCEL)
    marks, session = world.gateway.marks, digest_session(token)
    assert marks is not None
    assert await marks.is_ended(session, b"1")
    assert not await marks.is_ended(session, b'"1"')
    assert not await marks.is_ended(session, b"2")


@proves("MARK-9")
async def test_a_deleted_session_is_marked_once_the_backend_has_ended_it() -> None:
    world, _ = marked_stage()
    token = token_of(world)
    marks, session = world.gateway.marks, digest_session(token)
    assert marks is not None
    await run(world.will_answer(accepted(405)), request("DELETE", *session_headers(token)))
    assert not await marks.is_ended(session, b"1")
    await run(world.will_answer(accepted(200)), request("DELETE", *session_headers(token)))
    assert await marks.is_ended(session, b"1")


@pytest.mark.parametrize(
    "body", [CANCEL.replace(b'"requestId":1', b'"requestId":[1]'), CANCEL.replace(b"params", b"p")]
)
@proves("MARK-9")
async def test_a_cancellation_that_names_no_request_marks_none(body: bytes) -> None:
    world, _ = marked_stage()
    token = token_of(world)
    client = await run(world.will_answer(accepted()), legacy_post(token=token), body)
    assert client.status == 202
    assert world.gateway.marks is not None
    assert not await world.gateway.marks.is_ended(digest_session(token), b"1")


@proves("MARK-9")
async def test_the_pump_of_a_cancelled_call_ends_though_its_backend_goes_on() -> None:
    world, log = marked_stage()
    token, answer = token_of(world), sse_answer(PROGRESS, live=True)
    client = FakeClient(CALL)
    async with running(world.will_answer(answer), legacy_post(token=token), client):
        await client.until(lambda: client.body)
        assert world.gateway.marks is not None
        await world.gateway.marks.mark_ended(digest_session(token), b"1")  # by another replica
        await answer.closed.wait()
        await client.until(lambda: client.has_ended)
    reading = await log.read(NAME, START)
    assert reading is not None
    assert reading.state is State.FINISHED


@proves("MARK-9")
async def test_a_cancelled_call_is_not_taken_over() -> None:
    world, log = marked_stage()
    token = token_of(world)
    await begin(log, token, PROGRESS, owner=GONE)
    assert world.gateway.marks is not None
    await world.gateway.marks.mark_ended(digest_session(token), b"1")
    client = await run(world, resume(token, 2))
    assert (client.status, client.has_ended) == (200, True)
    assert world.upstream.sent == []
