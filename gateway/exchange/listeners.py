"""One client at its session's standing stream: fed from the pump where that is here, and else from the log.

It reads the log up to its end, and then attaches to the pump without a gap, for as long as the two keep step; whatever
parts them, the log has what is missing. Its turn ends with its connection, or when a newer GET of the session comes.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.exchange.exchanges import Exchange
from gateway.exchange.pipes import SILENCE_SECONDS
from gateway.exchange.pumps import HandOver
from gateway.exchange.resumes import HOLD_SECONDS, RETRY_SECONDS, SSE_HEADERS, Follower
from gateway.exchange.sessions import digest_session
from gateway.exchange.standing_pumps import StandingPump
from gateway.exchange.standing_takeovers import take_over
from gateway.exchange.turns import Turns
from gateway.policy.streams import NOBODY, LogAway, Reading, Standing
from gateway.ports import EventLog, StreamTurn
from gateway.protocol import headers as h
from gateway.protocol.cursors import START, Cursor, EventId, StreamName, encode_event_id
from gateway.protocol.events import COMMENT, PRIMER, message_event, with_id
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.sessions import Session

LOOK_SECONDS: Final = 60.0
"""How often a follower of another replica's stream reads the log though nobody woke it. Waking is lost only while Redis fails
over, and standing streams are many."""

BEGIN_SECONDS: Final = 10.0
"""How long the GET that has registered a stream may take to open it. Beyond: its replica has died, and another one opens it."""

GLANCE_SECONDS: Final = 0.5
"""How often is looked whether it has."""

RETURN_SECONDS: Final = 3.0
"""How long a log that was there, and isn't, is waited for: where Redis came back empty its pump begins it anew."""

LOST: Final = message_event(
    b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","logger":"gateway",'
    b'"data":"notifications and requests of this session were lost"}}'
)
"""No request is there to be answered with an error: this is the one message by which a client can be told."""


def _nothing() -> None:
    """There is nothing to undo."""


class Listening(Follower):
    """One client's turn at its session's standing stream."""

    def __init__(self, exchange: Exchange, log: EventLog, turns: Turns, session: Session) -> None:
        """`session`: as the client's token has it."""
        super().__init__(exchange, log, EventId(StreamName(""), START))
        self._token_session = session
        self.exchange = exchange
        self.log = log
        self.turns = turns
        self.session = digest_session(exchange.token)
        self.standing: Standing | None = None
        self.is_fed = False
        self.greeting = b""  # the stream's first event, for the client that it was opened for
        self.is_over = False
        self._is_past = False  # another stream stands: what is left of this one is the rest
        self._headers: h.Headers | None = None
        self._closed: Callable[[], None] = _nothing
        self._hung: tuple[StreamName, Callable[[], None]] | None = None
        self._hand_over: HandOver | None = None

    def end(self) -> None:
        """Another has the turn, or the session is over."""
        self.is_over = True
        self.ring()
        if self._hand_over is not None:
            self._hand_over.detach()
            self._hand_over.close()

    @property
    def is_sent_away(self) -> bool:
        """Whether it was us who cut it: the worker drains."""
        return self.is_fed and not self.exchange.client.left and self.exchange.gateway.standing.is_draining

    def close(self) -> None:
        """The client has left, or has got all."""
        self._hang_down()
        self.forget_owner()
        self._closed()

    async def join(self, candidate: StreamName, gone: StreamName | None) -> Standing:
        """Takes the turn at whichever stream stands: the candidate, if there is none but the one that is gone. Raises `LogAway`."""
        owners = self.exchange.gateway.owners
        assert owners is not None
        self.standing = standing = await self.turns.marks.join(self.session, candidate, gone, owners.me)
        self._stream = standing.stream
        self.turns.seat(self)
        return standing

    async def resume(self, event_id: EventId) -> bool:
        """What follows the event. False: nothing does, and the client has been sent nothing yet."""
        self._stream, self._cursor = event_id
        standing = await self.join_held(event_id.stream)
        self._stream = event_id.stream
        self._is_past = standing.stream != event_id.stream
        if event_id.cursor != standing.delivered:
            self._move(event_id.cursor)  # it knows best; whoever it took the turn from may not have noted it in time
        return await self.feed(event_id.cursor, patience_seconds=0.0 if self._is_past else RETURN_SECONDS)

    async def join_held(self, candidate: StreamName, gone: StreamName | None = None) -> Standing:
        """As `join`; while the log is away the client is held, as at any resume."""
        until = self.exchange.gateway.clock() + HOLD_SECONDS
        while True:
            try:
                return await self.join(candidate, gone)
            except LogAway:
                if self.exchange.gateway.clock() > until:
                    raise Failed(Outcome.UNREACHABLE, "what was logged of this stream can't be read now") from None
                await self.start()
                await self._wait(RETRY_SECONDS)

    async def feed(
        self, cursor: Cursor, headers: h.Headers | None = None, *, patience_seconds: float = BEGIN_SECONDS
    ) -> bool:
        """What is behind the cursor, as it comes, as long as it is this client's turn.

        `headers`: of the reply, where it was opened for this client. `patience_seconds`: how long the log may take to be
        there. False: it ended, or never began, and the client has been sent nothing yet.
        """
        exchange, client = self.exchange, self.exchange.client
        self._cursor, self._headers = cursor, headers
        self._open_reply()
        is_there = headers is not None or await self._await_log(patience_seconds)
        if headers is not None:
            await self.start()
        while is_there and not self.is_over:
            if (hand_over := self._attach()) is not None:
                await self._take(hand_over)
            else:
                is_there = await self._read_on()
        if not client.started and not self.is_over:
            return False
        await self.start()
        exchange.record.outcome = Outcome.OK
        await client.end()
        return True

    async def end_if_started(self) -> bool:
        """Whether the client was held, so that all it can be told now is to ask again."""
        if self.exchange.client.started:
            self.exchange.record.outcome = Outcome.OK
            await self.exchange.client.end()
        return self.exchange.client.started

    def _open_reply(self) -> None:
        if self.is_fed:
            return
        self.is_fed = True
        gateway = self.exchange.gateway
        self._closed = gateway.telemetry.stream_opened(self.exchange.record, "get")
        if (task := asyncio.current_task()) is not None:
            gateway.standing.add(task)

    async def start(self) -> None:
        """The head of the reply, and where the client is; harmless when repeated."""
        if self.exchange.client.started:
            return
        self.exchange.record.status = 200
        headers = self._headers or [*SSE_HEADERS, *self.exchange.reply_headers]
        await self.exchange.client.start(200, headers, until_close=True)
        if self.has_primers and self._cursor != START:
            event_id = encode_event_id(self._stream, self._cursor).encode("ascii")
            await self.exchange.client.write(self.greeting or with_id(PRIMER, event_id))
        self._headers, self.greeting = None, b""  # idle streams are many

    # ---- from the pump, where it is here

    def _attach(self) -> HandOver | None:
        pump = self._find_pump()
        return None if pump is None or self._is_past else pump.attach(self._cursor)

    def _find_pump(self) -> StandingPump | None:
        pump = self.turns.find_pump(self.session)
        return pump if isinstance(pump, StandingPump) and pump.hold.stream == self._stream else None

    async def _take(self, hand_over: HandOver) -> None:
        """What the pump hands over, until it has ended, or lets us go because we are slow: the log has the rest."""
        client, record = self.exchange.client, self.exchange.record
        self._hand_over = hand_over
        self._hang_down()  # who is attached needs no waking
        self.forget_owner()
        self._owner = NOBODY
        try:
            await self.start()
            while (data := await hand_over.take(SILENCE_SECONDS)) != b"":
                if data is None:
                    await client.write(COMMENT)
                    continue
                cursor = hand_over.cursor
                await client.write(data)
                record.bytes_out += len(data)
                record.events += cursor.seq - self._cursor.seq
                self._move(cursor)
        finally:
            hand_over.detach()
            self._hand_over = None

    def _move(self, cursor: Cursor) -> None:
        self._cursor = cursor
        if self.standing is not None and self.standing.stream == self._stream:
            self.standing = msgspec.structs.replace(self.standing, delivered=cursor)
            self.turns.note(self)

    # ---- from the log

    async def _await_log(self, patience_seconds: float) -> bool:
        """Whether it is there, or comes to be: the GET that registered it may be about to open it, its pump to revive it."""
        clock = self.exchange.gateway.clock
        until = clock() + patience_seconds
        self._hang_up()
        while await self._read() is None:
            if clock() >= until or self.is_over:
                return False
            await self._bell.wait(GLANCE_SECONDS)
            with contextlib.suppress(LogAway):
                standing = await self.turns.marks.standing(self.session)
                if patience_seconds == BEGIN_SECONDS and (standing is None or standing.stream != self._stream):
                    return False  # the backend refused
        return True

    async def _read_on(self) -> bool:
        """The next that the log has, or a wait for it. False: nothing more will come."""
        self._hang_up()
        reading = await self._read()
        if reading is None:
            return await self._await_log(RETURN_SECONDS)
        if not self._is_ours(reading) or reading.facts.request_id:
            return False
        if not reading.is_continuous and not self._is_awaited(reading):
            await self._skip(reading)
        elif reading.entries:
            await self.start()
            await self._pass_on(reading)
            self._move(self._cursor)
        elif reading.is_at_end or self._is_past:
            return False
        else:
            await self._rest(reading)
        return True

    async def _skip(self, reading: Reading) -> None:
        """What lay between is gone: the client is told, and gets what is still there."""
        await self.start()
        self.exchange.gateway.telemetry.stream_turned(StreamTurn.LOSS_REPORTED)
        await self.exchange.client.write(LOST)
        self._move(reading.floor)

    async def _rest(self, reading: Reading) -> None:
        """Until there is something new, or it is time to look; a silent client gets a comment."""
        await self.start()
        await self._mind_owner(reading)
        pump, clock = self._find_pump(), self.exchange.gateway.clock
        if pump is not None and pump.can_attach(self._cursor):
            return
        until = clock() + min(LOOK_SECONDS, self._lead.seconds_left(clock()))
        while not await self._bell.wait(min(SILENCE_SECONDS, until - clock())) and clock() < until:
            await self.exchange.client.write(COMMENT)

    def _hang_up(self) -> None:
        """From now on we are woken when the stream has something new."""
        if self._hung is not None and self._hung[0] != self._stream:
            self._hang_down()
        if self._hung is None:
            self._hung = (self._stream, self.log.wake(self._stream, self.ring))

    def _hang_down(self) -> None:
        if self._hung is not None:
            self._hung[1]()
            self._hung = None

    async def _take_over(self, epoch: int) -> None:
        gateway = self.exchange.gateway
        if not gateway.standing.is_draining and gateway.pumps.reserve(self._stream):
            request_id = self.exchange.record.request_id
            await gateway.pumps.finish(
                take_over(gateway, self.log, self.turns, self._stream, epoch, self._token_session, request_id)
            )
