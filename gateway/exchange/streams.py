"""Relay of an SSE answer. Modern: one pipe, cut with the client. Legacy: a pump that outlives it, and a follower.

That difference is the specifications', and this is its one place. Both end a stream that failed with a JSON-RPC error
event for each request that is still owed a response, since the HTTP status has long been sent.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from gateway.exchange.attempts import is_standing
from gateway.exchange.calls import Call
from gateway.exchange.exchanges import Exchange, reply, session_header
from gateway.exchange.pipes import check, pipe
from gateway.exchange.pumps import Pump, follow
from gateway.exchange.standing import listen_ended
from gateway.ports import Answer
from gateway.protocol import headers as h
from gateway.protocol.errors import encode_error
from gateway.protocol.events import message_event
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.streams import StreamReader

SSE = b"text/event-stream"

PATIENCE_SECONDS: Final = 0.2
"""How long a legacy call may take and still be answered in one reply. Beyond it the client gets its stream."""

END_SECONDS: Final = 0.05
"""How long the end of a stream is waited for after its last response: a server that doesn't close costs a connection."""

_REPLACED = frozenset({b"cache-control", b"x-accel-buffering"})


def stream_headers(answer: Answer) -> h.Headers:
    """The head of a relayed stream. `x-accel-buffering` keeps an nginx in front of us from collecting events."""
    headers = [header for header in h.relayable(answer.headers) if header[0] not in _REPLACED]
    headers += ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
    return headers


async def relay_pipe(exchange: Exchange, intent: Send, call: Call, awaited: Iterable[RequestId]) -> None:
    """A modern stream, relayed as it comes."""
    answer, record, client = call.answer, exchange.record, exchange.client
    reader = StreamReader(exchange.site.limits.event_bytes, awaited)
    is_listen = is_standing(intent)
    if is_listen and (task := asyncio.current_task()) is not None:
        exchange.gateway.standing.add(task)
    closed = exchange.gateway.telemetry.stream_opened(record, "listen" if is_listen else "post")
    record.status = 200
    try:
        await client.start(200, stream_headers(answer) + exchange.reply_headers)
        await pipe(answer, reader, client, record)
        await client.end()
    except Failed as failure:
        await end_with_errors(exchange, failure, reader)
    except asyncio.CancelledError:
        if not is_listen or client.left or not exchange.gateway.standing.is_draining:
            raise
        await end_subscription(exchange, reader)
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


async def relay_pump(exchange: Exchange, intent: Intent, call: Call, awaited: Iterable[RequestId]) -> None:
    """A legacy stream. A call that is answered at once is one reply; any other is pumped to its end, come what may."""
    is_post = isinstance(intent, Send)
    reader = StreamReader(exchange.site.limits.event_bytes, awaited, is_open_ended=not is_post)
    first, is_over = await gather(exchange, call, reader) if is_post else ([], False)
    if is_over:
        await relay_gathered(exchange, call, reader, first)
    else:
        await relay_following(exchange, call, reader, first, is_post=is_post)


async def gather(exchange: Exchange, call: Call, reader: StreamReader) -> tuple[list[bytes], bool]:
    """The events of a call until it is answered, or until it shows that it takes longer; and whether that was all.

    That shows in a message that isn't the answer, or in `PATIENCE_SECONDS` without one. As long as nothing was sent, a
    failure still has an HTTP status of its own: raises `Failed`. A stream cut after an event id is all there is: with
    that id the client resumes.
    """
    clock = exchange.gateway.clock
    until = clock() + PATIENCE_SECONDS
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


async def relay_following(
    exchange: Exchange, call: Call, reader: StreamReader, first: list[bytes], *, is_post: bool
) -> None:
    """The pump reads the stream to its end, whether or not the client stays to follow."""
    record, client, gateway = exchange.record, exchange.client, exchange.gateway
    pump = Pump(call.pass_on(), reader, record.request_id, first)
    leave = gateway.pumps.start(pump, ends_with_client=not is_post)
    closed = gateway.telemetry.stream_opened(record, "post" if is_post else "get")
    record.status = 200
    answered = call.answer.headers
    try:
        if is_post:  # the others are cut already
            client.cut_on_leave()  # follower and exchange, not the pump
        await client.start(
            200, stream_headers(call.answer) + exchange.reply_headers + session_header(exchange, answered)
        )
        await follow(pump, client, record)
        record.outcome, record.rpc_code, record.detail = pump.outcome, reader.code, pump.detail
        await client.end()
    except BaseException:
        leave()
        raise
    finally:
        settle(exchange, reader)
        closed()
