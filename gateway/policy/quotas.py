"""How much one caller may ask for: the arithmetic of buckets, and of what workers lease from them ahead.

A bucket fills at its rate up to its burst. Workers lease tokens for a short while, spend them without asking anybody, and
forget what is left when the time is over. So that this never lets through more than the bucket would, it fills no higher
than the burst less what may still be on lease: over any window no more than burst + rate x window is admitted, whatever
the workers do. `state/quota_scripts` is the same in Lua.
"""

import math
from typing import Final

import msgspec

MAX_LEASE_SECONDS: Final = 1.0
"""An idle worker keeps tokens from the others no longer; a caller slower than that asks for each of its requests."""

MIN_BURST_SECONDS: Final = 0.1
"""A burst of less at the bucket's rate would be leased for less than 25 ms: for so little nothing is gained by a lease."""

SLICE_SHARE: Final = 4
"""One lease takes no more than this part of a burst ahead, so that several workers find something in a full bucket."""


class Rate(msgspec.Struct, frozen=True):
    """`count` in each period on the average, and `burst` at once."""

    count: int
    period_seconds: float
    burst: int

    @property
    def per_second(self) -> float:
        return self.count / self.period_seconds

    @property
    def lease_seconds(self) -> float:
        """How long a lease is good for. What may be on lease, of two such times, is at most half of the burst."""
        return min(MAX_LEASE_SECONDS, self.burst / (4 * self.per_second))


class Rates(msgspec.Struct, frozen=True):
    """What one caller may ask for in a time, and have at once; None: as much as it likes."""

    requests: Rate | None = None
    initialize: Rate | None = None
    concurrent_calls: int | None = None
    concurrent_streams: int | None = None


NO_RATES: Final = Rates()


class Stock(msgspec.Struct, frozen=True):
    """What a bucket holds. Times are seconds of whoever keeps it."""

    tokens: float
    at: float
    slot: int  # the lease time that `at` is in, counted from 0
    leased: int = 0  # in this slot
    leased_before: int = 0  # in the slot before: what was leased earlier is spent or forgotten


class Lease(msgspec.Struct, frozen=True):
    """`granted` tokens, good for the rate's `lease_seconds` from when they were asked for; or none, for another while."""

    granted: int
    wait_seconds: float = 0.0  # until as many as were needed are likely


def lease(stock: Stock | None, rate: Rate, now: float, needed: int, wanted: int) -> tuple[Stock, Lease]:
    """At least `needed` tokens, and up to `wanted`; or none. `stock` is None where nothing is known: the bucket is full."""
    stock = refill(stock, rate, now)
    granted = min(wanted, math.floor(stock.tokens)) if stock.tokens >= needed else 0
    if not granted:
        return stock, Lease(0, find_wait(stock, rate, needed))
    tokens, leased = stock.tokens - granted, stock.leased + granted
    return msgspec.structs.replace(stock, tokens=tokens, leased=leased), Lease(granted)


def refill(stock: Stock | None, rate: Rate, now: float) -> Stock:
    """The bucket as it is now."""
    slot = math.floor(now / rate.lease_seconds)
    if stock is None:
        return Stock(float(rate.burst), now, slot)
    slot, now = max(slot, stock.slot), max(now, stock.at)  # a clock that was put back fills nothing
    leased, before = stock.leased, stock.leased_before
    if slot > stock.slot:
        leased, before = 0, leased if slot == stock.slot + 1 else 0
    room = rate.burst - leased - before
    tokens = max(stock.tokens, min(stock.tokens + (now - stock.at) * rate.per_second, room))
    return Stock(tokens, now, slot, leased, before)


def find_wait(stock: Stock, rate: Rate, needed: int) -> float:
    """Seconds until so many tokens are likely: they must flow in, and there must be room for them."""
    seconds = (needed - stock.tokens) / rate.per_second
    if rate.burst - stock.leased - stock.leased_before < needed:
        seconds = max(seconds, (stock.slot + 1) * rate.lease_seconds - stock.at)
    return seconds


def keep_seconds(rate: Rate) -> float:
    """After so long without a lease a bucket is full, and nothing of it need be known."""
    return rate.burst / rate.per_second + 3 * rate.lease_seconds


def share_of(rate: Rate, workers: int) -> Rate:
    """What one of so many workers lets through while they can't ask each other."""
    period_seconds = rate.period_seconds * workers
    least = math.ceil(rate.count / period_seconds * MIN_BURST_SECONDS)
    return Rate(rate.count, period_seconds, max(1, least, rate.burst // workers))
