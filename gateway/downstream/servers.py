"""The servers in one process: the main one, and the operators' where there is a port for them. uvicorn does the work.

For one worker this is all there is; for more, `workers` runs the same in each process.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.downstream.drains import Drainable, Server
from gateway.policy.drains import Drain

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

KEEP_ALIVE_SECONDS: Final = 75
"""Idle connections are kept longer than load balancers keep theirs (60 s is their usual): the side that sends the next
request must be the side that closes, or that request meets a closed connection."""

logger: Final = logging.getLogger("gateway.servers")


class Application(Drainable, Protocol):
    """The ASGI application, with what a server must know of it besides."""

    @property
    def admin(self) -> AsgiApp | None:
        """What answers on the operators' port; None where there is no such port."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Plan(msgspec.Struct, frozen=True):
    """What to run, and where. `create` is called once in each worker, before its event loop."""

    create: Callable[[], Application]
    protocol: type[asyncio.Protocol]
    listeners: Sequence[socket.socket]
    admin_listeners: Sequence[socket.socket] = ()
    drain: Drain = Drain()


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
        "workers": 1,  # else uvicorn asks WEB_CONCURRENCY
    }


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
    """Serves in this process until SIGTERM or SIGINT; the exit code, 128 + the signal where a second one came."""
    app = plan.create()
    config = uvicorn.Config(app, **tune(plan.protocol))
    on_signals = {signal.SIGTERM: None, signal.SIGINT: None} | heed_hangup()
    server = Server(config, app, plan.drain, on_signals)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve(server, app, list(plan.listeners), list(plan.admin_listeners)))
    return 0 if server.hurried_by is None else 128 + server.hurried_by


def heed_hangup() -> dict[int, Any]:
    """SIGHUP means "read your configuration again" to operators, and would end the process. On a terminal it means
    that the terminal is gone, and ending is right."""
    if sys.stdin is not None and sys.stdin.isatty():
        return {}
    # Said by the loop: a signal may come in the middle of another line of the log.
    return {signal.SIGHUP: lambda *_: asyncio.get_running_loop().call_soon_threadsafe(explain_hangup)}


def explain_hangup() -> None:
    logger.info("SIGHUP changes nothing: the configuration is watched, and taken up when it changes")
