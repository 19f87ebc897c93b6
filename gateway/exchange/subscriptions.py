"""A modern client's `subscriptions/listen` on a plain mount, told from the stream that the backend's listeners share.

What it asks for in a way that isn't known here goes to the backend as it is, on a pipe of its own (`streams.relay_pipe`).
"""

import asyncio
from typing import Protocol

from gateway.exchange.bells import Bell
from gateway.exchange.exchanges import Exchange
from gateway.exchange.hub_listeners import Listener
from gateway.exchange.pipes import SILENCE_SECONDS
from gateway.exchange.recalls import asker_of
from gateway.exchange.standing import listen_ended
from gateway.policy.backends import Backend
from gateway.protocol import headers as h
from gateway.protocol.events import COMMENT
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Outcome
from gateway.protocol.subscriptions import Filter, acknowledge, parse_listen
from gateway.protocol.versions import Era


async def relay_listen(exchange: Exchange, backend: Backend, intent: Intent, body: bytes) -> bool:
    """Tells the client what it wants to know, until it leaves. False: the backend is to be asked, on a pipe."""
    if not isinstance(intent, Send) or intent.era is not Era.MODERN or exchange.rpc_id is None:
        return False
    gateway, request_id = exchange.gateway, exchange.record.request_id
    if gateway.standing.is_draining or (wanted := parse_listen(body)) is None:
        return False
    limit_bytes = exchange.site.limits.event_bytes
    asker = asker_of(exchange)
    listener = await gateway.hubs.join(backend, asker, intent.version, wanted, request_id, limit_bytes)
    if listener is None:
        return False
    try:
        await relay_told(exchange, _Alone(listener), exchange.rpc_id)
    finally:
        listener.leave()
    return True


class Source(Protocol):
    """What a client's stream is fed from. The bell rings when there is more to take, or when it `is_over`."""

    bell: Bell

    @property
    def headers(self) -> h.Headers:
        """Of the reply."""

    def promise(self) -> Filter:
        """What will be told. Asked once, when it is acknowledged."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""

    def take(self, rpc_id: RequestId) -> bytes:
        """The events that wait, for the client whose request had that id."""


class _Alone:
    """One backend's listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.bell = listener.bell

    @property
    def headers(self) -> h.Headers:
        return self._listener.headers

    def promise(self) -> Filter:
        return self._listener.wanted

    @property
    def is_over(self) -> bool:
        return self._listener.is_over

    def take(self, rpc_id: RequestId) -> bytes:
        return b"".join([note.event(rpc_id) for note in self._listener.drain()])


async def relay_told(exchange: Exchange, source: Source, rpc_id: RequestId) -> None:
    """The client's stream, from the acknowledgement to an end in good order, should it come to one."""
    client, record, standing = exchange.client, exchange.record, exchange.gateway.standing
    if (task := asyncio.current_task()) is not None:
        standing.add(task)
    closed = exchange.gateway.telemetry.stream_opened(record, "listen")
    record.status = 200
    try:
        await client.start(200, source.headers + exchange.reply_headers)
        await write(exchange, acknowledge(rpc_id, source.promise()))
        while not source.is_over:
            is_news = await source.bell.wait(SILENCE_SECONDS)
            if told := source.take(rpc_id):
                await write(exchange, told)
            elif not is_news:
                await client.write(COMMENT)
    except asyncio.CancelledError:
        if client.left or not standing.is_draining:
            raise
        if task is not None:
            task.uncancel()
    finally:
        closed()
    await end_listening(exchange, rpc_id)


async def write(exchange: Exchange, data: bytes) -> None:
    exchange.record.events += data.count(b"\n\n")
    exchange.record.bytes_out += len(data)
    await exchange.client.write(data)


async def end_listening(exchange: Exchange, rpc_id: RequestId) -> None:
    """The client is told that nothing more comes: it listens anew."""
    await write(exchange, listen_ended(rpc_id))
    exchange.record.outcome = Outcome.OK
    await exchange.client.end()
