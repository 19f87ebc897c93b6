"""The tests' own balancer: each request to the next replica, bytes as they come, both ends' leaving passed on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.fleet import balancer

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BOUND_SECONDS = 10


class Peer:
    """A replica that a test scripts: it answers each connection's request as the test says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.left = asyncio.Event()
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Peer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            await self._answer(head, reader, writer)
            await reader.read()  # until the balancer closes
        self.left.set()
        writer.close()


def say(body: bytes) -> Answer:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    return answer


@contextlib.asynccontextmanager
async def balancing(*ports: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a balancer over these ports."""
    announced: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(balancer.serve(ports, announced.set_result))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", await announced)
        try:
            yield reader, writer
        finally:
            writer.close()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes = b"/") -> bytes:
    """The body of the answer to a GET on a kept-alive connection."""
    writer.write(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return await reader.readexactly(length)


async def test_requests_of_one_connection_go_to_the_replicas_in_turn() -> None:
    async with (
        Peer(say(b"a")).listening() as a,
        Peer(say(b"b")).listening() as b,
        balancing(a.port, b.port) as connection,
    ):
        bodies = [await get(*connection) for _ in range(4)]
    assert bodies == [b"a", b"b", b"a", b"b"]


async def test_a_replica_that_takes_no_connection_is_skipped() -> None:
    async with Peer(say(b"gone")).listening() as gone:
        pass
    async with Peer(say(b"here")).listening() as here, balancing(gone.port, here.port) as connection:
        assert [await get(*connection), await get(*connection)] == [b"here", b"here"]


async def test_without_a_replica_the_answer_is_502() -> None:
    async with Peer(say(b"gone")).listening() as gone:
        pass
    async with balancing(gone.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 502 -\r\n"


async def count_body(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the number of body bytes that arrived."""
    count = 0
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            count += len(await reader.readexactly(size))
            await reader.readline()
    else:
        count = len(await reader.readexactly(300_000))
    await say(b"%d" % count)(head, reader, writer)


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"content-length: 300000", b"x" * 300_000),
        (b"transfer-encoding: chunked", b"30d40\r\n%s\r\n186a0\r\n%s\r\n0\r\n\r\n" % (b"x" * 200_000, b"y" * 100_000)),
    ],
)
async def test_a_large_request_arrives_whole(framing: bytes, body: bytes) -> None:
    async with Peer(count_body).listening() as peer, balancing(peer.port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n%s\r\n\r\n%s" % (framing, body))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
        assert await reader.readexactly(6) == b"300000"


async def test_a_large_answer_arrives_whole_at_a_slow_client() -> None:
    async with Peer(say(b"z" * 5_000_000)).listening() as peer, balancing(peer.port) as connection:
        assert await get(*connection) == b"z" * 5_000_000


async def test_an_event_is_passed_on_before_the_next_one_is_there() -> None:
    second = asyncio.Event()

    async def stream(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await second.wait()
        writer.write(b"data: 2\n\n")
        writer.write_eof()

    async with Peer(stream).listening() as peer, balancing(peer.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\n\n"), BOUND_SECONDS)).endswith(b"data: 1\n\n")
        second.set()
        assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b"data: 2\n\n"


async def test_a_client_that_leaves_is_gone_for_the_replica_too() -> None:
    async def stream(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    async with Peer(stream).listening() as peer, balancing(peer.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.wait_for(peer.left.wait(), BOUND_SECONDS)


async def test_a_replica_that_dies_in_the_middle_is_seen_by_the_client() -> None:
    async def die(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    async with Peer(die).listening() as peer, balancing(peer.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), BOUND_SECONDS)).endswith(b"\r\n\r\nhalf")


async def test_it_counts_requests_by_replica() -> None:
    async with Peer(say(b"a")).listening() as a, Peer(say(b"b")).listening() as b:
        async with balancing(a.port, b.port) as connection:
            for _ in range(3):
                await get(*connection)
            counts = await get(*connection, b"/.balancer")
        assert counts == b'{"%d": 2, "%d": 1}' % (a.port, b.port)


async def test_a_head_reply_has_no_body_to_wait_for() -> None:
    async def head_only(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")

    async with Peer(head_only).listening() as peer, balancing(peer.port) as (reader, writer):
        for _ in range(2):
            writer.write(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
