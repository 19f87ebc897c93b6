"""A client leaves: its modern call is cancelled at the backend at once, its legacy call is not. Through the balancer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.figures import wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import legacy, legacy_headers, modern, open_http, open_session, read_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.requirements import proves


class Stage:
    def __init__(self, fleet: Fleet, backend: Scripted) -> None:
        self.fleet = fleet
        self.backend = backend
        self.url = f"{fleet.url}/calls/mcp"


@pytest.fixture(scope="module")
async def whole_stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(scripted())
        config = f"backends: {{calls: {{endpoints: ['{backend.url}'], era: dual}}}}"
        yield Stage(cleanup.enter_context(running_fleet(config)), backend)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    whole_stage.backend.forget()
    return whole_stage


async def hold(call: Call) -> None:
    await call.left.wait()


async def begin_and_hold(call: Call) -> None:
    await call.start()
    await call.progress(1)
    await call.left.wait()


async def wait_left(call: Call) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        await call.left.wait()


@proves("LEAVE-1", "NET-3")
async def test_a_modern_client_that_leaves_before_the_answer_cancels_the_call(stage: Stage) -> None:
    stage.backend.script = hold
    async with open_http() as leaving, asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(leaving.post(stage.url, **modern("tools/call", {"name": "long"})))
        call = await stage.backend.wait_call(1)
        assert not call.left.is_set()
        calling.cancel()
        await wait_left(call)


@pytest.mark.parametrize("method", ["tools/call", "subscriptions/listen"])
@proves("LEAVE-1", "NET-3")
async def test_a_modern_client_that_leaves_a_stream_cancels_it(
    stage: Stage, http: httpx2.AsyncClient, method: str
) -> None:
    stage.backend.script = begin_and_hold
    async with http.stream("POST", stage.url, **modern(method, {"name": "long"})) as answer:
        assert (await anext(read_events(answer)))["params"]["progress"] == 1
        call = stage.backend.calls[0]
        assert not call.left.is_set()
    await wait_left(call)
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams")


@proves("LEAVE-2")
async def test_a_legacy_client_that_leaves_a_stream_cancels_nothing(stage: Stage, http: httpx2.AsyncClient) -> None:
    has_left = asyncio.Event()
    done = asyncio.Event()

    async def go_on(call: Call) -> None:
        await call.start()
        await call.progress(1)
        await has_left.wait()
        for step in range(2, 1000):  # more than fits anywhere on the way
            await call.progress(step)
            await call.write_chunk(b":" + b" " * 4096 + b"\r\n\r\n")
        await call.finish({"done": True})
        assert not call.left.is_set()
        done.set()

    stage.backend.script = go_on
    async with http.stream("POST", stage.url, **legacy("tools/call", {"name": "long"})) as answer:
        assert (await anext(read_events(answer)))["params"]["progress"] == 1
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams")
    has_left.set()
    async with asyncio.timeout(WITHIN_SECONDS):
        await done.wait()


@proves("LEAVE-2")
async def test_a_legacy_client_that_leaves_before_the_answer_cancels_nothing(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    may_answer = asyncio.Event()

    async def answer_late(call: Call) -> None:
        if call.message["method"] == "tools/call":
            await may_answer.wait()
        await call.answer({})

    stage.backend.script = answer_late
    async with open_http() as leaving, asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(leaving.post(stage.url, **legacy("tools/call", {"name": "long"})))
        call = await stage.backend.wait_call(1)
        calling.cancel()
    for _ in range(3):  # every replica has since turned to something else, so it has seen the client leave
        assert (await http.post(stage.url, **legacy("ping"))).status_code == 200
    assert not call.left.is_set()
    may_answer.set()
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_in_flight_exchanges")
    assert not call.left.is_set()  # it was answered in full, and its connection is good for the next


def serve_sessions(greeting: Any) -> Any:
    """A script: sessions, whose GET stream begins with this greeting."""

    async def script(call: Call) -> None:
        if call.method == "GET":
            await call.start()
            await call.send(greeting)
            await call.left.wait()
        elif call.message["method"] == "initialize":
            await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s")
        else:
            await call.reply(b"", 202)

    return script


@proves("LEAVE-3")
async def test_a_get_stream_ends_upstream_when_its_client_leaves(stage: Stage, http: httpx2.AsyncClient) -> None:
    greeting = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    stage.backend.script = serve_sessions(greeting)
    session = await open_session(http, stage.url)
    async with http.stream("GET", stage.url, headers=legacy_headers(session)) as answer:
        assert await anext(read_events(answer)) == greeting
        call = stage.backend.calls[-1]
        assert not call.left.is_set()
    await wait_left(call)
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams")
