"""How messages travel: at once, by any replica, on the stream they belong to, a 202 as a 202, a batch as a batch.

None of this is seen by the conformance suite. The order of events is told by the backend, which waits until the client has
seen one before it sends the next.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import ACCEPT, legacy, legacy_headers, modern, open_session, read_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.requirements import proves


class Stage:
    def __init__(self, fleet: Fleet, backend: Scripted) -> None:
        self.fleet = fleet
        self.backend = backend
        self.url = f"{fleet.url}/raw/mcp"
        self.echo_url = f"{fleet.url}/echo/mcp"


@pytest.fixture(scope="module")
async def whole_stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        raw = await cleanup.enter_async_context(scripted())
        echo = cleanup.enter_context(serving("backends.echo"))
        config = f"backends: {{echo: {{endpoints: ['{echo}']}}, raw: {{endpoints: ['{raw.url}'], era: dual}}}}"
        yield Stage(cleanup.enter_context(running_fleet(config)), raw)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    whole_stage.backend.forget()
    return whole_stage


# at once

STREAMS = {
    "modern call": {"method": "POST", **modern("tools/call", {"name": "t"})},
    "modern listen": {"method": "POST", **modern("subscriptions/listen")},
    "legacy call": {"method": "POST", **legacy("tools/call", {"name": "t"})},
    "legacy standalone": {"method": "GET", "headers": legacy_headers()},
}


@pytest.mark.parametrize("request_", STREAMS.values(), ids=STREAMS.keys())
@proves("RELAY-2")
async def test_each_event_reaches_the_client_before_the_next_is_sent(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    has_head, has_seen = asyncio.Event(), [asyncio.Event() for _ in range(20)]

    async def wait_to_be_seen(call: Call) -> None:
        await call.start()
        await has_head.wait()  # even the head comes by itself
        for number, is_seen in enumerate(has_seen):
            await call.progress(number)
            await is_seen.wait()
        await call.finish({} if call.body else None)

    stage.backend.script = wait_to_be_seen
    async with asyncio.timeout(WITHIN_SECONDS), http.stream(url=stage.url, **request_) as answer:
        assert answer.status_code == 200
        has_head.set()
        events = read_events(answer)
        for number, is_seen in enumerate(has_seen):
            assert (await anext(events))["params"]["progress"] == number
            is_seen.set()
        rest = [event async for event in events]
    assert rest == ([{"jsonrpc": "2.0", "id": 1, "result": {}}] if request_["method"] == "POST" else [])


# notifications and responses

MESSAGES = {
    "a legacy notification": legacy("notifications/cancelled", {"requestId": 1}, request_id=None),
    "a legacy response": {"headers": legacy_headers(), "json": {"jsonrpc": "2.0", "id": "q", "result": {}}},
    "a legacy error": {
        "headers": legacy_headers(),
        "json": {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}},
    },
    "a modern notification": {
        "headers": {"accept": ACCEPT, "mcp-protocol-version": "2026-07-28"},
        "json": {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    },
}


async def accept(call: Call) -> None:
    await call.reply(b"", 202)


@pytest.mark.parametrize("request_", MESSAGES.values(), ids=MESSAGES.keys())
@proves("RELAY-4")
async def test_a_202_stays_a_202_without_a_body(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    stage.backend.script = accept
    got = await http.post(stage.url, **request_)
    assert (got.status_code, got.content) == (202, b"")
    assert stage.backend.calls[0].message == request_["json"]


async def test_changes_of_a_resource_arrive_on_the_get_stream(stage: Stage, http: httpx2.AsyncClient) -> None:
    session = await open_session(http, stage.echo_url)
    async with (
        asyncio.timeout(WITHIN_SECONDS),
        http.stream("GET", stage.echo_url, headers=legacy_headers(session)) as stream,
    ):
        assert stream.status_code == 200
        events = read_events(stream)
        await http.post(stage.echo_url, **legacy("resources/subscribe", {"uri": "echo://last"}, session=session))
        for text in ("one", "two", "three"):
            echo = {"name": "echo", "arguments": {"text": text}}
            await http.post(stage.echo_url, **legacy("tools/call", echo, session=session))
            changed = {"method": "notifications/resources/updated", "params": {"uri": "echo://last"}}
            assert await anext(events) == {"jsonrpc": "2.0", **changed}
    ended = await http.request("DELETE", stage.echo_url, headers=legacy_headers(session))
    assert ended.status_code == 200


async def test_a_get_stream_that_is_dropped_can_be_opened_again_by_any_replica(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, stage.echo_url)
    await http.post(stage.echo_url, **legacy("resources/subscribe", {"uri": "echo://last"}, session=session))
    for number in range(10):
        # The backend takes one at a time, and answers 409 until it has noticed that the last one is gone.
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            http.stream("GET", stage.echo_url, headers=legacy_headers(session)) as stream,
        ):
            assert stream.status_code == 200
            echo = {"name": "echo", "arguments": {"text": str(number)}}
            await http.post(stage.echo_url, **legacy("tools/call", echo, session=session))
            assert (await anext(read_events(stream)))["params"] == {"uri": "echo://last"}


async def test_an_answer_to_the_server_arrives_whichever_replica_it_comes_by(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    has_answer = asyncio.Event()
    question = {"jsonrpc": "2.0", "id": "ü/1", "method": "elicitation/create", "params": {"message": "?"}}
    words = b'{"id":"\\u00fc/1", "result":{"action":"accept"},"jsonrpc":"2.0"}'

    async def ask(call: Call) -> None:
        match call.message.get("method"):
            case "initialize":
                await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s-1")
            case "tools/call":
                await call.start()
                await call.send(question)
                await has_answer.wait()
                await call.finish({"asked": True})
            case _:
                assert call.headers["mcp-session-id"] == "s-1"
                await call.reply(b"", 202)
                if call.body == words:
                    has_answer.set()

    stage.backend.script = ask
    session = await open_session(http, stage.url)
    called = stage.fleet.shares()
    async with (
        asyncio.timeout(WITHIN_SECONDS),
        http.stream("POST", stage.url, **legacy("tools/call", {"name": "t"}, session=session)) as answer,
    ):
        events = read_events(answer)
        assert await anext(events) == question
        answered = stage.fleet.shares()
        headers = legacy_headers(session) | {"content-type": "application/json"}
        assert (await http.post(stage.url, content=words, headers=headers)).status_code == 202
        assert [event async for event in events] == [{"jsonrpc": "2.0", "id": 1, "result": {"asked": True}}]
    done = stage.fleet.shares()
    by_call = [after - before for before, after in zip(called, answered, strict=True)]
    by_answer = [after - before for before, after in zip(answered, done, strict=True)]
    assert sorted(by_call) == sorted(by_answer) == [0, 0, 1]
    assert by_call != by_answer


# batches, which only 2025-03-26 has

BATCH = (
    b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","method":"notifications/progress",'
    b'"params":{"progressToken":1,"progress":1}}, {"jsonrpc":"2.0","id":"b","method":"ping"}]'
)
RESPONSES = b'[{"jsonrpc":"2.0","id":"b","result":{}}, {"jsonrpc":"2.0","id":1,"result":{"tools":[]}}]'
STREAMED = {
    "one event": b"data: " + RESPONSES + b"\n\n",
    "an event each": b'data: {"jsonrpc":"2.0","id":"b","result":{}}\n\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n',
}


async def post_batch(stage: Stage, http: httpx2.AsyncClient, body: bytes = BATCH, **headers: str) -> httpx2.Response:
    plain = {"accept": ACCEPT, "content-type": "application/json"}  # that version had no header to tell it by
    return await http.post(stage.url, content=body, headers=plain | headers)


async def test_a_batch_is_answered_as_a_batch(stage: Stage, http: httpx2.AsyncClient) -> None:
    async def answer(call: Call) -> None:
        assert call.body == BATCH
        await call.reply(RESPONSES)

    stage.backend.script = answer
    got = await post_batch(stage, http)
    assert (got.status_code, got.content) == (200, RESPONSES)


@pytest.mark.parametrize("stream", STREAMED.values(), ids=STREAMED.keys())
async def test_a_batch_may_be_answered_by_a_stream(stage: Stage, http: httpx2.AsyncClient, stream: bytes) -> None:
    async def answer(call: Call) -> None:
        assert call.body == BATCH
        await call.start()
        await call.write_chunk(stream)
        await call.finish()

    stage.backend.script = answer
    got = await post_batch(stage, http)
    assert (got.status_code, got.content) == (200, stream)


async def test_a_batch_without_requests_is_accepted(stage: Stage, http: httpx2.AsyncClient) -> None:
    stage.backend.script = accept
    body = b'[{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","id":5,"result":{}}]'
    got = await post_batch(stage, http, body)
    assert (got.status_code, got.content) == (202, b"")
    assert stage.backend.calls[0].body == body


@proves("MSG-5")
async def test_a_batch_that_names_a_version_without_batches_is_refused(stage: Stage, http: httpx2.AsyncClient) -> None:
    got = await post_batch(stage, http, **{"mcp-protocol-version": "2025-11-25"})
    assert got.status_code == 400
    assert got.json()["error"]["message"] == "protocol version 2025-11-25 has no batches: send one message at a time"
    assert stage.backend.calls == []
