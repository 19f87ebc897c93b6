"""A plain round-robin balancer: every HTTP request goes to the next replica, whatever connection or session it belongs to.

    python -m tests.fleet.balancer 8081 8082 8083

The worst neighbour that a stateless gateway must live with: no stickiness, no retries of what was sent, no health checks.
It passes on bytes as they come, both ways, with back-pressure; when either side is gone it drops the other at once. Only
a replica that takes no connection is skipped, since nothing was sent to it. `GET /.balancer` counts requests by replica.

Knows HTTP/1.1 framing and nothing of MCP. Each request has an upstream connection of its own.
"""

import argparse
import asyncio
import json
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import httptools
import uvloop

HIGH_WATER_BYTES = 64 * 1024


class Fleet:
    """The replicas' ports, whose turn it is, and how many requests each got."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.counts = dict.fromkeys(ports, 0)
        self._ports = deque(self.counts)  # in the order of their turns

    async def connect(self, upstream: "Upstream") -> bool:
        """Connects to the next replica that listens; False where none does."""
        loop = asyncio.get_running_loop()
        # Its own copy: while it tries one, other requests move the turns on, and it would meet the same one again.
        turns = list(self._ports)
        self._ports.rotate(-1)
        for port in turns:
            try:
                await loop.create_connection(lambda: upstream, "127.0.0.1", port)
            except OSError:
                continue
            self.counts[port] += 1
            return True
        return False


class Side(asyncio.Protocol):
    """One end of an exchange: a transport that can be written to and held back."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def drop(self) -> None:
        """Ends this connection now; what wasn't written yet is lost."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Ends this connection when all is written."""
        if self.transport is not None:
            self.transport.close()


class Upstream(Side):
    """The replica's side of one exchange: relays bytes until the answer is whole, or the replica closes."""

    def __init__(self, client: "Client", is_head: bool) -> None:
        super().__init__()
        self.other = client
        self._client = client
        self._is_head = is_head
        self._parser = httptools.HttpResponseParser(self)
        self._framed = False  # the head says where the body ends; else the connection's end does
        self._whole = False

    def data_received(self, data: bytes) -> None:
        self._client.write(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._client.drop()
        if self._whole:
            self._finish(keep_alive=self._framed)

    def on_header(self, name: bytes, value: bytes) -> None:
        framing = name.lower()
        self._framed = self._framed or framing == b"content-length" or (framing == b"transfer-encoding")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._is_head or status in (204, 304):
            self._whole = self._framed = True

    def on_message_complete(self) -> None:
        self._whole = self._whole or self._parser.get_status_code() >= 200  # 100 Continue comes before the answer

    def connection_lost(self, error: Exception | None) -> None:
        if not self._whole:  # the end of the body, or a cut: closing tells the client either way
            self._finish(keep_alive=False)

    def _finish(self, *, keep_alive: bool) -> None:
        self._whole = True
        self.drop()
        self._client.answered(keep_alive=keep_alive)


class Client(Side):
    """The client's side: takes one request after the other apart and puts each to the next replica."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet = fleet
        self._inbox = bytearray()  # what came while an earlier request had no answer yet
        self._busy = False
        self._gone = False
        self._new_request()

    def _new_request(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._ready = bytearray()  # request bytes that await their upstream connection
        self._upstream: Upstream | None = None
        self._complete = False
        self._chunked = False
        self._opening: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._complete:
            self._inbox += data
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(400)

    def on_message_begin(self) -> None:
        if self._complete:  # two requests in one packet; no client of the tests pipelines
            raise ValueError("pipelined requests are not taken")  # which httptools turns into a parser's error: 400

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._chunked = self._chunked or name.lower() == b"transfer-encoding"

    def on_headers_complete(self) -> None:
        method = self._parser.get_method()
        head = [b"%s %s HTTP/1.1" % (method, self._target), *(b"%s: %s" % header for header in self._headers)]
        self._ready += b"\r\n".join(head) + b"\r\n\r\n"
        upstream = Upstream(self, is_head=method == b"HEAD")
        self._opening = asyncio.ensure_future(self._open(upstream))

    def on_body(self, body: bytes) -> None:
        self._forward(b"%x\r\n%s\r\n" % (len(body), body) if self._chunked else body)

    def on_message_complete(self) -> None:
        if self._chunked:
            self._forward(b"0\r\n\r\n")
        self._complete = True

    def _forward(self, data: bytes) -> None:
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.write(data)
        else:
            self._ready += data

    async def _open(self, upstream: Upstream) -> None:
        if self._target == b"/.balancer":
            self._reply(200, json.dumps(self._fleet.counts).encode())
        elif not await self._fleet.connect(upstream):
            self._refuse(502)
        elif self._gone:
            upstream.drop()
        else:
            self._upstream = self.other = upstream
            self._forward(bytes(self._ready))

    def write(self, data: bytes) -> None:
        """Passes a part of the answer on."""
        if self.transport is not None and not self._gone:
            self.transport.write(data)

    def answered(self, *, keep_alive: bool) -> None:
        """The answer is whole: the connection is free for the next request, or ends."""
        self.other = None
        if self._gone or self.transport is None:
            return
        if not keep_alive or not self._complete or not self._parser.should_keep_alive():
            self.close()
            return
        self._new_request()
        waiting, self._inbox = bytes(self._inbox), bytearray()
        if waiting:
            self.data_received(waiting)

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        if self._upstream is not None:
            self._upstream.drop()

    def _refuse(self, status: int) -> None:
        self._reply(status, b"the balancer could not pass this on\n")
        self.close()

    def _reply(self, status: int, body: bytes) -> None:
        self.write(b"HTTP/1.1 %d -\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        self.answered(keep_alive=True)


async def serve(ports: Sequence[int], announce: Callable[[int], None]) -> None:
    """Balances over `ports` until it is cancelled; `announce` is told the port it listens on."""
    fleet = Fleet(ports)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = await asyncio.get_running_loop().create_server(lambda: Client(fleet), sock=listener)
    announce(listener.getsockname()[1])
    await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.balancer")
    parser.add_argument("ports", type=int, nargs="+", help="where the replicas listen, on loopback")
    ports = parser.parse_args().ports
    uvloop.run(serve(ports, lambda port: print(f"balancer listens at http://localhost:{port}", flush=True)))


if __name__ == "__main__":
    main()
