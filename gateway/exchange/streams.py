"""Relay of an SSE answer. Modern: one pipe, cut with the client. Legacy: a pump that outlives it, and a follower.

That difference is the specifications', and this is its one place. Both end a stream that failed with a JSON-RPC error
event for each request that is still owed a response, since the HTTP status has long been sent.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.exchange.attempts import is_standing
from gateway.exchange.calls import Call
from gateway.exchange.durables import END_SECONDS, DurablePump
from gateway.exchange.exchanges import Exchange, reply, session_header
from gateway.exchange.journals import VERSION_WITH_PRIMERS, open_journal
from gateway.exchange.pipes import SILENCE_SECONDS, check, pipe
from gateway.exchange.pumps import Pump, follow
from gateway.exchange.recalls import note_streamed
from gateway.exchange.reexecutions import Reexecution, find_token_session, request_to_keep
from gateway.exchange.reopens import make_reopen
from gateway.exchange.sessions import describe_stream
from gateway.exchange.standing import come_back, listen_ended
from gateway.exchange.watches import Watch, is_ended
from gateway.policy.backends import Backend
from gateway.policy.streams import Hold
from gateway.ports import Answer, StreamTurn
from gateway.protocol import headers as h
from gateway.protocol.cursors import FIRST_EPOCH, encode_name
from gateway.protocol.errors import encode_error
from gateway.protocol.events import message_event, strip_ids
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.streams import StreamReader

PATIENCE_SECONDS: Final = 0.2
"""How long a legacy call may take and still be answered in one reply. Beyond it the client gets its stream."""


def stream_headers(answer: Answer) -> h.Headers:
    """The head of a relayed stream."""
    return h.streamed(answer.headers)


async def relay_pipe(exchange: Exchange, intent: Send, call: Call, awaited: Iterable[RequestId]) -> None:
    """A modern stream, relayed as it comes."""
    answer, record, client = call.answer, exchange.record, exchange.client
    reader = StreamReader(exchange.site.limits.event_bytes, awaited)
    reader.on_change = exchange.gateway.caches.noting(record.backend)
    is_listen = is_standing(intent)
    if is_listen and (task := asyncio.current_task()) is not None:
        exchange.gateway.standing.add(task)
    closed = exchange.gateway.telemetry.stream_opened(record, "listen" if is_listen else "post")
    record.status = 200
    try:
        await client.start(200, stream_headers(answer) + exchange.reply_headers)
        await pipe(answer, reader, client, record)
        note_streamed(exchange, reader)
        await client.end()
    except Failed as failure:
        await end_with_errors(exchange, failure, reader)
    except asyncio.CancelledError:
        standing = exchange.gateway.standing
        if client.left or not (standing.is_draining if is_listen else standing.is_over):
            raise
        await (end_subscription(exchange, reader) if is_listen else end_with_loss(exchange, reader))
    finally:
        settle(exchange, reader)
        closed()


async def end_subscription(exchange: Exchange, reader: StreamReader) -> None:
    """The worker drains: the client is told in good order, and listens again elsewhere."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    for request_id in reader.awaited:
        await exchange.client.write(listen_ended(request_id))
    exchange.record.outcome = Outcome.OK
    await exchange.client.end()


async def end_with_loss(exchange: Exchange, reader: StreamReader) -> None:
    """The worker ends, and the call hasn't: the client is told, in what is left of the time."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    await end_with_errors(exchange, exchange.gateway.standing.lose(), reader)


def settle(exchange: Exchange, reader: StreamReader) -> None:
    """Notes how far the stream came. SDK clients close it on the response, without waiting for its end."""
    record = exchange.record
    record.events = reader.events
    if not reader.awaited and not reader.is_open_ended and not reader.fault:
        exchange.is_settled = True
        record.outcome, record.rpc_code = reader.outcome, reader.code


async def end_with_errors(exchange: Exchange, failure: Failed, reader: StreamReader) -> None:
    record, client = exchange.record, exchange.client
    record.outcome, record.detail, record.rpc_code = failure.outcome, failure.message, failure.code
    for request_id in sorted(reader.awaited, key=str):
        await client.write(message_event(encode_error(failure, record.request_id, request_id)))
    await client.end()


async def relay_pump(
    exchange: Exchange, backend: Backend, intent: Intent, call: Call, awaited: Iterable[RequestId], body: bytes
) -> None:
    """A legacy stream. A call that is answered at once is one reply; any other is pumped to its end, come what may."""
    is_post = isinstance(intent, Send)
    reader = StreamReader(exchange.site.limits.event_bytes, awaited, is_open_ended=not is_post)
    reader.on_change = exchange.gateway.caches.noting(backend.name)
    first, is_over = await gather(exchange, call, reader) if reader.awaited else ([], False)
    durable = None
    if reader.awaited:
        request = request_to_keep(backend, intent, body)
        durable = await begin_durable(exchange, backend, call, reader, first, request)
    if durable is not None:
        await relay_following(exchange, call.answer, durable, kind="durable")
    elif is_over:
        await relay_gathered(exchange, call, reader, first)
    else:
        pump = Pump(call.pass_on(), reader, exchange.record.request_id, first)
        await relay_following(exchange, call.answer, pump, kind="post" if is_post else "get")


async def gather(exchange: Exchange, call: Call, reader: StreamReader) -> tuple[list[bytes], bool]:
    """The events of a call until it is answered, or until it shows that it takes longer; and whether that was all.

    That shows in a message that isn't the answer, or in `PATIENCE_SECONDS` without one (older clients, who get no event
    that says where the stream begins, wait for the first that has content, up to `SILENCE_SECONDS`). As long as nothing was sent, a
    failure still has an HTTP status of its own: raises `Failed`. A stream cut after an event id is all there is: with
    that id the client resumes.
    """
    clock, session = exchange.gateway.clock, exchange.session
    has_primers = session is None or session.client_version >= VERSION_WITH_PRIMERS
    until = clock() + (PATIENCE_SECONDS if has_primers else SILENCE_SECONDS)
    events: list[bytes] = []
    try:
        while reader.awaited and not reader.events and (left_seconds := until - clock()) > 0:
            piece = await call.answer.next_chunk(left_seconds)
            if piece is None:
                break
            if piece == b"":
                raise Failed(Outcome.BROKEN, reader.unfinished)
            events += reader.feed(piece)
            check(reader)
    except Failed as failure:
        if failure.outcome is not Outcome.BROKEN or not reader.is_resumable:
            raise
        return events, True
    return events, not reader.awaited


async def relay_gathered(exchange: Exchange, call: Call, reader: StreamReader, events: list[bytes]) -> None:
    """The whole stream in one reply of known length, after which the client can use its connection again."""
    answer = call.answer
    exchange.record.outcome = reader.outcome
    settle(exchange, reader)
    exchange.record.upstream_ended = exchange.gateway.clock()
    headers = stream_headers(answer) + exchange.reply_headers + session_header(exchange, answer.headers)
    await reply(exchange, 200, headers, b"".join(events))
    with contextlib.suppress(Failed):  # servers close right after the answer: then our connection is kept, too
        await answer.next_chunk(END_SECONDS)


async def relay_following(exchange: Exchange, answer: Answer, pump: Pump | DurablePump, *, kind: str) -> None:
    """The pump reads the stream to its end, whether or not the client stays to follow."""
    record, client, gateway, reader = exchange.record, exchange.client, exchange.gateway, pump.reader
    stream = pump.hold.stream if isinstance(pump, DurablePump) else None
    unfollow = gateway.pumps.orphans.follow(stream) if stream is not None else None
    leave = gateway.pumps.start(pump, ends_with_client=kind == "get", stream=stream)
    closed = gateway.telemetry.stream_opened(record, kind)
    record.status = 200
    try:
        if kind != "get":  # the others are cut already
            client.cut_on_leave()  # follower and exchange, not the pump
        await client.start(
            200,
            stream_headers(answer) + exchange.reply_headers + session_header(exchange, answer.headers),
            until_close=kind != "post",  # what clients come back to: see the decision on how such a reply ends
        )
        await follow(pump, client, record)
        record.outcome, record.rpc_code, record.detail = pump.outcome, reader.code, pump.detail
        await end_following(exchange, reader)
    except asyncio.CancelledError:
        leave()
        if client.left or not gateway.standing.is_over:
            raise
        await end_lost(exchange, pump)
    except BaseException:
        leave()
        raise
    finally:
        settle(exchange, reader)
        closed()
        if unfollow is not None:
            unfollow()


async def end_following(exchange: Exchange, reader: StreamReader) -> None:
    """The end of the reply. Where the worker drains, and the stream goes on without it, its client is told to come back."""
    client, session, record = exchange.client, exchange.session, exchange.record
    goes_on = bool(reader.awaited or reader.is_open_ended) and record.outcome is Outcome.CLIENT_LEFT
    if goes_on and exchange.gateway.standing.is_draining:
        record.outcome = Outcome.OK  # it didn't leave: we did, and nothing of it is lost
        if (
            session is not None and session.client_version >= VERSION_WITH_PRIMERS
        ):  # older ones would take it for a message
            await client.write(come_back())
    await client.end()


async def end_lost(exchange: Exchange, pump: Pump | DurablePump) -> None:
    """The grace is over. Of a stream with a log the loss is told by who follows it elsewhere; of another, here."""
    if isinstance(pump, Pump):
        await end_with_loss(exchange, pump.reader)
        return
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    exchange.record.outcome = Outcome.DRAINING
    await exchange.client.end()


async def begin_durable(
    exchange: Exchange, backend: Backend, call: Call, reader: StreamReader, first: list[bytes], request: bytes
) -> DurablePump | None:
    """A pump whose stream outlives this worker, beginning with the first events; None where there is no log to keep it."""
    gateway, session = exchange.gateway, exchange.session
    log, owners, rpc_id = gateway.log, gateway.owners, exchange.rpc_id
    if log is None or owners is None or session is None or rpc_id is None:
        return None
    facts = msgspec.structs.replace(
        describe_stream(exchange.token, session, backend.name),
        request_id=msgspec.json.encode(rpc_id),
        began_at=gateway.wall_clock(),
    )
    hold = Hold(encode_name(bytes.fromhex(gateway.new_trace())), FIRST_EPOCH, owners.me)
    payloads = strip_ids(first)
    opened = await open_journal(log, hold, facts, payloads, reader.cursor, reader.retry_seconds, request)
    if opened is None:
        gateway.telemetry.stream_turned(StreamTurn.NOT_KEPT)
        return None
    journal, given = opened
    gateway.telemetry.stream_events("appended", len(payloads))
    request_id = exchange.record.request_id
    pump = DurablePump(
        gateway.telemetry,
        log,
        journal,
        reader,
        call.pass_on(),
        make_reopen(gateway, facts, request_id),
        request_id,
    )
    pump.end_when(Watch(log.wake, facts.session, lambda: is_ended(gateway, facts)))
    if request:
        pump.may_run_again(Reexecution(gateway, log, facts, find_token_session(exchange), request_id))
    if given:
        pump.hand_over.offer(given)
    return pump
