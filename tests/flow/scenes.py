"""What the transcripts have in common: requests as clients send them, answers as backends give them, and a stage."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from gateway.flow import serve
from gateway.ports import Headers, Inbound
from gateway.protocol.sessions import PURPOSE, Session, encode_session
from tests.fakes import BOUND_SECONDS, FakeAnswer, FakeClient, Piece, World

A: Final = "http://10.0.0.7:9000/mcp"
B: Final = "http://10.0.0.8:9000/mcp"

META: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "inspector", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
CALL: Final = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{}}}'
RESULT: Final = b'{"jsonrpc": "2.0", "id": 1, "result": {"content": []}}'
PROGRESS: Final = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
FINAL: Final = b'event: message\r\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\r\n\r\n'
PRIMER: Final = b"id: 7\ndata:\n\n"

INITIALIZE: Final = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"claude","version":"1"}}}'
)
INITIALIZED: Final = b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'


def modern_body(method: str = "tools/call", name: str = "add") -> bytes:
    params = {"name": name, "arguments": {}, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def request(method: str, *headers: tuple[bytes, bytes], path: str = "/echo/mcp") -> Inbound:
    return Inbound(method, path, b"", [(b"host", b"localhost:8080"), *headers], "192.0.2.7", "http")


JSON: Final = (b"content-type", b"application/json")


def modern_post(*headers: tuple[bytes, bytes], method: bytes = b"tools/call", path: str = "/echo/mcp") -> Inbound:
    named = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", method)]
    if method == b"tools/call":
        named.append((b"mcp-name", b"add"))
    return request("POST", JSON, *named, *headers, path=path)


def legacy_post(*headers: tuple[bytes, bytes], token: str = "", path: str = "/echo/mcp") -> Inbound:
    return request("POST", JSON, *session_headers(token), *headers, path=path)


def session_headers(token: str) -> Headers:
    return [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", b"2025-11-25")] if token else []


def token_of(world: World, **changes: Any) -> str:
    """A session's token, as `initialize` would have given it."""
    fields = {
        "mount": "/echo",
        "address": A,
        "upstream_id": "up-7",
        "principal": "",
        "version": "2025-11-25",
        **changes,
    }
    return world.seals.seal(encode_session(Session(**fields)), PURPOSE)


def json_answer(body: bytes = RESULT, *headers: tuple[bytes, bytes], status: int = 200) -> FakeAnswer:
    return FakeAnswer(status, [JSON, (b"server", b"uvicorn"), *headers], body, whole=True)


def sse_answer(*pieces: Piece, live: bool = False, headers: Headers | None = None) -> FakeAnswer:
    return FakeAnswer(200, [(b"content-type", b"text/event-stream"), *(headers or [])], *pieces, live=live)


async def run(world: World, inbound: Inbound, body: bytes = b"", client: FakeClient | None = None) -> FakeClient:
    """The whole exchange, to its end, and what holds of every one."""
    client = client or FakeClient(body)
    async with asyncio.timeout(BOUND_SECONDS):
        await serve(world.gateway, inbound, client)
        await settle(world)
    check_end(world)
    if client.started:
        assert client.header(b"x-request-id") is not None
        assert client.has_ended
    return client


@asynccontextmanager
async def running(world: World, inbound: Inbound, client: FakeClient) -> AsyncIterator["asyncio.Task[None]"]:
    """The exchange under way; on leaving the block it must come to its end."""
    task = asyncio.create_task(serve(world.gateway, inbound, client))
    try:
        yield task
    except BaseException:
        task.cancel()
        raise
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.gather(task, return_exceptions=True)
        await settle(world)
    check_end(world)


async def settle(world: World) -> None:
    """Waits for the pumps, unless one of them is still to be fed."""
    if all(answer.closings or not answer.is_live for answer in world.answered):
        await asyncio.gather(*world.pumps._tasks, return_exceptions=True)


async def let_others_run() -> None:
    """Some turns of the loop, for what must not happen in them."""
    for _ in range(10):
        await asyncio.sleep(0)


def check_end(world: World) -> None:
    assert len(world.telemetry.begun) == len(world.telemetry.finished)
    if not len(world.pumps):
        assert +world.endpoints.outstanding == {}, "a call was never finished"
        assert all(answer.closings == 1 for answer in world.answered), "an answer was left open"
        assert +world.telemetry.open_streams == {}


def error_of(client: FakeClient) -> tuple[int, object, int, str]:
    """HTTP status, JSON-RPC id, code and message of the gateway's own error."""
    assert client.header(b"content-type") == b"application/json"
    reply = json.loads(client.body)
    assert set(reply) == {"jsonrpc", "id", "error"}
    assert reply["jsonrpc"] == "2.0"
    error = reply["error"]
    assert error["data"]["source"] == "gateway"
    assert error["data"]["requestId"].encode() == client.header(b"x-request-id")
    assert "10.0.0." not in error["message"], "an internal address"
    return client.status, reply["id"], error["code"], error["message"]


def event_error(event: bytes) -> tuple[object, int, str]:
    """JSON-RPC id, code and message of an error event."""
    assert event.startswith(b"event: message\ndata: {")
    assert event.endswith(b"}\n\n")
    reply = json.loads(event.removeprefix(b"event: message\ndata: "))
    assert reply["error"]["data"]["source"] == "gateway"
    return reply["id"], reply["error"]["code"], reply["error"]["message"]
