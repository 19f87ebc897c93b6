"""An event loop whose time passes only when nothing else is left to do: a minute takes no longer than what happens in it.

Every run with the same calls has the same history: nothing in it depends on how fast the machine is.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]  # whichever the platform has
    """Waits for nobody: instead of waiting, it says for how long it would have."""

    slept_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen: the simulated fleet hangs")
        self.slept_seconds += max(timeout, 0.0)
        return []


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """`asyncio.sleep` and every other timer go by its own time, which begins at 1000."""

    def __init__(self) -> None:
        self._fake = _Selector()
        super().__init__(self._fake)

    def time(self) -> float:
        return 1000.0 + self._fake.slept_seconds

    def pass_time(self, seconds: float) -> None:
        """Lets happen what happens within so many seconds."""
        self.run_until_complete(asyncio.sleep(seconds))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work, and of all else that is ready by then."""
        return self.run_until_complete(work)

    def settle(self) -> None:
        """Lets happen all that waits for no time to pass."""
        self.pass_time(0.001)
