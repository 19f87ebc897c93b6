"""Many listeners, one upstream stream: who shares it, what each is told, and what becomes of them when it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.exchange import hubs
from gateway.flow import serve
from gateway.protocol.outcomes import Failed, Outcome
from tests.fakes import BOUND_SECONDS, TRACE, FakeAnswer, FakeClient, World
from tests.flow.scenes import META, A, B, check_end, error_of, json_answer, let_others_run, modern_post, run, sse_answer
from tests.requirements import proves

LISTEN = b"subscriptions/listen"
KEY = "io.modelcontextprotocol/subscriptionId"
TOOLS, PROMPTS = "notifications/tools/list_changed", "notifications/prompts/list_changed"
ALL = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def listen(request_id: object = 1, meta: object = META, **wanted: object) -> bytes:
    params = {"notifications": wanted, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "subscriptions/listen", "params": params}).encode()


def event(message: dict[str, Any]) -> bytes:
    return b"event: message\r\ndata: %b\r\n\r\n" % json.dumps({"jsonrpc": "2.0", **message}).encode()


def ack(**honoured: object) -> bytes:
    params = {"_meta": {KEY: "gateway-listen"}, "notifications": honoured}
    return event({"method": "notifications/subscriptions/acknowledged", "params": params})


def told(method: str, **params: object) -> bytes:
    return event({"method": method, "params": {"_meta": {KEY: "gateway-listen"}, **params}})


def heard(client: FakeClient) -> list[dict[str, Any]]:
    """The messages that the client got."""
    blocks = client.body.replace(b"\r\n", b"\n").replace(b":\n\n", b"").split(b"\n\n")
    return [json.loads(block.removeprefix(b"event: message\ndata: ")) for block in blocks if block]


def methods(client: FakeClient) -> list[str]:
    return [message.get("method", "result") for message in heard(client)]


class Audience:
    """Listeners that come one after another, on one worker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: list[asyncio.Task[None]] = []

    async def join(self, body: bytes, *headers: tuple[bytes, bytes], expect: int = 1) -> FakeClient:
        """A listener that has been written `expect` messages."""
        client = FakeClient(body)
        self.tasks.append(asyncio.create_task(serve(self.world.gateway, modern_post(*headers, method=LISTEN), client)))
        await client.until(lambda: len(heard(client)) >= expect)
        return client


@asynccontextmanager
async def audience(world: World) -> AsyncIterator[Audience]:
    made = Audience(world)
    try:
        yield made
        await world.hubs.close()
        async with asyncio.timeout(BOUND_SECONDS):
            await asyncio.gather(*made.tasks, return_exceptions=True)
        check_end(world)
        assert +world.telemetry.open_hubs == {}
    finally:
        for task in made.tasks:
            task.cancel()


@proves("LISTEN-1")
async def test_many_listeners_share_one_stream_and_each_is_told_on_its_own_id() -> None:
    answer = sse_answer(ack(**ALL), live=True, headers=[(b"x-own", b"1")])
    world = World().will_answer(answer)
    async with audience(world) as who:
        clients = [await who.join(listen(i, toolsListChanged=True)) for i in (1, "two", 3)]
        assert world.telemetry.open_hubs == {"echo": 1}
        answer.push(told(TOOLS))
        for client in clients:
            await client.until(lambda client=client: len(heard(client)) == 2)
        assert clients[1].body == (
            b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":'
            b'{"_meta":{"io.modelcontextprotocol/subscriptionId":"two"},"notifications":{"toolsListChanged":true}}}\n\n'
            b'event: message\ndata: {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", '
            b'"params": {"_meta": {"io.modelcontextprotocol/subscriptionId": "two"}}}\n\n'
        )
        assert [message["params"]["_meta"][KEY] for message in heard(clients[2])] == [3, 3]
        assert (clients[0].status, clients[0].headers) == (
            200,
            [
                (b"content-type", b"text/event-stream"),
                (b"x-own", b"1"),
                (b"cache-control", b"no-cache, no-transform"),
                (b"x-accel-buffering", b"no"),
                (b"x-request-id", TRACE.encode()),
            ],
        )
    sent = world.sent  # the one request there was
    assert sent.header(b"mcp-method") == LISTEN
    assert sent.header(b"accept") == b"application/json, text/event-stream"
    assert json.loads(sent.body)["params"]["notifications"] == ALL
    assert (sent.timeouts.idle_seconds, sent.timeouts.total_seconds) == (float("inf"), float("inf"))


@proves("LISTEN-1")
async def test_each_is_told_what_it_wants_and_its_backend_will_tell() -> None:
    answer = sse_answer(ack(toolsListChanged=True, promptsListChanged=True), live=True)
    async with audience(World().will_answer(answer)) as who:
        tools = await who.join(listen(1, toolsListChanged=True, resourcesListChanged=True))
        prompts = await who.join(listen(2, promptsListChanged=True, toolsListChanged=False))
        nothing = await who.join(listen(3))
        answer.push(event({"method": "notifications/message", "params": {"data": "x"}}))
        answer.push(told("notifications/resources/list_changed") + told(TOOLS) + told(PROMPTS))
        await prompts.until(lambda: len(heard(prompts)) == 2)
        await tools.until(lambda: len(heard(tools)) == 2)
        assert [heard(client)[0]["params"]["notifications"] for client in (tools, prompts, nothing)] == [
            {"toolsListChanged": True},
            {"promptsListChanged": True},
            {},
        ]
        assert (methods(tools)[1:], methods(prompts)[1:], methods(nothing)[1:]) == ([TOOLS], [PROMPTS], [])


@proves("LISTEN-1")
@pytest.mark.parametrize(
    ("body", "headers", "streams"),
    [
        (listen(2, resourceSubscriptions=["b:/", "a:/"]), (), 1),
        (listen(2, resourceSubscriptions=["a:/"]), (), 2),
        (listen(2, toolsListChanged=True), (), 2),
        (listen(2, resourceSubscriptions=["a:/", "b:/"]), ((b"x-api-key", b"bob"),), 2),
    ],
)
async def test_a_stream_is_shared_by_who_watches_the_same_resources_with_the_same_credentials(
    body: bytes, headers: tuple[tuple[bytes, bytes], ...], streams: int
) -> None:
    uris = ["a:/", "b:/"]
    answers = [sse_answer(ack(**ALL, resourceSubscriptions=uris), live=True) for _ in range(2)]
    world = World().will_answer(*answers)
    async with audience(world) as who:
        first = await who.join(listen(1, resourceSubscriptions=uris))
        await who.join(body, *headers)
        assert len(world.upstream.sent) == streams
        answers[0].push(told("notifications/resources/updated", uri="a:/part"))
        await first.until(lambda: len(heard(first)) == 2)
        assert heard(first)[1]["params"]["uri"] == "a:/part"
    assert json.loads(world.upstream.sent[0].body)["params"]["notifications"]["resourceSubscriptions"] == uris
    assert world.upstream.sent[-1].header(b"x-api-key") == (headers[0][1] if headers else None)


@proves("LISTEN-1")
async def test_a_backend_may_spell_a_resource_in_its_own_way() -> None:
    answer = sse_answer(ack(**ALL, resourceSubscriptions=["a:/x/"]), live=True)
    async with audience(World().will_answer(answer)) as who:
        client = await who.join(listen(1, resourceSubscriptions=["a:/x"]))
        answer.push(told("notifications/resources/updated", uri="a:/x/"))
        await client.until(lambda: len(heard(client)) == 2)
        assert heard(client)[0]["params"]["notifications"] == {"resourceSubscriptions": ["a:/x/"]}


@proves("LISTEN-2")
@pytest.mark.parametrize(
    "body",
    [
        listen(1, taskIds=["t"]),
        listen(1, meta={**META, "io.modelcontextprotocol/logLevel": "debug"}),
        listen(1, toolsListChanged="yes"),
        listen(1, resourceSubscriptions=[f"a:/{i}" for i in range(1001)]),
    ],
)
async def test_what_is_asked_in_an_unknown_way_goes_to_the_backend_as_it_is(body: bytes) -> None:
    answer = sse_answer(ack(taskIds=["t"]), live=True)
    world = World().will_answer(answer)
    async with audience(world) as who:
        client = await who.join(body)
        assert world.sent.body == body
        assert client.writes == [ack(taskIds=["t"])]
        client.leave()


@proves("LISTEN-2")
@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (lambda: json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}', status=404), 404),
        (lambda: json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"limit"}}'), 200),
        (lambda: FakeAnswer(405, []), 405),
    ],
)
async def test_a_refusal_is_the_listeners_own(refusal: Any, status: int) -> None:
    world = World().will_answer(refusal(), refusal())
    client = await run(world, modern_post(method=LISTEN), listen(1, toolsListChanged=True))
    assert client.status == status
    assert [json.loads(sent.body)["id"] for sent in world.upstream.sent] == ["gateway-listen", 1]
    assert len(world.hubs) == 0


@proves("LISTEN-2")
async def test_a_backend_that_cannot_be_reached_is_told_to_each_in_the_usual_words() -> None:
    away = [Failed(Outcome.UNREACHABLE, "refused") for _ in range(4)]
    client = await run(World().will_answer(*away), modern_post(method=LISTEN), listen(1, toolsListChanged=True))
    assert error_of(client) == (503, 1, -32603, "no server of mount /echo can be reached")


@proves("LISTEN-1")
async def test_where_one_endpoint_is_away_another_is_listened_to() -> None:
    world = World().will_answer(Failed(Outcome.UNREACHABLE, "refused"), sse_answer(ack(**ALL), live=True))
    async with audience(world) as who:
        for i in (1, 2):
            await who.join(listen(i, toolsListChanged=True))
        assert world.telemetry.open_hubs == {"echo": 1}
    assert [sent.address for sent in world.upstream.sent] == [A, B]


@proves("LISTEN-2")
@pytest.mark.parametrize("first", [told(TOOLS), b"data: nonsense\n\n", b""])
async def test_a_stream_that_does_not_begin_with_an_acknowledgement_is_not_shared(first: bytes) -> None:
    own = sse_answer(ack(toolsListChanged=True), live=True)
    world = World().will_answer(sse_answer(first), own)
    async with audience(world) as who:
        client = await who.join(listen(1, toolsListChanged=True))
        assert client.writes == [ack(toolsListChanged=True)]
        client.leave()


@proves("LISTEN-2")
async def test_a_backend_that_acknowledges_late_is_asked_by_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "ACKNOWLEDGE_SECONDS", 0.0)
    world = World().will_answer(sse_answer(live=True), sse_answer(ack(toolsListChanged=True), live=True))
    async with audience(world) as who:
        client = await who.join(listen(1, toolsListChanged=True))
        client.leave()
    assert world.endpoints.finished[0][1] is Outcome.TIMED_OUT


@proves("LISTEN-3")
@pytest.mark.parametrize(
    "end",
    [
        b"",
        Failed(Outcome.BROKEN, "reset"),
        event({"id": "gateway-listen", "result": {"_meta": {KEY: "x"}}}),
        b"data: x\n\n",
    ],
)
async def test_a_stream_that_ends_is_opened_again_and_all_are_told_to_look(
    end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "REST_SECONDS", (0.0,))
    honoured = {**ALL, "resourceSubscriptions": ["a:/"]}
    first, away = sse_answer(ack(**honoured), live=True), FakeAnswer(503, [])
    second = sse_answer(ack(**honoured), live=True)
    world = World().will_answer(first, away, Failed(Outcome.UNREACHABLE, "x"), second)
    async with audience(world) as who:
        wants_all = await who.join(listen(1, **honoured))
        wants_one = await who.join(listen(2, promptsListChanged=True, resourceSubscriptions=["a:/"]))
        first.push(end)
        await wants_all.until(lambda: len(heard(wants_all)) == 5)
        await wants_one.until(lambda: len(heard(wants_one)) == 3)
        assert sorted(methods(wants_all)[1:]) == [
            "notifications/prompts/list_changed",
            "notifications/resources/list_changed",
            "notifications/resources/updated",
            "notifications/tools/list_changed",
        ]
        assert sorted(methods(wants_one)[1:]) == [PROMPTS, "notifications/resources/updated"]
        assert {message["params"]["_meta"][KEY] for message in heard(wants_one)} == {2}
        second.push(told(PROMPTS))
        await wants_one.until(lambda: len(heard(wants_one)) == 4)
    assert len(world.upstream.sent) == 4


@proves("LISTEN-3")
async def test_where_a_backend_takes_listeners_no_more_they_are_ended_in_good_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hubs, "REST_SECONDS", (0.0,))
    first = sse_answer(ack(**ALL), live=True)
    world = World().will_answer(first, FakeAnswer(405, []))
    async with audience(world) as who:
        client = await who.join(listen(7, toolsListChanged=True))
        first.push(b"")
        await client.until(lambda: client.has_ended)
        assert heard(client)[1] == {"jsonrpc": "2.0", "id": 7, "result": {"resultType": "complete", "_meta": {KEY: 7}}}
    assert world.record.outcome is Outcome.OK


@proves("LISTEN-4")
async def test_what_waits_for_a_slow_listener_is_one_of_each_kind() -> None:
    answer = sse_answer(ack(**ALL), live=True)
    async with audience(World().will_answer(answer)) as who:
        slow = await who.join(listen(1, **ALL))
        quick = await who.join(listen(2, promptsListChanged=True))
        slow.stop_reading()
        answer.push(told("notifications/resources/list_changed"))
        await let_others_run()
        answer.push((told(TOOLS) + told(PROMPTS)) * 100)
        await quick.until(lambda: len(heard(quick)) == 2)
        slow.go_on_reading()
        await slow.until(lambda: len(heard(slow)) == 4)
        await let_others_run()
        assert methods(slow)[1:] == ["notifications/resources/list_changed", TOOLS, PROMPTS]


@proves("LISTEN-4")
async def test_a_listener_for_whom_too_much_waits_is_ended_in_good_order() -> None:
    answer = sse_answer(ack(resourceSubscriptions=["a:/"]), live=True)
    world = World().will_answer(answer)
    async with audience(world) as who:
        slow = await who.join(listen(1, resourceSubscriptions=["a:/"]))
        slow.stop_reading()
        answer.push(told("notifications/resources/updated", uri="a:/first"))
        await let_others_run()
        for i in range(257):
            answer.push(told("notifications/resources/updated", uri=f"a:/{i}"))
        await let_others_run()
        slow.go_on_reading()
        await slow.until(lambda: slow.has_ended)
        assert methods(slow)[1:] == ["notifications/resources/updated", "result"]


@proves("LISTEN-5")
async def test_the_stream_is_closed_a_little_after_the_last_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "LINGER_SECONDS", 0.0)
    answer = sse_answer(ack(**ALL), live=True)
    world = World().will_answer(answer)
    async with audience(world) as who:
        first = await who.join(listen(1, toolsListChanged=True))
        second = await who.join(listen(2, toolsListChanged=True))
        first.leave()
        await let_others_run()
        assert not answer.closed.is_set()
        second.leave()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
        assert len(world.hubs) == 0
    assert [record.outcome for record in world.telemetry.finished] == [Outcome.CLIENT_LEFT] * 2


@proves("LISTEN-5")
async def test_who_comes_while_the_stream_lingers_finds_it_open() -> None:
    world = World().will_answer(sse_answer(ack(**ALL), live=True))
    async with audience(world) as who:
        (await who.join(listen(1, toolsListChanged=True))).leave()
        await let_others_run()
        await who.join(listen(2, toolsListChanged=True))
    assert len(world.upstream.sent) == 1


@proves("LISTEN-5")
async def test_who_leaves_before_the_acknowledgement_leaves_no_stream_behind() -> None:
    answer = sse_answer(live=True)
    world, client = World().will_answer(answer), FakeClient(listen(1, toolsListChanged=True))
    async with audience(world) as who:
        who.tasks.append(asyncio.create_task(serve(world.gateway, modern_post(method=LISTEN), client)))
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        await let_others_run()
        client.leave()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
        assert len(world.hubs) == 0


@proves("LEAVE-3")
async def test_a_draining_worker_ends_its_listeners_in_good_order() -> None:
    world = World().will_answer(sse_answer(ack(**ALL), live=True))
    async with audience(world) as who:
        clients = [await who.join(listen(i, toolsListChanged=True)) for i in (1, 2)]
        world.standing.drain()
        for client in clients:
            await client.until(lambda client=client: client.has_ended)
        assert heard(clients[1])[1] == {
            "jsonrpc": "2.0",
            "id": 2,
            "result": {"resultType": "complete", "_meta": {KEY: 2}},
        }
    assert [record.outcome for record in world.telemetry.finished] == [Outcome.OK] * 2


@proves("CACHE-6")
async def test_a_change_is_told_to_all_workers_before_any_listener() -> None:
    answer, go_on, told_others = sse_answer(ack(**ALL), live=True), asyncio.Event(), list[str]()
    world = World().will_answer(answer)

    class Invalidations:
        async def tell(self, name: str) -> None:
            told_others.append(name)
            await go_on.wait()

        def hear(self, name: str, take: Callable[[], None]) -> Callable[[], None]:
            return take

    world.caches.tidings.invalidations = Invalidations()
    async with audience(world) as who:
        client = await who.join(listen(1, toolsListChanged=True))
        answer.push(told(TOOLS))
        await let_others_run()
        assert (told_others, len(heard(client))) == (["changed tools echo"], 1)
        go_on.set()
        await client.until(lambda: len(heard(client)) == 2)
