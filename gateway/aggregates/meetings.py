"""An aggregate and a request: turned to the one member that it is for, or answered here for all of them."""

from typing import Final, assert_never

from gateway.aggregates.members import turn_to
from gateway.aggregates.questions import name_header
from gateway.aggregates.subscriptions import listen_to_all
from gateway.aggregates.targets import (
    COMPLETE,
    TARGETS,
    TASK_METHODS,
    Narrowed,
    narrow_completion,
    narrow_named,
    narrow_owned,
    read_owner,
    resolve,
)
from gateway.aggregates.unions import (
    DISCOVER,
    begin_all,
    discover_all,
    list_all,
    read_anywhere,
    reply_result,
    set_level,
    stand_in,
    tell_all,
)
from gateway.exchange.authorizations import not_granted, unknown
from gateway.exchange.calls import Call
from gateway.exchange.exchanges import Exchange
from gateway.exchange.healings import forgotten
from gateway.exchange.views import view
from gateway.policy.aggregates import Aggregate, limit_to
from gateway.policy.grants import permit_for
from gateway.protocol import headers as h
from gateway.protocol.catalogues import LIST_METHODS, Kind
from gateway.protocol.intents import End, Intent, Listen, Resume, Send
from gateway.protocol.messages import Kind as MessageKind
from gateway.protocol.namespaces import PROGRESS
from gateway.protocol.outcomes import Outcome, Rejected
from gateway.protocol.subscriptions import LISTEN
from gateway.protocol.versions import Era

LEGACY_METHODS: Final = frozenset(
    {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
)
"""Requests that 2026-07-28 no longer has."""


def look(exchange: Exchange, call: Call) -> Call:
    """The call as the client sees it: one with an aggregate's member says whose ids are. Raises `Rejected`."""
    if exchange.view is None:
        return call
    if call.answer.status == 404 and exchange.session is not None:
        call.end(Outcome.BACKEND_REFUSED)
        raise forgotten(exchange)
    # Without a log of our own a client resumes by the backend's event ids.
    marks_events = exchange.gateway.log is None
    return view(exchange.view, call, exchange.site.limits.event_bytes, marks_events=marks_events)


async def meet(exchange: Exchange, aggregate: Aggregate, intent: Intent, body: bytes) -> Narrowed | None:
    """The request as one member is to have it; None where it has been answered. Raises `Ended`."""
    check_era(aggregate, intent)
    aggregate = limit(exchange, aggregate)
    exchange.body = body
    match intent:
        case Send(is_batch=True):
            # 2025-03-26 alone has batches. Members of one could each be another backend's, and share one reply.
            raise Rejected(Outcome.INVALID_REQUEST, "batches are not taken here: send one message at a time")
        case Send():
            match intent.first.kind:
                case MessageKind.REQUEST:
                    return await meet_request(exchange, aggregate, intent, body)
                case MessageKind.NOTIFICATION:
                    return await meet_notification(exchange, aggregate, intent, body)
                case MessageKind.RESPONSE:
                    return narrow_owned(exchange, aggregate, intent, body, "id")
                case _:
                    assert_never(intent.first.kind)
        case Listen() | Resume():
            return meet_listening(exchange, aggregate, intent, body)
        case End():
            await tell_all(exchange, aggregate, intent, body)
        case _:
            assert_never(intent)
    return None


def limit(exchange: Exchange, aggregate: Aggregate) -> Aggregate:
    """What of the aggregate is granted to whoever calls. Raises `Denied` where nothing is."""
    grants = exchange.site.grants
    if grants is None:
        return aggregate
    permits = {m.backend: permit_for(grants, exchange.identity, m.backend) for m in aggregate.members}
    limited = limit_to(aggregate, permits)
    if not limited.members:
        raise not_granted("this server")
    return limited


def check_era(aggregate: Aggregate, intent: Intent) -> None:
    """Raises `Rejected` where the aggregate is configured for the other era."""
    if aggregate.era == "auto" or aggregate.era == intent.era:
        return
    if intent.era is Era.MODERN:
        # No modern error code, so that a client of both eras falls back to `initialize`.
        raise Rejected(
            Outcome.ERA_MISMATCH, "this server speaks only protocol versions with a handshake: send `initialize`"
        )
    raise Rejected(Outcome.ERA_MISMATCH, "this server has no handshake: it speaks protocol versions without one")


def meet_listening(exchange: Exchange, aggregate: Aggregate, intent: Listen | Resume, body: bytes) -> Narrowed:
    """A session's standing stream is all members' (`exchange/gatherings`); the rest of a call's, by its event id, one's."""
    if isinstance(intent, Resume):
        prefix, colon, event_id = intent.last_event_id.partition(b":")
        member = aggregate.by_prefix.get(prefix.decode("latin-1")) if colon else None
        if member is not None:
            name_header(exchange, h.LAST_EVENT_ID, event_id)
            rest = Resume(intent.token, last_event_id=event_id)
            return Narrowed(turn_to(exchange, aggregate, member), rest, body)
    return Narrowed(stand_in(aggregate.name, exchange.site.digest), intent, body)


async def meet_request(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> Narrowed | None:
    """By its method."""
    method = intent.first.method
    if intent.era is Era.MODERN and method in LEGACY_METHODS:
        raise unknown_method(intent)
    if (target := TARGETS.get(method)) is not None:
        if method == "resources/read" and (intent.first.name is not None):
            return await meet_reading(exchange, aggregate, intent, body)
        return await narrow_named(exchange, aggregate, intent, body, target)
    if method in LIST_METHODS:
        await list_all(exchange, aggregate, intent, body)
    elif method == COMPLETE:
        return await narrow_completion(exchange, aggregate, intent, body)
    elif method in TASK_METHODS:
        return narrow_owned(exchange, aggregate, intent, body, "params", "taskId")
    elif method == DISCOVER and intent.era is Era.MODERN:
        await discover_all(exchange, aggregate, intent, body)
    elif method == LISTEN and intent.era is Era.MODERN:
        await listen_to_all(exchange, aggregate, intent, body)
    elif method == "initialize":
        await begin_all(exchange, aggregate, intent, body)
    elif method == "logging/setLevel":
        await set_level(exchange, aggregate, body)
    elif method == "ping":
        await reply_result(exchange, b"{}")
    else:
        raise unknown_method(intent)
    return None


def unknown_method(intent: Send) -> Rejected:
    """No server here has the method, or none that speaks this era."""
    status = 404 if intent.era is Era.MODERN else 200  # 2026-07-28, basic/transports "Status Codes"
    return Rejected(Outcome.UNKNOWN_METHOD, f"Method not found: {intent.first.method}", status=status)


async def meet_reading(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> Narrowed | None:
    """`resources/read`: of a resource that nobody lists, from whoever has it."""
    uri = intent.first.name or ""
    if await resolve(exchange, aggregate, Kind.RESOURCE, uri) is not None:
        return await narrow_named(exchange, aggregate, intent, body, TARGETS["resources/read"])
    if (result := await read_anywhere(exchange, aggregate, uri)) is None:
        raise unknown(Kind.RESOURCE, uri, intent.era)
    await reply_result(exchange, result)
    return None


async def meet_notification(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> Narrowed | None:
    """A client's progress goes to the member that asked for it, everything else to all.

    A cancelled request's member isn't known; to the others its id says nothing, since a client gives none twice in a session.
    """
    if intent.first.method == PROGRESS and read_owner(body, "params", "progressToken") is not None:
        return narrow_owned(exchange, aggregate, intent, body, "params", "progressToken")
    await tell_all(exchange, aggregate, intent, body)
    return None
