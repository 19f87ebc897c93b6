"""Discovery and lists: asked once, kept as long as their backend says, and never longer than it is true."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from gateway.flow import serve
from gateway.policy.backends import Caching
from gateway.policy.caches import CacheBounds, CacheOutcome
from gateway.ports import Headers
from gateway.protocol.changes import Change
from gateway.protocol.outcomes import Failed, Outcome
from tests.fakes import BOUND_SECONDS, ECHO, NOW, TRACE, FakeAnswer, FakeClient, World, site_of
from tests.flow.scenes import (
    META,
    json_answer,
    let_others_run,
    modern_body,
    modern_post,
    request,
    run,
    running,
    session_headers,
    sse_answer,
    token_of,
)
from tests.requirements import proves

LIST = b"tools/list"
TOOLS = b'{"tools": [{"name": "add"}], "ttlMs": 60000, "cacheScope": "private"}'
FORBIDDEN = b'{"tools":[],"ttlMs":0,"cacheScope":"private"}'


def asking(request_id: object = 1, **params: Any) -> bytes:
    params = {**params, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/list", "params": params}).encode()


def response(result: bytes = TOOLS, request_id: object = 1) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (json.dumps(request_id).encode(), result)


def listed(result: bytes = TOOLS, request_id: object = 1, *headers: tuple[bytes, bytes]) -> FakeAnswer:
    return json_answer(response(result, request_id), *headers)


async def ask(world: World, body: bytes | None = None, *headers: tuple[bytes, bytes]) -> FakeClient:
    return await run(world, modern_post(*headers, method=LIST), body or asking())


def outcomes(world: World) -> list[str]:
    return [record.cache for record in world.telemetry.finished]


@proves("CACHE-3")
async def test_a_list_is_asked_once_and_kept_as_long_as_its_backend_says() -> None:
    world = World().will_answer(listed(TOOLS, 1, (b"x-own", b"1")), listed(TOOLS, 3))
    first = await ask(world)
    world.now = NOW + 20.0005
    second = await ask(world, asking("two"))
    assert first.body == response()
    assert second.status == 200
    assert second.body == (
        b'{"jsonrpc":"2.0","id":"two","result":{"tools": [{"name": "add"}], "ttlMs": 39999, "cacheScope": "private"}}'
    )
    assert second.headers == [
        (b"content-type", b"application/json"),
        (b"x-own", b"1"),
        (b"x-request-id", TRACE.encode()),
    ]
    assert len(world.upstream.sent) == 1
    record = world.telemetry.finished[1]
    assert (record.outcome, record.cache, record.forwarded, record.bytes_out) == (
        Outcome.OK,
        "hit",
        0.0,
        len(second.body),
    )
    world.now = NOW + 60
    third = await ask(world, asking(3))
    assert third.body == response(TOOLS, 3)
    assert outcomes(world) == ["miss", "hit", "miss"]
    assert world.telemetry.cached == [
        ("echo", CacheOutcome.MISS),
        ("echo", CacheOutcome.HIT),
        ("echo", CacheOutcome.MISS),
    ]


@proves("CACHE-3")
@pytest.mark.parametrize("result", [FORBIDDEN, b'{"tools":[]}', b'{"ttlMs":5,"resultType":"input_required"}'])
async def test_what_must_not_be_kept_is_asked_each_time(result: bytes) -> None:
    world = World().will_answer(listed(result), listed(result))
    await ask(world)
    assert (await ask(world)).body == response(result)
    assert outcomes(world) == ["unkept", "unkept"]
    assert len(world.caches) == 0


@proves("CACHE-3")
@pytest.mark.parametrize(
    "answer",
    [
        lambda: json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}'),
        lambda: json_answer(response(), status=500),
        lambda: sse_answer(
            b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\ndata: %b\n\n' % response()
        ),
    ],
)
async def test_only_a_result_that_came_alone_is_kept(answer: Any) -> None:
    world = World().will_answer(answer(), listed())
    await ask(world)
    await ask(world)
    assert outcomes(world) == ["unkept", "miss"]


@proves("CACHE-3")
async def test_a_result_that_came_alone_on_a_stream_is_kept() -> None:
    world = World().will_answer(sse_answer(b"event: message\ndata: %b\n\n" % response(), headers=[(b"x-own", b"1")]))
    await ask(world)
    client = await ask(world, asking(2))
    assert client.body == response(TOOLS, 2)
    assert client.headers == [(b"content-type", b"application/json"), (b"x-request-id", TRACE.encode())]


@proves("CACHE-1")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (asking(cursor="p2"), []),
        (asking(), [(b"x-api-key", b"alice")]),
        (modern_body("prompts/list"), []),
    ],
)
async def test_another_question_is_asked(body: bytes, headers: Headers) -> None:
    method = json.loads(body)["method"].encode()
    world = World().will_answer(listed(), listed())
    await ask(world)
    await run(world, modern_post(*headers, method=method), body)
    assert len(world.upstream.sent) == 2


@proves("CACHE-1")
async def test_what_tells_of_one_request_alone_makes_no_other_question() -> None:
    world = World().will_answer(listed())
    await ask(world)
    await ask(world, None, (b"user-agent", b"b"), (b"traceparent", b"00-" + b"1" * 32), (b"authorization", b"Bearer x"))
    assert outcomes(world) == ["miss", "hit"]


@proves("CACHE-1")
async def test_backends_have_nothing_in_common() -> None:
    world = World().will_answer(listed(), listed())
    await ask(world)
    await run(world, modern_post(method=LIST, path="/math/mcp"), asking())
    assert outcomes(world) == ["miss", "miss"]


@proves("CACHE-2")
async def test_a_question_with_a_key_twice_is_passed_on_and_not_kept() -> None:
    doubled = asking(cursor="a").replace(b'"cursor": "a"', b'"cursor": "a", "cursor": "b"')
    world = World().will_answer(listed(), listed())
    await ask(world, doubled)
    await ask(world, doubled)
    assert outcomes(world) == ["bypass", "bypass"]


async def test_a_call_is_never_looked_up() -> None:
    world = World().will_answer(json_answer(), json_answer())
    await run(world, modern_post(), modern_body())
    await run(world, modern_post(), modern_body())
    assert outcomes(world) == ["", ""]


async def test_a_legacy_list_is_never_looked_up() -> None:
    world = World().will_answer(listed(), listed())
    headers = [(b"content-type", b"application/json"), (b"mcp-protocol-version", b"2025-11-25")]
    for _ in range(2):
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        inbound = msgspec.structs.replace(modern_post(), headers=[(b"host", b"localhost"), *headers])
        await run(world, inbound, body)
    assert outcomes(world) == ["", ""]


@proves("CACHE-7")
async def test_a_backend_may_be_left_out() -> None:
    backend = msgspec.structs.replace(ECHO, caching=Caching(is_on=False))
    world = World(site_of(backend)).will_answer(listed(), listed())
    await ask(world)
    await ask(world)
    assert outcomes(world) == ["bypass", "bypass"]


@proves("CACHE-7")
async def test_a_backends_answers_may_be_kept_for_less_long() -> None:
    backend = msgspec.structs.replace(ECHO, caching=Caching(max_ttl_seconds=10))
    world = World(site_of(backend)).will_answer(listed(), listed())
    await ask(world)
    world.now = NOW + 9
    assert (await ask(world)).body == response(TOOLS.replace(b"60000", b"51000"))
    world.now = NOW + 10
    await ask(world)
    assert outcomes(world) == ["miss", "hit", "miss"]


@proves("CACHE-7")
async def test_what_was_longest_not_asked_for_goes_first() -> None:
    world = World().will_answer(*[listed() for _ in range(4)])
    world.caches.bounds = CacheBounds(max_entries=2)
    for cursor in ("a", "b", "a", "c", "a", "b"):
        await ask(world, asking(cursor=cursor))
    assert outcomes(world) == ["miss", "miss", "hit", "miss", "hit", "miss"]
    assert len(world.caches) == 2


@proves("CACHE-7")
async def test_no_more_bytes_are_kept_than_may_be() -> None:
    large = b'{"tools":["%b"],"ttlMs":60000}' % (b"x" * 5000)
    world = World().will_answer(*[listed(large) for _ in range(3)], listed(large.replace(b"x", b"xx")))
    world.caches.bounds = CacheBounds(max_bytes=14_000)
    for cursor in "abc":
        await ask(world, asking(cursor=cursor))
    assert (len(world.caches), world.caches.size_bytes) == (2, 2 * (1024 + len(large) - len(b"60000")))
    assert world.telemetry.cache_size == (2, world.caches.size_bytes)
    world.caches.bounds = CacheBounds(max_bytes=8_000)
    await ask(world, asking(cursor="d"))
    assert outcomes(world)[-1] == "miss"
    assert len(world.caches) == 2


# ---- several at once


@proves("CACHE-5")
async def test_the_same_question_asked_at_once_is_asked_once() -> None:
    world, first, second = World().will_answer(listed()), FakeClient(asking(1)), FakeClient(asking(2))
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(method=LIST), first), running(world, modern_post(method=LIST), second):
        await let_others_run()
        assert len(world.upstream.sent) == 1
        world.upstream.pending.set()
    assert (first.body, second.body) == (response(TOOLS, 1), response(TOOLS, 2))
    assert sorted(outcomes(world)) == ["coalesced", "miss"]


@proves("CACHE-5")
async def test_different_questions_wait_for_nobody() -> None:
    world = World().will_answer(listed(), listed())
    first, second = FakeClient(asking()), FakeClient(asking(cursor="p2"))
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(method=LIST), first), running(world, modern_post(method=LIST), second):
        await let_others_run()
        assert len(world.upstream.sent) == 2
        world.upstream.pending.set()


@proves("CACHE-5")
async def test_a_client_that_leaves_takes_nobody_along() -> None:
    world, leader = World().will_answer(listed()), FakeClient(asking(1))
    others = [FakeClient(asking(1)) for _ in range(3)]
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(method=LIST), leader):
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        tasks = [asyncio.create_task(serve(world.gateway, modern_post(method=LIST), other)) for other in others]
        await let_others_run()
        leader.leave()
        await let_others_run()
        assert (len(world.upstream.sent), world.upstream.cancelled) == (2, 1)  # one of them leads now
        world.upstream.pending.set()
        await asyncio.gather(*tasks)
    assert [other.body for other in others] == [response()] * 3
    assert not leader.started
    assert sorted(outcomes(world)) == ["coalesced", "coalesced", "miss", "unkept"]


@proves("CACHE-5")
async def test_a_follower_that_leaves_disturbs_nobody() -> None:
    world, leader, follower = World().will_answer(listed()), FakeClient(asking(1)), FakeClient(asking(2))
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(method=LIST), leader), running(world, modern_post(method=LIST), follower):
        await let_others_run()
        follower.leave()
        await let_others_run()
        world.upstream.pending.set()
    assert leader.body == response()
    assert not follower.started


@proves("CACHE-5")
@pytest.mark.parametrize("failure", [Failed(Outcome.BROKEN, "reset"), json_answer(b"<html>", status=500)])
async def test_nobody_gets_anothers_failure(failure: Any) -> None:
    world = World().will_answer(failure, listed(), listed())
    clients = [FakeClient(asking(1)) for _ in range(3)]
    world.upstream.pending = asyncio.Event()
    tasks = [asyncio.create_task(serve(world.gateway, modern_post(method=LIST), client)) for client in clients]
    await let_others_run()
    assert len(world.upstream.sent) == 1
    world.upstream.pending.set()
    await asyncio.gather(*tasks)
    assert [client.status for client in clients] == [502, 200, 200]
    assert len(world.upstream.sent) == 3


@proves("CACHE-5")
async def test_after_an_answer_that_was_not_to_be_kept_nobody_waits() -> None:
    world = World().will_answer(*[listed(FORBIDDEN) for _ in range(3)])
    await ask(world)
    world.upstream.pending = asyncio.Event()
    clients = [FakeClient(asking()) for _ in range(2)]
    tasks = [asyncio.create_task(serve(world.gateway, modern_post(method=LIST), client)) for client in clients]
    await let_others_run()
    assert len(world.upstream.sent) == 3
    world.upstream.pending.set()
    await asyncio.gather(*tasks)


# ---- changes


@proves("CACHE-6")
@pytest.mark.parametrize(
    ("change", "outcome"), [(Change.TOOLS, "miss"), (Change.PROMPTS, "hit"), (Change.RESOURCES, "hit")]
)
async def test_a_change_drops_what_it_is_about(change: Change, outcome: str) -> None:
    world = World().will_answer(listed(), listed())
    await ask(world)
    world.caches.drop("math", change)
    assert len(world.caches) == 1
    world.caches.drop("echo", change)
    await ask(world)
    assert outcomes(world) == ["miss", outcome]


@proves("CACHE-6")
@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list"])
async def test_a_change_of_resources_drops_both_their_lists(method: str) -> None:
    world = World().will_answer(listed(), listed())
    for _ in range(2):
        await run(world, modern_post(method=method.encode()), modern_body(method))
        world.caches.drop("echo", Change.RESOURCES)
    assert outcomes(world) == ["miss", "miss"]


@proves("CACHE-6")
async def test_an_answer_that_was_on_its_way_at_a_change_is_not_kept_nor_waited_for() -> None:
    world, early, late = World().will_answer(listed(), listed()), FakeClient(asking(1)), FakeClient(asking(1))
    world.upstream.pending = asyncio.Event()
    async with running(world, modern_post(method=LIST), early):
        await let_others_run()
        world.caches.drop("echo", Change.TOOLS)
        async with running(world, modern_post(method=LIST), late):
            await let_others_run()
            assert len(world.upstream.sent) == 2
            world.upstream.pending.set()
    assert (early.body, late.body) == (response(), response())
    assert sorted(outcomes(world)) == ["miss", "unkept"]


@proves("CACHE-6")
@pytest.mark.parametrize("method", ["tools/call", "subscriptions/listen"])
async def test_a_change_that_is_told_on_a_stream_drops_what_is_kept(method: str) -> None:
    changed = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}\n\n'
    final = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
    world = World().will_answer(listed(), sse_answer(changed + final))
    await ask(world)
    await run(world, modern_post(method=method.encode()), modern_body(method))
    assert len(world.caches) == 0


@proves("CACHE-6")
async def test_a_change_that_is_told_to_a_legacy_session_drops_what_is_kept() -> None:
    stream = sse_answer(live=True)
    world = World().will_answer(listed(), stream)
    await ask(world)
    listening = request("GET", *session_headers(token_of(world)))
    client = FakeClient()
    async with running(world, listening, client):
        await client.until(lambda: client.started)
        stream.push(b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n')
        await client.until(lambda: client.writes)
        assert len(world.caches) == 0
        stream.push(b"")


@proves("CACHE-6")
async def test_a_changed_configuration_drops_what_the_old_one_brought() -> None:
    world = World().will_answer(listed(), listed(), listed())
    await ask(world)
    changed = msgspec.structs.replace(ECHO, headers=(("authorization", "Bearer other"),))
    world.gateway.site = site_of(changed)
    await ask(world)
    world.gateway.site = site_of(msgspec.structs.replace(changed))  # read anew, and the same
    await ask(world)
    assert outcomes(world) == ["miss", "miss", "hit"]
