"""The servers in one process: the main one, and the operators' where there is a port for them. uvicorn does the work.

For one worker this is all there is; for more, `workers` runs the same in each process.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

GRACE_SECONDS: Final = 30
"""For exchanges under way when the end was asked for; what then still runs is cancelled."""

KEEP_ALIVE_SECONDS: Final = 75
"""Idle connections are kept longer than load balancers keep theirs (60 s is their usual): the side that sends the next
request must be the side that closes, or that request meets a closed connection."""

logger: Final = logging.getLogger("gateway.servers")


class Application(Protocol):
    """The ASGI application, with what a server must know of it besides."""

    @property
    def admin(self) -> AsgiApp | None:
        """What answers on the operators' port; None where there is no such port."""

    def drain(self) -> None:
        """The end is near: be unready, take leave of those who hold streams. Called once, on the event loop."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Plan(msgspec.Struct, frozen=True):
    """What to run, and where. `create` is called once in each worker, before its event loop."""

    create: Callable[[], Application]
    protocol: type[asyncio.Protocol]
    listeners: Sequence[socket.socket]
    admin_listeners: Sequence[socket.socket] = ()


def tune(protocol: type[asyncio.Protocol]) -> dict[str, Any]:
    """uvicorn's settings, the same for however many workers."""
    return {
        "http": protocol,
        "ws": "none",
        "lifespan": "on",
        "interface": "asgi3",
        "log_config": None,
        "log_level": "info",
        "access_log": False,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,  # whom to believe is the flow's business
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "workers": 1,  # else uvicorn asks WEB_CONCURRENCY
    }


class Server(uvicorn.Server):
    """uvicorn's server, which tells the application of the end and leaves the process to end by itself."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Callable[[], None],
        on_signals: Mapping[int, Any],
        parent: int | None = None,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._on_signals = on_signals
        self._parent = parent  # the process without which this one has no business
        self._loop: asyncio.AbstractEventLoop | None = None

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
            self.handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(self._drain)  # a signal may come at any byte code
        super().handle_exit(sig, frame)


class _AdminServer(uvicorn.Server):
    """The operators' server: it ends after the main one, and heeds no signal itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(server: Server, app: Application, listeners: list[Any], admin_listeners: list[Any]) -> None:
    """Serves until a signal; the operators' port is there a little longer than the main one."""
    async with asyncio.TaskGroup() as tasks:
        admin = None
        if app.admin is not None and admin_listeners:
            settings = tune(HttpToolsProtocol) | {"lifespan": "off", "timeout_graceful_shutdown": 1}
            admin = _AdminServer(uvicorn.Config(app.admin, **settings))
            tasks.create_task(admin.serve(admin_listeners))
        try:
            await server.serve(listeners)
        finally:
            if admin is not None:
                admin.should_exit = True


def run_one(plan: Plan) -> int:
    """Serves in this process until SIGTERM or SIGINT; the exit code."""
    app = plan.create()
    config = uvicorn.Config(app, **tune(plan.protocol))
    on_signals = {signal.SIGTERM: None, signal.SIGINT: None} | heed_hangup()
    server = Server(config, app.drain, on_signals)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve(server, app, list(plan.listeners), list(plan.admin_listeners)))
    return 0


def heed_hangup() -> dict[int, Any]:
    """SIGHUP means "read your configuration again" to operators, and would end the process. On a terminal it means
    that the terminal is gone, and ending is right."""
    if sys.stdin is not None and sys.stdin.isatty():
        return {}
    return {signal.SIGHUP: lambda _number, _frame: explain_hangup()}


def explain_hangup() -> None:
    logger.info("SIGHUP changes nothing: the configuration is watched, and taken up when it changes")
