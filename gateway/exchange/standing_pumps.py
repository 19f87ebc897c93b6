"""The pump of a session's standalone GET stream: backend → log, and to the client that is attached, if one is.

It goes on while somebody follows the stream on any replica, and a while longer (`turns`). A connection to the backend that
breaks, or that the backend closes, is opened again and never shown to the client; only a refusal for good ends the stream.
What the backend has to say between two connections it says again where it gave event ids; where it gave none that is lost,
and nobody can tell.
"""

import asyncio
import contextlib
import random
from typing import Final

from gateway.exchange.calls import Call
from gateway.exchange.durables import LONGEST_RETRY_SECONDS
from gateway.exchange.exchanges import Gateway
from gateway.exchange.gatherings import open_again
from gateway.exchange.journals import BEHIND_SECONDS, Fenced, Journal
from gateway.exchange.pipes import check
from gateway.exchange.pumps import HandOver
from gateway.exchange.standing_calls import Refused
from gateway.exchange.turns import Turns
from gateway.policy.streams import Appended, Facts, Hold, LogAway, SessionDigest
from gateway.ports import EventLog, StreamTurn
from gateway.protocol.cursors import Cursor
from gateway.protocol.events import Event, encode_event, parse_event
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.sessions import Session
from gateway.protocol.streams import StreamReader

COME_BACK_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits before a connection is opened again; the last one for ever. Each is shortened by chance to half at most, or all
streams of a backend that restarts would come at once. The first is long enough to learn that the client ended the session."""

STEADY_SECONDS: Final = 10.0
"""A connection that lasted so long, or brought something, was a good one: the next is opened after the first wait."""

SILENCE_SECONDS: Final = 3600.0
"""How long the backend is waited for in one go. Nothing is done then: a timer can't be had without an end."""


class StandingPump:
    """One session's stream. `call` is None where it was taken over, or is to be opened again."""

    __slots__ = (
        *(
            "_call",
            "_exchange_id",
            "_facts",
            "_gateway",
            "_hand_over",
            "_is_closed",
            "_is_unwanted",
            "_journal",
            "_leave",
        ),
        *("_log", "_noted_cursor", "_session", "_task", "_turns", "_vain", "head", "reader"),
    )

    can_be_released = True

    def __init__(
        self,
        gateway: Gateway,
        log: EventLog,
        turns: Turns,
        journal: Journal,
        facts: Facts,
        session: Session,
        head: Cursor,
        call: Call | None,
        upstream_cursor: bytes,
        exchange_id: str,
    ) -> None:
        """`session`: as its client's token has it, healed or not. `head`: of the log."""
        self._gateway = gateway
        self._log = log
        self._turns = turns
        self._journal = journal
        self._facts = facts
        self._session = session
        self._call = call
        self._exchange_id = exchange_id
        self._noted_cursor = upstream_cursor
        self._vain = 0  # connections, since the last good one
        self._hand_over: HandOver | None = None
        self._is_closed = False
        self._is_unwanted = False
        self._task: asyncio.Task[None] | None = None
        self.head = head
        self.reader = self._begin_reading(upstream_cursor)
        self._leave = turns.pump(self)

    @property
    def session(self) -> SessionDigest:
        return self._facts.session

    @property
    def hold(self) -> Hold:
        return self._journal.hold

    # ---- its follower

    def attach(self, cursor: Cursor) -> HandOver | None:
        """What comes behind the cursor, handed over from here; None where the log has to be read first."""
        if not self.can_attach(cursor):
            return None
        self._let_go()
        self._hand_over = HandOver()
        self._hand_over.cursor = cursor
        return self._hand_over

    def can_attach(self, cursor: Cursor) -> bool:
        """Whether all up to there is in the log, and nothing behind it."""
        return not self._is_closed and cursor == self.head and self._journal.is_complete

    def _let_go(self) -> None:
        if self._hand_over is not None:
            self._hand_over.close()
            self._hand_over = None

    def end(self) -> None:
        """Nobody wants the stream any more: it ends for the whole fleet."""
        if not self._is_unwanted:
            self._is_unwanted = True
            if self._task is not None:
                self._task.cancel()

    # ---- its life

    async def run(self) -> None:
        """Never raises but when cancelled: then the stream is released, for whoever follows it to take over."""
        self._task = asyncio.current_task()
        turned = self._gateway.telemetry.stream_turned
        try:
            if not self._is_unwanted:
                await self._read_for_ever()
            await self._finish()
        except Fenced:
            turned(StreamTurn.FENCED)
        except Refused:
            await self._finish()
        except asyncio.CancelledError:
            if not self._is_unwanted:
                await self._release()
                raise
            if self._task is not None:
                self._task.uncancel()
            await self._finish()
        except Exception as error:  # a task's root: a bug must not leave a stream open for ever
            turned(StreamTurn.BROKEN, repr(error))
            await self._finish()
        finally:
            self.close()

    def close(self) -> None:
        """The end, also of a pump that was cancelled before it ran. Harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            self._leave()
        self._let_go()
        self._end_call(Outcome.CLIENT_LEFT)

    def _end_call(self, outcome: Outcome) -> None:
        if self._call is not None:
            self._call.end(outcome)
            self._call = None

    async def _finish(self) -> None:
        self._is_closed = True  # nobody attaches any more
        self._end_call(Outcome.CLIENT_LEFT)
        try:
            await self._turns.end(self.session, self.hold)
        except LogAway:
            self._turns.owe(self.session, self.hold)
        self._leave()

    async def _release(self) -> None:
        self._is_closed = True
        self._end_call(Outcome.CLIENT_LEFT)  # first: a backend may serve one stream to one connection at a time
        with contextlib.suppress(LogAway):
            await self._log.release(self.hold)
            self._gateway.telemetry.stream_turned(StreamTurn.RELEASED)
        self._leave()

    async def revive(self) -> None:
        """Redis came back without the log: it is begun anew, and goes on where it was. Raises `LogAway` never."""
        made = await self._log.create(self.hold, self._facts, [], upstream_cursor=self.reader.cursor)
        if made.outcome is Appended.OK and made.head < self.head.seq:
            await self._log.append(self.hold, self.head.seq + 1, [], is_across_hole=True)
        if made.outcome is Appended.OK:
            self._journal.revive()

    # ---- backend → log

    def _begin_reading(self, cursor: bytes) -> StreamReader:
        reader = StreamReader(self._gateway.site.limits.event_bytes, (), is_open_ended=True)
        reader.on_change = self._gateway.caches.noting(self._facts.backend)
        reader.cursor = cursor
        return reader

    async def _read_for_ever(self) -> None:
        """Raises `Refused` where the backend will have no such stream any more."""
        while True:
            if self._call is not None:
                outcome = await self._read(self._call)
                self._end_call(outcome)
                await self._pause()
            await self._open_again()

    async def _read(self, call: Call) -> Outcome:
        """One connection, to its end."""
        clock, journal = self._gateway.clock, self._journal
        began, outcome, reader = clock(), Outcome.OK, self.reader
        try:
            while True:
                piece = await call.answer.next_chunk(BEHIND_SECONDS if journal.is_behind else SILENCE_SECONDS)
                if piece == b"":
                    break
                await self._write(reader.feed(piece) if piece else [])
                check(reader)
        except Failed as failure:
            outcome = failure.outcome
        is_good = reader.events > 0 or clock() - began >= STEADY_SECONDS
        self._vain = 0 if is_good else self._vain + 1
        return outcome

    async def _write(self, blocks: list[bytes]) -> None:
        """Log first, client then. How often the backend wants to be asked is not its client's affair."""
        payloads = [encode_event(Event(event.data, event.event)) for event in map(parse_event, blocks) if event.data]
        journal, cursor = self._journal, self.reader.cursor
        if payloads or journal.is_behind:
            given = await journal.write(payloads, cursor, is_final=False)
            self._noted_cursor = cursor
            await self._give(given)
            if journal.is_lost:
                await self.revive()
        elif cursor != self._noted_cursor:
            self._noted_cursor = cursor
            await journal.note(cursor)
        self._gateway.telemetry.stream_events("appended", len(payloads))

    async def _give(self, given: bytes) -> None:
        """To the attached client. One that is too slow reads the log instead, in its own time."""
        hand_over = self._hand_over
        if given:
            self.head = self._journal.head
        if hand_over is None or not given:
            return
        if not self._journal.is_complete:
            await hand_over.put(given)
        elif not hand_over.offer(given):
            self._hand_over = None
            return
        hand_over.cursor = self.head

    # ---- to the backend, again

    async def _pause(self) -> None:
        """Before the next connection, and meanwhile what waits for Redis is written."""
        wait_seconds = COME_BACK_SECONDS[min(self._vain, len(COME_BACK_SECONDS) - 1)]
        wait_seconds *= 1 - random.random() / 2  # noqa: S311  # spreads, hides nothing
        wished_seconds = min(self.reader.retry_seconds or 0.0, LONGEST_RETRY_SECONDS)
        await asyncio.sleep(max(wait_seconds, wished_seconds))
        if self._journal.is_behind:
            await self._write([])

    async def _open_again(self) -> None:
        """Raises `Refused` where the backend has no such stream, now or ever."""
        while self._call is None:
            try:
                self._call = await open_again(
                    self._gateway, self._facts, self._session, self.reader.cursor, self._exchange_id
                )
            except Failed:
                self._vain += 1
                await self._pause()
        self.reader = self._begin_reading(self.reader.cursor)
