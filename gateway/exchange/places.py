"""What one worker has of one session's standing stream: the pump, the follower, both or neither yet."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.policy.streams import NOBODY, Hold, Owner, SessionDigest, Standing


class Pumped(Protocol):
    """A standing stream that this worker reads."""

    @property
    def session(self) -> SessionDigest: ...

    @property
    def hold(self) -> Hold: ...

    def end(self) -> None:
        """Nobody wants it any more: it ends for the whole fleet."""

    async def revive(self) -> None:
        """Its log is gone: it goes on in a new one of the same name. Raises `LogAway`."""


class Followed(Protocol):
    """A client that is fed from one."""

    session: SessionDigest
    standing: Standing | None  # None until it has its turn

    def end(self) -> None:
        """Another has the turn, or the session is over: its reply ends."""


class Place:
    """What this worker has of one session."""

    __slots__ = ("follower", "leave_owner", "lingering", "looked_at", "newcomers", "owner", "pump", "take_down")

    def __init__(self, take_down: Callable[[], None], now: float) -> None:
        self.take_down = take_down
        self.looked_at = now
        self.newcomers = 0  # followers, with a turn or about to take one
        self.pump: Pumped | None = None
        self.follower: Followed | None = None
        self.owner: Owner = NOBODY  # of the replica that follows what we pump
        self.leave_owner: Callable[[], None] | None = None
        self.lingering: asyncio.TimerHandle | None = None

    def forget_owner(self) -> None:
        if self.leave_owner is not None:
            self.leave_owner()
            self.leave_owner = None

    def stay(self) -> None:
        """Somebody follows: the pump goes on."""
        if self.lingering is not None:
            self.lingering.cancel()
            self.lingering = None

    def close(self) -> None:
        self.stay()
        self.forget_owner()
        self.take_down()


def has_turn(follower: Followed, standing: Standing) -> bool:
    mine = follower.standing
    return mine is None or (mine.stream, mine.turn) == (standing.stream, standing.turn)


def agree(place: Place, standing: Standing | None) -> bool:
    """Whether what is known of the session fits what is here of it."""
    if standing is None:
        return place.pump is None
    fits = place.pump is None or place.pump.hold.stream == standing.stream
    return fits and (place.follower is None or has_turn(place.follower, standing))
