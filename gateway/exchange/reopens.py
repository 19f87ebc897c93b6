"""The rest of a stream, asked of the backend: GET with the last event id that it gave (2025-11-25, "Resumability")."""

from collections.abc import Awaitable, Callable

from gateway.exchange.calls import Call, open_call
from gateway.exchange.exchanges import Gateway
from gateway.policy.backends import Backend
from gateway.policy.forwarding import configured_headers
from gateway.policy.streams import Facts
from gateway.protocol import headers as h
from gateway.protocol.outcomes import Failed, Outcome


def make_reopen(gateway: Gateway, facts: Facts, request_id: str) -> Callable[[bytes], Awaitable[Call]]:
    """Asks the backend for what follows an event id of its own, as often as need be, within the time that a call has in all.

    After a takeover that time begins anew. Without it a backend that closes again and again would be asked for ever.
    """
    backend = gateway.site.backends.get(facts.backend)
    until = gateway.clock() + (backend.timeouts.total_seconds if backend is not None else 0.0)

    async def ask(cursor: bytes) -> Call:
        if backend is not None and gateway.clock() > until:
            raise Failed(Outcome.TIMED_OUT, "the server did not finish this call within the time allowed")
        return await reopen(gateway, facts, cursor, request_id)

    return ask


async def reopen(gateway: Gateway, facts: Facts, cursor: bytes, request_id: str) -> Call:
    """The backend's answer, a stream. Raises `Failed`: NONSENSE where the backend can't resume this one."""
    backend = gateway.site.backends.get(facts.backend)
    if backend is None:
        raise Failed(Outcome.NONSENSE, "the server of this call is no longer configured: call another")
    endpoint = gateway.endpoints.find(backend, facts.endpoint) if facts.endpoint else gateway.endpoints.pick(backend)
    if endpoint is None:
        raise Failed(Outcome.NONSENSE, "the server of this call is gone: call again")
    headers = _headers(backend, facts, cursor, request_id)
    call = await open_call(
        gateway.upstream, gateway.endpoints, backend, endpoint, b"GET", headers, b"", backend.timeouts
    )
    answer = call.answer
    if answer.status == 200 and h.media_type(answer.headers) == h.SSE:
        return call
    call.end(Outcome.BACKEND_REFUSED)
    if answer.status >= 500 or answer.status == 409:  # it may have to notice first that the connection before is gone
        raise Failed(Outcome.UNREACHABLE, "the server can't resume now")
    raise Failed(Outcome.NONSENSE, "the server can't resume this call: call again")


def _headers(backend: Backend, facts: Facts, cursor: bytes, request_id: str) -> h.Headers:
    headers: h.Headers = [
        *configured_headers(backend).items(),
        (b"accept", h.SSE),
        (b"accept-encoding", b"identity"),
        (h.VERSION, facts.version.encode("latin-1")),
        (h.LAST_EVENT_ID, cursor),
        (h.REQUEST_ID, request_id.encode("ascii")),
    ]
    if facts.upstream_session:
        headers.append((h.SESSION, facts.upstream_session.encode("latin-1")))
    return headers
