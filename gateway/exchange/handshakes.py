"""Relay of the answer to a legacy `initialize`: read whole, because its head carries the session that it settles."""

import contextlib
from typing import Any, Final

import msgspec

from gateway.exchange.bodies import read_whole
from gateway.exchange.calls import Call
from gateway.exchange.durables import END_SECONDS
from gateway.exchange.exchanges import Exchange, reply
from gateway.exchange.pipes import SILENCE_SECONDS, check
from gateway.exchange.streams import stream_headers
from gateway.policy.backends import Backend
from gateway.protocol import headers as h
from gateway.protocol.answers import negotiated_version
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.sessions import MAX_PARAMS_BYTES, PURPOSE, Session, encode_session
from gateway.protocol.streams import StreamReader


async def relay_initialize(
    exchange: Exchange, backend: Backend, call: Call, body: bytes, awaited: set[RequestId]
) -> None:
    """The backend's answer, and with it a token that any replica can serve the session by."""
    answer = call.answer
    if answer.status == 200 and h.media_type(answer.headers) == h.SSE:
        content, response = await _read_stream(exchange, call, awaited)
        headers = stream_headers(answer)
    else:
        content = response = await read_whole(exchange, backend, call, awaited)
        headers = h.relayable(answer.headers)
    headers += exchange.reply_headers
    if (version := negotiated_version(response)) is not None:
        session = _session_of(exchange.principal, backend, call, version, body)
        token = exchange.gateway.seals.seal(encode_session(session), PURPOSE)
        exchange.record.session, exchange.record.client_name = token[:8], session.client_name
        headers.append((h.SESSION, token.encode("ascii")))
    await reply(exchange, answer.status, headers, content)


async def _read_stream(exchange: Exchange, call: Call, awaited: set[RequestId]) -> tuple[bytes, bytes]:
    """All events up to the response, and the response itself. Raises `Failed`."""
    limits, record, answer = exchange.site.limits, exchange.record, call.answer
    reader = StreamReader(limits.event_bytes, awaited)
    events: list[bytes] = []
    size_bytes = 0
    while reader.awaited:
        piece = await answer.next_chunk(SILENCE_SECONDS)
        if piece is None:
            continue
        if piece == b"":
            raise Failed(Outcome.BROKEN, "the backend closed the stream before it answered `initialize`")
        size_bytes += len(piece)
        if size_bytes > limits.answer_bytes:
            raise Failed(Outcome.NONSENSE, "the backend's answer to `initialize` is too large")
        events += reader.feed(piece)
        check(reader)
    record.outcome, record.rpc_code, record.events = reader.outcome, reader.code, reader.events
    with contextlib.suppress(Failed):  # it has answered: how it then hangs up is nobody's loss
        await answer.next_chunk(END_SECONDS)
    record.upstream_ended = exchange.gateway.clock()
    return b"".join(events), reader.last_response


class _ClientInfo(msgspec.Struct, frozen=True, gc=False):
    name: Any = ""


class _Params(msgspec.Struct, gc=False):
    client_info: _ClientInfo = msgspec.field(default=_ClientInfo(), name="clientInfo")


class _Initialize(msgspec.Struct, gc=False):
    params: msgspec.Raw = msgspec.Raw(b"{}")


MAX_NAME_CHARACTERS: Final = 64
"""Of a client's name in the token. It is for the log alone."""


def _session_of(principal: str, backend: Backend, call: Call, version: str, body: bytes) -> Session:
    upstream_id = (h.find_header(call.answer.headers, h.SESSION) or b"").decode("latin-1")
    params = read_params(body)
    return Session(
        mount=backend.mount or "",
        address=call.endpoint.address if upstream_id else "",
        upstream_id=upstream_id,
        principal=principal,
        version=version,
        params=params if len(params) <= MAX_PARAMS_BYTES else b"",
        client_name=name_client(params),
    )


def read_params(body: bytes) -> bytes:
    """The `params` as they stand; empty where only a lenient decoder reads the body (half a surrogate, deep nesting)."""
    try:
        return bytes(msgspec.json.decode(body, type=_Initialize).params)
    except (msgspec.MsgspecError, RecursionError):
        return b""


def name_client(params: bytes) -> str:
    """What the client calls itself in its `initialize`, "" where it doesn't say."""
    try:
        name = msgspec.json.decode(params, type=_Params).client_info.name
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return name[:MAX_NAME_CHARACTERS] if isinstance(name, str) else ""
