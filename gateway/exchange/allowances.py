"""What this worker may admit: tokens that it leased of the common buckets, and spends without asking.

    wait_seconds = allowances.take(purse, 1)        # 0.0: admitted; None: ask, and see
    wait_seconds = await allowances.ask(purse, 1)   # 0.0: admitted; else refused

When half of a lease is spent the next one is fetched in the background. Only who finds nothing waits, for one question
that all who wait share. While the common memory is away each worker has a share of the limit for itself.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.policy.quotas import SLICE_SHARE, Lease, Rate, share_of
from gateway.policy.streams import LogAway, Owner
from gateway.ports import BucketName, Quotas, Telemetry

COUNT_SECONDS: Final = 5.0
"""How often workers say that they are there: how many they are decides of the shares, when nobody can be asked."""

KEPT: Final = 20_000
"""Purses of one worker. Beyond: the oldest is forgotten, with what is left in it."""

_ROUNDS: Final = 3
"""Questions for one request. Who shares them with others that take all before it is refused after so many."""

_MAX_SILENCE_SECONDS: Final = 1.0
"""An empty bucket isn't asked for its wait, and never longer than that: another worker may forget what it leased."""


class Purse(msgspec.Struct):
    """What this worker has of one bucket: a lease, and perhaps the next one. Both end with their times."""

    bucket: BucketName
    rate: Rate
    tokens: int = 0
    until: float = 0.0
    next_tokens: int = 0
    next_until: float = 0.0
    low_tokens: int = 0  # below: the next lease is fetched
    silent_until: float = 0.0  # the bucket is known to be empty so long
    refused_until: float = 0.0
    spent: int = 0  # since `counted_at`
    counted_at: float = 0.0
    waiting: int = 0
    asking: asyncio.Task[None] | None = None


class Allowances:
    """Belongs to one event loop. `quotas` is common to all workers, `own` this one's alone."""

    def __init__(self, quotas: Quotas, own: Quotas, telemetry: Telemetry, clock: Callable[[], float]) -> None:
        self._quotas = quotas
        self._own = own
        self._telemetry = telemetry
        self._clock = clock
        self._purses: dict[tuple[str, str, str, Rate], Purse] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_apart = False
        self.workers = 1  # that there were when they were last counted

    def find(self, limit: str, backend: str, caller: str, rate: Rate) -> Purse:
        """This worker's purse for what that caller may ask for."""
        key = (limit, backend, caller, rate)
        purse = self._purses.get(key)
        if purse is None:
            told = msgspec.json.encode((limit, backend, caller, rate))
            name = BucketName(
                hashlib.blake2b(told, digest_size=16).hexdigest()
            )  # who calls is nobody's business in Redis
            purse = self._purses[key] = Purse(name, rate, counted_at=self._clock())
            if len(self._purses) > KEPT:
                del self._purses[next(iter(self._purses))]
        return purse

    def take(self, purse: Purse, tokens: int) -> float | None:
        """0.0 where it is admitted, seconds to wait where the bucket is known to be empty; None where it must be asked."""
        now = self._clock()
        if purse.tokens < tokens or now >= purse.until:
            if now >= purse.next_until or purse.next_tokens < tokens:
                return purse.refused_until - now if now < purse.silent_until else None
            purse.tokens, purse.until, purse.next_tokens = purse.next_tokens, purse.next_until, 0
        purse.tokens -= tokens
        purse.spent += tokens
        if (
            purse.tokens < purse.low_tokens
            and purse.asking is None
            and not purse.next_tokens
            and now >= purse.silent_until
        ):
            self._start(purse, 1)
        return 0.0

    async def ask(self, purse: Purse, tokens: int) -> float:
        """As `take`, when the bucket was asked: 0.0, or seconds to wait. No longer than the common memory may be silent."""
        tokens = min(tokens, purse.rate.burst)
        purse.waiting += tokens
        try:
            for _ in range(_ROUNDS):
                await asyncio.shield(purse.asking or self._start(purse, tokens))
                if (wait_seconds := self.take(purse, tokens)) is not None:
                    return wait_seconds
        finally:
            purse.waiting -= tokens
        return purse.rate.lease_seconds

    def _start(self, purse: Purse, needed: int) -> asyncio.Task[None]:
        purse.asking = task = asyncio.create_task(self._fetch(purse, needed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _fetch(self, purse: Purse, needed: int) -> None:
        asked_at = self._clock()
        try:
            lease, rate = await self._lease(purse, needed, self._guess(purse, needed, asked_at))
            if lease.granted:
                self._put(purse, lease.granted, asked_at + rate.lease_seconds)
            else:
                purse.refused_until = asked_at + lease.wait_seconds
                purse.silent_until = asked_at + min(lease.wait_seconds, _MAX_SILENCE_SECONDS)
        finally:
            purse.asking = None

    def _put(self, purse: Purse, tokens: int, until: float) -> None:
        if purse.tokens and self._clock() < purse.until:
            purse.next_tokens, purse.next_until = tokens, until
        else:
            purse.tokens, purse.until, purse.next_tokens = tokens, until, 0
        purse.low_tokens = tokens // 2

    def _guess(self, purse: Purse, needed: int, now: float) -> int:
        """What will be spent within one lease, as before; what is asked for and not spent others lack."""
        lease_seconds = purse.rate.lease_seconds
        elapsed = max(now - purse.counted_at, lease_seconds / SLICE_SHARE)
        ahead = math.ceil(purse.spent * lease_seconds / elapsed)
        purse.spent, purse.counted_at = 0, now
        ahead = min(ahead, max(1, purse.rate.burst // SLICE_SHARE))
        return max(needed, purse.waiting, ahead)

    async def _lease(self, purse: Purse, needed: int, wanted: int) -> tuple[Lease, Rate]:
        try:
            lease = await self._quotas.lease(purse.bucket, purse.rate, needed, wanted)
        except LogAway:
            self._tell(is_apart=True)
            share = share_of(purse.rate, self.workers)
            needed = min(needed, share.burst)
            return await self._own.lease(purse.bucket, share, needed, wanted), share
        self._tell(is_apart=False)
        return lease, purse.rate

    def _tell(self, *, is_apart: bool) -> None:
        if is_apart != self._is_apart:
            self._is_apart = is_apart
            self._telemetry.limits_apart(is_apart)

    async def run(self, me: Owner, is_needed: Callable[[], bool]) -> None:
        """Says that this worker is there, while there are limits to be held, until cancelled."""
        while True:
            if is_needed():
                await self._count(me)
            await asyncio.sleep(COUNT_SECONDS)

    async def _count(self, me: Owner) -> None:
        try:
            self.workers = await self._quotas.count(me)
        except LogAway:
            self._tell(is_apart=True)
        else:
            self._tell(is_apart=False)

    async def close(self) -> None:
        """Ends the questions under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
