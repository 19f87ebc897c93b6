"""Clients that do as the specification says, in the simulated fleet, and an account of what each of them was sent.

Shares no line with the gateway: it reads SSE by itself. A rule that must never be broken is asserted where the bytes arrive.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.ports import ClientLeft, Headers
from tests.simulated.hosts import Host

RETRY_SECONDS: Final = 0.5
ACCEPTED: Final = 202


class Event(msgspec.Struct):
    id: str = ""
    data: bytes = b""


class Wire:
    """`Client`: one connection, from a client to a replica. `on_event` is called with each event that arrives."""

    def __init__(self, host: Host, body: bytes, on_event: Callable[[Event], None]) -> None:
        self._host = host
        self._body = body
        self._on_event = on_event
        self._cut: asyncio.Task[object] | None = None
        self._waiting = b""
        self._reads = asyncio.Event()
        self._reads.set()
        self.ended = asyncio.Event()
        self.started = False
        self.left = False
        self.status = 0
        self.whole = b""

    def leave(self, *, quietly: bool = False) -> None:
        """The client is gone; `quietly`: and the replica doesn't learn it."""
        self.ended.set()
        self._on_event = lambda _: None
        if not quietly:
            self.left = True
            self._reads.set()
            if self._cut is not None:
                self._cut.cancel()

    def stop_reading(self) -> None:
        self._reads.clear()

    def go_on_reading(self) -> None:
        self._reads.set()

    async def read_body(self, limit_bytes: int, within_seconds: float) -> bytes:
        return self._body

    def cut_on_leave(self) -> None:
        self._cut = asyncio.current_task()
        if self.left and self._cut is not None:
            self._cut.cancel()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        await self._host.wait()
        assert not self.started, "a second reply"
        self.started = True
        self.status = status
        if dict(headers).get(b"content-type") == b"text/event-stream":
            self._feed(body)
        else:
            self.whole = body
        self.ended.set()

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        await self._host.wait()
        assert not self.started, "a second reply"
        self.started = True
        self.status = status

    async def write(self, data: bytes) -> None:
        assert self.started
        await self._reads.wait()
        await self._host.wait()
        if self.left:
            raise ClientLeft
        self._feed(data)

    async def end(self) -> None:
        await self._host.wait()
        self.ended.set()

    def _feed(self, data: bytes) -> None:
        *blocks, self._waiting = (self._waiting + data).split(b"\n\n")
        for block in blocks:
            event = Event()
            for line in block.split(b"\n"):
                name, _, value = line.partition(b":")
                if name == b"id":
                    event.id = value.strip().decode()
                elif name == b"data":
                    event.data += value.removeprefix(b" ")
            self._on_event(event)


class Report(msgspec.Struct):
    """What a client has had of its call: so many steps, each the next one, and how it ended."""

    steps: int = 0
    result: bool = False
    error: str = ""  # a JSON-RPC error on its id
    refusal: int = 0  # an HTTP status that no retry helps against; -1: cut before it could be resumed

    @property
    def is_over(self) -> bool:
        return bool(self.result or self.error or self.refusal)

    @property
    def is_loss(self) -> bool:
        """Whether it was told that something is missing."""
        return bool(self.error or self.refusal)

    def take(self, rpc_id: str, data: bytes) -> None:
        assert not self.is_over, "something came behind the end"
        message = json.loads(data)
        if message.get("method") == "notifications/progress":
            assert message["params"]["progressToken"] == rpc_id, "another call's event"
            step = message["params"]["progress"]
            assert step == self.steps + 1, f"step {step} came after step {self.steps}"
            self.steps = step
            return
        if message.get("method") == "notifications/message":
            return  # such a one has no id at the server, and is not told again
        assert message["id"] == rpc_id, "another call's response"
        if "result" in message:
            assert message["result"] == {"steps": self.steps}, "the result came though steps are missing"
            self.result = True
        else:
            self.error = message["error"]["message"]
            assert self.error
