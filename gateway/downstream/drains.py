"""How a server ends so that nobody notices: unready first, its listeners later, what is under way last. Knows uvicorn.

1. At the first signal the replica is unready, and every reply closes its connection. Requests are served as before, also
   new ones, since load balancers learn of it only by and by.
2. After the delay its listeners close, and streams are sent to other replicas: not earlier, or they would come back here.
3. Calls that nobody could resume have the grace. What is left then is told that it failed.

A further signal leaves out whatever waiting is left.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import uvicorn

from gateway.policy.drains import Drain

FAREWELL_SECONDS: Final = 1.0
"""For what is given up to tell its clients so. Beyond it a client doesn't read, and its connection is cut."""

SHUTDOWN_SECONDS: Final = 5.0
"""For the application to release what it holds in Redis. Beyond it others take that over as from a dead worker."""

_TICK_SECONDS: Final = 0.1

logger: Final = logging.getLogger("gateway.servers")


class Drainable(Protocol):
    """What a server that ends asks of the application, in this order, on the event loop."""

    def drain(self) -> None:
        """The end is near: be unready, and let no connection be used again."""

    def release(self) -> None:
        """No request comes any more: end what would last for ever, give up what others can go on with. Again and again."""

    @property
    def is_busy(self) -> bool:
        """Whether there is work that nobody else could go on with, besides requests under way."""

    def give_up(self) -> None:
        """What is still under way will be cancelled, and is to say so."""

    @property
    def lost(self) -> int:
        """How many calls were given up."""


class Server(uvicorn.Server):
    """uvicorn's server, which ends in those steps and leaves the process to end by itself."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Drainable,
        drain: Drain,
        on_signals: Mapping[int, Any] | None = None,
        parent: int | None = None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._drain = drain
        self._on_signals = {signal.SIGTERM: None, signal.SIGINT: None} if on_signals is None else on_signals
        self._parent = parent  # the process without which this one has no business
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_draining = False
        self.hurried_by: int | None = None
        """The signal that came when the end was under way already."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising them again afterwards: an end that was asked for is exit code 0."""
        before = {number: signal.signal(number, do or self.handle_exit) for number, do in self._on_signals.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. A worker whose parent was killed would hold the port, and nobody could end it."""
        if self._parent is not None and os.getppid() != self._parent and not self.should_exit:
            logger.error("the parent process is gone: ending")
            self._is_draining = True
            self._begin_drain(0.0)  # whoever starts it again needs the port
        return await super().on_tick(counter)

    # ---- signals, which may come at any byte code

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM and SIGINT of a server that is the whole replica."""
        if self.hurried_by is not None:
            os._exit(128 + sig)  # asked for three times: not even the loop seems to turn
        if self._is_draining:
            self.hurry(sig, frame)
        else:
            # A person at a terminal has no load balancer.
            self.begin_end(0.0 if sig == signal.SIGINT else self._drain.delay_seconds)

    def hurry(self, sig: int, _frame: Any) -> None:
        """Ends with what waiting is left out."""
        self.hurried_by = sig
        self._is_draining = True
        self.should_exit = True
        self._call_soon(self._app.drain)

    def begin_end(self, delay_seconds: float) -> None:
        """The end, after the delay. Harmless when repeated."""
        if not self._is_draining:
            self._is_draining = True
            self._call_soon(lambda: self._begin_drain(delay_seconds))

    def _call_soon(self, act: Any) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(act)

    # ---- the steps

    def _begin_drain(self, delay_seconds: float) -> None:
        self._app.drain()
        facts = {"delay_seconds": delay_seconds, "grace_seconds": self._drain.grace_seconds}
        logger.info("draining", extra=facts)
        for connection in self.server_state.connections:
            if (cycle := getattr(connection, "cycle", None)) is not None:
                cycle.keep_alive = False  # of the reply under way; new ones ask the application
        if delay_seconds and self.started:
            asyncio.get_running_loop().call_later(delay_seconds, self._stop_serving)
        else:
            self._stop_serving()

    def _stop_serving(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """All that comes after the delay."""
        await self._close_listeners(sockets or [])
        self._app.release()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._wait(self._drain.grace_seconds):
            self._app.give_up()
            for task in list(self.server_state.tasks):
                task.cancel("the grace is over")
            await self._wait(FAREWELL_SECONDS, is_patient=True)
        self._tell_end(self._app.lost)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS if self.hurried_by is None else FAREWELL_SECONDS):
                await self.lifespan.shutdown()

    async def _close_listeners(self, sockets: Sequence[socket.socket]) -> None:
        """Closes them; who is in the queue of one is served, since a load balancer takes it for connected."""
        loop, queued = asyncio.get_running_loop(), list[socket.socket]()
        for server, listener in zip(self.servers, sockets, strict=True):
            with contextlib.suppress(OSError):  # BlockingIOError: the queue is empty
                while True:
                    queued.append(listener.accept()[0])
            server.close()
            listener.close()
        for connection in queued:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _wait(self, within_seconds: float, *, is_patient: bool = False) -> bool:
        """Whether all that is under way has ended within that time; a further signal ends the wait, unless it is short."""
        until, ticks = asyncio.get_running_loop().time() + within_seconds, 0
        while self.server_state.connections or self.server_state.tasks or self._app.is_busy:
            left_seconds = until - asyncio.get_running_loop().time()
            if left_seconds <= 0 or (self.hurried_by is not None and not is_patient):
                return False
            await self.on_tick(ticks)  # replies still have a date
            await asyncio.sleep(min(_TICK_SECONDS, left_seconds))
            self._app.release()
            ticks += 1
        return True

    def _tell_end(self, lost: int) -> None:
        if lost:
            message = "drained: calls that nobody could resume did not end in time, and failed"
            logger.warning(message, extra={"lost_calls": lost})
        else:
            logger.info("drained", extra={"lost_calls": 0})
