"""Modern exchanges, told as transcripts: one pipe, cut with the client."""

import asyncio

import pytest

from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.versions import Era
from tests.fakes import BOUND_SECONDS, SILENCE, TRACE, FakeAnswer, FakeClient, World
from tests.flow.scenes import (
    FINAL,
    PRIMER,
    PROGRESS,
    RESULT,
    A,
    B,
    event_error,
    json_answer,
    let_others_run,
    modern_body,
    modern_post,
    run,
    running,
    sse_answer,
)
from tests.requirements import proves


@proves("RELAY-1", "ERR-2", "FAIL-8")
async def test_a_json_answer_is_relayed_byte_for_byte() -> None:
    world = World().will_answer(json_answer(RESULT, (b"x-own", b"1"), (b"connection", b"close")))
    client = await run(world, modern_post((b"x-request-id", b"mine"), (b"mcp-param-region", b"eu")), modern_body())
    assert (client.status, client.body) == (200, RESULT)
    assert client.headers == [(b"content-type", b"application/json"), (b"x-own", b"1"), (b"x-request-id", b"mine")]
    assert world.sent.body == modern_body()
    assert (world.sent.method, world.sent.backend) == (b"POST", "echo")
    assert world.sent.header(b"mcp-param-region") == b"eu"
    assert world.endpoints.finished == [(A, Outcome.OK)]


@proves("ERR-2", "FWD-5")
async def test_without_an_id_of_the_clients_the_gateway_gives_its_own() -> None:
    world = World().will_answer(json_answer())
    client = await run(world, modern_post((b"x-request-id", b"bad id")), modern_body())
    assert client.header(b"x-request-id") == TRACE.encode()
    assert world.sent.header(b"x-request-id") == TRACE.encode()
    assert world.sent.header(b"traceparent") == b"00-0af7651916cd43dd8448eb211c80319c-0af7651916cd43dd-00"


async def test_the_record_tells_all_of_the_exchange() -> None:
    world = World().will_answer(json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"isError":true}}'))
    await run(world, modern_post(), modern_body())
    record = world.record
    assert (record.http_method, record.path, record.mount, record.backend) == ("POST", "/echo/mcp", "/echo", "echo")
    assert (record.era, record.method, record.name, record.client_name) == ("modern", "tools/call", "add", "inspector")
    assert (record.outcome, record.status, record.endpoint) == (Outcome.TOOL_ERROR, 200, A)
    assert (record.bytes_in, record.bytes_out) == (len(modern_body()), 50)
    assert (record.forwarded, record.answered, record.upstream_ended) == (100.0, 100.0, 100.0)


@proves("RELAY-1")
@pytest.mark.parametrize("status", [200, 400, 404, 500, 503])
async def test_a_json_rpc_error_passes_with_the_backends_status(status: int) -> None:
    error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}'
    world = World().will_answer(json_answer(error, status=status))
    client = await run(world, modern_post(), modern_body())
    assert (client.status, client.body) == (status, error)
    assert (world.record.outcome, world.record.rpc_code) == (Outcome.RPC_ERROR, -32601)


@proves("RELAY-4")
async def test_a_notification_gets_its_202() -> None:
    world = World().will_answer(FakeAnswer(202, []))
    body = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    client = await run(world, modern_post(method=b"notifications/cancelled"), body)
    assert (client.status, client.body) == (202, b"")
    assert world.record.outcome is Outcome.OK


@proves("RELAY-2")
async def test_a_stream_is_relayed_event_by_event_as_it_comes() -> None:
    answer = sse_answer(live=True, headers=[(b"cache-control", b"no-store"), (b"transfer-encoding", b"chunked")])
    world, client = World().will_answer(answer), FakeClient(modern_body())
    async with running(world, modern_post(), client):
        await client.until(lambda: client.started)
        assert client.headers == [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", TRACE.encode()),
        ]
        answer.push(PROGRESS)
        await client.until(lambda: client.writes == [PROGRESS])
        answer.push(FINAL[:20])
        answer.push(FINAL[20:] + PROGRESS[:5])
        await client.until(lambda: client.writes == [PROGRESS, FINAL])
        assert world.telemetry.open_streams == {"post": 1}
        answer.push(b"")
    assert client.has_ended
    assert (world.record.outcome, world.record.events, world.record.bytes_out) == (
        Outcome.OK,
        2,
        len(PROGRESS + FINAL),
    )
    assert world.endpoints.finished == [(A, Outcome.OK)]


@proves("RELAY-3")
async def test_silence_gets_comments_and_never_inside_an_event() -> None:
    answer = sse_answer(SILENCE, PROGRESS + FINAL[:9], SILENCE, FINAL[9:], SILENCE)
    client = await run(World().will_answer(answer), modern_post(), modern_body())
    assert client.writes == [b":\n\n", PROGRESS, b":\n\n", FINAL, b":\n\n"]


@proves("LEAVE-1", "FAIL-8")
async def test_a_client_that_leaves_its_stream_cancels_upstream() -> None:
    answer = sse_answer(PROGRESS, live=True)
    world, client = World().will_answer(answer), FakeClient(modern_body())
    async with running(world, modern_post(), client) as task:
        await client.until(lambda: client.writes)
        client.leave()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert task.cancelled()
    assert not answer.was_read_to_end
    assert world.record.outcome is Outcome.CLIENT_LEFT
    assert world.endpoints.finished == [(A, Outcome.CLIENT_LEFT)]


@proves("LEAVE-1", "FAIL-8")
async def test_a_client_that_leaves_before_the_answer_cancels_upstream_too() -> None:
    world, client = World(), FakeClient(modern_body())
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(), client):
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        client.leave()
    assert world.upstream.cancelled == 1
    assert not client.started
    assert world.endpoints.finished == [(A, Outcome.CLIENT_LEFT)]


@proves("LEAVE-1")
async def test_a_client_that_leaves_with_its_answer_has_missed_nothing() -> None:
    world, client = World().will_answer(sse_answer(FINAL, live=True)), FakeClient(modern_body())
    async with running(world, modern_post(), client):
        await client.until(lambda: client.writes)
        client.leave()
    assert world.record.outcome is Outcome.OK


@proves("LEAVE-1")
async def test_a_notification_is_not_cut_off_by_leaving() -> None:
    client = FakeClient(b'{"jsonrpc":"2.0","method":"notifications/x"}')
    await run(World().will_answer(FakeAnswer(202, [])), modern_post(method=b"notifications/x"), client=client)
    assert client.cuts == 0


@proves("RELAY-5")
async def test_a_slow_client_makes_the_backend_wait() -> None:
    answer = sse_answer(PROGRESS, PROGRESS, FINAL)
    world, client = World().will_answer(answer), FakeClient(modern_body())
    client.stop_reading()
    async with running(world, modern_post(), client):
        await client.until(lambda: client.started)
        await let_others_run()
        assert answer.reads == 1
        client.go_on_reading()
    assert client.body == PROGRESS + PROGRESS + FINAL


LISTEN = b"subscriptions/listen"


async def test_a_subscription_may_be_silent_for_ever() -> None:
    world, client = (
        World().will_answer(sse_answer(PROGRESS, live=True)),
        FakeClient(modern_body("subscriptions/listen")),
    )
    async with running(world, modern_post(method=LISTEN), client):
        await client.until(lambda: client.writes)
        assert world.telemetry.open_streams == {"listen": 1}
        client.leave()
    timeouts = world.sent.timeouts
    assert (timeouts.connect_seconds, timeouts.idle_seconds, timeouts.total_seconds) == (
        3.0,
        float("inf"),
        float("inf"),
    )


ENDED = (
    b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{"resultType":"complete",'
    b'"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}\n\n'
)


@proves("LEAVE-3")
async def test_a_draining_worker_ends_a_subscription_in_good_order() -> None:
    world, client = (
        World().will_answer(sse_answer(PROGRESS, live=True)),
        FakeClient(modern_body("subscriptions/listen")),
    )
    async with running(world, modern_post(method=LISTEN), client):
        await client.until(lambda: client.writes)
        world.standing.drain()
    assert client.writes == [PROGRESS, ENDED]
    assert client.has_ended
    assert world.record.outcome is Outcome.OK


@proves("LEAVE-1", "LEAVE-3")
@pytest.mark.parametrize("method", ["subscriptions/listen", "tools/call"])
async def test_a_client_that_leaves_while_the_worker_drains_has_left(method: str) -> None:
    world, client = World().will_answer(sse_answer(PROGRESS, live=True)), FakeClient(modern_body(method))
    async with running(world, modern_post(method=method.encode()), client):
        await client.until(lambda: client.writes)
        world.standing.is_draining = True
        client.leave()
    assert client.writes == [PROGRESS]
    assert world.record.outcome is Outcome.CLIENT_LEFT


@proves("LEAVE-3")
async def test_a_subscription_begun_while_the_worker_drains_is_ended_at_once() -> None:
    world = World().will_answer(sse_answer(live=True))
    world.standing.drain()
    client = await run(world, modern_post(method=LISTEN), modern_body("subscriptions/listen"))
    assert (client.status, client.writes) == (200, [ENDED])


@proves("FAIL-4")
@pytest.mark.parametrize("primer", [b"", PRIMER])
async def test_a_stream_cut_before_its_response_ends_with_an_error_on_the_requests_id(primer: bytes) -> None:
    """Event ids or not: modern MCP has no resuming."""
    world = World().will_answer(sse_answer(primer + PROGRESS + FINAL[:9]))
    client = await run(world, modern_post(), modern_body())
    assert client.status == 200
    assert client.writes[0] == primer + PROGRESS
    assert event_error(client.writes[1]) == (1, -32603, "the backend closed the stream before its final response")
    assert world.record.outcome is Outcome.BROKEN
    assert world.endpoints.finished == [(A, Outcome.BROKEN)]


@proves("FAIL-4")
@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Failed(Outcome.BROKEN, "the connection broke"), Outcome.BROKEN),
        (Failed(Outcome.TIMED_OUT, "nothing came for 300 seconds"), Outcome.TIMED_OUT),
    ],
)
async def test_a_stream_that_breaks_ends_with_an_error_that_says_why(failure: Failed, outcome: Outcome) -> None:
    world = World().will_answer(sse_answer(PROGRESS, failure))
    client = await run(world, modern_post(), modern_body())
    assert event_error(client.writes[1]) == (1, -32603, failure.message)
    assert (world.record.outcome, world.record.detail) == (outcome, failure.message)
    assert world.endpoints.finished == [(A, outcome)]


@proves("FAIL-4")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"data: <html>\n\n", "the backend sent an event that is not a JSON-RPC message"),
        (b'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n', "the backend answered with another id than the request's"),
        (
            b'data: {"jsonrpc":"2.0","id":"1","result":{}}\n\n',
            "the backend answered with another id than the request's",
        ),
    ],
)
async def test_nonsense_on_a_stream_is_not_relayed_but_told(bad: bytes, message: str) -> None:
    answer = sse_answer(PROGRESS + bad + FINAL, live=True)
    world = World().will_answer(answer)
    client = await run(world, modern_post(), modern_body())
    assert client.writes[0] == PROGRESS
    assert event_error(client.writes[1]) == (1, -32603, message)
    assert world.record.outcome is Outcome.NONSENSE
    assert not answer.was_read_to_end


@proves("FAIL-4")
async def test_what_breaks_after_the_response_is_nobodys_loss() -> None:
    world = World().will_answer(sse_answer(FINAL, Failed(Outcome.BROKEN, "reset")))
    client = await run(world, modern_post(), modern_body())
    assert client.writes == [FINAL]
    assert world.record.outcome is Outcome.OK


@proves("ERA-3")
async def test_an_answer_shows_that_the_backend_is_modern() -> None:
    world = World().will_answer(json_answer())
    await run(world, modern_post(), modern_body())
    assert world.eras.observed == [("echo", Era.MODERN, True)]


@proves("ERA-3")
@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        (
            400,
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no session"}}',
            [("echo", Era.MODERN, False)],
        ),
        (404, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"unknown method"}}', []),
        (400, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bad params"}}', []),
        (503, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"busy"}}', []),
        (200, RESULT, []),
    ],
)
async def test_only_a_refusal_that_no_modern_server_gives_raises_a_doubt(
    status: int, body: bytes, seen: object
) -> None:
    world = World().will_answer(json_answer(body, status=status))
    world.eras.known[("echo", Era.MODERN)] = True
    await run(world, modern_post(), modern_body())
    assert world.eras.observed == seen


@proves("ERA-2")
async def test_a_modern_client_of_a_legacy_backend_is_told_to_shake_hands() -> None:
    world = World()
    world.eras.known[("echo", Era.MODERN)] = False
    client = await run(world, modern_post(), modern_body())
    assert client.status == 400
    assert b'"code":-32600' in client.body  # no modern code: a client of both eras falls back
    assert b"this server speaks only protocol versions with a handshake: send `initialize`" in client.body
    assert world.upstream.sent == []


@proves("FAIL-2")
async def test_calls_go_to_each_endpoint_in_turn() -> None:
    world = World().will_answer(json_answer(), json_answer())
    await run(world, modern_post(), modern_body())
    await run(world, modern_post(), modern_body())
    assert [sent.address for sent in world.upstream.sent] == [A, B]
