"""A client that has more than the log: how long what it has is waited for. Pure; `now` is given.

While the log is away a pump serves its attached client on, so a client may come back with an event that isn't in the log
yet. Or that never was: anybody with a session can make an event id up.
"""

import math
from typing import Final

LEAD_SECONDS: Final = 20.0
"""From when the log was read again. A pump tries once a second to write what waits, and asks a Redis that was away once a second
whether it is back. One that can't reach it, or is stopped, for so long has lost its stream to another worker (two heartbeats' TTL
and a look, 14 s unless configured otherwise), and with it these events."""

SETTLE_SECONDS: Final = 5.0
"""From when the log has grown. A pump writes all that waits in one append, so what isn't there then was never sent; only an
append that timed out and was done all the same may have come before that one, by the two seconds that the pump may take."""


class Lead:
    """Of one client over one log."""

    def __init__(self) -> None:
        self._head: int | None = None  # as the log was when the lead was noticed
        self._until = math.inf

    def is_awaited(self, head: int, now: float) -> bool:
        """Whether to wait on, the log's last event being that number."""
        if self._head is None:
            self._head, self._until = head, now + LEAD_SECONDS
        elif head > self._head:
            self._head, self._until = head, min(self._until, now + SETTLE_SECONDS)
        return now < self._until

    def end(self) -> None:
        """The log has it."""
        self._head, self._until = None, math.inf

    def seconds_left(self, now: float) -> float:
        """After which the log is to be read again; infinite where there is no lead."""
        return max(0.0, self._until - now)
