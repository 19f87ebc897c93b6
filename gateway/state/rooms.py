"""The whole of `state/` on Redis in one: the ports, and the tasks that keep them true.

async with RedisRoom(parse_target(url), keyring) as room:
    room.log, room.marks, room.heartbeats, room.invalidations   # the ports
    await room.inspect()                    # how each server is, for the log and `/health`
"""

import asyncio
from types import TracebackType
from typing import Final, Self

from gateway.policy.absences import HEARTBEAT_SECONDS
from gateway.policy.streams import Ailment, Bounds
from gateway.state.invalidations import RedisInvalidations
from gateway.state.logs import RedisLog, Sealer
from gateway.state.marks import RedisHeartbeats, RedisMarks
from gateway.state.routers import Router, make_router
from gateway.state.stores import ANSWER_SECONDS, NodeReport, Store
from gateway.state.targets import Target
from gateway.state.wakes import Wakes
from gateway.state.witnesses import Nobody, Witness

MEASURE_SECONDS: Final = 5.0
"""How often each server is asked how full it is: a fleet that writes 100 MB/s overshoots its budget by 500 MB at most."""


class RedisRoom:
    """Belongs to one event loop and, as a task group does, to the task that entered it."""

    log: RedisLog
    marks: RedisMarks
    heartbeats: RedisHeartbeats
    invalidations: RedisInvalidations
    store: Store

    def __init__(
        self,
        target: Target,
        sealer: Sealer,
        *,
        bounds: Bounds | None = None,
        witness: Witness | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._target = target
        self._sealer = sealer
        self._bounds = bounds or Bounds()
        self._witness = witness or Nobody()
        self._heartbeat_seconds = heartbeat_seconds
        self._answer_seconds = answer_seconds
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._router: Router

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        spawn = self._group.create_task
        self._router = make_router(self._target, spawn, self._witness)
        wakes = Wakes(self._router.dial)
        self.store = Store(self._router, self._witness, self._bounds.budget_bytes, self._answer_seconds)
        self.log = RedisLog(self.store, self._sealer, wakes, self._bounds)
        self.marks = RedisMarks(self.store, self._bounds)
        self.heartbeats = RedisHeartbeats(self.store, self._heartbeat_seconds)
        self.invalidations = RedisInvalidations(self.store, wakes)
        self._tasks = [spawn(wakes.run()), spawn(self._measure_forever())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        self._router.close()
        await self._group.__aexit__(None, None, None)  # an error of the caller's is not ours to wrap in a group

    def ailments(self) -> list[Ailment]:
        """What ails the servers now, as this worker has noticed; asks nobody."""
        return self.store.ailments()

    async def inspect(self) -> list[NodeReport]:
        """How each server is now. None where a cluster hasn't told its map yet."""
        return await self.store.inspect()

    async def _measure_forever(self) -> None:
        while True:
            await self.store.measure()
            await asyncio.sleep(MEASURE_SECONDS)
