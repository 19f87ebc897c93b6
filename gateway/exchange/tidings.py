"""What one worker tells all others of: it is told once however often it happens meanwhile, and as soon as it can be."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gateway.policy.streams import LogAway
from gateway.ports import Invalidations

TELL_SECONDS: Final = 1.0
"""How long anybody waits for Redis to take the news: some of its time-outs. It is told all the same as soon as Redis is back."""

_REST_SECONDS: Final = (0.25, 0.5, 1.0, 2.0, 5.0)


class Tidings:
    """`invalidations` may be set later; None: there are no others."""

    def __init__(self, invalidations: Invalidations | None = None) -> None:
        self.invalidations = invalidations
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._to_tell: set[str] = set()

    def hear(self, name: str, take: Callable[[], None]) -> None:
        """From now on `take` is called when that is told, or may have been told unheard."""
        if self.invalidations is not None:
            self.invalidations.hear(name, take)

    def tell(self, name: str) -> None:
        """All workers are told."""
        if self.invalidations is None:
            return
        self._to_tell.add(name)
        if name not in self._telling:
            self._telling[name] = asyncio.get_running_loop().create_task(self._tell(self.invalidations, name))

    async def wait_told(self, name: str) -> None:
        """Returns when they have been told, or after `TELL_SECONDS`."""
        if (task := self._telling.get(name)) is not None:
            await asyncio.wait([task], timeout=TELL_SECONDS)

    async def _tell(self, invalidations: Invalidations, name: str) -> None:
        """Tells it until it is told; whatever comes meanwhile is told once more."""
        failures = 0
        try:
            while name in self._to_tell:
                self._to_tell.discard(name)
                try:
                    await invalidations.tell(name)
                    failures = 0
                except LogAway:
                    self._to_tell.add(name)
                    await asyncio.sleep(_REST_SECONDS[min(failures, len(_REST_SECONDS) - 1)])
                    failures += 1
        finally:
            del self._telling[name]

    async def close(self) -> None:
        """Tells nobody any more."""
        tasks = list(self._telling.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
