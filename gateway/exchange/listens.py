"""A session's standalone GET stream: opened once, on the log, and followed by whichever client asked last, on any replica.

The first GET opens it at the backend; every other one joins it, and follows from where the session's client was, or from the
event id that it presents. So nobody meets the backend's 409, and what came between two connections is neither lost nor
told twice. `turns` says who has it, `standing_pumps` reads it; this is the client's side.
"""

import asyncio

import msgspec

from gateway.exchange.bodies import check_head
from gateway.exchange.calls import Call
from gateway.exchange.exchanges import Exchange, session_header
from gateway.exchange.gatherings import open_gathered, refuse_get
from gateway.exchange.healings import forward_healing
from gateway.exchange.journals import VERSION_WITH_PRIMERS, open_journal
from gateway.exchange.listeners import Listening
from gateway.exchange.resumes import SSE_HEADERS
from gateway.exchange.sessions import describe_stream
from gateway.exchange.standing import come_back
from gateway.exchange.standing_calls import Refused
from gateway.exchange.standing_pumps import StandingPump
from gateway.exchange.streams import stream_headers
from gateway.policy.backends import Backend, Endpoint
from gateway.policy.streams import Hold, LogAway
from gateway.ports import StreamTurn
from gateway.protocol import headers as h
from gateway.protocol.cursors import (
    FIRST_EPOCH,
    START,
    EventId,
    StreamName,
    encode_name,
    is_standing_name,
    parse_event_id,
)
from gateway.protocol.intents import Listen, Resume
from gateway.protocol.outcomes import Outcome
from gateway.protocol.sessions import Session


async def listen(
    exchange: Exchange, backend: Backend, endpoint: Endpoint | None, intent: Listen | Resume
) -> Call | None:
    """The session's standing stream, to its end or the client's. The backend's answer where it is still to be relayed: it
    refused, there is no log, or the event id is its own. Raises as `forward_healing` does.
    """
    gateway, session = exchange.gateway, exchange.session
    event_id = parse_event_id(intent.last_event_id.decode("latin-1")) if isinstance(intent, Resume) else None
    is_ours = isinstance(intent, Listen) or (event_id is not None and is_standing_name(event_id.stream))
    is_whole = session is not None and exchange.view is None  # of an aggregate each backend has but a part
    if gateway.log is None or gateway.turns is None or session is None or not is_ours or not is_whole:
        return await open_upstream(exchange, backend, endpoint, intent)
    if gateway.standing.is_draining:
        await send_away(exchange)
        return None
    listening = Listening(exchange, gateway.log, gateway.turns, session)
    leave = gateway.turns.follow(listening)
    try:
        return await _listen(listening, backend, endpoint, event_id)
    except asyncio.CancelledError:
        if not listening.is_sent_away:
            raise
        await send_away(exchange)
        return None
    finally:
        leave()
        listening.close()


async def open_upstream(
    exchange: Exchange, backend: Backend, endpoint: Endpoint | None, intent: Listen | Resume
) -> Call:
    """The stream of the backend, or of all members where the session is an aggregate's. Raises as `forward_healing` does."""
    session = exchange.session
    if session is None or not session.parts:
        return await forward_healing(exchange, backend, endpoint, intent, b"")
    facts = describe_stream(exchange.token, session, backend="")
    cursor = intent.last_event_id if isinstance(intent, Resume) else b""
    try:
        return await open_gathered(exchange.gateway, facts, session, cursor, exchange.record.request_id)
    except Refused:
        raise refuse_get() from None


async def send_away(exchange: Exchange) -> None:
    """The worker drains: the stream ends here, and its client comes back elsewhere."""
    client, session = exchange.client, exchange.session
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    exchange.record.status, exchange.record.outcome = 200, Outcome.OK
    if not client.started:
        await client.start(200, [*SSE_HEADERS, *exchange.reply_headers], until_close=True)
    if session is not None and session.version >= VERSION_WITH_PRIMERS:
        await client.write(come_back())
    await client.end()


async def _listen(
    listening: Listening, backend: Backend, endpoint: Endpoint | None, event_id: EventId | None
) -> Call | None:
    exchange, gone = listening.exchange, None
    if event_id is not None:
        if await listening.resume(event_id):
            return None
        gone = event_id.stream
        forget_event_id(exchange)  # ours says nothing to the backend
    while True:
        candidate = encode_name(bytes.fromhex(exchange.gateway.new_trace()), is_standing=True)
        try:
            standing = await listening.join(candidate, gone)
        except LogAway:
            call = await open_upstream(exchange, backend, endpoint, Listen(exchange.token))
            if call.answer.status != 409:
                return call
            call.end(Outcome.BACKEND_REFUSED)  # a pump of ours has it, which can't be found now: wait till it can
            standing = await listening.join_held(candidate, gone)
        if standing.stream == candidate:
            return await _begin(listening, candidate, backend, endpoint)
        if await listening.feed(standing.delivered):
            return None
        gone = standing.stream


def forget_event_id(exchange: Exchange) -> None:
    kept = [header for header in exchange.inbound.headers if header[0] != h.LAST_EVENT_ID]
    exchange.inbound = msgspec.structs.replace(exchange.inbound, headers=kept)
    exchange.index.pop(h.LAST_EVENT_ID, None)


async def _begin(listening: Listening, stream: StreamName, backend: Backend, endpoint: Endpoint | None) -> Call | None:
    """Opens the stream that we registered. The backend's answer where there is none, or no log to keep it."""
    exchange = listening.exchange
    gateway, session, turns = exchange.gateway, exchange.session, exchange.gateway.turns
    assert gateway.owners is not None
    assert session is not None
    assert turns is not None
    hold = Hold(stream, FIRST_EPOCH, gateway.owners.me)
    gateway.pumps.reserve(stream)
    call: Call | None = None
    pump: StandingPump | None = None
    try:
        call = await open_upstream(exchange, backend, endpoint, Listen(exchange.token))
        if call.answer.status == 200 and h.media_type(call.answer.headers) == h.SSE:
            check_head(call.answer, backend.name)
            pump = await _open_pump(listening, hold, session, backend, call)
    except BaseException:
        if call is not None:
            call.end(Outcome.CLIENT_LEFT)
        raise
    finally:
        if pump is None:
            listening.standing = None
            gateway.pumps.forget(stream)
            turns.owe(listening.session, hold)
    if pump is None:
        if not await listening.end_if_started():
            return call
        call.end(Outcome.BACKEND_REFUSED)
        return None
    gateway.pumps.start(pump, ends_with_client=False, stream=stream)
    headers = stream_headers(call.answer) + exchange.reply_headers + session_header(exchange, call.answer.headers)
    await listening.feed(pump.head, headers)
    return None


async def _open_pump(
    listening: Listening, hold: Hold, session: Session, backend: Backend, call: Call
) -> StandingPump | None:
    """`session`: as the client's token has it."""
    exchange, turns = listening.exchange, listening.turns
    facts = describe_stream(exchange.token, session, backend.name)
    opened = await open_journal(listening.log, hold, facts, [], b"")
    if opened is None:
        exchange.gateway.telemetry.stream_turned(StreamTurn.NOT_KEPT)
        return None
    journal, listening.greeting = opened
    head = journal.head if listening.greeting else START
    request_id = exchange.record.request_id
    passed_on = call.pass_on()
    return StandingPump(
        exchange.gateway, listening.log, turns, journal, facts, session, head, passed_on, b"", request_id
    )
