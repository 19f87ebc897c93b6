"""How many places of one limit each worker has for what goes on at once, and for how long. `state/quota_scripts` is the same
in Lua. Whoever says nothing for a while has left, and its places are free."""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.policy.streams import Owner

RESERVED_SECONDS: Final = 15.0
"""So long are a worker's places kept for it that says nothing: those of one that was killed are free after that."""

Places = Mapping[Owner, tuple[int, float]]
"""By worker: how many, and until when."""


class Reservation(msgspec.Struct, frozen=True):
    """A worker has `granted` places from now on; `free` are left for all."""

    granted: int
    free: int


def reserve(
    places: Places, worker: Owner, wanted: int, limit: int, now: float
) -> tuple[dict[Owner, tuple[int, float]], Reservation]:
    """Up to `wanted` places for the worker, instead of those that it had; others keep theirs while their time lasts."""
    others = {other: place for other, place in places.items() if other != worker and now < place[1]}
    taken = sum(count for count, _ in others.values())
    granted = max(0, min(wanted, limit - taken))
    if granted:
        others[worker] = (granted, now + RESERVED_SECONDS)
    return others, Reservation(granted, max(0, limit - taken - granted))


def may_keep(free: int, limit: int) -> bool:
    """Whether a worker may keep a place that it doesn't use, for the next call: while most are free, nobody lacks it."""
    return 2 * free > limit
