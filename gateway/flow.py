"""One exchange, top to bottom: receive → classify → authorize → route → forward → relay → record.

Read this first. Each step is a function below, in the order in which a request meets it. What bytes mean is in
`protocol/`, what we decide in `policy/`, how a request goes to its backend and the answer comes back in `exchange/`; the
world is behind `ports`.

Modern and legacy MCP part at one place, `relay`: a modern stream is one pipe that is cut with the client, a legacy one a
pump that outlives it and a follower. Before it they differ in one thing alone: a legacy session says which endpoint.
A request to an aggregate becomes one to the member that it is for; what concerns all members is answered in `aggregates/`.
"""

import asyncio
from typing import Final, assert_never

from gateway.aggregates.meetings import look, meet
from gateway.exchange.audits import check_audit, note_calls
from gateway.exchange.authorizations import authenticate, authorize, is_filtered, relay_filtered
from gateway.exchange.bodies import check_head, relay_whole
from gateway.exchange.calls import Call
from gateway.exchange.endings import note_ending
from gateway.exchange.exchanges import Exchange, Gateway, begin, refuse, reply
from gateway.exchange.handshakes import relay_initialize
from gateway.exchange.healings import forward_healing, unknown_session
from gateway.exchange.listens import listen
from gateway.exchange.quotas import admit, admit_to_member, leave_places
from gateway.exchange.recalls import close_flight
from gateway.exchange.resumes import relay_resume
from gateway.exchange.shares import SHARED_METHODS, relay_shared
from gateway.exchange.streams import relay_pipe, relay_pump
from gateway.policy.aggregates import Aggregate
from gateway.policy.backends import Backend, Endpoint
from gateway.policy.origins import cors_headers, is_host_allowed, is_origin_allowed, preflight_headers
from gateway.ports import Client, ClientLeft, Inbound
from gateway.protocol import headers as h
from gateway.protocol.cursors import EventId, is_standing_name, parse_event_id
from gateway.protocol.intents import ALLOWED_METHODS, MODERN_CODES, End, Intent, Listen, Resume, Send, classify
from gateway.protocol.outcomes import Denied, Ended, Failed, Outcome, Rejected
from gateway.protocol.sessions import PURPOSE, Session, parse_session
from gateway.protocol.versions import MODERN_VERSIONS, Era


async def serve(gateway: Gateway, inbound: Inbound, client: Client) -> None:
    """Answers one request to a mount. Never raises but when cancelled, which is how a client's leaving is told."""
    exchange = begin(gateway, inbound, client)
    record = exchange.record
    gateway.telemetry.begin(record)
    try:
        place = receive(exchange)
        if inbound.method == "OPTIONS":
            await answer_preflight(exchange)
            return
        check_audit(exchange)
        await authenticate(exchange, place.mount or "")
        body = await read_body(exchange)
        intent = understand(exchange, body)
        open_session(exchange, place, intent)
        await admit(exchange, place, intent)
        if (event_id := find_logged(exchange, intent)) is not None:
            await relay_resume(exchange, event_id)
            return
        if intent.is_cut_with_client:
            client.cut_on_leave()
        if isinstance(place, Aggregate):
            if (narrowed := await meet(exchange, place, intent, body)) is None:
                return
            backend, intent, body = narrowed
            exchange.asked = intent, body
            await admit_to_member(exchange, backend, intent)
        else:
            backend = place
        authorize(exchange, backend, intent, body)
        endpoint = route(exchange, backend, intent)
        if record.method in SHARED_METHODS and await relay_shared(exchange, backend, intent, body):
            return
        await forward_and_relay(exchange, backend, endpoint, intent, body)
    except Ended as ended:
        await refuse(exchange, ended)
    except ClientLeft:
        note_leaving(exchange)
    except asyncio.CancelledError:
        if client.left or not gateway.standing.is_over:
            note_leaving(exchange)
            raise
        await lose(exchange)
    except Exception as error:  # the one place: a bug of ours is logged, and the client told no more than that
        gateway.telemetry.exception(record, error)
        await refuse(exchange, Failed(Outcome.INTERNAL, "the gateway failed: its log says why, under this request id"))
    finally:
        close_flight(exchange)
        leave_places(exchange)
        note_calls(exchange)
        gateway.telemetry.finish(record)


def note_leaving(exchange: Exchange) -> None:
    """The client left: an outcome of its own, unless it had all that it asked for."""
    if not exchange.is_settled:
        exchange.record.outcome = Outcome.CLIENT_LEFT


async def lose(exchange: Exchange) -> None:
    """The worker ends, and this call hasn't: that is told, and counted."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    await refuse(exchange, exchange.gateway.standing.lose())


def receive(exchange: Exchange) -> Backend | Aggregate:
    """What is mounted at the path that was called, if this caller may call here at all."""
    site, index = exchange.site, exchange.index
    # Host before all: a page that rebinds its name must not learn even which mounts there are.
    if not is_host_allowed(site, index.get(b"host")):
        raise Denied(
            Outcome.HOST_DENIED, "this host name is not served here: add it to `allowed_hosts`, or set `public_url`"
        )
    if (origin := index.get(b"origin")) is not None:
        if not is_origin_allowed(site, origin):
            raise Denied(Outcome.ORIGIN_DENIED, "this origin may not call: add it to `cors.origins`")
        exchange.reply_headers += cors_headers(origin)
    place = site.routes.get(exchange.inbound.path)
    if place is None:
        mounts = {p.mount for p in site.routes.values() if p.mount} if site.expose_mounts else None
        data = None if mounts is None else {"mounts": sorted(mounts)}
        raise Rejected(Outcome.NOT_FOUND, "nothing is mounted at this path", data=data)
    return place


async def answer_preflight(exchange: Exchange) -> None:
    """OPTIONS: what a browser may send here, and what anybody may."""
    headers = [*exchange.reply_headers, (b"allow", ALLOWED_METHODS)]
    if b"origin" in exchange.index:
        headers += preflight_headers(exchange.index.get(b"access-control-request-headers"))
    exchange.record.outcome = Outcome.OK
    await reply(exchange, 204, headers, b"")


async def read_body(exchange: Exchange) -> bytes:
    """The body of a POST, bounded in size and time."""
    if exchange.inbound.method != "POST":
        return b""
    limits = exchange.site.limits
    body = await exchange.client.read_body(limits.body_bytes, limits.body_seconds)
    exchange.record.bytes_in = len(body)
    return body


def understand(exchange: Exchange, body: bytes) -> Intent:
    """What the request is about; after this nobody asks whether it is a GET."""
    record = exchange.record
    try:
        intent = classify(exchange.inbound.method, exchange.index, exchange.doubled, body)
    except Rejected as rejection:
        exchange.rpc_id = rejection.request_id
        raise
    record.era = intent.era
    exchange.asked = intent, body
    if isinstance(intent, Send):
        first = intent.first
        record.method, record.name, record.client_name = first.method, first.name or "", first.client_name
        exchange.rpc_id = None if intent.is_batch or not intent.expects_answer else first.id
    if exchange.gateway.telemetry.tells_steps:
        exchange.gateway.telemetry.step(record, "classify", intent=intent)
    return intent


def open_session(exchange: Exchange, place: Backend | Aggregate, intent: Intent) -> None:
    """Opens the session that the request names. Raises `Rejected` where it isn't this principal's, on this mount."""
    if intent.token is None:
        return
    exchange.token = intent.token
    exchange.record.session = intent.token[:8]  # of the nonce: it finds the session's lines, and opens nothing
    plain = exchange.gateway.seals.open(intent.token, PURPOSE)
    session = None if plain is None else parse_session(plain)
    if session is None or session.mount != place.mount or session.principal != exchange.principal:
        raise unknown_session()  # one answer for all three: which of them it was is nobody's business
    exchange.session = session
    exchange.record.client_name = session.client_name


def route(exchange: Exchange, backend: Backend, intent: Intent) -> Endpoint | None:
    """The endpoint that the session is bound to; None where any will do, or where that one is gone."""
    check_era(exchange, backend, intent)
    session: Session | None = exchange.session
    if session is None:
        return None
    if session.upstream_id:
        return exchange.gateway.endpoints.find(backend, session.address)
    if isinstance(intent, End):
        # The backend keeps no session that could be ended (2025-11-25, basic/transports "Session Management" 5).
        allow = ((b"allow", b"GET, POST, OPTIONS"),)
        raise Rejected(Outcome.METHOD_NOT_ALLOWED, "this server keeps no session that could be ended", headers=allow)
    return None


def check_era(exchange: Exchange, backend: Backend, intent: Intent) -> None:
    """Raises `Rejected` where the backend is known not to speak the client's era (design §5)."""
    if not intent.opens_era or exchange.gateway.eras.speaks(backend, intent.era) is not False:
        return
    if intent.era is Era.MODERN:
        # No modern error code, so that a client of both eras falls back to `initialize`.
        message = "this server speaks only protocol versions with a handshake: send `initialize`"
        raise Rejected(Outcome.ERA_MISMATCH, message)
    message = f"this server has no handshake: it speaks protocol version {MODERN_VERSIONS[-1]}"
    raise Rejected(Outcome.ERA_MISMATCH, message, data={"supported": list(MODERN_VERSIONS)})


def find_logged(exchange: Exchange, intent: Intent) -> EventId | None:
    """The event of a call's log from which on a client resumes; None for any other request, or another event id."""
    if not isinstance(intent, Resume) or exchange.gateway.log is None:
        return None
    event_id = parse_event_id(intent.last_event_id.decode("latin-1"))
    return None if event_id is None or is_standing_name(event_id.stream) else event_id


async def forward_and_relay(
    exchange: Exchange, backend: Backend, endpoint: Endpoint | None, intent: Intent, body: bytes
) -> None:
    """What the backend says to the request. Only a standing stream may be there already."""
    if isinstance(intent, Listen | Resume):
        if (call := await listen(exchange, backend, endpoint, intent)) is None:
            return
    else:
        call = await forward_healing(exchange, backend, endpoint, intent, body)
    await relay(exchange, backend, intent, look(exchange, call), body)


async def relay(exchange: Exchange, backend: Backend, intent: Intent, call: Call, body: bytes) -> None:
    """Gives the client what the backend answered. The call is ended here, or by the pump that it was passed on to."""
    record, answer = exchange.record, call.answer
    outcome = Outcome.CLIENT_LEFT
    try:
        check_head(answer, backend.name)
        awaited = {m.id for m in intent.messages if m.is_request and m.id is not None}
        is_stream = answer.status == 200 and h.media_type(answer.headers) == h.SSE
        match intent:
            case Send() if answer.status == 200 and is_filtered(exchange, intent):
                await relay_filtered(exchange, backend, intent, call)
            case Send(era=Era.LEGACY, opens_era=True):
                await relay_initialize(exchange, backend, call, body, awaited)
            case Send(era=Era.MODERN) if is_stream:
                await relay_pipe(exchange, intent, call, awaited)
            case Send() | Listen() | Resume() if is_stream:
                await relay_pump(exchange, backend, intent, call, awaited, body)
            case Send() | Listen() | Resume() | End():
                await relay_whole(exchange, backend, call, awaited)
            case _:
                assert_never(intent)
        outcome = record.outcome
    except Ended as ended:
        outcome = ended.outcome
        raise
    except ClientLeft:
        if record.upstream_ended:  # the backend has done its part
            outcome = record.outcome
        raise
    finally:
        record.upstream_ended = record.upstream_ended or exchange.gateway.clock()
        call.end(outcome)
    observe_era(exchange, backend, intent, answer.status)
    await note_ending(exchange, intent, answer.status, body)


_SPOKEN: Final = frozenset({Outcome.OK, Outcome.TOOL_ERROR})
_REFUSED: Final = frozenset({400, 404, 405})


def observe_era(exchange: Exchange, backend: Backend, intent: Intent, status: int) -> None:
    """What this answer shows of the backend's eras: news, or a doubt about what was known, which a probe will settle."""
    if not intent.opens_era:
        return
    eras, record = exchange.gateway.eras, exchange.record
    known = eras.speaks(backend, intent.era)
    if status == 200 and record.outcome in _SPOKEN and known is not True:
        eras.observe(backend, intent.era, True)
    elif status in _REFUSED and record.rpc_code not in MODERN_CODES and known is True:
        eras.observe(backend, intent.era, False)
