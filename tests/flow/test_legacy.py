"""Legacy exchanges, told as transcripts: calls that outlive their client, the GET stream, and its ends."""

import asyncio
import re

import pytest

from gateway.exchange.attempts import CONFLICT_WAITS_SECONDS
from gateway.exchange.calls import Call
from gateway.exchange.pumps import QUEUE_BYTES, Pump
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.streams import StreamReader
from gateway.protocol.versions import Era
from tests.fakes import BOUND_SECONDS, ECHO, SILENCE, TRACE, FakeAnswer, FakeClient, World
from tests.flow.scenes import (
    CALL,
    FINAL,
    INITIALIZE,
    PRIMER,
    PROGRESS,
    RESULT,
    A,
    error_of,
    event_error,
    json_answer,
    legacy_post,
    let_others_run,
    request,
    run,
    running,
    session_headers,
    sse_answer,
    token_of,
)
from tests.requirements import proves


@proves("RELAY-1", "SESS-3")
async def test_a_json_answer_is_relayed_byte_for_byte() -> None:
    world = World().will_answer(json_answer())
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    assert (client.status, client.body) == (200, RESULT)
    assert world.sent.body == CALL
    assert world.sent.header(b"mcp-session-id") == b"up-7"
    assert (world.record.era, world.record.outcome) == ("legacy", Outcome.OK)


@proves("RELAY-2")
async def test_a_stream_is_relayed_event_by_event_as_it_comes() -> None:
    answer = sse_answer(PRIMER, SILENCE, live=True)
    world, client = World().will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body == PRIMER)
        assert world.telemetry.open_streams == {"post": 1}
        answer.push(PROGRESS + FINAL[:9])
        await client.until(lambda: client.body == PRIMER + PROGRESS)
        answer.push(FINAL[9:])
        await client.until(lambda: client.body == PRIMER + PROGRESS + FINAL)
        answer.push(b"")
    assert client.has_ended
    assert not client.until_close
    assert (world.record.outcome, world.record.events) == (Outcome.OK, 2)
    assert world.endpoints.finished == [(A, Outcome.OK)]


@proves("RELAY-4")
@pytest.mark.parametrize(
    "body", [b'{"jsonrpc":"2.0","method":"notifications/initialized"}', b'{"jsonrpc":"2.0","id":7,"result":{}}']
)
async def test_notifications_and_responses_get_their_202(body: bytes) -> None:
    world = World().will_answer(FakeAnswer(202, []))
    client = await run(world, legacy_post(token=token_of(world)), body)
    assert (client.status, client.body, world.record.outcome) == (202, b"", Outcome.OK)


@proves("MSG-5")
async def test_a_batch_is_answered_by_a_batch() -> None:
    answers = b'[{"jsonrpc":"2.0","id":2,"result":{}},{"jsonrpc":"2.0","id":1,"result":{}}]'
    batch = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]'
    client = await run(World().will_answer(json_answer(answers)), legacy_post(), batch)
    assert (client.status, client.body) == (200, answers)
    world = World().will_answer(json_answer(b'[{"jsonrpc":"2.0","id":3,"result":{}}]'))
    assert (await run(world, legacy_post(), batch)).status == 502


@proves("FAIL-4")
async def test_a_batch_that_is_cut_gets_an_error_on_each_unanswered_id() -> None:
    batch = b"[%s]" % b",".join(b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % key for key in (b"1", b"2", b'"c"'))
    client = await run(World().will_answer(sse_answer(FINAL)), legacy_post(), batch)
    errors = client.body.removeprefix(FINAL).split(b"\n\n")
    assert [event_error(error + b"\n\n")[0] for error in errors[:-1]] == [2, "c"]


@proves("LEAVE-2", "FAIL-8")
async def test_a_client_that_leaves_a_call_cancels_nothing() -> None:
    answer = sse_answer(PROGRESS, live=True)
    world, client = World().will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.writes)
        client.leave()
    assert world.record.outcome is Outcome.CLIENT_LEFT
    assert len(world.pumps) == 1
    assert not answer.closings
    answer.push(FINAL)
    answer.push(b"")
    await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert answer.was_read_to_end
    assert world.endpoints.finished == [(A, Outcome.OK)]


@proves("LEAVE-2")
async def test_a_client_that_leaves_before_the_answer_cancels_nothing() -> None:
    world, client = World().will_answer(json_answer()), FakeClient(CALL)
    world.upstream.pending = asyncio.Event()
    async with running(world, legacy_post(), client):
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        client.leave()
        world.upstream.pending.set()
    assert world.upstream.cancelled == 0
    assert world.endpoints.finished == [(A, Outcome.OK)]


@proves("LEAVE-2", "RELAY-5")
async def test_a_client_that_leaves_while_the_queue_is_full_does_not_stop_the_pump() -> None:
    big = b"data: " + b'{"jsonrpc":"2.0","method":"m","params":{"x":"' + b"x" * QUEUE_BYTES + b'"}}\n\n'
    answer = sse_answer(*[big] * 5, FINAL)
    world, client = World().will_answer(answer), FakeClient(CALL)
    client.stop_reading()
    async with running(world, legacy_post(), client):
        await client.until(lambda: client.started)
        await let_others_run()
        assert answer.reads <= 3  # one being written, one queued, one that waits
        client.leave()
    assert answer.was_read_to_end


@proves("RELAY-5")
async def test_what_waits_for_a_slow_client_goes_in_one_piece() -> None:
    world, client = World().will_answer(sse_answer(PROGRESS, PROGRESS, FINAL)), FakeClient(CALL)
    await run(world, legacy_post(), client=client)
    assert client.body == PROGRESS + PROGRESS + FINAL


@proves("FAIL-4")
async def test_a_stream_cut_before_its_response_ends_with_an_error_on_the_requests_id() -> None:
    world = World().will_answer(sse_answer(PROGRESS + FINAL[:9]))
    client = await run(world, legacy_post(), CALL)
    assert client.status == 200
    assert client.body.startswith(PROGRESS)
    assert event_error(client.body.removeprefix(PROGRESS)) == (
        1,
        -32603,
        "the backend closed the stream before its final response",
    )
    assert (world.record.outcome, world.endpoints.finished) == (Outcome.BROKEN, [(A, Outcome.BROKEN)])


@proves("FAIL-5")
@pytest.mark.parametrize("end", [b"", Failed(Outcome.BROKEN, "reset")])
@pytest.mark.parametrize("before", [PRIMER, PRIMER + PROGRESS])
async def test_a_stream_cut_after_an_event_id_is_closed_so_that_the_client_resumes(
    before: bytes, end: bytes | Failed
) -> None:
    world = World().will_answer(sse_answer(before, end))
    client = await run(world, legacy_post(), CALL)
    assert (client.status, client.body) == (200, before)
    assert client.has_ended


@proves("FAIL-4")
@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([Failed(Outcome.TIMED_OUT, "nothing came for 300 seconds")], "nothing came for 300 seconds"),
        ([b"data: <html>\n\n"], "the backend sent an event that is not a JSON-RPC message"),
        (
            [b'data: {"jsonrpc":"2.0","id":9,"result":{}}\n\n'],
            "the backend answered with another id than the request's",
        ),
    ],
)
async def test_what_resuming_would_not_mend_is_told_though_there_was_an_event_id(
    pieces: list[bytes | Failed], message: str
) -> None:
    client = await run(World().will_answer(sse_answer(PRIMER + PROGRESS, *pieces)), legacy_post(), CALL)
    assert event_error(client.body.removeprefix(PRIMER + PROGRESS)) == (1, -32603, message)


@proves("FAIL-3", "FAIL-4")
@pytest.mark.parametrize(
    ("pieces", "status", "message"),
    [
        ([b""], 502, "the backend closed the stream before its final response"),
        ([FINAL[:9]], 502, "the backend closed the stream before its final response"),
        ([Failed(Outcome.BROKEN, "the connection broke")], 502, "the connection broke"),
        ([Failed(Outcome.TIMED_OUT, "nothing came for 300 seconds")], 504, "nothing came for 300 seconds"),
        ([b"data: <html>\n\n"], 502, "the backend sent an event that is not a JSON-RPC message"),
    ],
)
async def test_as_long_as_nothing_was_sent_a_failure_has_a_status_of_its_own(
    pieces: list[bytes | Failed], status: int, message: str
) -> None:
    client = await run(World().will_answer(sse_answer(*pieces)), legacy_post(), CALL)
    assert error_of(client) == (status, 1, -32603, message)


@proves("RELAY-2", "SESS-3")
@pytest.mark.parametrize("end", [b"", SILENCE, Failed(Outcome.BROKEN, "reset")])
async def test_a_call_that_is_answered_at_once_is_one_reply(end: bytes | Failed | None) -> None:
    answer = sse_answer(PRIMER + FINAL[:9], FINAL[9:], end, headers=[(b"mcp-session-id", b"up-7")])
    world = World()
    token = token_of(world)
    client = await run(world.will_answer(answer), legacy_post(token=token), CALL)
    assert client.writes == [PRIMER + FINAL]
    assert client.header(b"content-type") == b"text/event-stream"
    assert client.header(b"mcp-session-id") == token.encode()
    assert answer.was_read_to_end == (end == b"")
    assert (world.record.outcome, world.record.events, world.telemetry.streams) == (Outcome.OK, 1, [])
    assert world.endpoints.finished == [(A, Outcome.OK)]


@proves("RELAY-3")
async def test_a_comment_keeps_a_silent_stream_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.pumps.SILENCE_SECONDS", 0.0)
    answer = sse_answer(PROGRESS + FINAL[:9], live=True)
    world, client = World().will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(), client):
        await client.until(lambda: b":\n\n" in client.writes)
        answer.push(FINAL[9:])
        answer.push(b"")
    assert b"".join(part for part in client.writes if part != b":\n\n") == PROGRESS + FINAL
    assert set(client.writes) == {PROGRESS, b":\n\n", FINAL}


def listen(world: World, *headers: tuple[bytes, bytes]) -> object:
    return request("GET", *session_headers(token_of(world)), (b"accept", b"text/event-stream"), *headers)


@proves("LEAVE-3", "FAIL-8")
async def test_the_get_stream_ends_with_its_client() -> None:
    answer = sse_answer(PROGRESS, live=True)
    world, client = World().will_answer(answer), FakeClient()
    async with running(world, listen(world), client):
        await client.until(lambda: client.body == PROGRESS)
        assert client.until_close
        assert world.telemetry.open_streams == {"get": 1}
        client.leave()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert len(world.pumps) == 0
    assert (world.sent.method, world.sent.header(b"mcp-session-id")) == (b"GET", b"up-7")
    assert world.sent.timeouts.idle_seconds == float("inf")
    assert world.endpoints.finished == [(A, Outcome.CLIENT_LEFT)]


@proves("LEAVE-3")
async def test_a_get_stream_whose_head_does_not_come_ends_with_its_client() -> None:
    world, client = World(), FakeClient()
    world.upstream.pending = asyncio.Event()
    async with running(world, listen(world), client):
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        client.leave()
    assert world.upstream.cancelled == 1
    assert client.cuts == 1


@proves("LEAVE-3")
async def test_a_get_stream_may_carry_requests_and_responses() -> None:
    ask = b'data: {"jsonrpc":"2.0","id":5,"method":"elicitation/create","params":{}}\n\n'
    world = World().will_answer(sse_answer(ask + FINAL + FINAL))
    client = await run(world, listen(world))
    assert client.body == ask + FINAL + FINAL


@proves("LEAVE-3")
async def test_a_resume_is_passed_to_the_backend_with_its_cursor() -> None:
    world = World().will_answer(sse_answer(FINAL))
    client = await run(world, listen(world, (b"last-event-id", b"7")))
    assert client.body == FINAL
    assert world.sent.header(b"last-event-id") == b"7"


@proves("LEAVE-3")
async def test_a_draining_worker_ends_its_get_streams_and_no_call() -> None:
    world = World()
    stream, call = sse_answer(live=True), sse_answer(PROGRESS, live=True)
    listener, caller = FakeClient(), FakeClient(CALL)
    world.will_answer(stream)
    async with running(world, listen(world), listener):
        await listener.until(lambda: listener.started)
        world.will_answer(call)
        async with running(world, legacy_post(), caller):
            await caller.until(lambda: caller.writes)
            world.standing.drain()
            await listener.until(lambda: listener.has_ended)
            call.push(FINAL)
            call.push(b"")
    assert stream.closings == 1
    assert caller.body == PROGRESS + FINAL


@proves("LEAVE-3")
async def test_a_get_stream_begun_while_the_worker_drains_is_ended_at_once() -> None:
    world = World()
    world.standing.drain()
    world.will_answer(sse_answer(live=True))
    client = await run(world, listen(world))
    assert (client.status, client.has_ended) == (200, True)
    assert re.fullmatch(rb"retry: 1[0-9]{3}\n\n", client.body), "it is to come back, and not all clients at once"
    assert world.record.outcome is Outcome.OK


@proves("LEAVE-3", "FAIL-8")
async def test_a_pump_that_is_stopped_before_it_ran_leaves_nothing_open() -> None:
    world, answer = World(), sse_answer(live=True)
    endpoint = world.endpoints.pick(ECHO)
    world.endpoints.begin(endpoint)
    pump = Pump(Call(answer, endpoint, world.endpoints), StreamReader(1000, [1]), TRACE, [])
    world.pumps.start(pump, ends_with_client=False)
    await world.pumps.close()
    await let_others_run()
    assert answer.closings == 1
    assert world.endpoints.outstanding[A] == 0
    assert await pump.hand_over.take(0.0) == b""


async def test_closing_ends_every_pump() -> None:
    world, client = World().will_answer(answer := sse_answer(PROGRESS, live=True)), FakeClient(CALL)
    async with running(world, legacy_post(), client):
        await client.until(lambda: client.writes)
        await world.pumps.close()
        assert answer.closings == 1
    assert client.has_ended
    assert len(world.pumps) == 0


@proves("RELAY-1")
async def test_a_backend_without_a_get_stream_says_so_itself() -> None:
    world = World().will_answer(FakeAnswer(405, [(b"allow", b"POST")], whole=True))
    client = await run(world, listen(world))
    assert (client.status, client.body, client.header(b"allow")) == (405, b"", b"POST")
    assert world.record.outcome is Outcome.BACKEND_REFUSED


async def test_a_backend_that_still_holds_the_last_get_stream_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.attempts.CONFLICT_WAITS_SECONDS", (0.0, 0.0, 0.0))
    busy = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Conflict"}}'
    world = World().will_answer(json_answer(busy, status=409), json_answer(busy, status=409), sse_answer(PROGRESS))
    client = await run(world, listen(world))
    assert (client.status, client.body) == (200, PROGRESS)
    world = World().will_answer(*(json_answer(busy, status=409) for _ in range(4)))
    client = await run(world, listen(world))
    assert (client.status, client.body) == (409, busy)
    assert sum(CONFLICT_WAITS_SECONDS) < 2


@proves("ERA-2")
async def test_a_legacy_client_of_a_modern_backend_is_told_the_versions() -> None:
    world = World()
    world.eras.known[("echo", Era.LEGACY)] = False
    client = await run(world, legacy_post(), INITIALIZE)
    assert error_of(client) == (400, 0, -32600, "this server has no handshake: it speaks protocol version 2026-07-28")
    assert b'"supported":["2026-07-28"]' in client.body
    assert client.header(b"x-request-id") == TRACE.encode()
