"""The second shell: the `Client` port straight on uvicorn's connection, without ASGI between.

It serves what is plain and common, an HTTP/1.1 request that isn't pipelined, for less CPU: a small call went from × 10.1 to
× 8.6 nginx's when this came (busy machine, November 2026). The request is handed over when its body is whole, a reply is
one write, and a client that leaves is noticed without a task that waits for it. To uvicorn it looks like the cycle of the
request under way.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.exchange.exchanges import Gateway
from gateway.flow import serve
from gateway.ports import ClientLeft, Headers, Inbound
from gateway.protocol.outcomes import Outcome, Rejected

if TYPE_CHECKING:
    from gateway.downstream.protocols import GatewayProtocol


class DirectClient:
    """One request on a `GatewayProtocol`. `take` its body, then `serve`; the protocol says when the client has left."""

    __slots__ = (
        *(
            "_body",
            "_body_bytes",
            "_gateway",
            "_inbound",
            "_is_chunked",
            "_is_cut",
            "_protocol",
            "_task",
            "_timer",
            "_trouble",
        ),
        *("keep_alive", "left", "response_complete", "started"),
    )

    def __init__(self, protocol: "GatewayProtocol", gateway: Gateway, inbound: Inbound, keep_alive: bool) -> None:
        self._protocol = protocol
        self._gateway = gateway
        self._inbound = inbound
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._is_chunked = True
        self._is_cut = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trouble: Rejected | None = None
        self.keep_alive = keep_alive
        self.left = False
        self.response_complete = False
        self.started = False

    # ---- the protocol's side

    def take(self, data: bytes) -> None:
        """A part of the body. What is beyond the limit is dropped, and the request refused at once."""
        self._body_bytes += len(data)
        limit_bytes = self._gateway.site.limits.body_bytes
        if self._body_bytes <= limit_bytes:
            self._body.append(data)
        elif self._task is None:
            self._body.clear()
            text = f"the request's body is larger than the {limit_bytes} bytes taken here"
            # Not closed: uvicorn reads and drops the rest, so that a client that is still sending hears the answer.
            self._trouble = Rejected(Outcome.TOO_LARGE, text)
            self.serve()

    def await_body(self) -> None:
        """The body isn't whole yet: from now on there is a limit to the wait."""
        if self._timer is None and self._task is None:
            self._timer = self._protocol.loop.call_later(self._gateway.site.limits.body_seconds, self._time_out)

    def _time_out(self) -> None:
        seconds = self._gateway.site.limits.body_seconds
        text = f"the request's body did not arrive within {seconds:g} seconds"
        self._trouble = Rejected(Outcome.BODY_TIMEOUT, text)
        self.keep_alive = False
        self.serve()

    def serve(self) -> None:
        """All is here, or will never be: the flow takes over."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None:
            self._task = task = self._protocol.loop.create_task(self._run())
            task.add_done_callback(self._protocol.tasks.discard)
            self._protocol.tasks.add(task)

    async def _run(self) -> None:
        try:
            await serve(self._gateway, self._inbound, self)
        except asyncio.CancelledError:
            if not self.left:  # else it was the client's leaving, and that has been dealt with
                raise
        finally:
            if not self.response_complete:
                self._protocol.transport.close()

    def set(self) -> None:
        """uvicorn's `message_event.set()`, which follows `disconnected = True` when the connection is lost."""
        if self.left and self._is_cut and not self.response_complete and self._task is not None:
            self._task.cancel()

    @property
    def message_event(self) -> "DirectClient":
        return self

    @property
    def disconnected(self) -> bool:
        return self.left

    @disconnected.setter
    def disconnected(self, value: bool) -> None:
        self.left = value
        if self._timer is not None:
            self._timer.cancel()

    # ---- the flow's side

    async def read_body(self, limit_bytes: int, within_seconds: float) -> bytes:
        """The whole body, which is here already. Raises `Rejected` (TOO_LARGE, BODY_TIMEOUT)."""
        if self._trouble is not None:
            raise self._trouble
        body, self._body = self._body, []
        return body[0] if len(body) == 1 else b"".join(body)

    def cut_on_leave(self) -> None:
        """From now on this task is cancelled as soon as the client leaves."""
        self._is_cut = True
        if self.left and self._task is not None:
            self._task.cancel()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole reply in one write; sets content-length."""
        if self._protocol.flow.write_paused:
            await self._protocol.flow.drain()
        if self.left:
            raise ClientLeft
        self.started = True
        if status != 204:  # which has no content, and so no length either (RFC 9110 §8.6)
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        self._protocol.transport.write(self._encode_head(status, headers) + body)
        self._complete()

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        """The head of a streamed reply, on its way at once: a client waits for it before it believes in the stream."""
        if self.left:
            raise ClientLeft
        self.started = True
        if until_close:
            # Cut in the middle of a chunk, a stream makes the Python client forget its last event; cut anywhere without
            # chunks, it doesn't (design §7).
            self.keep_alive = self._is_chunked = False
        else:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        self._protocol.transport.write(self._encode_head(status, headers))

    async def write(self, data: bytes) -> None:
        """A part of a streamed reply; waits while the client is slow."""
        if self._protocol.flow.write_paused:
            await self._protocol.flow.drain()
        if self.left:
            raise ClientLeft
        self._protocol.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def end(self) -> None:
        """The end of a streamed reply."""
        if not self.left:
            if self._is_chunked:
                self._protocol.transport.write(b"0\r\n\r\n")
            self._complete()

    def _encode_head(self, status: int, headers: Headers) -> bytes:
        """Raises ValueError where a header would break out of its line (RFC 9110 §5.5)."""
        lines = [b"%b: %b\r\n" % header for header in self._protocol.server_state.default_headers]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
            raise ValueError("a header holds a line end")
        return head

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()


def is_plain(parser: Any, url: bytes) -> bool:
    """Whether a request is of the kind that is served here: HTTP/1.1, a path, nothing to upgrade to."""
    return url[:1] == b"/" and parser.get_http_version() == "1.1" and not parser.should_upgrade()
