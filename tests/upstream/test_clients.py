"""The client over real sockets: framing, reuse, and everything a connection can do to it."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from gateway.policy.backends import Timeouts, parse_endpoint
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.clients import PooledClient
from tests.upstream.calls import backend_at, call, failure, send, until
from tests.upstream.servers import WITHIN_SECONDS, Peer, always, once_then_hold, raw, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def test_a_request_has_host_and_content_length_added_and_nothing_else(client: PooledClient) -> None:
    async with serve(always) as server:
        backend = backend_at(f"http://127.0.0.1:{server.port}/mcp?x=1")
        await call(client, backend, b"body", headers=[(b"accept", b"a"), (b"x-b", b"c")])
    (request,) = server.requests
    assert request.line == b"POST /mcp?x=1 HTTP/1.1"
    assert request.headers == [
        (b"host", b"127.0.0.1:%d" % server.port),
        (b"accept", b"a"),
        (b"x-b", b"c"),
        (b"content-length", b"4"),
    ]
    assert request.body == b"body"


async def test_an_empty_post_says_so_and_a_get_does_not(client: PooledClient) -> None:
    async with serve(always) as server:
        backend = backend_at(server.url)
        await call(client, backend, b"", method=b"POST")
        await call(client, backend, b"", method=b"GET")
    assert (b"content-length", b"0") in server.requests[0].headers
    assert [name for name, _ in server.requests[1].headers] == [b"host"]


async def test_a_header_that_would_become_two_is_refused_and_nothing_is_sent(client: PooledClient) -> None:
    async with serve(always) as server:
        backend = backend_at(server.url)
        for value in (b"a\r\nx-evil: b", b"a\nb", b"a\rb", b"a\0b"):
            with pytest.raises(ValueError, match="line break"):
                await send(client, backend, headers=[(b"x", value)])
    assert server.peers == []


async def test_a_whole_answer_is_there_with_its_head(client: PooledClient) -> None:
    async with serve(raw(b"HTTP/1.1 200 OK\r\nX-A:  b \r\nContent-Length: 2\r\n\r\nhi")) as server:
        answer = await send(client, backend_at(server.url))
    assert (answer.status, answer.body) == (200, b"hi")
    assert answer.headers == [(b"x-a", b"b"), (b"content-length", b"2")]
    answer.close()
    assert answer.body == b"hi"


@pytest.mark.parametrize(
    ("framing", "close"),
    [
        (b"Content-Length: 11\r\n\r\nhello world", False),
        (b"Transfer-Encoding: Chunked\r\n\r\n6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n", False),
        (b"\r\nhello world", True),
        (b"Connection: close\r\n\r\nhello world", True),
    ],
)
async def test_every_framing_gives_the_same_body(client: PooledClient, framing: bytes, close: bool) -> None:
    async with serve(raw(b"HTTP/1.1 200 OK\r\n" + framing, close=close)) as server:
        for _ in range(2):
            assert await call(client, backend_at(server.url)) == (200, b"hello world")
    assert len(server.peers) == (2 if close else 1)


@pytest.mark.parametrize(
    ("method", "answer", "connections"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 2),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 2),
        (b"POST", b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 1),
        (b"POST", b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 1),
    ],
)
async def test_an_answer_that_has_no_body_ends_with_its_head(
    client: PooledClient, method: bytes, answer: bytes, connections: int
) -> None:
    async with serve(raw(answer)) as server:
        for _ in range(2):
            assert (await call(client, backend_at(server.url), b"", method=method))[1] == b""
    assert len(server.peers) == connections


async def test_one_connection_serves_one_call_after_another(client: PooledClient) -> None:
    async with serve(always) as server:
        for _ in range(5):
            assert await call(client, backend_at(server.url)) == (200, b"{}")
    assert (len(server.peers), len(server.requests)) == (1, 5)


async def test_calls_at_the_same_time_have_connections_of_their_own(client: PooledClient) -> None:
    meeting = asyncio.Barrier(3)

    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        await meeting.wait()
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + request.body)

    async with serve(script) as server:
        backend = backend_at(server.url)
        answers = await asyncio.gather(*(call(client, backend, body) for body in (b"1", b"2", b"3")))
    assert answers == [(200, b"1"), (200, b"2"), (200, b"3")]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\n",
        b"HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=0\r\n",
    ],
)
async def test_a_connection_that_the_backend_means_to_close_is_not_used_again(
    client: PooledClient, head: bytes
) -> None:
    async with serve(raw(head + b"Content-Length: 2\r\n\r\nhi")) as server:
        for _ in range(2):
            assert await call(client, backend_at(server.url)) == (200, b"hi")
    assert len(server.peers) == 2


async def test_a_connection_kept_longer_by_the_backend_is_used_again(client: PooledClient) -> None:
    async with serve(raw(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=72\r\nContent-Length: 2\r\n\r\nhi")) as server:
        for _ in range(2):
            await call(client, backend_at(server.url))
    assert len(server.peers) == 1


async def test_an_idle_connection_is_closed_by_us_before_the_backend_does(client: PooledClient) -> None:
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nhi"  # so: after one second
    async with serve(raw(answer)) as server:
        await call(client, backend_at(server.url))
        await server.wait_left()


async def test_interim_answers_are_skipped(client: PooledClient) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with serve(raw(interim + OK)) as server:
        answer = await send(client, backend_at(server.url))
    assert (answer.status, answer.headers, answer.body) == (200, [(b"content-length", b"2")], b"hi")


NONSENSE = [
    (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
    (b"HTTP/1.1 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "status 101"),
    (b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n", "status 0"),
    (b"HTTP/1.1 700 Strange\r\nContent-Length: 0\r\n\r\n", "status 700"),
    (b"HTTP/1.1 150 Odd\r\nContent-Length: 2\r\n\r\nhi", "1xx answer with a body"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer-encoding"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 201 + b"Content-Length: 2\r\n\r\nhi", "too many header lines"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nhi", "too long a head"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000, "too long a head"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "too long a head"),
]


@pytest.mark.parametrize(("answer", "why"), NONSENSE, ids=[f"{n}-{why}" for n, (_, why) in enumerate(NONSENSE)])
async def test_what_is_not_http_fails_as_nonsense_and_costs_the_connection(
    client: PooledClient, answer: bytes, why: str
) -> None:
    async with serve(raw(answer)) as server:
        message = await failure(call(client, backend_at(server.url)), Outcome.NONSENSE)
        await server.wait_left()
    assert why in message
    assert "'echo'" in message
    assert "127.0.0.1" not in message


async def test_endless_trailers_fail_as_nonsense(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n")
        while True:
            peer.write(b"X-T: " + b"y" * 60 + b"\r\n")
            await peer.writer.drain()
            await asyncio.sleep(0)

    async with serve(script) as server:
        assert "no body" in await failure(call(client, backend_at(server.url)), Outcome.NONSENSE)


# ---- reuse: no answer may ever reach another call


async def test_a_second_answer_after_the_first_is_never_given_to_the_next_call(client: PooledClient) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(OK + evil)
        await peer.wait_closed()

    async with serve(script) as server:
        for _ in range(2):
            assert await call(client, backend_at(server.url)) == (200, b"hi")
    assert len(server.peers) == 2


@pytest.mark.parametrize("excess", [b"H", b"garbage", b"\0"])
async def test_a_single_byte_too_many_costs_the_connection(client: PooledClient, excess: bytes) -> None:
    async with serve(raw(OK + excess)) as server:
        for _ in range(2):
            assert await call(client, backend_at(server.url)) == (200, b"hi")
    assert len(server.peers) == 2


async def test_an_answer_that_nobody_asked_for_costs_the_idle_connection(client: PooledClient) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(b"good")
        await told.wait()
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await peer.wait_closed()
        closed.set()

    told = asyncio.Event()
    async with serve(script) as server:
        await call(client, backend_at(server.url))
        told.set()
        async with asyncio.timeout(WITHIN_SECONDS):
            await closed.wait()


async def test_an_unasked_answer_still_in_the_kernel_is_noticed_before_the_connection_is_used(
    client: PooledClient,
) -> None:
    async with serve(once_then_hold) as server:
        backend = backend_at(server.url)
        await call(client, backend)
        server.peers[0].write_at_once(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        assert await call(client, backend) == (200, b"{}")
    assert len(server.peers) == 2


async def test_an_answer_that_comes_while_the_body_is_being_sent_costs_the_connection(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await peer.wait_closed()

    async with serve(script) as server:
        backend = backend_at(server.url)
        assert await call(client, backend, b"x" * 30_000_000) == (413, b"big")
        server.script = always
        assert await call(client, backend, b"next") == (200, b"{}")
    assert [request.body for request in server.requests] == [b"next"]
    assert len(server.peers) == 2


async def test_a_large_body_arrives_whole_and_its_connection_is_used_again(client: PooledClient) -> None:
    body = bytes(range(256)) * 40_000
    async with serve(always) as server:
        for _ in range(2):
            await call(client, backend_at(server.url), body)
    assert [request.body == body for request in server.requests] == [True, True]
    assert len(server.peers) == 1


# ---- stale connections


async def test_a_connection_closed_while_idle_is_replaced_without_the_caller_knowing(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()

    async with serve(script) as server:
        backend = backend_at(server.url)
        for _ in range(3):
            assert await call(client, backend) == (200, b"{}")
            await server.wait_left()
    assert len(server.requests) == 3


async def test_a_close_still_in_the_kernel_is_noticed_before_anything_is_written(client: PooledClient) -> None:
    async with serve(once_then_hold) as server:
        backend = backend_at(server.url)
        await call(client, backend, b"first")
        server.peers[0].finish_at_once()
        assert await call(client, backend, b"second") == (200, b"{}")
    assert [request.body for request in server.requests] == [b"first", b"second"]
    assert len(server.peers) == 2


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
async def test_a_request_that_a_reused_connection_took_is_not_sent_again_when_it_closes(
    client: PooledClient, leave: Callable[[Peer], None]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.read_request()
        leave(peer)

    async with serve(script) as server:
        backend = backend_at(server.url)
        await call(client, backend, b"first")
        message = await failure(call(client, backend, b"second"), Outcome.BROKEN)
    assert "before it answered" in message
    assert [request.body for request in server.requests] == [b"first", b"second"]


# ---- broken answers


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
    ],
)
async def test_an_answer_cut_short_is_broken(client: PooledClient, part: bytes) -> None:
    async with serve(raw(part, close=True)) as server:
        await failure(call(client, backend_at(server.url)), Outcome.BROKEN)


async def test_a_body_without_a_length_that_ends_in_a_reset_is_broken(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await go_on.wait()
        peer.reset()

    go_on = asyncio.Event()
    async with serve(script) as server:
        answer = await send(client, backend_at(server.url))
        chunks = [await answer.next_chunk(WITHIN_SECONDS)] if answer.parts else []
        go_on.set()
        await failure(answer.read(100), Outcome.BROKEN)
    assert b"".join(chunks) in (b"", b"half")


async def test_what_arrived_before_the_break_is_given_first(client: PooledClient) -> None:
    async with serve(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", close=True)) as server:
        answer = await send(client, backend_at(server.url))
        assert await answer.next_chunk(WITHIN_SECONDS) == b"hello"
        await failure(answer.next_chunk(WITHIN_SECONDS), Outcome.BROKEN)
        await failure(answer.next_chunk(WITHIN_SECONDS), Outcome.BROKEN)


# ---- reading


async def test_chunks_come_as_they_arrive_then_the_end(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in (b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"):
            await steps.get()
            peer.write(chunk)

    steps: asyncio.Queue[None] = asyncio.Queue()
    async with serve(script) as server:
        answer = await send(client, backend_at(server.url))
        assert answer.body is None
        assert await answer.next_chunk(0.01) is None
        assert await answer.next_chunk(0.01) is None
        for expected in (b"one", b"two", b"", b""):
            steps.put_nowait(None)
            assert await answer.next_chunk(WITHIN_SECONDS) == expected
        assert answer.body is None


async def test_more_than_the_limit_is_nonsense_and_costs_the_connection(client: PooledClient) -> None:
    async with serve(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)) as server:
        answer = await send(client, backend_at(server.url))
        message = await failure(answer.read(99_999), Outcome.NONSENSE)
        assert "99999 bytes" in message
        answer = await send(client, backend_at(server.url))
        assert len(await answer.read(100_000)) == 100_000


async def test_a_slow_reader_holds_the_backend_back(client: PooledClient) -> None:
    total, piece = 64 * 1024 * 1024, b"x" * 65536
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            peer.write(piece)
            await peer.writer.drain()
            sent += len(piece)

    async with serve(script) as server:
        answer = await send(client, backend_at(server.url))
        read = held = 0
        while chunk := await answer.next_chunk(WITHIN_SECONDS):
            read += len(chunk)
            for _ in range(3):
                await asyncio.sleep(0)
            held = max(held, answer.held_bytes)
            assert sent - read < 32 * 1024 * 1024  # the kernel's buffers, not ours
    assert read == total
    assert held <= 512 * 1024


async def test_a_reader_that_stops_stops_the_backend(client: PooledClient) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.write(b"x" * 65536)
            try:
                async with asyncio.timeout(0.5):
                    await peer.writer.drain()
            except TimeoutError:
                stuck.set()
                await peer.writer.drain()
            sent += 65536

    stuck = asyncio.Event()
    async with serve(script) as server:
        answer = await send(client, backend_at(server.url))
        async with asyncio.timeout(WITHIN_SECONDS):
            await stuck.wait()
        assert answer.held_bytes <= 512 * 1024
        answer.close()


# ---- time-outs


async def test_a_silent_backend_times_out(client: PooledClient) -> None:
    async with serve(lambda peer: peer.wait_closed()) as server:
        backend = backend_at(server.url, timeouts=Timeouts(WITHIN_SECONDS, 0.1, WITHIN_SECONDS))
        message = await failure(call(client, backend), Outcome.TIMED_OUT)
        assert "send anything" in message
        await server.wait_left()  # and its connection was closed


async def test_progress_holds_off_the_idle_time_out_but_not_the_total(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.write(b"x")
            await asyncio.sleep(0.05)

    async with serve(script) as server:
        backend = backend_at(server.url, timeouts=Timeouts(WITHIN_SECONDS, 0.4, 1.0))
        message = await failure(call(client, backend), Outcome.TIMED_OUT)
    assert "finish" in message


async def test_a_shorter_time_out_binds_on_a_pooled_connection_too(client: PooledClient) -> None:
    async with serve(once_then_hold) as server:
        await call(client, backend_at(server.url))
        short = backend_at(server.url, timeouts=Timeouts(WITHIN_SECONDS, 0.05, WITHIN_SECONDS))
        pool = client._lines["echo"].pools[server.url]
        waiting = asyncio.ensure_future(call(client, short))
        await asyncio.sleep(0)
        assert pool._sweep_seconds == 0.0125
        await failure(waiting, Outcome.TIMED_OUT)
    assert len(server.peers) == 1


async def test_silence_while_our_own_reader_is_slow_is_not_the_backends(client: PooledClient) -> None:
    size = 8 * 1024 * 1024
    async with serve(raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)) as server:
        backend = backend_at(server.url, timeouts=Timeouts(WITHIN_SECONDS, 0.1, WITHIN_SECONDS))
        answer = await send(client, backend)
        await asyncio.sleep(0.4)  # four idle times without reading: the case itself, not synchronisation
        assert len(await answer.read(size)) == size


# ---- cancellation


async def cancel_in(awaited: Awaitable[object]) -> None:
    task = asyncio.ensure_future(awaited)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def hold_after(peer: Peer, start: bytes, began: asyncio.Event) -> None:
    await peer.read_request()
    peer.write(start)
    began.set()
    await peer.wait_closed()


async def test_cancelling_a_call_that_waits_for_the_head_closes_its_connection(client: PooledClient) -> None:
    began = asyncio.Event()
    async with serve(lambda peer: hold_after(peer, b"", began)) as server:
        task = asyncio.ensure_future(call(client, backend_at(server.url)))
        async with asyncio.timeout(WITHIN_SECONDS):
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.wait_left()


@pytest.mark.parametrize("how", ["read", "next_chunk", "close"])
async def test_leaving_a_call_in_the_middle_of_its_body_closes_its_connection(client: PooledClient, how: str) -> None:
    began = asyncio.Event()
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    async with serve(lambda peer: hold_after(peer, start, began)) as server:
        answer = await send(client, backend_at(server.url))
        match how:
            case "read":
                await cancel_in(answer.read(100))
            case "next_chunk":
                await cancel_in(answer.next_chunk(WITHIN_SECONDS))
            case _:
                answer.close()
                answer.close()
        await server.wait_left()


async def test_closing_an_answer_wakes_who_reads_it(client: PooledClient) -> None:
    began = asyncio.Event()
    async with serve(lambda peer: hold_after(peer, b"HTTP/1.1 200 OK\r\n\r\n", began)) as server:
        answer = await send(client, backend_at(server.url))
        reader = asyncio.ensure_future(answer.read(100))
        await asyncio.sleep(0)
        answer.close()
        await failure(reader, Outcome.BROKEN)


async def test_a_call_cancelled_just_as_its_answer_came_does_not_harm_the_next_user_of_the_connection(
    client: PooledClient,
) -> None:
    async with serve(always) as server:
        backend = backend_at(server.url)
        await call(client, backend)
        first = asyncio.ensure_future(send(client, backend))
        # until the answer is here and its connection idle again, yet the caller hasn't run
        while len(server.requests) < 2 or client._lines["echo"].pools[server.url].busy:  # noqa: ASYNC110
            await asyncio.sleep(0)
        first.cancel()
        second = asyncio.ensure_future(call(client, backend))
        assert await second == (200, b"{}")
        await asyncio.gather(first, return_exceptions=True)


async def test_a_finished_answer_may_be_closed_without_harm(client: PooledClient) -> None:
    async with serve(always) as server:
        answer = await send(client, backend_at(server.url))
        await answer.read(100)
        answer.close()
        answer.close()
        await call(client, backend_at(server.url))
    assert len(server.peers) == 1


# ---- connecting


async def test_a_refused_connection_is_unreachable_and_says_so_without_an_address(client: PooledClient) -> None:
    async with serve(always) as server:
        pass
    message = await failure(call(client, backend_at(server.url)), Outcome.UNREACHABLE)
    assert message == "Backend 'echo' can't be reached: nothing listens there."


async def test_a_name_that_does_not_resolve_is_unreachable(client: PooledClient) -> None:
    message = await failure(call(client, backend_at("http://nowhere.invalid/mcp")), Outcome.UNREACHABLE)
    assert message == "Backend 'echo' can't be reached: its host name can't be resolved."


async def test_ipv6_works(client: PooledClient) -> None:
    async with serve(always, host="::1") as server:
        assert await call(client, backend_at(server.url)) == (200, b"{}")
    assert server.requests[0].headers[0] == (b"host", b"[::1]:%d" % server.port)


async def test_a_name_with_addresses_of_both_families_reaches_the_one_that_listens(client: PooledClient) -> None:
    async with serve(always, host="127.0.0.1") as server:
        assert await call(client, backend_at(f"http://localhost:{server.port}/mcp")) == (200, b"{}")


async def test_beyond_its_connections_a_backend_is_overloaded_until_a_call_ends(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await go_on.wait()
        peer.write(OK)
        await always(peer)

    go_on = asyncio.Event()
    async with serve(script) as server:
        backend = backend_at(server.url, max_connections=2)
        calls = [asyncio.ensure_future(call(client, backend)) for _ in range(2)]
        await server.wait_peer(2)
        message = await failure(call(client, backend), Outcome.OVERLOADED)
        assert "2 calls" in message
        go_on.set()
        assert await asyncio.gather(*calls) == [(200, b"hi"), (200, b"hi")]
        assert await call(client, backend) == (200, b"{}")


async def test_a_name_that_leads_to_a_metadata_address_is_not_dialled(client: PooledClient) -> None:
    backend = backend_at("http://169.254.169.254/latest/meta-data")
    message = await failure(call(client, backend), Outcome.UNREACHABLE)
    assert message.endswith("its name leads to a link-local or cloud-metadata address (see `allow_link_local:`).")


async def test_standing_streams_neither_count_nor_are_counted(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" if request.body == b"" else OK)
        await peer.wait_closed()

    async with serve(script) as server:
        backend = backend_at(server.url, max_connections=1)
        endpoint = parse_endpoint(server.url)
        for_ever = Timeouts(3.0, math.inf, math.inf)
        streams = [await client.send(backend, endpoint, b"GET", [], b"", for_ever) for _ in range(3)]
        assert await call(client, backend, b"{}") == (200, b"hi")
        assert [stream.status for stream in streams] == [200, 200, 200]
        for stream in streams:
            stream.close()


async def test_connections_still_being_made_count_too(client: PooledClient) -> None:
    async with serve(always) as server:
        backend = backend_at(server.url, max_connections=2)
        results = await asyncio.gather(*(call(client, backend) for _ in range(3)), return_exceptions=True)
    assert results[:2] == [(200, b"{}"), (200, b"{}")]
    assert isinstance(results[2], Failed)
    assert results[2].outcome is Outcome.OVERLOADED


# ---- configuration


async def test_a_backend_that_is_gone_closes_idle_connections_now_and_busy_ones_after_their_call(
    client: PooledClient,
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        if request.body == b"slow":
            await go_on.wait()
        peer.write(OK)
        await peer.wait_closed()

    go_on = asyncio.Event()
    async with serve(script) as server:
        backend = backend_at(server.url)
        slow = asyncio.ensure_future(call(client, backend, b"slow"))
        await server.wait_peer(1)
        await call(client, backend, b"quick")
        client.reconcile({})
        async with asyncio.timeout(WITHIN_SECONDS):
            await server._tasks[1]
        assert not server._tasks[0].done()
        (retired,) = client._retired
        go_on.set()
        assert await slow == (200, b"hi")
        assert retired.is_empty
        async with asyncio.timeout(WITHIN_SECONDS):
            await server._tasks[0]


async def test_a_backend_whose_dialling_is_unchanged_keeps_its_connections(client: PooledClient) -> None:
    async with serve(always) as server:
        backend = backend_at(server.url)
        await call(client, backend)
        changed = backend_at(server.url, timeouts=Timeouts(1.0, 2.0, 3.0))
        client.reconcile({"echo": changed})
        await call(client, changed)
    assert len(server.peers) == 1


async def test_closing_the_client_ends_every_call(client: PooledClient) -> None:
    async with serve(lambda peer: peer.wait_closed()) as server:
        waiting = asyncio.ensure_future(call(client, backend_at(server.url)))
        await server.wait_peer(1)
        await until(lambda: bool(client._lines["echo"].pools[server.url].busy))
        client.close()
        with pytest.raises(Failed) as caught:
            await waiting
        assert caught.value.outcome is Outcome.DRAINING
