"""The whole of `upstream/` in one: the client, the endpoints and the eras, and the tasks that keep them true.

async with UpstreamRoom(backends, witness) as room:
    room.client, room.endpoints, room.eras  # the three ports
    room.reconcile(changed)                 # whenever the configuration was swapped
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from gateway.policy.backends import Backend
from gateway.upstream.checks import check_forever
from gateway.upstream.clients import PooledClient
from gateway.upstream.eras import ProbedEras
from gateway.upstream.names import Names, Resolve, resolve_by_system
from gateway.upstream.rosters import Rosters
from gateway.upstream.witnesses import Witness

MEND_SECONDS: Final = 30.0
"""How long a background task that met a bug of ours waits before it starts again."""

Work = Callable[[], Awaitable[None]]


class UpstreamRoom:
    """Belongs to one event loop and, as a task group does, to the task that entered it."""

    client: PooledClient
    endpoints: Rosters
    eras: ProbedEras

    def __init__(
        self,
        backends: Mapping[str, Backend],
        witness: Witness | None = None,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        self._backends = dict(backends)
        self._witness = witness
        self._resolve = resolve
        self._running: dict[str, list[asyncio.Task[None]]] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self.client = PooledClient()
        self.endpoints = Rosters(self._witness)
        self.eras = ProbedEras(self.client, self.endpoints, self._witness)
        await self._group.__aenter__()
        started, self._backends = self._backends, {}
        self.reconcile(started)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._running):
            self._stop(name)
        self.client.close()
        await self._group.__aexit__(None, None, None)  # an error of the caller's is not ours to wrap in a group

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """From now on these backends. What is unchanged goes on untouched; what is gone ends with its last call."""
        before, self._backends = self._backends, dict(backends)
        changed = {name for name, backend in before.items() if backends.get(name) != backend}
        for name in changed:
            self._stop(name)
            if name not in backends or _asks_another(before[name], backends[name]):
                self.eras.forget(name)
        self.client.reconcile(backends)
        self.endpoints.reconcile(backends)
        for name, backend in backends.items():
            if name not in self._running:
                self._running[name] = [self._group.create_task(_go_on(work)) for work in self._works(backend)]

    def _works(self, backend: Backend) -> list[Work]:
        works: list[Work] = []
        if backend.resolve == "dns":
            works.append(lambda: self._resolve_forever(backend))
        if (check := backend.health_check) is not None:
            works.append(lambda: check_forever(backend, check, self.client, self.endpoints))
        if backend.era == "auto":
            works.append(lambda: self.eras.watch(backend))
        return works

    async def _resolve_forever(self, backend: Backend) -> None:
        names = Names(self._resolve)
        while True:
            self.endpoints.fill(backend, await names.find_endpoints(backend))
            await asyncio.sleep(backend.resolve_seconds)

    def _stop(self, name: str) -> None:
        for task in self._running.pop(name, []):
            task.cancel()


def _asks_another(before: Backend, after: Backend) -> bool:
    """Whether what was found out about the one may be untrue of the other."""
    return (before.endpoints, before.era, before.resolve) != (after.endpoints, after.era, after.resolve)


async def _go_on(work: Work) -> None:
    """One backend's bug must not end every other backend's tasks, as it would in a task group: it is told, and waits."""
    while True:
        try:
            await work()
        except Exception as error:
            said = {"message": "a background task of the upstream room failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(said)
        await asyncio.sleep(MEND_SECONDS)
