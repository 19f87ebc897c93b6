"""An answer that is kept, and a request whose answer may be: those who ask the same wait for it."""

import asyncio
from collections.abc import Callable

import msgspec

from gateway.policy.backends import Backend
from gateway.policy.caches import ENTRY_BYTES, CacheOutcome, Headers, Key
from gateway.protocol.cacheables import Cacheable


class Kept(msgspec.Struct, frozen=True, gc=False):
    """An answer that is kept. `until`: here; `stale`: at the clients, by the backend's own word."""

    cacheable: Cacheable
    headers: Headers  # of the reply
    until: float
    stale: float

    @property
    def size_bytes(self) -> int:
        return ENTRY_BYTES + len(self.cacheable.before) + len(self.cacheable.after)

    def left_ms(self, now: float) -> int:
        """What is left of its `ttlMs`. A client that were told the whole of it again would keep it for up to twice as long."""
        return int((self.stale - now) * 1000)


Keep = Callable[["Flight", bytes | None, Headers], Kept | None]
"""What is kept of a flight that has landed with that result."""


class Flight:
    """One request under way whose answer may be kept. `land` or `close` it, whatever becomes of it."""

    __slots__ = ("_arrived", "_keep", "asker_may_share", "backend", "is_stale", "kept", "key", "outcome", "was_left")

    def __init__(self, keep: Keep, backend: Backend, key: Key, *, asker_may_share: bool) -> None:
        self._keep = keep
        self._arrived = asyncio.Event()
        self.backend = backend
        self.key = key
        self.asker_may_share = asker_may_share
        self.is_stale = False  # something changed since it was asked
        self.kept: Kept | None = None
        self.was_left = False
        self.outcome: CacheOutcome | None = None

    def land(self, result: bytes | None, headers: Headers = ()) -> CacheOutcome:
        """The answer is here, and is kept if it may be; None: it was no result. `headers`: of a reply that has it."""
        if self.outcome is None:
            self.kept = self._keep(self, result, headers)
            self.outcome = CacheOutcome.UNKEPT if self.kept is None else CacheOutcome.MISS
            self._arrived.set()
        return self.outcome

    def close(self, *, was_left: bool = False) -> None:
        """There will be no answer; `was_left`: since nobody waits for it any more. Harmless after `land`."""
        if self.outcome is None:
            self.was_left = was_left
            self.land(None)

    async def wait(self, until: float) -> bool:
        """Whether it came to its end by then."""
        try:
            async with asyncio.timeout_at(until):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True
