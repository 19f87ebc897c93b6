"""The standing streams that one worker pumps or follows, looked after all together: whose turn it is, and who still follows.

A session's GETs may come to any replica. The newest has the turn, and whoever had it before learns so by the session's
wake channel. What a stream needs while it is silent (its place in the registry and its log kept, the turn and the follower
looked at) is done for all of them in batches, so that an idle stream has no timer and no command of its own.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from gateway.exchange.bells import Bell
from gateway.exchange.owners import Owners
from gateway.exchange.places import Followed, Place, Pumped, agree, has_turn
from gateway.policy.streams import NOBODY, Bounds, Census, Hold, LogAway, SessionDigest, Standing
from gateway.ports import EventLog, Marks

LINGER_SECONDS: Final = 10.0
"""How long a stream is pumped on when its client has left. Clients come back within one second, on a bad day within a few."""

NOTE_SECONDS: Final = 1.0
"""How soon it is noted how far a client has had its stream, whatever comes meanwhile. A worker that is killed has noted it up
to then: a client that comes back without an event id gets what was behind it once more."""

TICK_SECONDS: Final = 10.0
"""How often is looked whether a stream is due, which is once in `Bounds.keep_seconds`."""

REST_SECONDS: Final = 1.0
"""Between two attempts while Redis is away."""

AT_ONCE: Final = 256


class Turns:
    """`run` looks after them as long as the worker lives."""

    def __init__(
        self,
        log: EventLog,
        marks: Marks,
        owners: Owners,
        clock: Callable[[], float],
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self.marks = marks
        self._log = log
        self._owners = owners
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._places: dict[SessionDigest, Place] = {}
        self._marked: set[SessionDigest] = set()  # to be looked at
        self._notes: dict[SessionDigest, Standing] = {}  # to be written
        self._alone: dict[SessionDigest, Standing] = {}  # nobody came back
        self._owed: dict[SessionDigest, Hold] = {}  # ended, and to be written
        self._bell = Bell()
        self._note_timer: asyncio.TimerHandle | None = None

    # ---- who is here

    def follow(self, follower: Followed) -> Callable[[], None]:
        """From now on nothing is missed that is told of the session; `seat` it when it has its turn. The result: it has left."""
        place = self._open_place(follower.session)
        place.newcomers += 1

        def leave() -> None:
            place.newcomers -= 1
            if place.follower is follower:
                place.follower = None
            if follower.standing is not None:
                self._depart(follower)
            if place.pump is not None:
                self._mark(follower.session)
            self._close_place(follower.session)

        return leave

    def seat(self, follower: Followed) -> None:
        """It has its turn, and is told when it loses it. Whoever had it before on this worker is told at once."""
        place = self._open_place(follower.session)
        if place.follower is not None and place.follower is not follower:
            place.follower.end()
        place.follower = follower
        place.stay()

    def pump(self, pump: Pumped) -> Callable[[], None]:
        """From now on the stream is kept, and ended when nobody follows it any more. The result: it has ended."""
        place = self._open_place(pump.session)
        place.pump = pump
        self._mark(pump.session)

        def leave() -> None:
            if place.pump is pump:
                place.pump = None
                place.stay()
                place.forget_owner()
                place.owner = NOBODY
            self._close_place(pump.session)

        return leave

    def find_pump(self, session: SessionDigest) -> Pumped | None:
        """This worker's pump of the session's standing stream."""
        place = self._places.get(session)
        return None if place is None else place.pump

    def _open_place(self, session: SessionDigest) -> Place:
        place = self._places.get(session)
        if place is None:
            take_down = self._log.wake(session, lambda: self._mark(session))
            place = self._places[session] = Place(take_down, self._clock())
        return place

    def _close_place(self, session: SessionDigest) -> None:
        place = self._places.get(session)
        if place is not None and place.pump is None and not place.newcomers:
            del self._places[session]
            place.close()

    # ---- what is to be written

    def note(self, follower: Followed) -> None:
        """The client has had more of its stream."""
        if follower.standing is not None:
            self._notes[follower.session] = follower.standing
        if self._note_timer is None:
            self._note_timer = asyncio.get_running_loop().call_later(NOTE_SECONDS, self._bell.ring)

    def _depart(self, follower: Followed) -> None:
        assert follower.standing is not None
        waiting = self._notes.get(follower.session)
        if waiting is None or waiting.turn <= follower.standing.turn:
            self._notes[follower.session] = msgspec.structs.replace(follower.standing, follower=NOBODY)
            self._bell.ring()

    def owe(self, session: SessionDigest, hold: Hold) -> None:
        """The stream has ended, and that could not be written: it will be, as soon as Redis is back."""
        self._owed[session] = hold
        self._bell.ring()

    async def end(self, session: SessionDigest, hold: Hold) -> None:
        """Writes that the stream has ended. Raises `LogAway`."""
        await self.marks.leave(session, hold.stream)
        await self._log.finish(hold)

    # ---- what is done about it

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._bell.wait(TICK_SECONDS)
            try:
                await self.flush()
                await self._look()
            except LogAway:
                self._bell.ring()
                await asyncio.sleep(REST_SECONDS)

    async def close(self) -> None:
        """The worker ends: what is still to be written is written, if Redis is there."""
        with contextlib.suppress(LogAway):
            await self.flush()

    async def flush(self) -> None:
        """Writes what is to be written. Raises `LogAway`: then it is still to be done."""
        if self._note_timer is not None:
            self._note_timer.cancel()
            self._note_timer = None
        notes, self._notes = self._notes, {}
        alone, self._alone = self._alone, {}
        owed, self._owed = self._owed, {}
        try:
            await _gather([self._deliver(session, standing) for session, standing in notes.items()])
            await _gather([self._end_alone(session, standing) for session, standing in alone.items()])
            await _gather([self.end(session, hold) for session, hold in owed.items()])
        except LogAway:
            self._notes = notes | self._notes
            self._owed = owed | self._owed
            for session in (*alone, *(s for s, standing in notes.items() if standing.follower == NOBODY)):
                self._end_at_once(session)  # whoever comes back could not find it, and would meet it at the backend
            raise

    async def _deliver(self, session: SessionDigest, standing: Standing) -> None:
        if not await self.marks.deliver(session, standing):
            self._mark(session)

    async def _end_alone(self, session: SessionDigest, standing: Standing) -> None:
        place = self._places.get(session)
        if place is None or place.pump is None or place.pump.hold.stream != standing.stream:
            return
        if await self.marks.leave(session, standing.stream, standing.turn):
            place.pump.end()
        else:
            self._mark(session)

    def _end_at_once(self, session: SessionDigest) -> None:
        place = self._places.get(session)
        if place is not None and place.pump is not None and place.follower is None:
            place.pump.end()

    # ---- how it stands

    def _mark(self, session: SessionDigest) -> None:
        self._marked.add(session)
        self._bell.ring()

    async def _look(self) -> None:
        """At what something was told of, and at what is due. Raises `LogAway`: then it is still to be done."""
        now, places = self._clock(), self._places
        keep_seconds = Bounds().keep_seconds
        stale = [session for session, place in places.items() if now - place.looked_at >= keep_seconds]
        due = (self._marked & places.keys()).union(stale)
        self._marked = set()
        try:
            census = await self.marks.keep_standing(due)
            logs = {pump.hold.stream: pump for session in due if (pump := self.find_pump(session)) is not None}
            for stream in await self._log.keep(logs):
                await logs[stream].revive()
            for session in due:
                await self._see(session, census)
        except LogAway:
            self._marked |= due
            raise
        for session in stale:
            if (place := places.get(session)) is not None:
                place.looked_at = now

    async def _see(self, session: SessionDigest, census: Census) -> None:
        place = self._places.get(session)
        if place is None:
            return
        if session in census.ended:
            if place.follower is not None:
                place.follower.end()
            if place.pump is not None:
                place.pump.end()
            return
        standing = census.standing.get(session)
        if not agree(place, standing):
            standing = await self.marks.standing(session)  # a turn may have been taken since the census
        follower, pump = place.follower, place.pump
        if standing is None:
            if pump is not None:
                await self._rejoin(session, place, pump)
            return
        if follower is not None and not has_turn(follower, standing):
            follower.end()
        if pump is not None and pump.hold.stream != standing.stream:
            pump.end()
        elif pump is not None:
            self._mind_follower(session, place, standing)

    async def _rejoin(self, session: SessionDigest, place: Place, pump: Pumped) -> None:
        """Redis has lost the registry. A follower elsewhere loses its turn by this: its client comes back."""
        follower = place.follower
        me = self._owners.me if follower is not None else NOBODY
        standing = await self.marks.join(session, pump.hold.stream, follower=me)
        if follower is not None and follower.standing is not None and follower.standing.stream == standing.stream:
            delivered = follower.standing.delivered
            follower.standing = msgspec.structs.replace(standing, delivered=delivered, follower=me)

    def _mind_follower(self, session: SessionDigest, place: Place, standing: Standing) -> None:
        """The pump goes on while somebody follows, and for a while longer."""
        owner, owners = standing.follower, self._owners
        if owner != place.owner:
            place.forget_owner()
            place.owner = owner
            if owner not in (NOBODY, owners.me):
                place.leave_owner = owners.follow(owner, lambda: self._mark(session))
        is_here = place.follower is not None
        if is_here or not (owner in (NOBODY, owners.me) or owners.is_gone(owner)):
            place.stay()
        elif place.lingering is None:
            loop = asyncio.get_running_loop()
            place.lingering = loop.call_later(self._linger_seconds, self._note_alone, session, place, standing)

    def _note_alone(self, session: SessionDigest, place: Place, standing: Standing) -> None:
        place.lingering = None
        self._alone[session] = standing
        self._bell.ring()


async def _gather(work: list[Coroutine[Any, Any, None]]) -> None:
    """So many at once as one round trip carries. Raises what the first that failed raises."""
    failures: list[BaseException] = []
    for first in range(0, len(work), AT_ONCE):
        done = await asyncio.gather(*work[first : first + AT_ONCE], return_exceptions=True)
        failures += [failure for failure in done if failure is not None]
    if failures:
        raise failures[0]
