"""The end of a server, in this process: real sockets on loopback. What whole replicas do is in `tests/fleet/test_drain.py`."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property

import uvicorn

from gateway.downstream.applications import Application
from gateway.downstream.drains import Server
from gateway.downstream.listeners import Place, listen
from gateway.downstream.protocols import GatewayProtocol
from gateway.downstream.servers import tune
from gateway.policy.drains import Drain
from tests.downstream.test_applications import Life, operations
from tests.downstream.test_protocols import connecting, post
from tests.fakes import BOUND_SECONDS, World
from tests.flow.scenes import CALL, RESULT, json_answer
from tests.requirements import proves

LATE = 5


class LastMinute(Server):
    """A server whose clients connect when it has decided to listen no more, and has not yet done anything about it."""

    address: tuple[str, int]
    expected = 0

    async def on_tick(self, counter: int) -> bool:
        is_ending = await super().on_tick(counter)
        if is_ending and not self.late:
            self.late += [socket.create_connection(self.address) for _ in range(self.expected)]
            for client in self.late:
                client.sendall(post(CALL))
        return is_ending

    @cached_property
    def late(self) -> list[socket.socket]:
        return []


@asynccontextmanager
async def served(world: World, drain: Drain) -> AsyncIterator[LastMinute]:
    """The server while it serves; on leaving the block it must come to its end."""
    app = Application(Life(world), operations)
    config = uvicorn.Config(app, **tune(GatewayProtocol))
    listeners = listen(Place("127.0.0.1", 0))
    server = LastMinute(config, app, drain, {})
    server.address = listeners[0].getsockname()
    task = asyncio.create_task(server.serve(listeners))
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while not server.started:  # noqa: ASYNC110  # it sets no event
                await asyncio.sleep(0)
            yield server
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for client in server.late:
            client.close()


@proves("DRAIN-5")
async def test_who_is_in_the_queue_when_the_listener_closes_is_served() -> None:
    world = World().will_answer(*(json_answer() for _ in range(LATE)))
    async with served(world, Drain(0.0, 60.0)) as server:
        server.expected = LATE
        server.begin_end(0.0)
        while not server.late:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for client in server.late:
            client.settimeout(BOUND_SECONDS)
            reply = await asyncio.to_thread(client.recv, 65536)
            assert (reply[:12], reply.endswith(RESULT)) == (b"HTTP/1.1 200", True)


@proves("DRAIN-5")
async def test_a_request_that_has_begun_to_arrive_is_served_and_its_connection_closed() -> None:
    world = World().will_answer(json_answer())
    request = post(CALL)
    async with served(world, Drain(0.0, 60.0)) as server, connecting(server.address) as client:
        await client.send(request[:20])
        while not any(getattr(c, "_is_in_message", False) for c in server.server_state.connections):  # noqa: ASYNC110
            await asyncio.sleep(0)
        server.begin_end(0.0)
        while not world.standing.is_draining:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await client.send(request[20:])
        status, headers, body = await client.read_reply()
        assert (status, headers["connection"], body) == (200, "close", RESULT)
        assert await client.read_to_end() == b""


@proves("DRAIN-5")
async def test_a_connection_without_a_request_does_not_hold_the_end_up() -> None:
    async with served(World(), Drain(0.0, 3600.0)) as server, connecting(server.address) as client:
        server.begin_end(0.0)
        assert await client.read_to_end() == b""
