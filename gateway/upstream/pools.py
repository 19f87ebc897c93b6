"""The connections to one endpoint: which are busy, which idle, and when each has had its time.

Knows counting, ages and time-outs. Doesn't know how to dial (it is given a dialler) or what is said on a connection.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.policy.backends import Endpoint, Timeouts
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.connections import Connection

Dial = Callable[[Endpoint, Connection, float], Awaitable[None]]
"""Connects the connection to the endpoint within so many seconds, or raises `Failed`."""

LONGEST_SWEEP_SECONDS: Final = 1.0


def is_standing(timeouts: Timeouts) -> bool:
    """Whether a request with these time-outs asks for a stream that may be silent for ever."""
    return timeouts.idle_seconds == math.inf


class Pool:
    """Keep-alive connections to one endpoint. No request has a timer of its own: one coarse sweep looks after them all."""

    __slots__ = (
        "_calling",
        "_connecting",
        "_dial",
        "_sweep_seconds",
        "_sweeping",
        "busy",
        "endpoint",
        "idle",
        "loop",
        "name",
        "opening",
        "retired",
        "standing",
        "timeouts",
    )

    def __init__(self, name: str, endpoint: Endpoint, opening: bytes, dial: Dial) -> None:
        self.name = name
        self.endpoint = endpoint
        self.opening = opening  # of every request's head
        self.loop = asyncio.get_running_loop()
        self.busy: set[Connection] = set()
        self.standing: set[Connection] = set()  # of the busy ones: streams that nobody but their client ends
        self.idle: list[Connection] = []  # the last used at the end, and used first: the others grow old and go
        self.retired = False
        self.timeouts: Timeouts | None = None  # those that the sweep was last set for
        self._dial = dial
        self._connecting = 0
        self._calling = 0  # of those, for calls
        self._sweep_seconds = LONGEST_SWEEP_SECONDS
        self._sweeping: asyncio.TimerHandle | None = None

    def take(self, now: float) -> Connection | None:
        """An idle connection that may be used again; those that may not are dropped on the way."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable(now):
                self.busy.add(connection)
                return connection
            connection.abort()
        return None

    async def connect(self, max_connections: int, timeouts: Timeouts) -> Connection:
        """A new connection. Raises `Failed`: OVERLOADED at the cap, UNREACHABLE when it can't be made in time.

        Standing streams neither count nor are counted: there is one for each session, and calls must not wait for them.
        """
        is_call = not is_standing(timeouts)
        if is_call and len(self.busy) - len(self.standing) + self._calling >= max_connections:
            raise Failed(
                Outcome.OVERLOADED,
                f"Backend {self.name!r} already has {max_connections} calls in progress. Try again later.",
            )
        connection = Connection(self, self.loop)
        self._connecting += 1
        self._calling += is_call
        try:
            await self._dial(self.endpoint, connection, timeouts.connect_seconds)
        finally:
            self._connecting -= 1
            self._calling -= is_call
        self.busy.add(connection)
        self.sweep_for(timeouts)
        return connection

    def note_begun(self, connection: Connection, timeouts: Timeouts) -> None:
        """A request with these time-outs was written on a busy connection."""
        if is_standing(timeouts):
            self.standing.add(connection)

    def release(self, connection: Connection) -> None:
        self.busy.discard(connection)
        self.standing.discard(connection)
        if self.retired:
            connection.abort()
        else:
            self.idle.append(connection)

    def forget(self, connection: Connection) -> None:
        self.busy.discard(connection)
        self.standing.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def retire(self) -> None:
        """No new calls: idle connections close now, busy ones when their call is over."""
        self.retired = True
        while self.idle:
            self.idle.pop().abort()

    def abort(self) -> None:
        """Ends everything at once; whoever waits is told `Failed`."""
        self.retire()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self.busy):
            connection.fail(
                Outcome.DRAINING, f"The gateway is shutting down; its call to backend {self.name!r} was cut."
            )

    @property
    def is_empty(self) -> bool:
        return not self.busy and not self.idle and not self._connecting

    def sweep_for(self, timeouts: Timeouts) -> None:
        """Sweeps often enough from now on that none of these time-outs is overrun by more than a quarter of itself."""
        self.timeouts = timeouts
        seconds = min(LONGEST_SWEEP_SECONDS, timeouts.idle_seconds / 4, timeouts.total_seconds / 4)
        if self._sweeping is None or seconds < self._sweep_seconds:
            if self._sweeping is not None:
                self._sweeping.cancel()
            self._sweep_seconds = seconds
            self._sweeping = self.loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [c for c in self.busy if c.is_overdue(now)]:
            connection.time_out(now)
        for connection in [c for c in self.idle if c.expires <= now]:
            connection.abort()
        if self.is_empty:
            self._sweep_seconds = LONGEST_SWEEP_SECONDS
        self._sweeping = None if self.is_empty else self.loop.call_later(self._sweep_seconds, self._sweep)
