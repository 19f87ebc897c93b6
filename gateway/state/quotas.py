"""The `Quotas` port: on Redis, and in one process."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.policy import quotas as policy
from gateway.policy.quotas import Lease, Rate, Stock
from gateway.policy.reservations import RESERVED_SECONDS, Reservation, reserve
from gateway.policy.streams import Owner
from gateway.ports import BucketName
from gateway.state import keys, quota_scripts
from gateway.state.stores import Store

COUNTED_SECONDS: Final = 15.0
"""How long a worker that has said nothing counts: three times the interval at which each says that it is there."""


class RedisQuotas:
    """For a fleet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def lease(self, bucket: BucketName, rate: Rate, needed: int, wanted: int) -> Lease:
        args = (
            rate.count,
            repr(rate.period_seconds * 1000),
            rate.burst,
            repr(rate.lease_seconds * 1000),
            needed,
            wanted,
            round(policy.keep_seconds(rate) * 1000),
        )
        granted, wait_ms = await self._store.run(quota_scripts.LEASE, [keys.bucket_key(bucket)], args)
        return Lease(granted, wait_ms / 1000)

    async def reserve(self, bucket: BucketName, worker: Owner, wanted: int, limit: int) -> Reservation:
        args = (worker, wanted, limit, round(RESERVED_SECONDS * 1000))
        granted, free = await self._store.run(quota_scripts.RESERVE, [keys.places_key(bucket)], args)
        return Reservation(granted, free)

    async def count(self, worker: Owner) -> int:
        args = (worker, round(COUNTED_SECONDS * 1000))
        (workers,) = await self._store.run(quota_scripts.COUNT, [keys.workers_key()], args)
        return int(workers)


class MemoryQuotas:
    """For one process. Bounded: what was longest not asked for is forgotten, and would be full again."""

    KEPT: Final = 100_000

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stocks: OrderedDict[BucketName, Stock] = OrderedDict()
        self._places: dict[BucketName, dict[Owner, tuple[int, float]]] = {}

    async def lease(self, bucket: BucketName, rate: Rate, needed: int, wanted: int) -> Lease:
        self._stocks[bucket], lease = policy.lease(self._stocks.get(bucket), rate, self._clock(), needed, wanted)
        self._stocks.move_to_end(bucket)
        if len(self._stocks) > self.KEPT:
            self._stocks.popitem(last=False)
        return lease

    async def reserve(self, bucket: BucketName, worker: Owner, wanted: int, limit: int) -> Reservation:
        places, told = reserve(self._places.get(bucket, {}), worker, wanted, limit, self._clock())
        if places:
            self._places[bucket] = places
        else:
            self._places.pop(bucket, None)
        return told

    async def count(self, worker: Owner) -> int:
        return 1
