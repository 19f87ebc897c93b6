"""Who among the workers is gone, as this worker has seen it: one heartbeat, and one look at those of all whom we follow."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.policy.absences import BEATS_PER_TTL, Absence
from gateway.policy.streams import LogAway, Owner
from gateway.ports import Heartbeats

Ring = Callable[[], object]

LINGER_TTLS: Final = 10
"""For how many TTLs an owner is looked at when its last follower has left. A client that loses its patience sooner than an owner
can be found gone comes back again and again: without this each return would begin the wait anew."""


class Owners:
    """`run` beats and looks as long as the worker lives; `follow` says whose absence matters, and to whom."""

    def __init__(self, heartbeats: Heartbeats, me: Owner, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self.me = me
        self._heartbeats = heartbeats
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._absence = Absence(ttl_seconds)
        self._rings: dict[Owner, dict[object, Ring]] = {}
        self._left_at: dict[Owner, float] = {}  # by their last followers

    def follow(self, owner: Owner, ring: Ring) -> Callable[[], None]:
        """From now on `ring` is called at each look that finds the owner gone. Undone by the result."""
        key = object()
        self._left_at.pop(owner, None)
        self._rings.setdefault(owner, {})[key] = ring

        def leave() -> None:
            rings = self._rings.get(owner, {})
            rings.pop(key, None)
            if not rings and self._rings.pop(owner, None) is not None:
                self._left_at[owner] = self._clock()

        return leave

    def is_gone(self, owner: Owner) -> bool:
        """Whether the owner's streams may be taken over."""
        return owner != self.me and self._absence.is_gone(owner)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._turn()
            await asyncio.sleep(self._ttl_seconds / BEATS_PER_TTL)

    async def _turn(self) -> None:
        asked_at = self._clock()
        since = asked_at - LINGER_TTLS * self._ttl_seconds
        self._left_at = {owner: left_at for owner, left_at in self._left_at.items() if left_at > since}
        followed = [owner for owner in (*self._rings, *self._left_at) if owner != self.me]
        try:
            await self._heartbeats.beat(self.me)
            sighting = await self._heartbeats.look(followed)
        except LogAway:
            self._absence.fail()
            return
        self._absence.see(sighting, asked_at, self._clock())
        for owner in self._absence.gone(followed):
            for ring in list(self._rings.get(owner, {}).values()):
                ring()
