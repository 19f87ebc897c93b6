"""Who is gone: when a follower may take over the streams of a worker whose heartbeat is absent. Pure; `now` is given.

A heartbeat that is absent proves nothing by itself: Redis may have been away so long that every heartbeat expired, may have
come back empty, or may be another server that never had it. So an owner is gone only when we ourselves have seen the
heartbeat absent for a whole TTL, without a break: each look succeeded, the same server answered, and looks were never
far apart. Whoever is alive beats three times in that while.
"""

from collections.abc import Iterable
from typing import Final

from gateway.policy.streams import Owner, Sighting

BEATS_PER_TTL: Final = 3
"""How often a heartbeat is refreshed, and looked at, while it would last."""

HEARTBEAT_SECONDS: Final = 6.0
"""A heartbeat's TTL, where none is configured. A dead worker's streams are taken over when it has been absent for as long
again: within 12 s and one look of the death. Shorter, and a pause that would pass unnoticed costs a handover."""

MIN_HEARTBEAT_SECONDS: Final = 1.0
"""Below it a look that waits 250 ms for Redis would no longer fit between two beats."""

MAX_HEARTBEAT_SECONDS: Final = 60.0
"""Beyond it no client still waits for its takeover."""


class Absence:
    """What one worker has seen of the others' heartbeats. Feed it every look, also those that failed."""

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._since: dict[Owner, float] = {}  # absent at every look since then
        self._looked_at: float | None = None
        self._server = ""

    def see(self, sighting: Sighting, asked_at: float, now: float) -> None:
        """A look succeeded: it was asked at `asked_at`, and has been answered by `now`.

        An absence counts from the answer on, and up to the asking of the last look: what was between isn't known.
        """
        is_unbroken = (
            self._looked_at is not None
            and asked_at - self._looked_at <= self._ttl_seconds / 2
            and sighting.server == self._server
        )
        before = self._since if is_unbroken else {}
        self._since = {owner: before.get(owner, now) for owner in sighting.absent}
        self._looked_at = asked_at
        self._server = sighting.server

    def fail(self) -> None:
        """A look failed, or a heartbeat of our own: what we saw before counts for nothing."""
        self._since = {}
        self._looked_at = None

    def is_gone(self, owner: Owner) -> bool:
        """Whether the owner's streams may be taken over."""
        since = self._since.get(owner)
        return since is not None and self._looked_at is not None and self._looked_at - since >= self._ttl_seconds

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        """Those of them whose streams may be taken over."""
        return frozenset(owner for owner in owners if self.is_gone(owner))
