"""A raw TCP server whose behaviour is a script: what it reads, writes and when it closes is up to each test."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

WITHIN_SECONDS = 10.0
"""The one bound of every wait."""


class Request:
    """What came in, byte for byte."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.headers = [tuple(line.split(b": ", 1)) for line in lines]
        self.body = body


class Peer:
    """One accepted connection."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self.reader = reader
        self.writer = writer

    async def read_head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def read_request(self) -> Request:
        head = await self.read_head()
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        request = Request(head, await self.reader.readexactly(length))
        self._server.requests.append(request)
        return request

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, body: bytes = b"{}", *, status: bytes = b"200 OK", headers: bytes = b"") -> Request:
        """Reads one request and answers it with a framed body."""
        request = await self.read_request()
        self.write(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body))
        return request

    def write_at_once(self, data: bytes) -> None:
        """Puts bytes in the kernel's hands before any event loop turns."""
        os.write(self._descriptor, data)

    def finish_at_once(self) -> None:
        """Sends FIN before any event loop turns."""
        with socket.socket(fileno=os.dup(self._descriptor)) as same:
            same.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with RST."""
        with socket.socket(fileno=os.dup(self._descriptor)) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def wait_closed(self) -> None:
        """Until the other side is gone, by FIN or RST; what it still sent is thrown away."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    @property
    def _descriptor(self) -> int:
        return int(self.writer.get_extra_info("socket").fileno())


Script = Callable[[Peer], Awaitable[object]]


class Server:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.host = ""
        self.port = 0
        self.scheme = "http"
        self.peers: list[Peer] = []
        self.requests: list[Request] = []
        self._accepted = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/mcp"

    async def wait_peer(self, number: int) -> Peer:
        """The connection of that number, the first is 1, once it was accepted."""
        async with asyncio.timeout(WITHIN_SECONDS), self._accepted:
            await self._accepted.wait_for(lambda: len(self.peers) >= number)
        return self.peers[number - 1]

    async def wait_left(self) -> None:
        """Until every script has come to its end, which for most is when the client has left."""
        async with asyncio.timeout(WITHIN_SECONDS):
            await asyncio.wait(self._tasks)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._serve(Peer(self, reader, writer))))

    async def _serve(self, peer: Peer) -> None:
        async with self._accepted:
            self.peers.append(peer)
            self._accepted.notify_all()
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, as it may
        finally:
            peer.writer.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            with suppress(AttributeError):  # asyncio's transport takes no abort once it has closed
                peer.writer.transport.abort()
        for result in results:
            if isinstance(result, Exception):
                raise result


@asynccontextmanager
async def serve(script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a port of the kernel's choice, whose every connection is handled by the script."""
    server = Server(script)
    listening = await asyncio.start_server(server.accept, host, 0, ssl=tls, limit=2**20)
    server.host = host
    server.port = listening.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
    finally:
        listening.close()
        await server.close()
        await asyncio.sleep(0)


async def always(peer: Peer) -> None:
    """Answers every request with `{}`."""
    while True:
        await peer.answer()


async def once_then_hold(peer: Peer) -> None:
    """Answers one request and then just keeps the connection."""
    await peer.answer()
    await peer.wait_closed()


def raw(answer: bytes, *, close: bool = False) -> Script:
    """A script that answers each request with these very bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            peer.write(answer)
            if close:
                return

    return script
