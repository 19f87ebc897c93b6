"""The ASGI application: mounts go to the flow, the gateway's own paths to `operations`, the lifespan to the app."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from gateway.downstream.clients import AsgiClient, Receive, Scope, Send, current_task, read_scope
from gateway.exchange.exchanges import Gateway
from gateway.flow import serve
from gateway.policy.sites import RESERVED_PATHS

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[], AbstractAsyncContextManager[Gateway]]

_NO_WEBSOCKET: Final = {"type": "websocket.close", "code": 1000}


class Application:
    """`lifespan` gives the worker's `Gateway` from start-up to shutdown; `operations` answers the reserved paths.

    `admin` is what answers on the operators' port, None where there is no such port.
    """

    def __init__(self, lifespan: Lifespan, operations: AsgiApp, admin: AsgiApp | None = None) -> None:
        self._lifespan = lifespan
        self._operations = operations
        self.admin = admin
        self.gateway: Gateway | None = None  # from start-up to shutdown
        self.is_leaving = False  # from then on no connection is used again

    def drain(self) -> None:
        """The worker is about to end: it is unready, and serves all that still comes."""
        self.is_leaving = True

    def release(self) -> None:
        """Nothing comes any more: what would last for ever ends now, the rest in its own time."""
        if self.gateway is not None:
            if not self.gateway.standing.is_draining:
                self.gateway.standing.drain()
            self.gateway.pumps.release()

    @property
    def is_busy(self) -> bool:
        """Whether a stream is pumped that no other worker could go on with."""
        return self.gateway is not None and self.gateway.pumps.is_busy

    def give_up(self) -> None:
        """The grace is over: what is cancelled from now on tells its client that it failed."""
        if self.gateway is not None:
            self.gateway.standing.give_up()
            self.gateway.pumps.give_up()

    @property
    def lost(self) -> int:
        """How many calls were given up."""
        return 0 if self.gateway is None else self.gateway.standing.lost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._serve_http(scope, receive, send)
            case "lifespan":
                await self._serve_lifespan(receive, send)
            case "websocket":
                await receive()
                await send(_NO_WEBSOCKET)

    def gateway_for(self, path: str) -> Gateway | None:
        """The gateway, where it answers on this path; None where the operations do."""
        gateway = self.gateway
        return None if gateway is None or (path not in gateway.site.routes and is_reserved(path)) else gateway

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self.gateway_for(scope["path"])
        if gateway is None:
            await self._operations(scope, receive, send)
            return
        client = AsgiClient(receive, send)
        try:
            await serve(gateway, read_scope(scope), client)
        except asyncio.CancelledError:
            if not client.left:
                raise
            current_task().uncancel()  # it was the client's leaving, and that has been dealt with
        finally:
            client.close()

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            async with self._lifespan() as self.gateway:
                stage = "shutdown"
                await send({"type": "lifespan.startup.complete"})
                await receive()
                self.gateway = None
        except Exception as error:
            await send({"type": f"lifespan.{stage}.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.shutdown.complete"})


def is_reserved(path: str) -> bool:
    """Whether a path is one of the gateway's own."""
    return any(path == reserved or path.startswith(f"{reserved}/") for reserved in RESERVED_PATHS)
