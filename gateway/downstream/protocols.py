"""uvicorn's HTTP protocol with what a gateway needs of its connections besides.

A bound on heads, in bytes and seconds; clients that left found out; and plain requests to a mount are served by `direct`,
past ASGI. All others, and whatever is pipelined behind a request that is still being answered, go uvicorn's own way to
the same flow.
"""

import socket
import sys
from asyncio import BaseTransport, Event, TimerHandle, Transport
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.downstream.applications import Application
from gateway.downstream.direct import DirectClient, is_plain
from gateway.ports import Headers, Inbound

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's head, as of trailers. Session tokens are below 2 KiB, real heads below 8 KiB; llhttp itself has no bound.
Beyond: 431."""

HEAD_SECONDS: Final = 30.0
"""For a head that has begun to arrive whole, or for the first one to begin. Beyond: the connection ends."""

LINGER_SECONDS: Final = 2.0
"""A refused connection is read on for as long, and dropped what comes: closed at once, with bytes unread, it would be
reset, and a client that is still sending would never see why (RFC 9112 §9.6)."""

KEEPALIVE_SECONDS: Final = 30
USER_TIMEOUT_MILLISECONDS: Final = 60_000
"""A client that vanished without FIN is found after these: by probes on a silent connection, by what stays unacknowledged
on a talking one. Else its stream, and the backend's behind it, would stay open for ever."""

WAITING_REQUESTS: Final = 8
"""Behind one that is being answered. uvicorn stops reading at the first of them, and who doesn't read never sees that the
client has left; beyond this nothing is read until one is answered."""

LAST_CALL_SECONDS: Final = 1.0
"""For a request to arrive whose connection was there before the listener closed: its client believes in it."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GatewayProtocol(HttpToolsProtocol):
    """Give it to uvicorn as `http=`."""

    # Slots, because with so many more attributes CPython (3.11: 30) would no longer share the keys of uvicorn's among all
    # connections: 1.3 kB each.
    __slots__ = (
        "_again",
        "_direct",
        "_framing_bytes",
        "_head_timer",
        "_heard",
        "_is_deaf",
        "_is_in_head",
        "_is_in_message",
        "_unanswered",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._is_deaf = False  # refused: nothing is heard any more
        self._is_in_head = True
        self._is_in_message = False
        self._direct: DirectClient | None = None  # the request whose body is being read, if it is one of `direct`'s
        self._framing_bytes = 0  # that came since the last byte of a body, or the last message
        self._head_timer: TimerHandle | None = None
        self._heard = self._again = b""  # what is being read, and what of it is to be read anew
        self._unanswered: tuple[Any, ...] = ()  # cycles that others are pipelined behind
        self.pipeline = cast("Any", _Pipeline())

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast("Transport", transport))
        self.flow = _Flow(cast("Transport", transport))
        if (connection := transport.get_extra_info("socket")) is not None:
            find_dead_peers(connection)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_head()
        for cycle in self._unanswered:  # uvicorn itself tells only the last request of those that are under way
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._framing_bytes += len(data)
        if self._is_in_head and self._framing_bytes > MAX_HEAD_BYTES and not self._ends_head(data):
            self._refuse_head()
            return
        self._heard = data
        super().data_received(data)
        while self._again:  # no recursion: many may be pipelined
            self._heard, self._again = self._again, b""
            super().data_received(self._heard)
        self._heard = b""
        if self._is_in_head:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._hang_up)
        elif self._direct is not None:
            self._direct.await_body()
        if self._is_in_message and not self._is_in_head and self._framing_bytes > MAX_HEAD_BYTES:
            self._refuse_head()  # trailers, or chunk extensions, without end

    def _ends_head(self, data: bytes) -> bool:
        """Whether the head ends in these bytes, so that most of them are body and the head is small enough."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._framing_bytes - len(data) + end <= MAX_HEAD_BYTES

    def _refuse_head(self) -> None:
        """431, where there is no reply under way that it would run into; and the end of the connection."""
        self._await_no_head()
        self._is_deaf = True
        is_idle = self.cycle is None or self.cycle.response_complete or self._direct is not None
        if is_idle and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.write_eof()
            self._head_timer = self.loop.call_later(LINGER_SECONDS, self._hang_up)
        else:
            self.transport.close()

    def _hang_up(self) -> None:
        self.transport.close()

    def shutdown(self) -> None:
        """uvicorn's: the server ends. A connection on which a request is on its way is not closed under it."""
        if self._head_timer is None or self._is_deaf:
            super().shutdown()
        else:
            self._await_no_head()
            self._head_timer = self.loop.call_later(LAST_CALL_SECONDS, self._hang_up)

    def _await_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_message_begin(self) -> None:
        self._is_in_head = self._is_in_message = True
        self._framing_bytes = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return  # a trailer: whoever filters headers in front of us doesn't look there (RFC 9110 §6.5.1)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value.strip(b" \t")))  # llhttp leaves the blanks behind a value (RFC 9110 §5.5)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # `_unsupported_upgrade_warning` is next
        self._is_in_head = False
        self._framing_bytes = 0
        if self._head_timer is not None:
            self._await_no_head()
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and not self.expect_100_continue and is_plain(self.parser, self.url) and self._begin_direct():
            return
        check_framing(self.parser.get_http_version(), self.headers)
        # uvicorn's own way. Its `on_message_begin` makes the scope, which was put off until it is needed.
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        if not is_idle:
            self._unanswered = (*(c for c in self._unanswered if not c.response_complete), self.cycle)
        super().on_headers_complete()
        if 0 < len(self.pipeline) < WAITING_REQUESTS:
            self.flow.resume_reading()
        if isinstance(self.app, Application) and self.app.is_leaving:
            self.cycle.keep_alive = False

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn's, called for a request that would change the protocol. It is read again without that wish, which one
        may ignore (RFC 9110 §7.8): llhttp has left its body out, and would take that for the next request."""
        error = sys.exc_info()[1]
        if self._is_in_head and isinstance(error, httptools.HttpParserUpgrade):
            line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            kept = [header for header in self.headers if header[0] not in (b"upgrade", b"http2-settings")]
            head = line + b"".join(b"%b: %b\r\n" % header for header in kept) + b"\r\n"
            rest, self.parser = self._heard[error.args[0] :], httptools.HttpRequestParser(self)
            self._again = head + rest

    def _begin_direct(self) -> bool:
        path, _, query = self.url.partition(b"?")
        app, text = self.app, path.decode("latin-1")
        gateway = app.gateway_for(text) if isinstance(app, Application) else None
        if gateway is None:
            return False
        inbound = Inbound(
            method=self.parser.get_method().decode("ascii"),
            path=text,
            query=query,
            headers=self.headers,
            peer=self.client[0] if self.client else "",
            scheme=self.scheme or "http",
        )
        client = DirectClient(self, gateway, inbound, self.parser.should_keep_alive() and not app.is_leaving)
        self._direct = client
        self.cycle = cast("Any", client)
        return True

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        if self._direct is not None:
            self._direct.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_in_head:
            return  # of a request that is to be read anew
        self._is_in_message = False
        if (direct := self._direct) is not None:
            self._direct = None
            direct.serve()
        else:
            super().on_message_complete()


def check_framing(version: str, headers: Headers) -> None:
    """Raises ValueError, which becomes a 400, where others on the way may frame the request differently."""
    if version not in ("1.0", "1.1"):
        raise ValueError("not a version of HTTP/1")
    if version == "1.0" and any(name == b"transfer-encoding" for name, _ in headers):
        raise ValueError("HTTP/1.0 has no transfer codings (RFC 9112 §6.1)")


class _Pipeline(list[Any]):
    """What uvicorn has a deque for: empty on most connections, and an empty deque takes 0.7 kB."""

    def appendleft(self, item: Any) -> None:
        self.insert(0, item)


class _Flow(FlowControl):
    """uvicorn's, with an event only where somebody may wait: an event has a deque, too."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False

    def pause_writing(self) -> None:
        if not self.write_paused:
            self._is_writable_event = Event()
        super().pause_writing()

    async def drain(self) -> None:
        if self.write_paused:
            await super().drain()


def find_dead_peers(connection: Any) -> None:
    """Socket options, where the platform has them and the socket is TCP."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), KEEPALIVE_SECONDS),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), KEEPALIVE_SECONDS // 3),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), 3),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), USER_TIMEOUT_MILLISECONDS),
    )
    for level, option, value in options:
        if option is not None:
            connection.setsockopt(level, option, value)
