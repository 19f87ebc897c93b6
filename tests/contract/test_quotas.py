"""`Quotas`: one bucket for all workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.policy.quotas import Rate
from gateway.policy.reservations import Reservation
from gateway.policy.streams import Bounds
from gateway.ports import BucketName, Quotas
from gateway.state.quotas import MemoryQuotas, RedisQuotas
from gateway.state.rooms import RedisRoom
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import ALICE, BOB, PATIENCE_SECONDS, World, new_session
from tests.requirements import proves

HOURLY: Final = Rate(60, 3600.0, 60)  # nothing flows in while a test runs


class Workers:
    """Two workers, and the time."""

    def __init__(self, one: Quotas, other: Quotas, world: World) -> None:
        self.one, self.other, self.pass_time = one, other, world.pass_time


@asynccontextmanager
async def two_workers(open_world: OpenWorld) -> AsyncIterator[Workers]:
    async with open_world(Bounds()) as world:
        if isinstance(world.room, RedisRoom) and isinstance(world.other, RedisRoom):
            yield Workers(RedisQuotas(world.room.store), RedisQuotas(world.other.store), world)
            return
        now = 1000.0

        def pass_time(seconds: float) -> None:
            nonlocal now
            now += seconds

        world.pass_time = pass_time
        shared = MemoryQuotas(lambda: now)
        yield Workers(shared, shared, world)


def new_bucket() -> BucketName:
    return BucketName(new_session())


@proves("LIMIT-1")
async def test_workers_lease_from_one_bucket(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        bucket = new_bucket()
        assert (await workers.one.lease(bucket, HOURLY, 1, 40)).granted == 40
        assert (await workers.other.lease(bucket, HOURLY, 1, 40)).granted == 20
        empty = await workers.one.lease(bucket, HOURLY, 1, 40)
        assert empty.granted == 0
        assert 50 < empty.wait_seconds <= 60


@proves("LIMIT-1")
async def test_buckets_are_apart(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        await workers.one.lease(new_bucket(), HOURLY, 60, 60)
        assert (await workers.one.lease(new_bucket(), HOURLY, 60, 60)).granted == 60


@proves("LIMIT-1")
async def test_less_than_is_needed_is_left_for_others(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        bucket = new_bucket()
        await workers.one.lease(bucket, HOURLY, 57, 57)
        assert (await workers.one.lease(bucket, HOURLY, 4, 4)).granted == 0
        assert (await workers.other.lease(bucket, HOURLY, 3, 3)).granted == 3


@proves("LIMIT-1")
async def test_a_bucket_that_is_full_again_is_forgotten(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        bucket = new_bucket()
        await workers.one.lease(bucket, HOURLY, 60, 60)
        workers.pass_time(3604)
        assert (await workers.other.lease(bucket, HOURLY, 60, 60)).granted == 60


@proves("LIMIT-1")
async def test_a_fast_bucket_flows_as_fast_as_its_rate(open_world: OpenWorld) -> None:
    rate = Rate(1_000_000, 1.0, 100_000)  # a thousand in each millisecond
    async with two_workers(open_world) as workers:
        bucket = new_bucket()
        assert (await workers.one.lease(bucket, rate, 1, 100_000)).granted == 100_000
        workers.pass_time(0.1)  # of a clock that is the test's own
        async with asyncio.timeout(PATIENCE_SECONDS):  # Redis's own goes on
            while not (again := await workers.other.lease(bucket, rate, 1, 10)).granted:
                pass
        assert again.granted == 10


@proves("LIMIT-5")
async def test_places_are_had_by_one_worker_or_another(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        bucket = new_bucket()
        assert await workers.one.reserve(bucket, ALICE, 3, 4) == Reservation(3, 1)
        assert await workers.other.reserve(bucket, BOB, 3, 4) == Reservation(1, 0)
        assert await workers.one.reserve(bucket, ALICE, 5, 4) == Reservation(3, 0)
        assert await workers.one.reserve(bucket, ALICE, 1, 4) == Reservation(1, 2)
        assert await workers.other.reserve(bucket, BOB, 3, 4) == Reservation(3, 0)
        assert await workers.one.reserve(bucket, ALICE, 0, 4) == Reservation(0, 1)
        assert await workers.other.reserve(bucket, BOB, 0, 4) == Reservation(0, 4)


@proves("LIMIT-5")
async def test_places_are_free_when_their_time_is_over(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        bucket = new_bucket()
        await workers.one.reserve(bucket, ALICE, 4, 4)
        assert await workers.other.reserve(bucket, BOB, 1, 4) == Reservation(0, 0)
        workers.pass_time(15.1)
        assert await workers.other.reserve(bucket, BOB, 4, 4) == Reservation(4, 0)


@proves("LIMIT-4")
async def test_workers_know_how_many_they_are(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as workers:
        assert await workers.one.count(ALICE) == 1
