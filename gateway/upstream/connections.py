"""One HTTP/1.1 connection to a backend: one request at a time, its answer parsed by llhttp.

Knows framing, back-pressure and when a connection may be used again. Doesn't know how it was dialled, or the pool
beyond three calls to it. Every doubt about where an answer ends costs the connection, never the next user's answer.

Rules: RFC 9112 §6.3 (length of a body), §9.3 (reuse), §9.6 (close); RFC 9110 §15.2 (1xx).
"""

import asyncio
import select
import ssl
from typing import Final, Protocol

import httptools

from gateway.policy.backends import Timeouts
from gateway.ports import Headers
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.answers import HIGH_WATER_BYTES, PooledAnswer
from gateway.upstream.framings import KEEP_SECONDS, has_other_codings, is_framed, keep_seconds, size_of

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of an answer's head with all its 1xx forerunners; the same bounds trailers and chunk extensions. Beyond: NONSENSE."""

MAX_HEADER_LINES: Final = 200
"""Real answers have ten. Beyond: NONSENSE."""

SLICE_BYTES: Final = 64 * 1024
"""A larger request body is written in slices of this size, each when the one before has left for the kernel."""


class Home(Protocol):
    """The pool, as its connections see it."""

    name: str

    def release(self, connection: "Connection") -> None:
        """The connection can take another request."""

    def forget(self, connection: "Connection") -> None:
        """The connection is lost. Harmless when repeated."""


class Connection(asyncio.Protocol):
    """`begin` a request; the answer it returns fills as bytes arrive."""

    __slots__ = (
        "_answer",
        "_complete",
        "_headers",
        "_is_head",
        "_keep",
        "_lost",
        "_overhead_bytes",
        "_parser",
        "_paused",
        "_poll",
        "_raw",
        "_rest",
        "_transport",
        "_trouble",
        "_write_paused",
        "deadline",
        "expires",
        "home",
        "idle_seconds",
        "last_activity",
        "loop",
        "name",
    )

    def __init__(self, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.name = home.name
        self.loop = loop
        self.expires = 0.0
        self.deadline = 0.0
        self.idle_seconds = 0.0
        self.last_activity = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._answer: PooledAnswer | None = None
        self._headers: Headers = []
        self._rest: memoryview | None = None  # of a large request body: what isn't written yet
        self._trouble = ""
        self._overhead_bytes = 0
        self._is_head = self._complete = self._keep = self._paused = self._write_paused = self._lost = False

    def attach(self, raw: asyncio.Transport, transport: asyncio.Transport, descriptor: int) -> None:
        """`raw` is the socket's own transport, `transport` what requests are written to: TLS over it, or the same."""
        self._raw = raw
        self._transport = transport
        self._poll.register(descriptor, select.POLLIN)

    # ---- the pool's side

    def begin(self, head: bytes, body: bytes, is_head: bool, timeouts: Timeouts, now: float) -> PooledAnswer | None:
        """Writes a request; None when the connection turned out closed before a byte of it left."""
        answer = self._answer = PooledAnswer(self)
        self.last_activity = now
        self.deadline = now + timeouts.total_seconds
        self.idle_seconds = timeouts.idle_seconds
        self._is_head = is_head
        self._overhead_bytes = 0
        if len(body) <= SLICE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._rest = memoryview(body)
        if self._raw.is_closing():
            self._answer = self._rest = None
            return None
        if self._rest is not None:
            self._write_rest()
        return answer

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection may take a request: neither old, nor closed, nor with bytes nobody asked for.

        The kernel is asked as well, because the event loop may not have got round to telling us of a close.
        """
        return now < self.expires and not self._raw.is_closing() and not self._poll.poll(0)

    def is_overdue(self, now: float) -> bool:
        """Whether the call has run out of time. While our own reader is slow, silence is not the backend's."""
        return now >= self.deadline or (now - self.last_activity >= self.idle_seconds and not self._paused)

    def time_out(self, now: float) -> None:
        what = "finish" if now >= self.deadline else "send anything"
        self.fail(Outcome.TIMED_OUT, f"Backend {self.name!r} did not {what} within the time allowed.")

    def fail(self, outcome: Outcome, message: str) -> None:
        """Ends the call in progress, and the connection with it."""
        if self._answer is not None:
            self._answer.fail(Failed(outcome, message))  # which aborts

    def abort(self) -> None:
        self._answer = self._rest = None
        self.home.forget(self)
        if not self._lost:  # a transport that has closed takes no abort: asyncio's fails, or reports its loss again
            self._transport.abort()

    def resume(self) -> None:
        if self._paused and not self._raw.is_closing():
            self._paused = False
            self.last_activity = self.loop.time()
            self._transport.resume_reading()

    # ---- asyncio's side

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: whose answer would it be?
            self.abort()
            return
        self.last_activity = self.loop.time()
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep = False
            if not self._complete:
                self._trouble = self._trouble or "what is not HTTP"
        self._look()

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.status and not is_framed(answer.headers) and self._ended_well():
            self._keep = False
            self._settle(answer)  # a body may end with its connection (RFC 9112 §6.3, rule 8), but only in good order

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.home.forget(self)
        if self._answer is not None:
            when = "in the middle of its answer" if self._answer.status else "before it answered"
            self.fail(Outcome.BROKEN, f"Backend {self.name!r} closed the connection {when}.")

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._rest is not None:
            self.last_activity = self.loop.time()
            self._write_rest()

    # ---- llhttp's side

    def on_message_begin(self) -> None:
        self._headers = []
        if self._complete:  # a second answer to one request
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        if self._complete or self._answer is None:
            return
        status = self._parser.get_status_code()
        if not 200 <= status <= 599:
            if status != 100 and not 102 <= status <= 199:  # 101 too: nobody asked to switch protocols
                self._trouble = f"the status {status}"
            return
        self._answer.status = status
        self._answer.headers = headers = self._headers
        self._headers = []  # trailers go here, and nowhere
        self._read_framing(headers)
        if self._is_head:  # llhttp can't be told that no body follows, so the connection ends here
            self._complete = True

    def on_body(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or self._complete:
            return
        if not answer.status:
            self._trouble = "a 1xx answer with a body"
        answer.parts.append(data)
        answer.held_bytes += len(data)
        self._overhead_bytes = 0

    def on_message_complete(self) -> None:
        if not self._complete and self._answer is not None and self._answer.status:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    # ---- decisions

    def _read_framing(self, headers: Headers) -> None:
        if len(headers) > MAX_HEADER_LINES:
            self._trouble = "too many header lines"
        elif self._overhead_bytes > MAX_HEAD_BYTES and size_of(headers) > MAX_HEAD_BYTES:
            self._trouble = "too long a head"
        names = dict(headers)
        if b"transfer-encoding" in names and has_other_codings(headers):
            self._trouble = "a transfer-encoding that was not asked for"
        self.expires = keep_seconds(names[b"keep-alive"]) if b"keep-alive" in names else KEEP_SECONDS

    def _look(self) -> None:
        """What follows from the bytes just parsed."""
        answer = self._answer
        if answer is None:
            return
        if not self._trouble and not self._complete and self._overhead_bytes > MAX_HEAD_BYTES:
            self._trouble = "too long a head" if not answer.status else "too much that is no body"
        if self._trouble:
            self.fail(Outcome.NONSENSE, f"Backend {self.name!r} sent {self._trouble}.")
        elif self._complete:
            self._settle(answer)
        elif answer.status:
            if answer.held_bytes > HIGH_WATER_BYTES and not self._paused and not self._raw.is_closing():
                self._paused = True
                self._transport.pause_reading()
            answer.wake()

    def _settle(self, answer: PooledAnswer) -> None:
        """The answer is whole. The connection lives on only if the request left whole, and nothing else came."""
        keep = self._keep and self.expires > 0 and not self._raw.is_closing() and not self._is_writing()
        self._answer = None
        self._complete = self._keep = False
        if keep:
            self.expires += self.last_activity
            self.resume()
            self.home.release(self)
        else:
            self.abort()
        answer.finish()

    def _is_writing(self) -> bool:
        """Whether a part of the request hasn't left: the backend answered early, and may take the rest for a request."""
        waiting = self._transport.get_write_buffer_size() or self._raw.get_write_buffer_size()
        return self._rest is not None or waiting > 0

    def _write_rest(self) -> None:
        while self._rest is not None and not self._write_paused and not self._raw.is_closing():
            piece, rest = self._rest[:SLICE_BYTES], self._rest[SLICE_BYTES:]
            self._rest = rest or None
            self._transport.write(piece)

    def _ended_well(self) -> bool:
        """Whether the end was said, not cut: a TLS stream must end with close_notify (RFC 9112 §9.8), and asyncio
        doesn't tell a FIN without it from one with it. Another read does: it finds the end, or wants more."""
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return tls.read(1) == b""
        except ssl.SSLError:
            return False
