"""Clients that leave at any moment, in good order or by a reset: nothing of theirs is left, and everybody else is served."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.figures import count_sockets, read_metric, wait_for_metric, wait_until
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import initialize, legacy, legacy_headers, modern
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.requirements import proves

EVENTS = 5


class Stage:
    def __init__(self, backend: Scripted) -> None:
        self.backend = backend
        self.fleet: Fleet
        backend.script = self.script

    async def script(self, call: Call) -> None:
        method = "GET" if call.method == "GET" else call.message["method"]
        match method:
            case "initialize":
                await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s")
            case "tools/list":
                await call.answer({"tools": []})
            case "tools/call":
                await call.start()
                for number in range(EVENTS):
                    await call.progress(number)
                    await asyncio.sleep(0)
                await call.finish({})
            case _:
                await call.start()
                for number in range(EVENTS):
                    await call.progress(number)
                await call.left.wait()


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        stage = Stage(await cleanup.enter_async_context(scripted()))
        config = f"backends: {{calls: {{endpoints: ['{stage.backend.url}'], era: dual}}}}"
        stage.fleet = cleanup.enter_context(running_fleet(config, 1, workers=request.param))
        yield stage


REQUESTS: list[dict[str, Any]] = [
    modern("tools/list"),
    modern("tools/call", {"name": "t"}),
    modern("subscriptions/listen"),
    legacy("tools/list"),
    legacy("tools/call", {"name": "t"}),
    initialize(),
    {"headers": legacy_headers()},
]


def encode_request(request: dict[str, Any]) -> bytes:
    body = json.dumps(request["json"]).encode() if "json" in request else b""
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers | request["headers"]).items())
    return f"{'POST' if body else 'GET'} /calls/mcp HTTP/1.1\r\n{head}\r\n".encode() + body


def list_cuts() -> Iterator[tuple[bytes, int]]:
    """What is sent, and how much of the reply is read, before the client leaves."""
    for request in REQUESTS:
        whole = encode_request(request)
        for sent in range(0, len(whole), 23):
            yield whole[:sent], 0
        for read in range(0, 1000, 53):
            yield whole, read
        # And a part of the next. (A whole one would stop uvicorn's reading: leaving then shows at the next write only.)
        yield whole + whole[:100], 10


async def leave(port: int, sent: bytes, read: int, *, rudely: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        # Not all replies are so long, and not all streams end: then the client leaves after a while.
        async with asyncio.timeout(0.2):
            await reader.readexactly(read)
    except (TimeoutError, asyncio.IncompleteReadError):
        pass
    if rudely:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("rudely", [False, True], ids=["FIN", "RST"])
@proves("NET-3", "NET-4")
async def test_clients_that_leave_at_any_moment_leave_nothing_behind(
    stage: Stage, http: httpx2.AsyncClient, rudely: bool
) -> None:
    replica = stage.fleet.replicas[0]
    await read_metric(replica, "mcp_gateway_open_streams")
    before = count_sockets(replica)
    limit = asyncio.Semaphore(20)

    async def leave_once(sent: bytes, read: int) -> None:
        async with limit:
            await leave(replica.port, sent, read, rudely=rudely)

    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        for sent, read in list_cuts():
            tasks.create_task(leave_once(sent, read))
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams")
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_in_flight_exchanges")
    await wait_until(lambda: all(call.left.is_set() for call in standing(stage)), "the backend's streams are closed")
    assert (await http.post(f"{replica.url}/calls/mcp", **modern("tools/list"))).json()["result"] == {"tools": []}
    for call in stage.backend.calls:
        call.drop()  # what is kept for the next call
    await wait_until(lambda: count_sockets(replica) <= before + 3, "the replica is rid of all connections")
    assert '"event":"bug"' not in replica.output
    assert "Traceback" not in replica.output


def standing(stage: Stage) -> list[Call]:
    """The calls that only end when their client leaves."""
    return [call for call in stage.backend.calls if not call.body or call.message["method"] == "subscriptions/listen"]
