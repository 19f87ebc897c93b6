"""A session that its backend forgot, because it restarted, is begun anew with the client's own parameters.

Once for the fleet: one worker initializes, the others wait for what it finds and remember it. Nothing is looked up as long
as the backend knows the session; only its 404, which says that nothing was executed, starts a look. What the session held
is lost: a backend for which that matters says `heal: false`, and its clients see the 404.
"""

import asyncio
from hashlib import blake2b
from typing import Final

import msgspec

from gateway.exchange.attempts import forward
from gateway.exchange.calls import Call, open_call
from gateway.exchange.exchanges import Exchange, Gateway
from gateway.exchange.responses import read_response
from gateway.exchange.sessions import digest_session
from gateway.policy.backends import Backend, Endpoint
from gateway.policy.forwarding import configured_headers
from gateway.policy.streams import LogAway, SessionDigest
from gateway.protocol import headers as h
from gateway.protocol.answers import negotiated_version
from gateway.protocol.intents import Intent, Listen, Send
from gateway.protocol.outcomes import Failed, Outcome, Rejected
from gateway.protocol.sessions import Session, encode_session, parse_session

PURPOSE: Final = b"healed"

WAIT_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Between looks at what another worker finds, 6 s in all. Then the client gets the 404."""

INITIALIZE_SECONDS: Final = 10.0

MAX_ANSWER_BYTES: Final = 1024 * 1024

_REQUEST_ID: Final = "gateway-heal"
_INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


async def forward_healing(
    exchange: Exchange, backend: Backend, pinned: Endpoint | None, intent: Intent, body: bytes
) -> Call:
    """As `forward`, on a session that the backend knows. Raises `Rejected` (UNKNOWN_SESSION) where there is none."""
    session, healer = exchange.session, exchange.gateway.healer
    if session is None or not session.upstream_id:
        return await forward(exchange, backend, pinned, intent, body)
    if healer is None or not ((backend.heal or not session.version) and session.params):
        if pinned is None:  # its endpoint was taken out of the configuration, or out of DNS: its sessions went with it
            raise forgotten(exchange)
        return await forward(exchange, backend, pinned, intent, body)
    digest = digest_upstream(session)
    failed, current = healer.find(digest) or (b"", session)
    if current is not session:
        exchange.session, pinned = current, exchange.gateway.endpoints.find(backend, current.address)
    if pinned is not None or not current.upstream_id:
        call = await forward(exchange, backend, pinned, intent, body)
        if call.answer.status != 404 or not isinstance(intent, Send | Listen):
            return call
        call.end(Outcome.BACKEND_REFUSED)
    healed = None
    if (ended := await has_ended(exchange)) is False:
        healed = await heal(exchange.gateway, exchange.record.request_id, backend, session, digest, failed)
    elif ended:
        raise unknown_session()
    endpoint = None if healed is None else exchange.gateway.endpoints.find(backend, healed.address)
    if healed is None or (endpoint is None and healed.upstream_id):
        raise forgotten(exchange)
    exchange.session = healed
    return await forward(exchange, backend, endpoint, intent, body)


async def has_ended(exchange: Exchange) -> bool | None:
    """Whether the client itself ended the session, on whichever replica; None where that can't be told."""
    marks = exchange.gateway.marks
    try:
        return marks is not None and await marks.is_ended(digest_session(exchange.token), None)
    except LogAway:
        return None


def forgotten(exchange: Exchange) -> Rejected:
    """What the client is told of a session that nothing can heal. Of an aggregate's, one member's part alone is gone: no 404,
    upon which it would give up its parts at all others."""
    if exchange.view is None or len(exchange.view.aggregate.members) == 1:
        return unknown_session()
    message = f"{exchange.view.member.backend} has forgotten this session: begin a new one to use it again"
    return Rejected(Outcome.UNKNOWN_SESSION, message, status=200)


def unknown_session() -> Rejected:
    """404, upon which a client starts anew (2025-11-25, basic/transports "Session Management" 4)."""
    return Rejected(Outcome.UNKNOWN_SESSION, "Session not found")


def digest_upstream(session: Session) -> SessionDigest:
    """What stands for the backend's session in keys."""
    named = f"{session.mount}\0{session.address}\0{session.upstream_id}\0{session.principal}"
    return SessionDigest(blake2b(named.encode(), digest_size=16).hexdigest())


async def heal(
    gateway: Gateway, request_id: str, backend: Backend, session: Session, digest: SessionDigest, failed: bytes
) -> Session | None:
    """What stands in for the session from now on; None where nothing can. `failed`: what stood in for it before."""
    healer, claim = gateway.healer, gateway.new_trace()
    assert healer is not None
    try:
        for wait_seconds in WAIT_SECONDS:
            remedy = await healer.healings.begin(digest, failed, claim)
            if remedy.state == "mine":
                return await _initialize(gateway, request_id, backend, session, digest, claim)
            if remedy.state == "known":
                return _remember(gateway, digest, remedy.healed)
            await asyncio.sleep(wait_seconds)
    except LogAway:
        pass
    return None


def _remember(gateway: Gateway, digest: SessionDigest, sealed: bytes) -> Session | None:
    plain = gateway.seals.open(sealed.decode("latin-1"), PURPOSE)
    session = None if plain is None else parse_session(plain)
    if session is not None and gateway.healer is not None:
        gateway.healer.remember(digest, sealed, session)
    return session


async def _initialize(
    gateway: Gateway, request_id: str, backend: Backend, session: Session, digest: SessionDigest, claim: str
) -> Session | None:
    """Begins the session anew, and tells the fleet. Nothing that fails here is worse than the 404."""
    healer, sealed = gateway.healer, b""
    assert healer is not None
    begun: Session | None = None
    try:
        async with asyncio.timeout(INITIALIZE_SECONDS):
            begun = await _begin(gateway, request_id, backend, session)
    except (Failed, TimeoutError):
        begun = None
    finally:
        if begun is not None:
            sealed = gateway.seals.seal(encode_session(begun), PURPOSE).encode("ascii")
        await healer.healings.end(digest, claim, sealed)
    if begun is not None:
        healer.remember(digest, sealed, begun)
        gateway.telemetry.session_healed(backend.name)
    return begun


async def _begin(gateway: Gateway, request_id: str, backend: Backend, session: Session) -> Session | None:
    endpoint = gateway.endpoints.pick(backend)
    body = msgspec.json.encode(
        {"jsonrpc": "2.0", "id": _REQUEST_ID, "method": "initialize", "params": msgspec.Raw(session.params)}
    )
    call = await _post(gateway, request_id, backend, endpoint, body, [])
    try:
        response = await read_response(call, _REQUEST_ID, MAX_ANSWER_BYTES)
        upstream_id = (h.find_header(call.answer.headers, h.SESSION) or b"").decode("latin-1")
    finally:
        call.end(Outcome.OK)
    version = negotiated_version(response)
    is_new = not session.version  # of a member that was away when its aggregate's session began
    if version is None or not (is_new or (version == session.version and upstream_id)):
        return None
    named = [(h.VERSION, version.encode("latin-1"))]
    if upstream_id:
        named.append((h.SESSION, upstream_id.encode("latin-1")))
    (await _post(gateway, request_id, backend, endpoint, _INITIALIZED, named)).end(Outcome.OK)
    address = endpoint.address if upstream_id else ""
    return msgspec.structs.replace(session, address=address, upstream_id=upstream_id, version=version)


async def _post(
    gateway: Gateway, request_id: str, backend: Backend, endpoint: Endpoint, body: bytes, named: h.Headers
) -> Call:
    headers: h.Headers = [
        *configured_headers(backend).items(),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"accept-encoding", b"identity"),
        (h.REQUEST_ID, request_id.encode("ascii")),
        *named,
    ]
    return await open_call(
        gateway.upstream, gateway.endpoints, backend, endpoint, b"POST", headers, body, backend.timeouts
    )
