"""Resume: the rest of a durable stream, from the log, on any replica.

A resume begins with an event that has the presented id and no data: without it the TypeScript client, cut again before the
next event, forgets where it was (design §7). While Redis is away it is held, with comments, since the SDKs give up after two
errors in quick succession.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.exchange.bells import Bell
from gateway.exchange.durables import KEEP_SECONDS
from gateway.exchange.exchanges import Exchange
from gateway.exchange.journals import VERSION_WITH_PRIMERS
from gateway.exchange.pipes import SILENCE_SECONDS
from gateway.exchange.sessions import digest_session
from gateway.exchange.standing import come_back
from gateway.exchange.takeovers import take_over
from gateway.policy.leads import Lead
from gateway.policy.streams import NOBODY, LogAway, Owner, Reading, State
from gateway.ports import EventLog, StreamTurn
from gateway.protocol.cursors import Cursor, EventId, StreamName, encode_event_id
from gateway.protocol.errors import encode_error
from gateway.protocol.events import COMMENT, PRIMER, message_event, with_id
from gateway.protocol.outcomes import Failed, Outcome, Rejected

LOOK_SECONDS: Final = 5.0
"""How often a follower reads the log though nobody woke it."""

HOLD_SECONDS: Final = 60.0
"""How long a resume is held while the log is away. The client then resumes again."""

RETRY_SECONDS: Final = 0.5
"""Between two attempts to read a log that is away."""

SSE_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


async def relay_resume(exchange: Exchange, event_id: EventId) -> None:
    """The events behind `event_id`, as they come, to the end of the stream. Raises `Rejected`, `ClientLeft`."""
    log = exchange.gateway.log
    assert log is not None
    follower = Follower(exchange, log, event_id)
    leave = log.wake(event_id.stream, follower.ring)
    closed = exchange.gateway.telemetry.stream_opened(exchange.record, "resume")
    unfollow = exchange.gateway.pumps.orphans.follow(event_id.stream)
    exchange.client.cut_on_leave()
    standing = exchange.gateway.standing
    if (task := asyncio.current_task()) is not None and exchange.gateway.pumps.are_releasable:
        standing.add(task)
    try:
        await follower.run()
    except asyncio.CancelledError:
        if task is None or exchange.client.left or not standing.is_draining:
            raise
        task.uncancel()  # the worker drains: the stream ends here, and the client resumes elsewhere
        await follower.start()  # an error instead would make some clients give up
        if follower.has_primers:
            await exchange.client.write(come_back())
        await exchange.client.end()
    finally:
        leave()
        follower.forget_owner()
        unfollow()
        closed()


class Follower:
    """Feeds one client from the log, from a cursor on."""

    def __init__(self, exchange: Exchange, log: EventLog, event_id: EventId) -> None:
        self._exchange = exchange
        self._log = log
        self._stream: StreamName = event_id.stream
        self._cursor: Cursor = event_id.cursor
        self._bell = Bell()
        self._owner: Owner = NOBODY
        self._leave_owner: Callable[[], None] | None = None
        self._silent_seconds = 0.0
        self._kept_at = exchange.gateway.clock()
        self._lead = Lead()
        self.ring = self._bell.ring

    async def run(self) -> None:
        record = self._exchange.record
        reading = await self._read_first()
        if reading.is_continuous and reading.is_at_end and not reading.entries:
            # Nothing will come. 405 is the one answer after which the TypeScript client doesn't ask again, and the Python
            # client only twice; an empty stream would make the first loop.
            raise Rejected(Outcome.METHOD_NOT_ALLOWED, "the stream has ended, and this was its last event")
        await self.start()
        record.outcome = Outcome.OK
        while True:
            if not reading.is_continuous and not self._is_awaited(reading):
                return await self._end_with_loss(reading)
            if await self._pass_on(reading):
                self._exchange.is_settled = True
                return await self._exchange.client.end()
            if not reading.entries:
                await self._mind_owner(reading)
                await self._wait(self._look_seconds())
                await self._keep()
            again = await self._read()
            if again is None:
                return await self._end_with_loss(reading)
            reading = again

    async def _read_first(self) -> Reading:
        """The log as it stands, if it is this session's."""
        reading = await self._read()
        if reading is None or not self._is_ours(reading):
            raise Rejected(Outcome.UNKNOWN_SESSION, "this stream is not known: it ended long ago, or was lost")
        return reading

    def _is_ours(self, reading: Reading) -> bool:
        facts, session = reading.facts, self._exchange.session
        return (
            session is not None
            and facts.session == digest_session(self._exchange.token)
            and (facts.mount, facts.principal) == (session.mount, session.principal)
        )

    def _is_awaited(self, reading: Reading) -> bool:
        """Whether what the client has may still come into the log: its pump got ahead while the log was away."""
        is_ahead = self._cursor.seq > reading.head.seq and self._cursor.epoch == reading.epoch
        if not is_ahead or reading.state is not State.OPEN:
            return False
        return self._lead.is_awaited(reading.head.seq, self._exchange.gateway.clock())

    def _look_seconds(self) -> float:
        return min(LOOK_SECONDS, self._lead.seconds_left(self._exchange.gateway.clock()))

    async def _read(self) -> Reading | None:
        """What is behind the cursor. While the log is away the client is held, with comments. Raises `Failed`."""
        clock = self._exchange.gateway.clock
        until = clock() + HOLD_SECONDS
        while True:
            try:
                reading = await self._log.read(self._stream, self._cursor)
                if reading is not None and reading.is_continuous:
                    self._lead.end()
                return reading
            except LogAway:
                if clock() > until:
                    raise Failed(Outcome.UNREACHABLE, "what was logged of this stream can't be read now") from None
                await self.start()
                await self._wait(RETRY_SECONDS)

    @property
    def has_primers(self) -> bool:
        """Whether the client knows events without data; an older one would take them for messages."""
        session = self._exchange.session
        return session is not None and session.version >= VERSION_WITH_PRIMERS

    async def start(self) -> None:
        """The head of the reply, and where the client is; harmless when repeated."""
        exchange = self._exchange
        if exchange.client.started:
            return
        exchange.record.status = 200
        await exchange.client.start(200, [*SSE_HEADERS, *exchange.reply_headers], until_close=True)
        if self.has_primers:
            await exchange.client.write(with_id(PRIMER, encode_event_id(self._stream, self._cursor).encode("ascii")))

    async def _pass_on(self, reading: Reading) -> bool:
        """Writes what was read. Whether that was the end."""
        record = self._exchange.record
        data = b"".join(
            with_id(entry.payload, encode_event_id(self._stream, entry.cursor).encode("ascii"))
            for entry in reading.entries
        )
        if data:
            self._cursor = reading.entries[-1].cursor
            record.events += len(reading.entries)
            record.bytes_out += len(data)
            self._exchange.gateway.telemetry.stream_events("replayed", len(reading.entries))
            await self._exchange.client.write(data)
        return reading.is_at_end

    async def _wait(self, within_seconds: float = LOOK_SECONDS) -> None:
        """Until something is new, or it is time to look; a silent client gets a comment."""
        if not await self._bell.wait(within_seconds):
            self._silent_seconds += within_seconds
            if self._silent_seconds >= SILENCE_SECONDS:
                self._silent_seconds = 0.0
                await self._exchange.client.write(COMMENT)
        else:
            self._silent_seconds = 0.0

    async def _mind_owner(self, reading: Reading) -> None:
        """Takes the stream over where its worker is gone, or has given it up."""
        gateway = self._exchange.gateway
        if gateway.owners is None or reading.state is not State.OPEN:
            return
        if reading.owner != self._owner:
            self.forget_owner()
            self._owner = reading.owner
            if reading.owner != NOBODY:
                self._leave_owner = gateway.owners.follow(reading.owner, self.ring)
        # Ours, and not pumped: a takeover whose answer we never got, or a pump that gave up on a Redis that was away.
        is_unpumped = reading.owner == gateway.owners.me and not gateway.pumps.has(self._stream)
        if reading.owner == NOBODY or is_unpumped or gateway.owners.is_gone(reading.owner):
            await self._take_over(reading.epoch)

    async def _take_over(self, epoch: int) -> None:
        exchange = self._exchange
        await take_over(exchange.gateway, self._log, self._stream, epoch, exchange.session, exchange.record.request_id)

    async def _keep(self) -> None:
        """A stream that is followed is not forgotten, though nobody may pump it."""
        now = self._exchange.gateway.clock()
        if now - self._kept_at >= KEEP_SECONDS:
            self._kept_at = now
            with contextlib.suppress(LogAway):
                await self._log.keep([self._stream])

    def forget_owner(self) -> None:
        if self._leave_owner is not None:
            self._leave_owner()
            self._leave_owner = None

    async def _end_with_loss(self, reading: Reading) -> None:
        """What lay between is gone: told on the request's id, never passed over in silence."""
        exchange, record = self._exchange, self._exchange.record
        exchange.gateway.telemetry.stream_turned(StreamTurn.LOSS_REPORTED)
        loss = Failed(Outcome.BROKEN, "events of this call were lost: call again")
        record.outcome, record.detail, record.rpc_code = loss.outcome, loss.message, loss.code
        if reading.facts.request_id:
            request_id = msgspec.json.decode(reading.facts.request_id, type=int | str)
            await exchange.client.write(message_event(encode_error(loss, record.request_id, request_id)))
        await exchange.client.end()
