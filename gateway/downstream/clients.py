"""The ASGI side of a request: the `Inbound` and the `Client` that the flow works with.

ASGI stays in this room, so that a second, faster shell can stand beside this one without a change to the flow.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from gateway.ports import ClientLeft, Headers, Inbound
from gateway.protocol.outcomes import Outcome, Rejected

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WATCH_AFTER_SECONDS: Final = 0.005
"""An exchange that is over by then never needs a watcher, which is a task of its own."""

_CLOSE: Final = (b"connection", b"close")


def read_scope(scope: Scope) -> Inbound:
    """The head of the request. The path is the raw one: what was percent-encoded is another path."""
    peer = scope.get("client")
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    return Inbound(
        method=scope["method"],
        path=raw_path.decode("latin-1"),
        query=scope["query_string"],
        headers=list_headers(scope["headers"]),
        peer=peer[0] if peer else "",
        scheme=scope["scheme"],
    )


def list_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return headers if isinstance(headers, list) else list(headers)


def current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a request is served in a task")
    return task


class AsgiClient:
    """`gateway.ports.Client` over ASGI. Make it inside the task that serves the request: that task is what gets cut."""

    __slots__ = (
        *("_has_ended", "_receive", "_send", "_task", "_timed_out", "_timer", "_watcher"),
        *("left", "started"),
    )

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._timed_out = False
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._has_ended = False
        self.started = False
        self.left = False

    async def read_body(self, limit_bytes: int, within_seconds: float) -> bytes:
        """The whole body. Raises `Rejected` (TOO_LARGE, BODY_TIMEOUT) or `ClientLeft`."""
        # By hand what asyncio.timeout does at three times the cost: bodies are nearly always there already.
        task = current_task()
        timer = asyncio.get_running_loop().call_later(within_seconds, self._time_out, task)
        try:
            return await self._read_body(limit_bytes)
        except asyncio.CancelledError:
            if not self._timed_out or task.uncancel():
                raise
            message = f"the request's body did not arrive within {within_seconds:g} seconds"
            raise Rejected(Outcome.BODY_TIMEOUT, message, headers=(_CLOSE,)) from None
        finally:
            timer.cancel()

    def _time_out(self, task: "asyncio.Task[Any]") -> None:
        self._timed_out = True
        task.cancel()

    async def _read_body(self, limit_bytes: int) -> bytes:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) <= limit_bytes:
                return body
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit_bytes:
                text = f"the request's body is larger than the {limit_bytes} bytes taken here"
                raise Rejected(Outcome.TOO_LARGE, text)  # uvicorn reads and drops the rest, so that the client hears it
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self._receive()
        self.left = True
        raise ClientLeft

    def cut_on_leave(self) -> None:
        """From now on this task is cancelled as soon as the client leaves."""
        if self._timer is None:
            self._task = current_task()
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._watch)

    def _watch(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait_until_left())

    async def _wait_until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._has_ended and self._task is not None:
            self.left = True
            self._task.cancel()

    def close(self) -> None:
        """The exchange is over: nobody is watched, nobody cut."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole reply in one go; sets content-length."""
        self.started = self._has_ended = True
        if status != 204:  # which has no content, and so no length either (RFC 9110 §8.6)
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        """The head of a streamed reply, on its way at once: a client waits for it before it believes in the stream."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, data: bytes) -> None:
        """A part of a streamed reply; waits while the client is slow."""
        if self.left:
            raise ClientLeft
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """The end of a streamed reply."""
        self._has_ended = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
