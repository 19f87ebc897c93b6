"""Waits for what another process does, and no longer than a bound that only a broken build reaches."""

import time
from collections.abc import Callable
from typing import Final

BOUND_SECONDS: Final = 20.0


def until(is_so: Callable[[], bool]) -> None:
    """Asks again and again: another process rings no bell here."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it didn't come to be so"
        time.sleep(0.01)
