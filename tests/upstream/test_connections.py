"""One connection, fed bytes by hand: whatever they are and however they are cut."""

import asyncio
import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.backends import Timeouts
from gateway.protocol.outcomes import Outcome
from gateway.upstream.answers import PooledAnswer
from gateway.upstream.connections import SLICE_BYTES, Connection


class FakeLoop(asyncio.AbstractEventLoop):
    """A clock."""

    now = 100.0

    def time(self) -> float:
        return self.now


class FakeTransport(asyncio.Transport):
    """Takes what is written; remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.buffered_bytes = 0
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.buffered_bytes

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class FakeHome:
    name = "echo"

    def __init__(self) -> None:
        self.released = 0

    def release(self, connection: Connection) -> None:
        self.released += 1

    def forget(self, connection: Connection) -> None:
        pass


class Bench:
    """A connection between a fake pool and a fake transport."""

    def __init__(self, descriptor: int) -> None:
        self.home = FakeHome()
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.connection = Connection(self.home, self.loop)
        self.connection.attach(self.transport, self.transport, descriptor)

    def begin(self, body: bytes = b"{}", method: bytes = b"POST", timeouts: Timeouts | None = None) -> PooledAnswer:
        head = method + b" / HTTP/1.1\r\n\r\n"
        answer = self.connection.begin(head, body, method == b"HEAD", timeouts or Timeouts(), self.loop.now)
        assert answer is not None
        return answer

    def feed(self, *pieces: bytes) -> None:
        """As a transport does: nothing more once it was aborted."""
        for piece in pieces:
            if piece and not self.transport.closed:
                self.connection.data_received(piece)


@pytest.fixture(scope="module")
def descriptor() -> Iterator[int]:
    one, other = socket.socketpair()
    with one, other:
        yield one.fileno()


def seen(answer: PooledAnswer) -> tuple[object, ...]:
    """All that a caller can see of an answer that is over."""
    outcome = answer.error.outcome if answer.error else None
    return answer.status, answer.headers, b"".join(answer.parts), answer.done, outcome


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\nhello world",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;a=b\r\nhello \r\n5\r\nworld\r\n0\r\nX-T: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nX: 1\r\nX: 2\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(which=st.sampled_from(ANSWERS), places=st.lists(st.integers(0, 1000), max_size=20))
def test_an_answer_is_the_same_however_its_bytes_are_cut(descriptor: int, which: bytes, places: list[int]) -> None:
    whole, pieces = Bench(descriptor), Bench(descriptor)
    expected, got = whole.begin(), pieces.begin()
    whole.feed(which)
    pieces.feed(*cut(which, places))
    assert seen(got)[3:] == seen(expected)[3:]
    if expected.error is None:
        assert seen(got) == seen(expected)


@given(
    start=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]),
    data=st.binary(max_size=400),
    places=st.lists(st.integers(0, 1000), max_size=5),
)
def test_any_bytes_give_an_answer_or_a_failure_and_nothing_else(
    descriptor: int, start: bytes, data: bytes, places: list[int]
) -> None:
    bench = Bench(descriptor)
    answer = bench.begin()
    bench.feed(*cut(start + data, places))
    if not bench.transport.closed:
        bench.connection.eof_received()
    bench.connection.connection_lost(None)
    if answer.error is None:
        assert answer.done
        assert 200 <= answer.status <= 599
    else:
        assert answer.error.outcome in {Outcome.NONSENSE, Outcome.BROKEN}


@given(excess=st.binary(min_size=1, max_size=100), together=st.booleans())
def test_whatever_follows_an_answer_its_connection_is_never_used_again(
    descriptor: int, excess: bytes, together: bool
) -> None:
    answer_bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    bench = Bench(descriptor)
    answer = bench.begin()
    bench.feed(*([answer_bytes + excess] if together else [answer_bytes, excess]))
    assert answer.body == b"hi"
    # Line ends between messages belong to no message (RFC 9112 §2.2); llhttp swallows them.
    assert bench.transport.closed or (together and not excess.strip(b"\r\n"))


def test_a_connection_is_not_kept_while_a_part_of_the_request_is_unsent(descriptor: int) -> None:
    bench = Bench(descriptor)
    answer = bench.begin()
    bench.transport.buffered_bytes = 1
    bench.feed(ANSWERS[0])
    assert answer.body == b"hello world"
    assert (bench.transport.closed, bench.home.released) == (True, 0)


def test_a_large_body_is_written_slice_by_slice_as_the_transport_takes_it(descriptor: int) -> None:
    bench = Bench(descriptor)
    bench.connection.pause_writing()
    body = b"x" * (2 * SLICE_BYTES) + b"yz"
    bench.begin(body)
    assert bench.transport.written == [b"POST / HTTP/1.1\r\n\r\n"]
    for _ in range(2):
        bench.connection.resume_writing()
    assert b"".join(bench.transport.written[1:]) == body
    assert [len(piece) for piece in bench.transport.written[1:]] == [SLICE_BYTES, SLICE_BYTES, 2]


def test_a_small_request_is_one_write(descriptor: int) -> None:
    bench = Bench(descriptor)
    bench.begin(b"{}")
    assert bench.transport.written == [b"POST / HTTP/1.1\r\n\r\n{}"]


def test_reading_pauses_above_the_bound_and_goes_on_when_read(descriptor: int) -> None:
    bench = Bench(descriptor)
    answer = bench.begin()
    bench.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x" * 262_144)
    assert bench.transport.reading
    bench.feed(b"x")
    assert not bench.transport.reading
    assert len(asyncio.run(_next(answer))) == 262_145
    assert bench.transport.reading


def test_the_time_our_own_reader_took_is_not_the_backends_silence(descriptor: int) -> None:
    bench = Bench(descriptor)
    answer = bench.begin(timeouts=Timeouts(1.0, 10.0, 1000.0))
    bench.feed(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 300_000)
    assert not bench.connection.is_overdue(300.0)
    bench.loop.now = 300.0
    asyncio.run(_next(answer))
    assert not bench.connection.is_overdue(309.9)
    assert bench.connection.is_overdue(310.0)


async def _next(answer: PooledAnswer) -> bytes:
    chunk = await answer.next_chunk(1.0)
    assert chunk is not None
    return chunk


def test_a_connection_is_usable_until_it_is_old_closed_or_has_something_to_say(descriptor: int) -> None:
    bench = Bench(descriptor)
    bench.begin()
    bench.feed(ANSWERS[0])
    assert bench.connection.is_usable(103.9)
    assert not bench.connection.is_usable(104.0)
    bench.transport.closed = True
    assert not bench.connection.is_usable(103.9)


@pytest.mark.parametrize(
    ("keep_alive", "kept_seconds"),
    [(b"timeout=3", 2.0), (b"timeout=100", 4.0), (b"max=7", 4.0), (b"timeout=x", 4.0), (b"Timeout = 4, max=1", 3.0)],
)
def test_a_connection_is_kept_for_as_long_as_the_backend_says_less_a_second(
    descriptor: int, keep_alive: bytes, kept_seconds: float
) -> None:
    bench = Bench(descriptor)
    bench.begin()
    bench.feed(b"HTTP/1.1 200 OK\r\nKeep-Alive: " + keep_alive + b"\r\nContent-Length: 0\r\n\r\n")
    assert bench.connection.expires == 100.0 + kept_seconds


def test_idle_time_starts_anew_with_each_arrival_and_total_time_does_not(descriptor: int) -> None:
    bench = Bench(descriptor)
    answer = bench.begin(timeouts=Timeouts(1.0, 10.0, 25.0))
    assert not bench.connection.is_overdue(109.9)
    assert bench.connection.is_overdue(110.0)
    for bench.loop.now in (109.0, 118.0):
        bench.feed(b"HTTP/1.1 200 OK\r\n\r\n" if not answer.status else b"x")
        assert not bench.connection.is_overdue(bench.loop.now + 6.0)
    assert bench.connection.is_overdue(125.0)
    bench.connection.time_out(125.0)
    assert answer.error is not None
    assert (answer.error.outcome, bench.transport.closed) == (Outcome.TIMED_OUT, True)


def test_a_write_that_fails_before_any_byte_left_is_no_answer(descriptor: int) -> None:
    bench = Bench(descriptor)
    bench.transport.closed = True
    assert bench.connection.begin(b"POST / HTTP/1.1\r\n\r\n", b"", False, Timeouts(), 100.0) is None


def test_a_closed_transport_is_not_aborted_again(descriptor: int) -> None:
    bench = Bench(descriptor)
    answer = bench.begin()
    bench.connection.connection_lost(None)
    assert answer.error is not None
    assert (answer.error.outcome, bench.transport.closed) == (Outcome.BROKEN, False)
