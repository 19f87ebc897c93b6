"""One Redis server as its callers see it: two lines, a breaker, and what ails it.

Two lines, because a replay of a megabyte must not keep an append of a hundred bytes waiting.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from redis.exceptions import ResponseError

from gateway.policy import breakers
from gateway.policy.streams import CREATE_SHARE, Ailment, LogAway, Trouble
from gateway.state.dials import DIAL_SECONDS
from gateway.state.lines import Command, Dial, Line, LineBroken, Spawn
from gateway.state.witnesses import Witness

REDIAL_SECONDS: Final = 0.5


class Node:
    """Belongs to one event loop. `used_bytes` of `max_bytes` (0: unbounded) is its memory, and `share` how much of its room for
    streams that is, as it was told last."""

    def __init__(self, name: str, dial: Dial, spawn: Spawn, witness: Witness, on_failure: Callable[[], None]) -> None:
        self.name = name
        self.dial = dial
        self.used_bytes = 0
        self.max_bytes = 0
        self.share = 0.0
        self._spawn = spawn
        self._witness = witness
        self._on_failure = on_failure
        self._clock = asyncio.get_running_loop().time
        self._breaker = breakers.CLOSED
        self._lines: dict[bool, Line] = {}
        self._prober: asyncio.Task[None] | None = None
        self._redialled_at = -REDIAL_SECONDS
        self._troubles: dict[Trouble, tuple[float, str]] = {}  # since when, and why

    @property
    def is_away(self) -> bool:
        """Whether it lately didn't answer: nobody asks until it has been tried."""
        return breakers.is_open(self._breaker)

    @property
    def troubles(self) -> frozenset[Trouble]:
        return frozenset(self._troubles)

    def ailments(self) -> list[Ailment]:
        """The same, with why and for how long."""
        now = self._clock()
        return [Ailment(self.name, trouble, why, now - since) for trouble, (since, why) in self._troubles.items()]

    def ask(
        self, command: Command, *, is_bulk: bool = False, before: Command | None = None
    ) -> "asyncio.Future[object]":
        """As `Line.ask`. Raises `LogAway` where nobody is to ask now."""
        if self.is_away:
            raise LogAway(Trouble.AWAY, f"{self.name} did not answer lately")
        return self._line(is_bulk).ask(command, before=before)

    def succeed(self, *, is_write: bool) -> None:
        """It answered, and did what it was asked."""
        if self._troubles and is_write:
            self.end_trouble(Trouble.READ_ONLY)
            self.end_trouble(Trouble.REFUSED)
            if self.share < CREATE_SHARE:
                self.end_trouble(Trouble.FULL)

    def fail(self, detail: str) -> None:
        """It didn't answer: nobody asks again until a probe is answered."""
        self._breaker = breakers.fail(self._breaker, self._clock())
        self.hang_up()
        self.note_trouble(Trouble.AWAY, detail)
        self._on_failure()
        if self._prober is None or self._prober.done():
            self._prober = self._spawn(self._probe())

    def hang_up(self) -> None:
        """Drops the connections: the next call dials anew, and so asks anew who is the primary."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def redial(self) -> None:
        """Hangs up because this seems the wrong server; not again and again, because there may be no better one."""
        if self._clock() >= self._redialled_at + REDIAL_SECONDS:
            self._redialled_at = self._clock()
            self.hang_up()

    def close(self) -> None:
        """It is no longer needed."""
        if self._prober is not None:
            self._prober.cancel()
        self.hang_up()

    def retire(self) -> None:
        """Nothing lives there any more: what ailed it is nobody's trouble."""
        for trouble in self.troubles:
            self.end_trouble(trouble)
        self.close()

    def note_trouble(self, trouble: Trouble, detail: str) -> None:
        if trouble not in self._troubles:
            self._troubles[trouble] = self._clock(), detail
            self._witness.degraded(self.name, trouble, detail)

    def end_trouble(self, trouble: Trouble) -> None:
        if (noted := self._troubles.pop(trouble, None)) is not None:
            self._witness.restored(self.name, trouble, self._clock() - noted[0])

    def _line(self, is_bulk: bool) -> Line:
        line = self._lines.get(is_bulk)
        if line is None or line.is_broken:
            line = self._lines[is_bulk] = Line(self.dial, self._spawn)
        return line

    async def _probe(self) -> None:
        while self.is_away:
            await asyncio.sleep(max(0.0, self._breaker.probe_at - self._clock()))
            self._breaker = breakers.probe(self._breaker, self._clock())
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    await self._line(False).ask(("PING",))
            except (LineBroken, ResponseError, TimeoutError):
                self.hang_up()
                self._breaker = breakers.fail(self._breaker, self._clock())
                self._on_failure()
            else:
                self._breaker = breakers.succeed(self._breaker)
                self.end_trouble(Trouble.AWAY)
