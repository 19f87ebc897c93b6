"""`Invalidations`: what one worker tells, all hear that have said so."""

import asyncio

from gateway.policy.streams import Bounds
from tests.contract.conftest import OpenWorld
from tests.requirements import proves

BOUND_SECONDS = 5.0
BOUNDS = Bounds()


class Ear:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard = 0
        self._changed = asyncio.Event()

    def take(self) -> None:
        self.heard += 1
        self._changed.set()

    async def listen(self, since: int) -> None:
        """Until it has heard something more than that."""
        async with asyncio.timeout(BOUND_SECONDS):
            while self.heard <= since:
                self._changed.clear()
                await self._changed.wait()


@proves("CACHE-6")
async def test_what_one_worker_tells_all_hear_itself_too(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        ears = [Ear(), Ear()]
        for ear, room in zip(ears, (world.room, world.other), strict=True):
            room.invalidations.hear("changed tools echo", ear.take)
        # Once they have heard anything they hear all: until then a telling may come before they listen.
        async with asyncio.timeout(BOUND_SECONDS):
            while not all(ear.heard for ear in ears):
                await world.room.invalidations.tell("changed tools echo")
                await asyncio.sleep(0)
        for teller in (world.room, world.other):
            before = [ear.heard for ear in ears]
            await teller.invalidations.tell("changed tools echo")
            for ear, count in zip(ears, before, strict=True):
                await ear.listen(count)


@proves("CACHE-6")
async def test_who_has_had_enough_hears_no_more(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        gone, stays = Ear(), Ear()
        leave = world.other.invalidations.hear("changed tools echo", gone.take)
        world.other.invalidations.hear("changed tools echo", stays.take)
        async with asyncio.timeout(BOUND_SECONDS):
            while not stays.heard:
                await world.room.invalidations.tell("changed tools echo")
                await asyncio.sleep(0)
        leave()
        before, count = gone.heard, stays.heard
        await world.room.invalidations.tell("changed tools echo")
        await stays.listen(count)
        assert gone.heard == before
