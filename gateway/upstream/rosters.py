"""The `Endpoints` port: which endpoints each backend has now, and how they are.

Holds the state; what follows from it is decided in `policy.balancing`. Doesn't look anything up itself: it is told of
resolved addresses and of checks.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from gateway.policy import balancing
from gateway.policy.backends import Address, Backend, Endpoint, parse_endpoint
from gateway.policy.balancing import Health, Standing, State
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.witnesses import Nobody, Witness


class EndpointReport(msgspec.Struct, frozen=True):
    """One endpoint, for `/health` and the metrics."""

    address: Address
    state: State
    outstanding: int
    failures: int  # in a row


class Seat(Endpoint, frozen=True, eq=False):
    """An endpoint that carries its own standing, so that nothing is looked up when a call begins or ends."""

    backend: str = ""
    standing: Standing = msgspec.field(default_factory=Standing)


class _Roster:
    """The seats of one backend."""

    __slots__ = ("backend", "seats", "standings", "turn")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.seats: dict[Address, Seat] = {}
        self.standings: list[Standing] = []
        self.turn = 0

    def fill(self, endpoints: Iterable[Endpoint]) -> bool:
        """Takes these endpoints for the present ones; whoever stays keeps their standing. Whether anything changed."""
        seats: dict[Address, Seat] = {}
        for endpoint in endpoints:
            kept = self.seats.get(endpoint.address)
            if kept is None or not _is_same(kept, endpoint):
                kept = Seat(**msgspec.structs.asdict(endpoint), backend=self.backend.name)
            seats[kept.address] = kept
        changed = list(seats.values()) != list(self.seats.values())
        self.seats = seats
        self.standings = [seat.standing for seat in seats.values()]
        return changed


class Rosters:
    """`gateway.ports.Endpoints`, and what the rest of the room needs to keep it true."""

    def __init__(self, witness: Witness | None = None, clock: Callable[[], float] | None = None) -> None:
        self._witness = witness or Nobody()
        self._clock = clock or asyncio.get_running_loop().time
        self._rosters: dict[str, _Roster] = {}

    # ---- the port

    def pick(self, backend: Backend, but_not: Collection[Address] = ()) -> Endpoint:
        roster = self._find(backend)
        seats = list(roster.seats.values())
        if but_not:
            seats = [seat for seat in seats if seat.address not in but_not]
        if len(seats) == 1:
            return seats[0]
        roster.turn += 1
        standings = [seat.standing for seat in seats] if but_not else roster.standings
        index = balancing.choose(standings, roster.turn, self._clock())
        if index is None:
            message = f"Backend {backend.name!r} has no address: its host name can't be resolved."
            raise Failed(Outcome.UNREACHABLE, message)
        return seats[index]

    def find(self, backend: Backend, address: Address) -> Endpoint | None:
        return self._find(backend).seats.get(address)

    def begin(self, endpoint: Endpoint) -> None:
        standing = _seat(endpoint).standing
        standing.outstanding += 1
        if standing.health is not balancing.WELL:
            standing.health = balancing.begin(standing.health, self._clock())

    def finish(self, endpoint: Endpoint, outcome: Outcome) -> None:
        seat = _seat(endpoint)
        standing = seat.standing
        standing.outstanding -= 1
        if standing.health is balancing.WELL and outcome in balancing.PROOFS_OF_LIFE:
            return
        roster = self._rosters.get(seat.backend)
        if roster is None or roster.seats.get(seat.address) is not seat:
            return  # it isn't ours any more
        now = self._clock()
        has_others = any(balancing.is_available(s.health, now) for s in roster.standings if s is not standing)
        after = balancing.finish(standing.health, outcome, roster.backend.ejection, has_others, now)
        self._put(seat, after, now)

    # ---- the room's side

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """From now on these backends; endpoints that are the same keep their standing."""
        for name in [name for name in self._rosters if name not in backends]:
            del self._rosters[name]
            self._witness.endpoints_counted(name, healthy=0, ejected=0)
        for name, backend in backends.items():
            roster = self._rosters.get(name)
            if roster is None:
                self._add(backend)
            elif roster.backend != backend:
                roster.backend = backend
                if backend.resolve == "none":  # else DNS will be asked; until it has answered, those from before
                    self.fill(backend, parse_endpoints(backend))

    def fill(self, backend: Backend, endpoints: Iterable[Endpoint]) -> None:
        """These are the backend's endpoints now."""
        roster = self._find(backend)
        if roster.fill(endpoints):
            self._count(roster)

    def note_check(self, endpoint: Endpoint, is_down: bool) -> None:
        """What an active check of the endpoint showed."""
        seat = _seat(endpoint)
        self._put(seat, balancing.check(seat.standing.health, is_down), self._clock())

    def seats_of(self, backend: Backend) -> list[Endpoint]:
        """Every endpoint the backend has now."""
        return list(self._find(backend).seats.values())

    def report(self) -> dict[str, list[EndpointReport]]:
        """Every backend's endpoints and how they are now."""
        now = self._clock()
        return {name: [_report(seat, now) for seat in r.seats.values()] for name, r in self._rosters.items()}

    def _find(self, backend: Backend) -> _Roster:
        return self._rosters.get(backend.name) or self._add(backend)

    def _add(self, backend: Backend) -> _Roster:
        roster = self._rosters[backend.name] = _Roster(backend)
        if backend.resolve == "none":
            self.fill(backend, parse_endpoints(backend))
        return roster

    def _put(self, seat: Seat, after: Health, now: float) -> None:
        before = seat.standing.health
        seat.standing.health = after
        was_out, is_out = _is_out(before), _is_out(after)
        if after.rests > before.rests or (is_out and not was_out):
            self._witness.endpoint_ejected(seat.backend, seat.address)
        elif was_out and not is_out:
            self._witness.endpoint_restored(seat.backend, seat.address)
        roster = self._rosters.get(seat.backend)
        if was_out != is_out and roster is not None:
            self._count(roster)

    def _count(self, roster: _Roster) -> None:
        ejected = sum(_is_out(standing.health) for standing in roster.standings)
        self._witness.endpoints_counted(roster.backend.name, healthy=len(roster.standings) - ejected, ejected=ejected)


def parse_endpoints(backend: Backend) -> list[Endpoint]:
    """The endpoints of a backend whose URLs are dialled as they stand."""
    return [parse_endpoint(url, server_name=backend.tls.server_name) for url in backend.endpoints]


def _is_out(health: Health) -> bool:
    return health.is_down or health.rested_at is not None


def _report(seat: Seat, now: float) -> EndpointReport:
    health = seat.standing.health
    return EndpointReport(seat.address, balancing.state_of(health, now), seat.standing.outstanding, health.failures)


def _seat(endpoint: Endpoint) -> Seat:
    if not isinstance(endpoint, Seat):
        raise TypeError("an endpoint must come from pick() or find()")
    return endpoint


def _is_same(seat: Seat, endpoint: Endpoint) -> bool:
    return all(getattr(seat, field) == getattr(endpoint, field) for field in Endpoint.__struct_fields__)
