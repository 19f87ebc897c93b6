"""A replica is killed: what was under way in it fails at once, and nothing else does. Real processes, `kill -9`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest
from mcp import Client

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import legacy, modern, open_session, read_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted

CONFIG = "backends: {{echo: {{endpoints: ['{echo}']}}, calls: {{endpoints: ['{calls}'], era: dual}}}}"
CONNECTION_ERRORS = (httpx2.RemoteProtocolError, httpx2.ReadError)


class Stage:
    def __init__(self, fleet: Fleet, calls: Scripted) -> None:
        self.fleet = fleet
        self.calls = calls
        self.echo_url = f"{fleet.url}/echo/mcp"
        self.calls_url = f"{fleet.url}/calls/mcp"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        calls = await cleanup.enter_async_context(scripted())
        echo = cleanup.enter_context(serving("backends.echo"))
        fleet = cleanup.enter_context(running_fleet(CONFIG.format(echo=echo, calls=calls.url)))
        yield Stage(fleet, calls)


async def test_what_was_under_way_gets_a_connection_error_and_a_retry_succeeds_elsewhere(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    may_answer = asyncio.Event()

    async def answer_late(call: Call) -> None:
        await may_answer.wait()
        await call.answer({"late": True})

    stage.calls.script = answer_late
    async with asyncio.TaskGroup() as tasks:
        # Three calls without an answer yet: one on each replica.
        late = [tasks.create_task(attempt(http, stage.calls_url)) for _ in range(3)]
        await stage.calls.wait_call(3)
        before = stage.fleet.shares()
        counting = modern("tools/call", {"name": "count", "arguments": {"n": 2, "delay_ms": 60_000}})
        async with http.stream("POST", stage.echo_url, **counting) as answer:
            events = read_events(answer)
            assert (await anext(events))["params"]["progress"] == 1
            # The replica whose share grew has this stream.
            after = stage.fleet.shares()
            (number,) = [n for n in range(3) if after[n] > before[n]]
            stage.fleet.kill(number)
            with pytest.raises(CONNECTION_ERRORS):
                await anext(events)
        may_answer.set()
    assert sorted(task.result() for task in late) == ["200 OK", "200 OK", "connection error"]
    assert await attempt(http, stage.calls_url) == "200 OK"


async def attempt(http: httpx2.AsyncClient, url: str) -> str:
    try:
        answer = await http.post(url, **modern("tools/list"))
    except CONNECTION_ERRORS:
        return "connection error"
    assert answer.json()["result"] == {"late": True}
    return f"{answer.status_code} {answer.reason_phrase}"


async def test_other_clients_go_on_without_noticing(stage: Stage) -> None:
    modes = ["legacy", "legacy", "legacy", "2026-07-28", "2026-07-28", "auto"]
    async with AsyncExitStack() as cleanup:
        clients = [await cleanup.enter_async_context(Client(stage.echo_url, mode=mode)) for mode in modes]
        for number in range(3):
            stage.fleet.kill(number)
            for turn in range(3):
                said = await asyncio.gather(*(say(client, f"{number} {turn}") for client in clients))
                assert said == [f"{number} {turn}"] * len(clients)
            stage.fleet.restart(number)


async def say(client: Client, text: str) -> str:
    result = await client.call_tool("echo", {"text": text})
    return result.content[0].text  # type: ignore[union-attr, no-any-return]


async def test_a_session_outlives_every_replica_that_it_ever_met(stage: Stage, http: httpx2.AsyncClient) -> None:
    session = await open_session(http, stage.echo_url)
    for number in range(3):
        stage.fleet.kill(number)
    for number in range(3):
        stage.fleet.restart(number)
    echo = legacy("tools/call", {"name": "echo", "arguments": {"text": "still here"}}, session=session)
    for _ in range(3):
        async with asyncio.timeout(WITHIN_SECONDS), http.stream("POST", stage.echo_url, **echo) as answer:
            assert answer.status_code == 200
            (result,) = [message async for message in read_events(answer)]
        assert result["result"]["content"][0]["text"] == "still here"
