"""The rest of a stream, asked of the backend: GET with the last event id that it gave (2025-11-25, "Resumability").

And what every request of the gateway's own on a stream's behalf needs: where to, in which session, and for how long.
"""

import math
from collections.abc import Awaitable, Callable, Collection

import msgspec

from gateway.exchange.calls import Call, open_call
from gateway.exchange.exchanges import Gateway
from gateway.exchange.views import find_view, view
from gateway.policy.backends import Backend, Endpoint
from gateway.policy.forwarding import configured_headers
from gateway.policy.streams import Facts
from gateway.protocol import headers as h
from gateway.protocol.outcomes import Failed, Outcome


def make_reopen(gateway: Gateway, facts: Facts, request_id: str) -> Callable[[bytes], Awaitable[Call]]:
    """Asks the backend for what follows an event id of its own, as often as need be, within the time that a call has in all.

    Without that a backend that closes again and again would be asked for ever, and a call could live on from takeover to takeover.
    """
    if not facts.began_at:
        facts = msgspec.structs.replace(facts, began_at=gateway.wall_clock())

    async def ask(cursor: bytes) -> Call:
        return await reopen(gateway, facts, cursor, request_id)

    return ask


async def reopen(gateway: Gateway, facts: Facts, cursor: bytes, request_id: str) -> Call:
    """The backend's answer, a stream. Raises `Failed`: NONSENSE where the backend can't resume this one, TIMED_OUT."""
    backend = gateway.site.backends.get(facts.backend)
    if backend is None:
        raise Failed(Outcome.NONSENSE, "the server of this call is no longer configured: call another")
    endpoint = find_endpoint(gateway, backend, facts)
    if endpoint is None:
        raise Failed(Outcome.NONSENSE, "the server of this call is gone: call again")
    left_seconds = seconds_left(gateway, backend, facts)
    if left_seconds <= 0:
        raise Failed(Outcome.TIMED_OUT, "the server did not finish this call within the time allowed")
    headers: h.Headers = [
        *session_headers(backend, facts, request_id),
        (b"accept", h.SSE),
        (h.LAST_EVENT_ID, cursor),
    ]
    timeouts = msgspec.structs.replace(backend.timeouts, total_seconds=left_seconds)
    call = await open_call(gateway.upstream, gateway.endpoints, backend, endpoint, b"GET", headers, b"", timeouts)
    answer = call.answer
    if answer.status == 200 and h.media_type(answer.headers) == h.SSE:
        return view(find_view(gateway.site, facts.mount, facts.backend), call, gateway.site.limits.event_bytes)
    call.end(Outcome.BACKEND_REFUSED)
    if answer.status >= 500 or answer.status == 409:  # it may have to notice first that the connection before is gone
        raise Failed(Outcome.UNREACHABLE, "the server can't resume now")
    raise Failed(Outcome.NONSENSE, "the server can't resume this call: call again")


def find_endpoint(gateway: Gateway, backend: Backend, facts: Facts, but_not: Collection[str] = ()) -> Endpoint | None:
    """The session's own endpoint, None where it is gone; any of the others where the backend keeps no session. Raises `Failed`."""
    if facts.endpoint:
        return gateway.endpoints.find(backend, facts.endpoint)
    return gateway.endpoints.pick(backend, but_not)


def seconds_left(gateway: Gateway, backend: Backend, facts: Facts) -> float:
    """Of the time that a call has in all, counted from when it began, on whichever replica. A standalone stream has no end.

    Replicas' clocks may differ: one that lags gives a call no more than the whole time again.
    """
    if not facts.request_id:
        return math.inf
    gone_seconds = gateway.wall_clock() - facts.began_at if facts.began_at else 0.0
    return backend.timeouts.total_seconds - max(0.0, gone_seconds)


def session_headers(backend: Backend, facts: Facts, request_id: str) -> h.Headers:
    """What names the stream's session to its backend, and the exchange on whose behalf it is asked."""
    headers: h.Headers = [
        *configured_headers(backend).items(),
        (b"accept-encoding", b"identity"),
        (h.VERSION, facts.version.encode("latin-1")),
        (h.REQUEST_ID, request_id.encode("ascii")),
    ]
    if facts.upstream_session:
        headers.append((h.SESSION, facts.upstream_session.encode("latin-1")))
    return headers
