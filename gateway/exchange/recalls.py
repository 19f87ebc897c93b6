"""A modern request for discovery or a list, on a plain mount: answered from what is kept, or asked so that it can be.

Only a request that its backend answers goes on from here, through the flow like any other; what it is answered is noted on
the way back. An answer on a stream is kept where it is all there is on it: whoever gets it from here gets it as JSON, which
every client takes (2026-07-28, basic/transports "Sending Messages").
"""

from typing import Final

from gateway.exchange.exchanges import Exchange, reply
from gateway.exchange.flights import Flight, Kept
from gateway.policy.backends import Backend
from gateway.policy.caches import Asker, CacheOutcome, key_for, material_headers, may_share
from gateway.ports import Answer
from gateway.protocol import headers as h
from gateway.protocol.cacheables import find_result, normalize_request
from gateway.protocol.intents import Intent, Send
from gateway.protocol.outcomes import Outcome
from gateway.protocol.streams import StreamReader
from gateway.protocol.versions import Era


def asker_of(exchange: Exchange) -> Asker:
    """In whose name, and with what of its own, the exchange's client asks."""
    headers = material_headers(exchange.inbound.headers)
    return Asker(name_asker(exchange), headers, is_filtered=not exchange.permit.is_total)


def name_asker(exchange: Exchange) -> str:
    """All that decides what the exchange's client may see."""
    identity, principal = exchange.identity, exchange.principal
    if exchange.site.grants is not None:  # what they see depends on what their token says of them, too
        principal = f"{principal}\0{sorted(identity.groups)}\0{sorted(identity.scopes)}"
    return principal


async def relay_kept(exchange: Exchange, backend: Backend, intent: Intent, body: bytes) -> bool:
    """Replies with what is kept, or with what another exchange is answered meanwhile. False: the backend is to be asked."""
    if not isinstance(intent, Send) or intent.era is not Era.MODERN or not intent.expects_answer:
        return False
    caches, record = exchange.gateway.caches, exchange.record
    params = normalize_request(body) if backend.caching.is_on else None
    if params is None:
        _tell(exchange, backend, CacheOutcome.BYPASS)
        return False
    asker = asker_of(exchange)
    key, shares = key_for(backend, asker, record.method, params), may_share(backend, asker)
    outcome = CacheOutcome.HIT
    found: Kept | Flight | None = caches.look(backend, key, shares=shares)
    if found is None:
        outcome, found = CacheOutcome.COALESCED, await caches.join(backend, key, shares=shares)
    if isinstance(found, Flight):
        exchange.flight = found
        return False
    _tell(exchange, backend, outcome)
    await _reply_kept(exchange, found)
    return True


def _tell(exchange: Exchange, backend: Backend, outcome: CacheOutcome) -> None:
    exchange.record.cache = outcome
    exchange.gateway.telemetry.cache_asked(backend.name, outcome)


async def _reply_kept(exchange: Exchange, kept: Kept) -> None:
    rpc_id = exchange.rpc_id
    assert rpc_id is not None  # a request has one
    exchange.record.outcome = Outcome.OK
    body = kept.cacheable.response(rpc_id, kept.left_ms(exchange.gateway.clock()))
    await reply(exchange, 200, [*kept.headers, *exchange.reply_headers], body)


_JSON_HEADERS: Final = ((b"content-type", h.JSON),)


def note_whole(exchange: Exchange, answer: Answer, body: bytes) -> None:
    """The answer is here, and judged: those who wait for the same get it, if it is to be kept."""
    if exchange.flight is None:
        return
    is_result = answer.status == 200 and exchange.record.outcome is Outcome.OK
    _land(exchange, exchange.flight, body if is_result else b"", tuple(h.relayable(answer.headers)))


def note_streamed(exchange: Exchange, reader: StreamReader) -> None:
    """The same of an answer that came on a stream: only where it came alone."""
    if exchange.flight is not None:
        is_result = reader.events == 1 and not reader.awaited and reader.outcome is Outcome.OK
        _land(exchange, exchange.flight, reader.last_response if is_result else b"", _JSON_HEADERS)


def _land(exchange: Exchange, flight: Flight, response: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    if flight.outcome is None:
        outcome = flight.land(find_result(response) if response else None, headers)
        exchange.record.cache = outcome
        exchange.gateway.telemetry.cache_asked(flight.backend.name, outcome)


def close_flight(exchange: Exchange) -> None:
    """The exchange is over. Where it had no answer, whoever waits for the same asks for itself."""
    flight = exchange.flight
    if flight is not None and flight.outcome is None:
        flight.close(was_left=exchange.record.outcome is Outcome.CLIENT_LEFT)
        exchange.record.cache = CacheOutcome.UNKEPT
        exchange.gateway.telemetry.cache_asked(flight.backend.name, CacheOutcome.UNKEPT)
