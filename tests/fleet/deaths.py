"""Replicas that die: killed one after the other, as chance has it, and started again."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.fleet.fleet import Fleet

SEED = 3
BETWEEN_DEATHS_SECONDS = 2.0


class Deaths:
    """Kills a replica every so often, whichever chance says of those that are up, and starts it again.

    The last that is up is spared. Where a start takes longer than the time between deaths, no replica would else live long
    enough to take a stream over: that would be no fleet.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._chance = random.Random(SEED)
        self._up = set(range(len(fleet.replicas)))
        self.count = 0

    async def run(self) -> None:
        """Until cancelled; then it waits until all are up again."""
        async with asyncio.TaskGroup() as rebirths:
            with suppress(asyncio.CancelledError):
                while True:
                    await asyncio.sleep(BETWEEN_DEATHS_SECONDS)
                    if len(self._up) > 1:
                        number = self._chance.choice(sorted(self._up))
                        self._fleet.kill(number)
                        self.count += 1
                        self._up.discard(number)
                        rebirths.create_task(self._bring_back(number))

    async def _bring_back(self, number: int) -> None:
        await asyncio.to_thread(self._fleet.restart, number)
        self._up.add(number)


@asynccontextmanager
async def dying(fleet: Fleet) -> AsyncIterator[Deaths]:
    """Replicas die until the block is left; then all are up again."""
    deaths = Deaths(fleet)
    running = asyncio.create_task(deaths.run())
    try:
        yield deaths
    finally:
        running.cancel()
        await asyncio.gather(running)
