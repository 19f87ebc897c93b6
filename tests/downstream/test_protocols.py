"""uvicorn's connection as the gateway's: real sockets on loopback, raw bytes from the client."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.downstream.applications import Application
from gateway.downstream.protocols import WAITING_REQUESTS, GatewayProtocol, find_dead_peers
from gateway.downstream.servers import tune
from gateway.policy.sites import Limits
from gateway.protocol.outcomes import Outcome
from tests.downstream.test_applications import Life, operations
from tests.fakes import BOUND_SECONDS, FakeAnswer, World, site_of
from tests.flow.scenes import (
    CALL,
    FINAL,
    PROGRESS,
    RESULT,
    json_answer,
    let_others_run,
    modern_body,
    modern_post,
    sse_answer,
)
from tests.requirements import proves

SMALL = Limits(body_bytes=1000)


class Connection:
    """A client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            for part in parts:
                self._writer.write(part)
                await self._writer.drain()

    def send_eof(self) -> None:
        self._writer.write_eof()

    async def read_until(self, separator: bytes) -> bytes:
        async with asyncio.timeout(BOUND_SECONDS):
            return await self._reader.readuntil(separator)

    async def read_reply(self) -> tuple[int, dict[str, str], bytes]:
        """One whole reply with a length."""
        head = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        async with asyncio.timeout(BOUND_SECONDS):
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def read_to_end(self) -> bytes:
        async with asyncio.timeout(BOUND_SECONDS):
            return await self._reader.read()

    async def hang_up(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def serving(world: World, *, is_direct: bool = True) -> AsyncIterator[tuple[str, int]]:
    """A server over fakes. Not `is_direct`: the same by way of ASGI."""
    app: Any = Application(Life(world), operations)
    app.gateway = world.gateway

    async def indirect(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    config = uvicorn.Config(app if is_direct else indirect, **tune(GatewayProtocol))
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: GatewayProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await world.pumps.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.wait_for(server.wait_closed(), BOUND_SECONDS)
        await asyncio.sleep(0)


@asynccontextmanager
async def connected(world: World, *, is_direct: bool = True) -> AsyncIterator[Connection]:
    async with serving(world, is_direct=is_direct) as address, connecting(address) as connection:
        yield connection


@asynccontextmanager
async def connecting(address: tuple[str, int]) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


both_ways = pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "asgi"])


def post(body: bytes, *headers: bytes, path: bytes = b"/echo/mcp", length: int | None = None) -> bytes:
    lines = [
        b"POST %s HTTP/1.1" % path,
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % (len(body) if length is None else length),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def modern(body: bytes | None = None) -> bytes:
    headers = [b"%b: %b" % header for header in modern_post().headers[2:]]
    return post(modern_body() if body is None else body, *headers)


def called(number: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % number


def result(number: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":{}}' % number


@both_ways
async def test_a_call_is_answered_and_the_connection_kept(is_direct: bool) -> None:
    world = World().will_answer(json_answer(), json_answer())
    async with connected(world, is_direct=is_direct) as client:
        for _ in range(2):
            await client.send(post(CALL))
            status, headers, body = await client.read_reply()
            assert (status, body, headers["content-type"]) == (200, RESULT, "application/json")
            assert "connection" not in headers
    assert [sent.body for sent in world.upstream.sent] == [CALL, CALL]


@both_ways
@pytest.mark.parametrize("size", [1, 7, 60])
async def test_how_a_request_was_cut_changes_nothing(is_direct: bool, size: int) -> None:
    world = World().will_answer(json_answer())
    request = post(CALL, b"Mcp-Param-Region: eu \t")
    async with connected(world, is_direct=is_direct) as client:
        for start in range(0, len(request), size):
            await client.send(request[start : start + size])
            await asyncio.sleep(0)
        assert (await client.read_reply())[2] == RESULT
    assert world.sent.body == CALL
    assert world.sent.header(b"mcp-param-region") == b"eu"


@both_ways
async def test_a_client_that_asks_to_close_is_closed(is_direct: bool) -> None:
    async with connected(World().will_answer(json_answer()), is_direct=is_direct) as client:
        await client.send(post(CALL, b"Connection: close"))
        status, headers, body = await client.read_reply()
        assert (status, headers["connection"], body) == (200, "close", RESULT)
        assert await client.read_to_end() == b""


@both_ways
@proves("RELAY-2")
async def test_a_stream_leaves_event_by_event(is_direct: bool) -> None:
    answer = sse_answer(live=True)
    async with connected(World().will_answer(answer), is_direct=is_direct) as client:
        await client.send(modern())
        head = await client.read_until(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head
        answer.push(PROGRESS)
        assert await client.read_until(PROGRESS + b"\r\n") == b"%x\r\n%b\r\n" % (len(PROGRESS), PROGRESS)
        answer.push(FINAL)
        answer.push(b"")
        assert await client.read_until(b"0\r\n\r\n") == b"%x\r\n%b\r\n0\r\n\r\n" % (len(FINAL), FINAL)


@both_ways
@proves("NET-3", "LEAVE-1")
@pytest.mark.parametrize("how", ["abort", "eof"])
async def test_a_disconnect_during_a_stream_cancels_upstream(is_direct: bool, how: str) -> None:
    answer = sse_answer(PROGRESS, live=True)
    world = World().will_answer(answer)
    async with connected(world, is_direct=is_direct) as client:
        await client.send(modern())
        await client.read_until(PROGRESS)
        await client.hang_up() if how == "abort" else client.send_eof()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert not answer.was_read_to_end
    assert world.record.outcome is Outcome.CLIENT_LEFT


@both_ways
@proves("NET-3", "LEAVE-1")
async def test_a_disconnect_before_the_answer_cancels_upstream(is_direct: bool) -> None:
    world = World()
    world.upstream.pending = asyncio.Event()
    finished = asyncio.Event()
    world.telemetry.finish = lambda record: finished.set()  # type: ignore[method-assign]
    async with connected(world, is_direct=is_direct) as client:
        await client.send(modern())
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        await client.hang_up()
        await asyncio.wait_for(finished.wait(), BOUND_SECONDS)
    assert world.upstream.cancelled == 1


@both_ways
@proves("NET-3", "LEAVE-2")
async def test_a_disconnect_before_the_answer_cancels_nothing_in_the_legacy_era(is_direct: bool) -> None:
    world = World().will_answer(answer := json_answer())
    world.upstream.pending = asyncio.Event()
    async with serving(world, is_direct=is_direct) as address:
        async with connecting(address) as client:
            await client.send(post(CALL))
            await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
            client.send_eof()
            assert await client.read_to_end() == b""
        world.upstream.pending.set()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert world.upstream.cancelled == 0
    assert world.endpoints.finished[0][1] in {Outcome.OK, Outcome.CLIENT_LEFT}  # never a mark against the endpoint


@both_ways
@proves("NET-3")
async def test_a_disconnect_is_noticed_also_when_another_request_waits_behind(is_direct: bool) -> None:
    answer = sse_answer(PROGRESS, live=True)
    world = World().will_answer(answer)
    async with connected(world, is_direct=is_direct) as client:
        await client.send(modern() + post(CALL))
        await client.read_until(PROGRESS)
        await client.hang_up()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert len(world.upstream.sent) == 1


@both_ways
@proves("NET-3")
async def test_beyond_so_many_waiting_requests_no_more_is_read_and_only_a_write_finds_out(is_direct: bool) -> None:
    answer = sse_answer(PROGRESS, live=True)
    world = World().will_answer(answer)
    async with connected(world, is_direct=is_direct) as client:
        await client.send(modern() + post(CALL) * WAITING_REQUESTS)
        await client.read_until(PROGRESS)
        await client.hang_up()
        await let_others_run()
        assert not answer.closings
        answer.push(PROGRESS)
        answer.push(PROGRESS)
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert len(world.upstream.sent) == 1


@both_ways
@proves("NET-2")
async def test_pipelined_requests_are_answered_in_order(is_direct: bool) -> None:
    world = World().will_answer(*(json_answer(result(number)) for number in range(1, 6)))
    world.upstream.pending = asyncio.Event()
    async with connected(world, is_direct=is_direct) as client:
        await client.send(b"".join(post(called(number)) for number in range(1, 6)))
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        assert [sent.body for sent in world.upstream.sent] == [called(1)]
        world.upstream.pending.set()
        assert [(await client.read_reply())[2] for _ in range(5)] == [result(number) for number in range(1, 6)]
    assert [sent.body for sent in world.upstream.sent] == [called(number) for number in range(1, 6)]


@both_ways
@proves("NET-2")
async def test_a_request_behind_a_stream_waits_for_its_end(is_direct: bool) -> None:
    answer = sse_answer(PROGRESS, live=True)
    world = World().will_answer(answer, json_answer())
    async with connected(world, is_direct=is_direct) as client:
        await client.send(modern() + post(CALL))
        await client.read_until(PROGRESS + b"\r\n")
        assert len(world.upstream.sent) == 1
        answer.push(FINAL)
        answer.push(b"")
        await client.read_until(b"0\r\n\r\n")
        assert (await client.read_reply())[2] == RESULT


@both_ways
@proves("NET-1")
@pytest.mark.parametrize("kind", ["one long line", "many lines", "a long path"])
async def test_an_endless_head_gets_431_and_the_client_hears_it(is_direct: bool, kind: str) -> None:
    begin = b"GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\n"
    parts = {
        "one long line": [begin + b"X-Long: ", *[b"x" * 10_000] * 1000],
        "many lines": [begin, *[b"X-Many: y\r\n" * 1000] * 1000],
        "a long path": [b"GET /", *[b"x" * 10_000] * 1000],
    }[kind]
    world = World()
    async with connected(world, is_direct=is_direct) as client:
        try:
            await client.send(*parts)
        except ConnectionError:
            pytest.fail("the connection was reset while the client was sending: it may never see why")
        status, headers, _ = await client.read_reply()
        assert (status, headers["connection"]) == (431, "close")
    assert world.telemetry.begun == []


@both_ways
@proves("NET-1")
@pytest.mark.parametrize("begun", [b"", b"G", b"GET /echo/mcp HTTP/1.1\r\nHost:"])
async def test_a_head_that_does_not_come_ends_the_connection(
    is_direct: bool, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.downstream.protocols.HEAD_SECONDS", 0.01)
    async with connected(World().will_answer(json_answer()), is_direct=is_direct) as client:
        await client.send(begun)
        assert await client.read_to_end() == b""
    monkeypatch.setattr("gateway.downstream.protocols.HEAD_SECONDS", 5.0)
    async with connected(World().will_answer(json_answer()), is_direct=is_direct) as client:
        await client.send(post(CALL))
        assert (await client.read_reply())[0] == 200
        monkeypatch.setattr("gateway.downstream.protocols.HEAD_SECONDS", 0.01)
        await client.send(begun or b"P")  # a second one on a kept connection
        assert await client.read_to_end() == b""


@proves("NET-1")
async def test_who_is_refused_and_goes_on_sending_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.downstream.protocols.LINGER_SECONDS", 0.01)
    async with connected(World()) as client:
        await client.send(b"GET /echo/mcp HTTP/1.1\r\nX-Long: ", *[b"x" * 10_000] * 30)
        with pytest.raises(ConnectionError):
            await client.send(*[b"x" * 10_000] * 100_000)


@both_ways
@proves("NET-1")
async def test_a_large_body_behind_a_small_head_is_no_large_head(is_direct: bool) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"%s"}}' % (b"y" * 500_000)
    async with connected(World().will_answer(json_answer()), is_direct=is_direct) as client:
        await client.send(post(body))
        assert (await client.read_reply())[0] == 200


@both_ways
@proves("NET-1")
async def test_a_head_that_is_too_long_does_not_run_into_another_reply(is_direct: bool) -> None:
    answer = sse_answer(PROGRESS, live=True)
    async with connected(World().will_answer(answer), is_direct=is_direct) as client:
        await client.send(modern())
        await client.read_until(PROGRESS + b"\r\n")
        with contextlib.suppress(ConnectionError):
            await client.send(b"GET /echo/mcp HTTP/1.1\r\nX-Long: ", *[b"x" * 10_000] * 30)
            assert b"431" not in await client.read_to_end()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)


@both_ways
@proves("NET-1", "NET-5")
async def test_endless_trailers_end_the_connection(is_direct: bool) -> None:
    head = b"POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    world = World()
    async with connected(world, is_direct=is_direct) as client:
        await client.send(head + b"5\r\nabcde\r\n0\r\n", *[b"X-Trailer: " + b"x" * 10_000 + b"\r\n"] * 20)
        reply = await client.read_to_end()
    assert reply.startswith(b"HTTP/1.1 431 ") or reply == b""
    assert world.upstream.sent == []


@both_ways
@proves("NET-5")
async def test_a_trailer_is_no_header(is_direct: bool) -> None:
    head = post(b"", b"Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    chunks = b"%x\r\n%b\r\n0\r\nX-Trailer: 1\r\nMcp-Protocol-Version: 2026-07-28\r\n\r\n" % (len(CALL), CALL)
    world = World().will_answer(json_answer())
    async with connected(world, is_direct=is_direct) as client:
        await client.send(head + chunks)
        assert (await client.read_reply())[0] == 200
    assert world.sent.body == CALL
    assert world.sent.header(b"x-trailer") is None
    assert world.sent.header(b"mcp-protocol-version") is None


@both_ways
@proves("LIM-1")
async def test_a_body_beyond_the_limit_is_413_and_the_client_hears_it(is_direct: bool) -> None:
    world = World(site_of(limits=SMALL)).will_answer(json_answer())
    async with connected(world, is_direct=is_direct) as client:
        await client.send(post(b"x" * 3_000_000))
        status, headers, body = await client.read_reply()
        assert (status, headers["content-type"]) == (413, "application/json")
        assert b"the request's body is larger than the 1000 bytes taken here" in body
        await client.send(post(CALL))  # and the connection is in order
        assert (await client.read_reply())[0] == 200
    assert [sent.body for sent in world.upstream.sent] == [CALL]


@both_ways
@proves("LIM-1")
async def test_a_body_beyond_the_limit_is_refused_before_it_is_whole(is_direct: bool) -> None:
    async with connected(World(site_of(limits=SMALL)), is_direct=is_direct) as client:
        await client.send(post(b"x" * 2000, length=10_000_000))
        assert (await client.read_reply())[0] == 413


@both_ways
@proves("LIM-1")
async def test_a_body_that_does_not_come_is_408_and_the_connection_ends(is_direct: bool) -> None:
    world = World(site_of(limits=Limits(body_seconds=0.01)))
    async with connected(world, is_direct=is_direct) as client:
        await client.send(post(CALL, length=len(CALL) + 1))
        status, headers, body = await client.read_reply()
        assert (status, headers["connection"]) == (408, "close")
        assert b"the request's body did not arrive within 0.01 seconds" in body
        assert await client.read_to_end() == b""


@both_ways
@proves("NET-4")
@pytest.mark.parametrize("how", ["abort", "eof"])
async def test_a_half_sent_body_is_forwarded_to_nobody(is_direct: bool, how: str) -> None:
    world = World().will_answer(json_answer())
    async with serving(world, is_direct=is_direct) as address:
        async with connecting(address) as client:
            await client.send(post(CALL, length=len(CALL) + 10))
            if how == "eof":
                client.send_eof()
                assert await client.read_to_end() == b""
        async with connecting(address) as client:  # by the time that this is answered, the other is known to have left
            await client.send(post(CALL))
            assert (await client.read_reply())[0] == 200
    assert [sent.body for sent in world.upstream.sent] == [CALL]


@both_ways
@proves("HDR-5")
async def test_head_has_no_body_and_leaves_the_connection_in_order(is_direct: bool) -> None:
    async with connected(World().will_answer(json_answer()), is_direct=is_direct) as client:
        await client.send(b"HEAD /echo/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.read_reply())[0] == 405
        await client.send(post(CALL))
        assert (await client.read_reply())[2] == RESULT


@both_ways
async def test_a_get_with_a_body_leaves_the_connection_in_order(is_direct: bool) -> None:
    world = World().will_answer(FakeAnswer(405, [], whole=True), json_answer())
    async with connected(world, is_direct=is_direct) as client:
        await client.send(b"GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" + post(CALL))
        assert (await client.read_reply())[0] == 405
        assert (await client.read_reply())[2] == RESULT


async def test_who_expects_100_is_told_to_go_on() -> None:
    async with connected(World().will_answer(json_answer())) as client:
        await client.send(post(b"", b"Expect: 100-continue", length=len(CALL)))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(CALL)
        assert (await client.read_reply())[2] == RESULT


async def test_nonsense_is_400() -> None:
    async with connected(World()) as client:
        await client.send(b"NONSENSE\r\n\r\n")
        assert (await client.read_reply())[0] == 400


@both_ways
@proves("APP-2")
async def test_reserved_paths_are_the_operators_here_too(is_direct: bool) -> None:
    async with connected(World(), is_direct=is_direct) as client:
        await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 299 " in await client.read_until(b"operations")


@both_ways
@proves("RELAY-5")
async def test_a_client_that_does_not_read_makes_the_backend_wait(is_direct: bool) -> None:
    event = b"data: " + b'{"jsonrpc":"2.0","method":"m","params":{"x":"' + b"x" * 1_000_000 + b'"}}\n\n'
    answer = sse_answer(*[event] * 50, live=True)
    world = World().will_answer(answer)
    async with serving(world, is_direct=is_direct) as address:
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address)
            client.sendall(modern())
            for _ in range(200):
                await asyncio.sleep(0.001)
            assert 0 < answer.reads < 25


@proves("NET-3")
async def test_dead_peers_are_looked_for() -> None:
    with closing(socket.socket()) as connection:
        find_dead_peers(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
    left, right = socket.socketpair()
    with closing(left), closing(right):
        find_dead_peers(left)  # no TCP: nothing to look for
