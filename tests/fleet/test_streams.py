"""Hundreds of streams are opened and dropped: nothing of them is left, neither here nor at the backend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.figures import count_sockets, read_metric, wait_for_metric, wait_until
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import legacy, legacy_headers, modern, open_http, open_session
from tests.fleet.scripted import Call, Scripted, scripted
from tests.requirements import proves

COUNT = 500
STREAMS = "mcp_gateway_open_streams"


class Stage:
    def __init__(self, backend: Scripted) -> None:
        self.backend = backend
        self.may_end = asyncio.Event()
        self.fleet: Fleet
        backend.script = self.script

    @property
    def url(self) -> str:
        return f"{self.fleet.replicas[0].url}/calls/mcp"

    async def script(self, call: Call) -> None:
        method = "GET" if call.method == "GET" else call.message["method"]
        match method:
            case "initialize":
                await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s")
            case "notifications/initialized":
                await call.reply(b"", 202)
            case "tools/call":
                await call.start()
                await call.progress(1)
                await self.may_end.wait()
                await call.finish({})
                call.close()  # else the replica may keep it for the next call
            case _:
                await call.start()
                await call.left.wait()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        stage = Stage(await cleanup.enter_async_context(scripted()))
        config = f"backends: {{calls: {{endpoints: ['{stage.backend.url}'], era: dual}}}}"
        stage.fleet = cleanup.enter_context(running_fleet(config, 1))
        yield stage


KINDS: dict[str, dict[str, Any]] = {
    "get": {"method": "GET"},
    "listen": {"method": "POST", **modern("subscriptions/listen")},
    "legacy post": {"method": "POST", **legacy("tools/call", {"name": "long"})},
    "modern post": {"method": "POST", **modern("tools/call", {"name": "long"})},
}


@pytest.mark.parametrize("kind", KINDS)
@proves("LEAVE-3")
async def test_streams_that_were_dropped_leave_nothing_behind(stage: Stage, kind: str) -> None:
    request = KINDS[kind]
    replica = stage.fleet.replicas[0]
    async with open_http() as http:
        session = await open_session(http, stage.url)
    if kind == "get":
        request = request | {"headers": legacy_headers(session)}
    # Connections that are kept alive come and go by themselves: no more than these few were there.
    await read_metric(replica, STREAMS)
    before = count_sockets(replica)
    async with open_http(limits=httpx2.Limits(max_connections=None)) as http, AsyncExitStack() as streams:
        for _ in range(COUNT):
            answer = await streams.enter_async_context(http.stream(url=stage.url, **request))
            assert answer.status_code == 200
        assert await read_metric(replica, STREAMS, kind=kind.split()[-1]) == COUNT
        assert count_sockets(replica) >= 2 * COUNT
    await wait_for_metric(stage.fleet, 0, STREAMS)
    stage.may_end.set()
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_in_flight_exchanges")
    await wait_until(lambda: len(stage.backend.connections) <= 1, "the backend is rid of them")
    await wait_until(lambda: count_sockets(replica) <= before + 2, "the replica is rid of them")
