"""A replica is told to end (SIGTERM), as at every deploy: what is under way is finished, what would last for ever is ended in
good order, and the process ends with 0."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import END_SECONDS
from tests.fleet.requests import legacy, legacy_headers, modern, open_session, read_events
from tests.fleet.scripted import Call, Scripted, scripted

GREETING = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


class Stage:
    """A fleet of one, and a backend whose calls wait until they may end."""

    def __init__(self, backend: Scripted) -> None:
        self.backend = backend
        self.may_end = asyncio.Event()
        self.fleet: Fleet
        backend.script = self.script

    @property
    def url(self) -> str:
        # Without the balancer: it is the replica's own connections that must end well.
        return f"{self.fleet.replicas[0].url}/calls/mcp"

    async def script(self, call: Call) -> None:
        method = "GET" if call.method == "GET" else call.message["method"]
        match method:
            case "GET" | "subscriptions/listen":
                await call.start()
                await call.send(GREETING)
                await call.left.wait()
            case "initialize":
                await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s")
            case "tools/call":
                await call.start()
                await call.progress(1)
                await self.may_end.wait()
                await call.finish({"done": True})
            case "tools/list":
                await self.may_end.wait()
                await call.answer({"done": True})
            case _:
                await call.reply(b"", 202)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        stage = Stage(await cleanup.enter_async_context(scripted()))
        config = f"backends: {{calls: {{endpoints: ['{stage.backend.url}'], era: dual}}}}"
        stage.fleet = cleanup.enter_context(running_fleet(config, 1, workers=request.param))
        yield stage


class Opened:
    """A stream of which the first event has been read."""

    def __init__(self, events: AsyncIterator[Any]) -> None:
        self._events = events

    async def rest(self) -> list[Any]:
        """All further events; raises where the stream doesn't end as HTTP says that it must."""
        return [event async for event in self._events]


async def open_stream(cleanup: AsyncExitStack, http: httpx2.AsyncClient, method: str, url: str, **kw: Any) -> Opened:
    answer = await cleanup.enter_async_context(http.stream(method, url, **kw))
    assert answer.status_code == 200
    events = read_events(answer)
    await anext(events)
    return Opened(events)


async def test_a_drained_replica_finishes_what_it_can_and_ends_the_rest_in_good_order(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, stage.url)
    process = stage.fleet.replicas[0].child.process
    async with AsyncExitStack() as cleanup, asyncio.TaskGroup() as tasks:
        listen = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, request_id="listen-1")
        listening = await open_stream(cleanup, http, "POST", stage.url, **listen)
        standing = await open_stream(cleanup, http, "GET", stage.url, headers=legacy_headers(session))
        calls = [
            await open_stream(cleanup, http, "POST", stage.url, **modern("tools/call", {"name": "long"})),
            await open_stream(
                cleanup, http, "POST", stage.url, **legacy("tools/call", {"name": "long"}, session=session)
            ),
        ]
        whole = tasks.create_task(http.post(stage.url, **modern("tools/list")))
        await stage.backend.wait_call(7)

        process.send_signal(signal.SIGTERM)

        # The specification's own result for the end of a subscription, and nothing after it.
        meta = {"io.modelcontextprotocol/subscriptionId": "listen-1"}
        result = {"resultType": "complete", "_meta": meta}
        assert await listening.rest() == [{"jsonrpc": "2.0", "id": "listen-1", "result": result}]
        assert await standing.rest() == []
        assert process.poll() is None
        stage.may_end.set()
        for call in calls:
            assert await call.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"done": True}}]
        assert (await whole).json()["result"] == {"done": True}
    assert await asyncio.to_thread(process.wait, END_SECONDS) == 0, stage.fleet.describe()


async def test_an_idle_replica_ends_at_once_though_clients_keep_their_connections(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    assert (await http.post(stage.url, **legacy("notifications/progress", request_id=None))).status_code == 202
    process = stage.fleet.replicas[0].child.process
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, END_SECONDS) == 0, stage.fleet.describe()
