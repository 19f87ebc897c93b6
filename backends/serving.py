"""Runs one sample server over HTTP: the command line, the listening socket, and a quick, quiet end.

Knows nothing of any tool. The SDK's own `server.run("streamable-http", port=…)` does nearly the same; this adds
a sentence for a taken port, `--allowed-host`, and an end that open streams don't hold up.
"""

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer, RequestStateSecurity
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATE_KEYS_VARIABLE = "BACKEND_STATE_KEYS"


def state_security() -> RequestStateSecurity | None:
    """The keys that seal what a modern client holds between a question and its answer; None: keys of this process.

    Several copies of one backend must share them, for the answer may reach another copy: set `BACKEND_STATE_KEYS` to
    the same comma-separated secrets (32 characters or more each) everywhere. The first seals, all open.
    """
    keys = [key for key in os.environ.get(STATE_KEYS_VARIABLE, "").split(",") if key]
    return RequestStateSecurity(keys=keys) if keys else None


def run(server: MCPServer, argv: Sequence[str] | None = None) -> None:
    """Serves `server` until SIGTERM or Ctrl-C, as the command line says."""
    options = parse_options(server, argv)
    listener = open_listener(options.host, options.port)
    host, port = listener.getsockname()[:2]
    print(f"{server.name} listens at http://{f'[{host}]' if ':' in host else host}:{port}/mcp", flush=True)
    try:
        asyncio.run(serve(build_app(server, options.host, options.allowed_host), listener))
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a program ended by Ctrl-C, without the traceback


def parse_options(server: MCPServer, argv: Sequence[str] | None) -> argparse.Namespace:
    """`host`, `port` and `allowed_host`; exits with a usage message where they are wrong."""
    parser = argparse.ArgumentParser(
        prog=f"python -m backends.{server.name}",
        description=f"{server.title}: {server.description}",
        epilog=f"example: python -m backends.{server.name} --port 9001    (then connect a client to http://127.0.0.1:9001/mcp)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container (%(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=9000, help="port to listen on; 0 asks the system for one (%(default)s)"
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="accept requests for this host name only, on any port; may be given several times "
        "(default: loopback names on a loopback address, any name elsewhere)",
    )
    return parser.parse_args(argv)


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket; exits with a sentence where the address is not to be had."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        sys.exit(f"cannot listen on {host} port {port}: {reason}. Stop what uses it, or choose another --port.")
    # Connections inherit it. asyncio sets it only on sockets made with IPPROTO_TCP spelt out, and without it every
    # answer that is written in two parts waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def build_app(server: MCPServer, host: str, allowed_hosts: Sequence[str] = ()) -> Starlette:
    """The server as an ASGI application with its MCP endpoint at `/mcp`.

    A browser can be tricked into calling a server on its own machine under a foreign name (DNS rebinding), so the SDK
    checks Host and Origin on loopback. Elsewhere names are free: in a container the server can't know what it is called.
    """
    security = None  # the SDK's default: loopback names where `host` is loopback, no check elsewhere
    if allowed_hosts:
        names = [name for allowed in allowed_hosts for name in (allowed, f"{allowed}:*")]
        security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    return server.streamable_http_app(host=host, transport_security=security)


async def serve(app: Starlette, listener: socket.socket) -> None:
    """Serves until a signal comes; then ends open streams at once instead of waiting for their clients."""
    await _Server(Endings(app)).serve(sockets=[listener])


class Endings:
    """ASGI middleware that knows the open exchanges and can end them, each with a well-formed last byte."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[anyio.CancelScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = finished = False

        async def note(message: Message) -> None:
            nonlocal started, finished
            started = True
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        with anyio.CancelScope() as exchange:
            self._open.add(exchange)
            try:
                await self._app(scope, receive, note)
            finally:
                self._open.discard(exchange)
        if not finished:  # cancelled here, or by the SSE library, which watches for signals itself
            await _end_reply(send, started)

    def end_all(self) -> None:
        """Cancels what is open: a stream simply ends, a call that hasn't answered gets 503."""
        for exchange in self._open:
            exchange.cancel()


async def _end_reply(send: Send, started: bool) -> None:
    if not started:
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    """uvicorn, but for its patience: left alone it waits until the last client has closed its stream."""

    def __init__(self, endings: Endings) -> None:
        super().__init__(
            uvicorn.Config(
                endings,
                http="h11",  # httptools leaves blanks at the end of a header's value (RFC 9110 §5.5 has them removed)
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._endings = endings

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.disable(logging.WARNING)  # what the SDK says of streams that were cut on purpose is no news
        self._endings.end_all()
        await super().shutdown(sockets)
