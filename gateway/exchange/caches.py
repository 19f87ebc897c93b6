"""What this worker keeps of its backends' answers: discovery and lists, each for as long as the backend says (design §10).

    kept = caches.look(backend, key)                       a plain mount, which relays the backend's own reply
    found = await caches.join(backend, key)
    told = await caches.ask(backend, asker, method, params, fetch)      an aggregate, which needs the result

Requests in flight are coalesced within one key: the first leads, the others wait for what it is answered. Nobody gets
another's failure. Where the leader left, the next of them leads. Where it failed, or its answer is not to be kept, each asks
for itself: none waits twice, and one backend error is one client's error. After an answer that was not to be kept nobody
waits for another of that method, until one is.

A backend's word that a list changed drops what is kept of it, and what is on its way, on all workers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from gateway.exchange.flights import Flight, Kept
from gateway.exchange.tidings import Tidings
from gateway.policy.backends import Backend
from gateway.policy.caches import (
    Asker,
    CacheBounds,
    CacheOutcome,
    Headers,
    Key,
    key_for,
    lifetime_seconds,
    may_share,
)
from gateway.ports import Invalidations, Telemetry
from gateway.protocol.cacheables import CHANGED_METHODS, Scope, parse_cacheable, parse_freshness
from gateway.protocol.changes import Change

PATIENCE_SECONDS: Final = 5.0
"""How long anybody waits for another's answer; then it asks for itself: the other may have met a bad endpoint."""


class Told(NamedTuple):
    """What `ask` gives: a `result` object in pieces, for how long the client may keep it (0: not at all), and who may."""

    pieces: tuple[bytes, ...]
    ttl_ms: int
    scope: Scope
    outcome: CacheOutcome

    @property
    def result(self) -> bytes:
        return b"".join(self.pieces)


class Caches:
    """What one worker keeps. `bounds` may be replaced at any time."""

    def __init__(
        self, telemetry: Telemetry, clock: Callable[[], float], invalidations: Invalidations | None = None
    ) -> None:
        """`invalidations`: how other workers are told, and tell, of changes; None: there are none."""
        self.bounds = CacheBounds()
        self.tidings = Tidings(invalidations)
        self._telemetry = telemetry
        self._clock = clock
        self._entries: dict[Key, Kept] = {}  # what was longest not asked for stands first
        self._size_bytes = 0
        self._backends: dict[str, Backend] = {}  # as they were when anything was last asked of them
        self._wholes: dict[str, set[str]] = {}
        self._flights: set[Flight] = set()
        self._leaders: dict[Key, Flight] = {}
        self._unkept: set[tuple[str, str]] = set()  # backend and method whose last answer was not to be kept

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    # ---- asking

    async def ask(
        self, backend: Backend, asker: Asker, method: str, params: bytes, fetch: Callable[[], Awaitable[bytes]]
    ) -> Told:
        """The `result` of a method of `CACHEABLE_METHODS`: what is kept, or what `fetch` gets from the backend.

        `params`: all that the answer may depend on, protocol version and capabilities included, and nothing volatile: as
        `normalize_request` writes it, or any other way that is always the same. `fetch` gives the bytes of the `result`
        object, and raises what it likes: that passes through to this caller, to no other. Its task is the caller's.
        """
        if not backend.caching.is_on:
            result = await fetch()
            return self._tell_result(backend, result, CacheOutcome.BYPASS)
        key = key_for(backend, asker, method, params)
        shares = may_share(backend, asker)
        outcome = CacheOutcome.HIT
        found: Kept | Flight | None = self.look(backend, key, shares=shares)
        if found is None:
            outcome, found = CacheOutcome.COALESCED, await self.join(backend, key, shares=shares)
        if isinstance(found, Kept):
            self._telemetry.cache_asked(backend.name, outcome)
            left_ms = found.left_ms(self._clock())
            return Told(found.cacheable.with_ttl(left_ms), left_ms, found.cacheable.scope, outcome)
        return await self._fetch(found, fetch)

    async def _fetch(self, flight: Flight, fetch: Callable[[], Awaitable[bytes]]) -> Told:
        try:
            result = await fetch()
            return self._tell_result(flight.backend, result, flight.land(result))
        except asyncio.CancelledError:
            flight.close(was_left=True)
            raise
        finally:
            flight.close()

    def _tell_result(self, backend: Backend, result: bytes, outcome: CacheOutcome) -> Told:
        self._telemetry.cache_asked(backend.name, outcome)
        return Told((result,), *parse_freshness(result), outcome)

    def look(self, backend: Backend, key: Key, *, shares: bool = False) -> Kept | None:
        """What is kept under the key; or, if this asker `shares`, for everybody. Nothing that a client must not keep."""
        if self._backends.get(backend.name) is not backend:
            self._adopt(backend)
        kept = self._take(key)
        return self._take(key.shared) if kept is None and shares else kept

    def _take(self, key: Key) -> Kept | None:
        kept = self._entries.pop(key, None)
        if kept is None:
            return None
        now = self._clock()
        if now >= kept.until or kept.left_ms(now) < 1:
            self._size_bytes -= kept.size_bytes
            return None
        self._entries[key] = kept
        return kept

    async def join(self, backend: Backend, key: Key, *, shares: bool = False) -> Kept | Flight:
        """What another's request for the same was answered; else a flight: the caller is to ask, and to land it."""
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while (leader := self._leaders.get(key)) is not None:
            if not await leader.wait(until):
                break
            if leader.kept is not None:
                return leader.kept
            if not leader.was_left:
                break
        flight = Flight(self.keep, backend, key, asker_may_share=shares)
        self._flights.add(flight)
        if (backend.name, key.method) not in self._unkept:
            self._leaders.setdefault(key, flight)
        return flight

    # ---- keeping

    def keep(self, flight: Flight, result: bytes | None, headers: Headers) -> Kept | None:
        """The flight has landed: what is kept of it."""
        self._flights.discard(flight)
        if self._leaders.get(flight.key) is flight:
            del self._leaders[flight.key]
        if result is None:
            return None
        backend, key, cacheable = flight.backend, flight.key, parse_cacheable(result)
        if cacheable is None:
            self._unkept.add((backend.name, key.method))
            return None
        self._unkept.discard((backend.name, key.method))
        if flight.is_stale or self._backends.get(backend.name) != backend:
            return None
        now = self._clock()
        kept = Kept(cacheable, headers, now + lifetime_seconds(backend, cacheable), now + cacheable.ttl_ms / 1000)
        self._put(key.shared if cacheable.scope == "public" and flight.asker_may_share else key, kept)
        self._telemetry.cache_sized(len(self._entries), self._size_bytes)
        return kept

    def _put(self, key: Key, kept: Kept) -> None:
        self._remove(key)
        if kept.size_bytes > self.bounds.max_bytes:
            return
        self._entries[key] = kept
        self._size_bytes += kept.size_bytes
        while len(self._entries) > self.bounds.max_entries or self._size_bytes > self.bounds.max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: Key) -> None:
        if (kept := self._entries.pop(key, None)) is not None:
            self._size_bytes -= kept.size_bytes

    # ---- dropping

    def _adopt(self, backend: Backend) -> None:
        """The backend as this asker's site has it. Where it was changed, what was kept of it before is dropped."""
        before = self._backends.get(backend.name)
        self._backends[backend.name] = backend
        if before is None:
            for change in Change:
                self.tidings.hear(_name(backend.name, change), partial(self.drop, backend.name, change))
        elif before != backend:
            self._drop(lambda key: key.backend == backend.name)

    def depend(self, whole: str, parts: Iterable[str]) -> None:
        """What is kept of `whole` was made of these backends' answers: it goes with theirs."""
        for part in parts:
            self._wholes.setdefault(part, set()).add(whole)

    def drop(self, backend: str, change: Change) -> None:
        """Forgets what the change is about, also what is on its way: it was asked before."""
        methods, names = CHANGED_METHODS[change], {backend, *self._wholes.get(backend, ())}
        self._drop(lambda key: key.backend in names and key.method in methods)

    def _drop(self, is_meant: Callable[[Key], bool]) -> None:
        for key in [key for key in self._entries if is_meant(key)]:
            self._remove(key)
        for flight in self._flights:
            if is_meant(flight.key):
                flight.is_stale = True
        for key in [key for key in self._leaders if is_meant(key)]:  # whoever asks from now on doesn't wait for them
            del self._leaders[key]
        self._telemetry.cache_sized(len(self._entries), self._size_bytes)

    def note_change(self, backend: str, change: Change) -> None:
        """The backend says that a list has changed: it is dropped here at once, and soon by all other workers."""
        self.drop(backend, change)
        self.tidings.tell(_name(backend, change))

    def noting(self, backend: str) -> Callable[[Change], None]:
        """`note_change` of that backend, for whoever reads a stream of its."""
        return partial(self.note_change, backend)

    async def invalidate(self, backend: str, change: Change) -> None:
        """As `note_change`, and returns when the others have been told, or not soon."""
        self.note_change(backend, change)
        await self.tidings.wait_told(_name(backend, change))


def _name(backend: str, change: Change) -> str:
    return f"changed {change} {backend}"
