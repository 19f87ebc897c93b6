"""Small HTTP servers on loopback that behave as servers, proxies and load balancers do when clients fail by them."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    number: int  # of the request, from 1

    @property
    def rpc(self) -> str:
        """The JSON-RPC method, or the HTTP method where there is none."""
        return str(json.loads(self.body)["method"]) if self.body else self.method


class Answer(msgspec.Struct, frozen=True):
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    is_open: bool = False  # the body goes on, and nothing more comes
    is_silent: bool = False  # not even the head comes


Respond = Callable[[Request], Answer]


def say(value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Answer(status, body, {"content-type": kind} | {name.replace("_", "-"): v for name, v in headers.items()})


def page(title: str, status: int = 200) -> Answer:
    return say(f"<html><title>{title}</title></html>".encode(), status, "text/html")


def respond_mcp(request: Request) -> Answer:
    """A server of both eras with which nothing is wrong."""
    if request.path.rstrip("/") != "/mcp":
        return say({"detail": "Not Found"}, 404)
    info = {"name": "fake", "version": "1"}
    request_id = json.loads(request.body).get("id") if request.body else None
    match request.rpc:
        case "server/discover":
            result = {"supportedVersions": ["2026-07-28"], "serverInfo": info, "capabilities": {}}
            return say({"jsonrpc": "2.0", "id": request_id, "result": result})
        case "initialize":
            result = {"protocolVersion": "2025-11-25", "serverInfo": info, "capabilities": {}}
            return say({"jsonrpc": "2.0", "id": request_id, "result": result}, mcp_session_id="abc123")
        case "subscriptions/listen":
            event = b'data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}\n\n'
            return Answer(200, event, {"content-type": "text/event-stream"}, is_open=True)
        case "notifications/initialized":
            return Answer(202)
        case "GET":
            return Answer(200, b"", {"content-type": "text/event-stream"}, is_open=True)
        case "DELETE":
            return Answer(204)
        case "OPTIONS":
            return Answer(204, b"", {"access-control-allow-origin": "*", "access-control-allow-headers": "*"})
        case _:
            return say({"jsonrpc": "2.0", "id": request_id, "result": {}})


def but(*cases: str, answer: Answer, otherwise: Respond = respond_mcp) -> Respond:
    """As `otherwise`, except for these JSON-RPC or HTTP methods at /mcp."""
    return lambda request: answer if request.path == "/mcp" and request.rpc in cases else otherwise(request)


@asynccontextmanager
async def serving(respond: Respond, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port on which requests are answered, one a connection."""
    count, tasks = 0, set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            if (request := await _read(reader, count + 1)) is not None:
                count += 1
                await _write(reader, writer, respond(request))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(start, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, number: int) -> Request | None:
    line = (await reader.readline()).decode("latin-1").split()
    if len(line) < 2:  # nothing, or what isn't HTTP
        return None
    headers: dict[str, str] = {}
    while (header := (await reader.readline()).decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line[0], line[1], headers, body, number)


async def _write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    if not answer.is_silent:
        length = {} if answer.is_open else {"content-length": str(len(answer.body))}
        headers = {"connection": "close"} | length | dict(answer.headers)
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)
        await writer.drain()
    if answer.is_open or answer.is_silent:
        await reader.read()  # until the client leaves
