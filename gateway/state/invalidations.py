"""The `Invalidations` port: on Redis's pub/sub, by the connection that wakes followers; and for one process.

A connection that was away may have missed something: when Redis confirms its subscription, whoever waits on the channel is
rung (`wakes`), and takes that for news.
"""

from collections.abc import Callable

from gateway.state.keys import wake_channel
from gateway.state.stores import Store
from gateway.state.wakes import Bells, Wakes


class RedisInvalidations:
    """`gateway.ports.Invalidations`. Nothing is written to Redis: what nobody hears is nobody's to drop."""

    def __init__(self, store: Store, wakes: Wakes) -> None:
        self._store = store
        self._wakes = wakes

    async def tell(self, name: str) -> None:
        channel = wake_channel(name)
        await self._store.command(("PUBLISH", channel, name), channel)

    def hear(self, name: str, take: Callable[[], None]) -> Callable[[], None]:
        return self._wakes.hang(name, take)


class MemoryInvalidations:
    """`gateway.ports.Invalidations`."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells

    async def tell(self, name: str) -> None:
        self._bells.ring(wake_channel(name), name)

    def hear(self, name: str, take: Callable[[], None]) -> Callable[[], None]:
        return self._bells.hang(name, take)
