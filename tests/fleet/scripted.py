"""An HTTP backend of the tests' own, in the tests' own event loop: what it does with each request is a script.

So a test can tell the order of events rather than wait for time to pass: it sends an event, sees that the client has it, sends
the next. Knows HTTP/1.1 and nothing of MCP.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools

WITHIN_SECONDS = 60.0
"""The one bound of every wait: far more than any of them takes."""

JSON = "application/json"
SSE = "text/event-stream"


class Call:
    """One request, and the means to answer it."""

    def __init__(self, connection: "_Connection", method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self._connection = connection
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.left = connection.lost
        """Set as soon as the other side has dropped the connection."""

    @property
    def message(self) -> Any:
        return json.loads(self.body)

    async def reply(self, body: bytes, status: int = 200, content_type: str = JSON, **headers: str) -> None:
        """A whole answer."""
        await self.write(encode_head(status, content_type, headers | {"content_length": str(len(body))}) + body)

    async def answer(self, result: Any, **headers: str) -> None:
        """A JSON-RPC result on the request's id."""
        await self.reply(encode({"jsonrpc": "2.0", "id": self.message["id"], "result": result}), **headers)

    async def start(self, content_type: str = SSE, **headers: str) -> None:
        """The head of a stream."""
        await self.write(encode_head(200, content_type, headers | {"transfer_encoding": "chunked"}))

    async def send(self, message: Any) -> None:
        """One event of a stream."""
        await self.write_chunk(b"event: message\r\ndata: %b\r\n\r\n" % encode(message))

    async def progress(self, number: int) -> None:
        """One progress notification."""
        params = {"progressToken": "p", "progress": number}
        await self.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    async def finish(self, result: Any = None) -> None:
        """The end of a stream, after the result where there is one."""
        if result is not None:
            await self.send({"jsonrpc": "2.0", "id": self.message["id"], "result": result})
        await self.write(b"0\r\n\r\n")

    async def write_chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def write(self, data: bytes) -> None:
        """Bytes as they are; waits while the other side doesn't read. Raises ConnectionError when it has left."""
        if self.left.is_set():
            raise ConnectionResetError("the other side has left")
        self._connection.transport.write(data)
        await self._connection.writable.wait()

    def close(self) -> None:
        """Ends the connection once all that was written has gone out."""
        self._connection.transport.close()

    def drop(self) -> None:
        """Ends the connection at once."""
        self._connection.transport.abort()


Script = Callable[[Call], Awaitable[object]]


class Scripted:
    """A listening backend. `script` serves each request and may be replaced at any time; `calls` are those so far."""

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or refuse
        self.calls: list[Call] = []
        self.port = 0
        self.connections: set[_Connection] = set()
        self.failures: list[BaseException] = []
        self._came = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def start(self) -> None:
        """Listens; once stopped, on the same port again."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=listener)

    async def stop(self) -> None:
        """Refuses connections from now on, and drops those that there are."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_call(self, number: int) -> Call:
        """The request of that number, the first is 1, once it has come."""
        async with asyncio.timeout(WITHIN_SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.calls) >= number)
        return self.calls[number - 1]

    def forget(self) -> None:
        """Counts calls from the first again."""
        self.calls.clear()

    def serve(self, call: Call) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: Call) -> None:
        async with self._came:
            self.calls.append(call)
            self._came.notify_all()
        try:
            await self.script(call)
        except ConnectionError:
            pass  # the other side left, as it may
        except Exception as failure:
            self.failures.append(failure)
            call.drop()


class _Connection(asyncio.Protocol):
    """Takes requests apart, one after the other."""

    def __init__(self, backend: Scripted) -> None:
        self._backend = backend
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._backend.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._backend.connections.discard(self)
        self.lost.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path, self._headers, self._body = b"", {}, bytearray()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        method, path = self._parser.get_method().decode(), self._path.decode()
        self._backend.serve(Call(self, method, path, self._headers, bytes(self._body)))


def encode_head(status: int, content_type: str, headers: dict[str, str]) -> bytes:
    """Headers are named as Python names things: `mcp_session_id`."""
    lines = [f"content-type: {content_type}", *(f"{name.replace('_', '-')}: {v}" for name, v in headers.items())]
    return "\r\n".join([f"HTTP/1.1 {status} -", *lines, "", ""]).encode()


def encode(message: Any) -> bytes:
    return json.dumps(message).encode()


async def refuse(call: Call) -> None:
    """The script where a test needs none."""
    raise AssertionError(f"nobody expected {call.method} {call.body!r}")


@asynccontextmanager
async def scripted(script: Script | None = None) -> AsyncIterator[Scripted]:
    """A backend until the block is left; whatever its scripts raised is raised there."""
    backend = Scripted(script)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()
    for failure in backend.failures:
        raise failure
