"""A client that doesn't read: the backend has to wait, the replica's memory doesn't grow, and nothing is lost."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.fleet.figures import read_memory, wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import legacy, modern
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.requirements import proves

EVENTS = 3200
EVENT_BYTES = 64 * 1024
TOTAL_BYTES = EVENTS * EVENT_BYTES  # 200 MiB
GROWTH_BYTES = 30 * 2**20
ON_THE_WAY_BYTES = 32 * 2**20
"""More than all sockets and queues between the backend and a client that doesn't read may hold."""
STILL_SECONDS = 0.5


class Stage:
    def __init__(self, backend: Scripted) -> None:
        self.backend = backend
        self.sent = 0
        self.fleet: Fleet
        backend.script = self.script

    async def script(self, call: Call) -> None:
        await call.start()
        padding = "x" * EVENT_BYTES
        for number in range(EVENTS):
            params = {"progressToken": "p", "progress": number, "message": padding}
            await call.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            self.sent += 1
        await call.finish({"done": True})

    async def wait_until_still(self) -> None:
        """Until the backend could send nothing for a while: all that can be on the way is on the way."""
        async with asyncio.timeout(WITHIN_SECONDS):
            before = -1
            while before != self.sent or self.sent == 0:
                before = self.sent
                await asyncio.sleep(STILL_SECONDS)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        stage = Stage(await cleanup.enter_async_context(scripted()))
        config = f"backends: {{big: {{endpoints: ['{stage.backend.url}'], era: dual}}}}"
        stage.fleet = cleanup.enter_context(running_fleet(config, 1))
        yield stage


def encode_request(request: dict[str, Any]) -> bytes:
    body = json.dumps(request["json"]).encode()
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
    headers["connection"] = "close"  # so that the end of the stream is the end of what there is to read
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers | request["headers"]).items())
    return f"POST /big/mcp HTTP/1.1\r\n{head}\r\n".encode() + body


async def open_slowly(port: int, request: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends the request by a connection that takes little at a time, and reads nothing yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=65536)
    writer.write(encode_request(request))
    return reader, writer


@pytest.mark.timeout(300)
@pytest.mark.parametrize("era", ["modern", "legacy"])
@proves("RELAY-5")
async def test_a_client_that_does_not_read_makes_the_backend_wait_and_then_gets_all(
    stage: Stage, era: str, table: list[str]
) -> None:
    replica = stage.fleet.replicas[0]
    request = (modern if era == "modern" else legacy)("tools/call", {"name": "big"})
    before = read_memory(replica)
    reader, writer = await open_slowly(replica.port, request)
    try:
        await stage.wait_until_still()
        stuck = read_memory(replica)
        assert stage.sent * EVENT_BYTES < ON_THE_WAY_BYTES
        assert stuck - before < GROWTH_BYTES
        highest, received, tail = stuck, 0, b""
        async with asyncio.timeout(4 * WITHIN_SECONDS):
            while piece := await reader.read(2**20):
                received += len(piece)
                tail = (tail + piece)[-200:]
                highest = max(highest, read_memory(replica))
    finally:
        writer.close()
    stuck_kib, highest_kib = (stuck - before) >> 10, (highest - before) >> 10
    table.append(
        f"200 MiB to a {era} client that doesn't read: {stuck_kib} KiB more memory, then {highest_kib} KiB at most"
    )
    assert stage.sent == EVENTS
    assert received > TOTAL_BYTES
    assert b'"result": {"done": true}' in tail
    assert highest - before < GROWTH_BYTES


@proves("RELAY-5")
async def test_a_client_that_never_reads_and_leaves_lets_go_of_everything(stage: Stage) -> None:
    replica = stage.fleet.replicas[0]
    _, writer = await open_slowly(replica.port, modern("tools/call", {"name": "big"}))
    await stage.wait_until_still()
    writer.transport.abort()
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams")
    async with asyncio.timeout(WITHIN_SECONDS):
        await stage.backend.calls[0].left.wait()
