"""One simulated replica: a real gateway on a host that may be stopped, or die."""

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.exchange.owners import Owners
from gateway.exchange.pumps import Pumps
from gateway.exchange.standing import Standing
from gateway.flow import serve
from gateway.policy.streams import Owner
from gateway.ports import Inbound
from tests.fakes import World
from tests.simulated.backends import Line
from tests.simulated.clients import Wire
from tests.simulated.hosts import Host
from tests.simulated.rooms import HEARTBEAT_SECONDS, Door

if TYPE_CHECKING:
    from tests.simulated.fleets import Fleet


class Replica:
    """One gateway, all its ports on one host."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self.host = Host()
        self.door = Door(fleet.room, self.host)
        self.wires: set[Wire] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.world = World()
        self.gateway = gateway = self.world.gateway
        gateway.upstream = Line(fleet.server, self.host)  # type: ignore[assignment]  # its answers are no classes of one kind
        gateway.clock = gateway.wall_clock = fleet.loop.time
        gateway.new_trace = fleet.new_trace
        gateway.log = gateway.marks = self.door
        gateway.owners = Owners(self.door, Owner(name), HEARTBEAT_SECONDS, fleet.loop.time)
        self.pumps: Pumps = gateway.pumps
        self.standing: Standing = gateway.standing
        self._loop = fleet.loop
        self._spawn(gateway.owners.run())

    def serve(self, inbound: Inbound, wire: Wire) -> "asyncio.Task[Any]":
        self.wires.add(wire)
        task = self._spawn(serve(self.gateway, inbound, wire))
        task.add_done_callback(lambda _: self.wires.discard(wire))
        task.add_done_callback(lambda _: wire.ended.set())
        return task

    def die(self) -> None:
        """`kill -9`: nothing is written any more, and every connection breaks."""
        self.host.die()
        for wire in list(self.wires):
            wire.left = True
            wire.ended.set()
        for task in [*self.tasks, *self.pumps._tasks]:
            task.cancel()

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
