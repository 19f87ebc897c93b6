"""What the gateway itself asks of members: one request to one, or the same to several at once, each within the deadline.

A member that fails is left out, with the reason; never an error for all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from gateway.aggregates.members import copy_for
from gateway.exchange.exchanges import Exchange
from gateway.exchange.healings import forgotten, forward_healing
from gateway.exchange.recalls import asker_of
from gateway.exchange.responses import read_response
from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.backends import Backend, Endpoint
from gateway.policy.listings import LeftOut
from gateway.protocol import headers as h
from gateway.protocol.cacheables import CACHEABLE_METHODS, normalize_request
from gateway.protocol.intents import Send
from gateway.protocol.messages import Kind, Message
from gateway.protocol.outcomes import Ended, Failed, Outcome, Rejected
from gateway.protocol.splices import find
from gateway.protocol.versions import Era

T = TypeVar("T")
Fields = Mapping[str, msgspec.Raw]

_encode: Final = msgspec.json.Encoder().encode


class Refused(Exception):
    """The member answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


class _Response(msgspec.Struct, gc=False):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


_decode_response: Final = msgspec.json.Decoder(_Response).decode


async def ask(exchange: Exchange, backend: Backend, method: str, params: Fields) -> bytes:
    """The `result` of one request to the member that the exchange is turned to, or what is kept of it.

    Raises `Refused`, `Ended`.
    """

    async def fetch() -> bytes:
        return await ask_anew(exchange, backend, method, params)

    if exchange.record.era != Era.MODERN or method not in CACHEABLE_METHODS:
        return await fetch()
    said = normalize_request(_encode({"method": method, "params": params}))
    if said is None:
        return await fetch()
    asker = asker_of(exchange)
    return (await exchange.gateway.caches.ask(backend, asker, method, said, fetch)).result


def read_meta(exchange: Exchange) -> Fields:
    """`params` with the client's own `_meta`, where its era has any: what the gateway asks on its behalf, it asks as the client."""
    if exchange.record.era != Era.MODERN:
        return {}
    span = find(exchange.body, "params", "_meta")  # proven to stand once (`protocol.envelopes`)
    return {} if span is None else {"_meta": msgspec.Raw(span.value)}


async def ask_anew(exchange: Exchange, backend: Backend, method: str, params: Fields) -> bytes:
    """The `result` of one request to the member that the exchange is turned to. Raises `Refused`, `Ended`."""
    request_id = f"gateway-{exchange.gateway.new_trace()}"  # never the client's, nor given twice in a session
    body = _encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    name_headers(exchange, {h.METHOD: method.encode(), h.NAME: None})
    intent = _intent_of(exchange, method, request_id)
    call = await forward_healing(exchange, backend, find_endpoint(exchange, backend), intent, body)
    if call.answer.status == 404 and exchange.session is not None:
        call.end(Outcome.BACKEND_REFUSED)
        raise forgotten(exchange)
    try:
        response = await read_response(call, request_id, exchange.site.limits.answer_bytes)
    finally:
        call.end(Outcome.OK)
    return read_result(response, backend)


def _intent_of(exchange: Exchange, method: str, request_id: str) -> Send:
    era = Era.MODERN if exchange.record.era == Era.MODERN else Era.LEGACY
    return Send(era, (Message(Kind.REQUEST, request_id, method),), False, "", exchange.token or None)


def read_result(response: bytes, backend: Backend) -> bytes:
    """Raises `Refused` for a JSON-RPC error, `Failed` (NONSENSE) for what is no response."""
    try:
        read = _decode_response(response)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        read = _Response()
    if read.error is not msgspec.UNSET:
        raise Refused(read.error.code, read.error.message)
    if read.result is msgspec.UNSET:
        raise Failed(
            Outcome.NONSENSE, f"backend {backend.name!r} answered with something that is not a JSON-RPC message"
        )
    return bytes(read.result)


def find_endpoint(exchange: Exchange, backend: Backend) -> Endpoint | None:
    """The endpoint of the member's part of the session; None where any will do, or where that one is gone."""
    session = exchange.session
    if session is None or not session.upstream_id:
        return None
    return exchange.gateway.endpoints.find(backend, session.address)


def name_headers(exchange: Exchange, named: Mapping[bytes, bytes | None]) -> None:
    """Replaces what the client's headers say of its request; None: says nothing. A header that wasn't there stays away."""
    headers = []
    for name, value in exchange.inbound.headers:
        if name.startswith(_PARAM):
            if h.NAME in named and named[h.NAME] is None:
                continue
        elif name in named:
            if (said := named[name]) is None:
                continue
            value = said
        headers.append((name, value))
    exchange.inbound = msgspec.structs.replace(exchange.inbound, headers=headers)


def name_header(exchange: Exchange, name: bytes, value: bytes) -> None:
    """Replaces what one of the client's headers says of its request. One that wasn't there stays away."""
    if name in exchange.index:
        headers = [(name, value) if header[0] == name else header for header in exchange.inbound.headers]
        exchange.inbound = msgspec.structs.replace(exchange.inbound, headers=headers)


_PARAM: Final = b"mcp-param-"


async def ask_all(
    exchange: Exchange,
    aggregate: Aggregate,
    members: Iterable[Member],
    question: Callable[[Exchange, Backend], Awaitable[T]],
) -> tuple[dict[str, T], dict[str, LeftOut]]:
    """What each member answered, and why the others didn't; both by backend, in the order of the configuration.

    Raises `Rejected` (UNKNOWN_SESSION) where the client has ended the whole session.
    """
    era = Era.MODERN if exchange.record.era == Era.MODERN else Era.LEGACY

    async def put(member: Member) -> T | LeftOut | Rejected:
        copy, backend = copy_for(exchange, aggregate, member)
        if exchange.gateway.eras.speaks(backend, era) is False:
            return LeftOut("era_mismatch", f"it doesn't speak {era} protocol versions")
        try:
            async with asyncio.timeout(aggregate.deadline_seconds):
                return await question(copy, backend)
        except TimeoutError:
            return LeftOut("timed_out", f"no answer within {aggregate.deadline_seconds:g} s")
        except Refused as refused:
            return LeftOut("rpc_error", str(refused))
        except Rejected as rejected:
            is_whole = rejected.outcome is Outcome.UNKNOWN_SESSION and rejected.http_status == 404
            return rejected if is_whole else LeftOut(rejected.outcome, rejected.message)
        except Ended as ended:
            return LeftOut(ended.outcome, ended.message)

    asked = list(members)
    answers = await asyncio.gather(*map(put, asked)) if len(asked) > 1 else [await put(member) for member in asked]
    given: dict[str, T] = {}
    left_out: dict[str, LeftOut] = {}
    for member, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Rejected):
            raise answer
        if isinstance(answer, LeftOut):
            left_out[member.backend] = answer
            exchange.gateway.telemetry.member_left_out(aggregate.name, member.backend, answer.reason, answer.detail)
        else:
            given[member.backend] = answer
    return given, left_out
