"""The upstream GET of a standing stream, opened on behalf of nobody's request: again after a break, or after a takeover."""

import math
from typing import Final

import msgspec

from gateway.exchange.calls import Call, open_call
from gateway.exchange.exchanges import Gateway
from gateway.exchange.healings import digest_upstream, heal
from gateway.exchange.reopens import find_endpoint, session_headers
from gateway.exchange.watches import is_ended
from gateway.policy.backends import Backend, Timeouts
from gateway.policy.streams import Facts
from gateway.protocol import headers as h
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.sessions import Session

FOR_NOW: Final = frozenset({401, 403, 407, 408, 409, 421, 425, 429})
"""Refusals that may pass: credentials are renewed, and a server has to notice first that the connection before is gone."""


class Refused(Exception):
    """The backend has no such stream, and to ask again would not help."""


async def open_standing(gateway: Gateway, facts: Facts, session: Session, cursor: bytes, request_id: str) -> Call:
    """The stream behind that event of the backend's; a fresh one where there is no such event, or none that it can resume.

    `session`: as its client's token has it; where the backend forgot it, it is healed. Raises `Refused`, or `Failed` where
    to ask again may help.
    """
    backend = gateway.site.backends.get(facts.backend)
    if backend is None:
        raise Refused
    digest = digest_upstream(session)
    known = gateway.healer.find(digest) if gateway.healer is not None else None
    failed, current = known or (b"", session)
    for place in (cursor, b"") if cursor else (b"",):
        found = await _ask(gateway, backend, facts, current, place, request_id)
        if isinstance(found, Call):
            return found
    if found != 404 or gateway.healer is None or not (backend.heal and session.params):
        raise Refused
    if await is_ended(gateway, facts):
        raise Refused
    healed = await heal(gateway, request_id, backend, session, digest, failed)
    found = 404 if healed is None else await _ask(gateway, backend, facts, healed, b"", request_id)
    if isinstance(found, Call):
        return found
    raise Refused


async def _ask(
    gateway: Gateway, backend: Backend, facts: Facts, session: Session, cursor: bytes, request_id: str
) -> Call | int:
    """The stream, or the status that refuses it for good. Raises `Failed`."""
    facts = msgspec.structs.replace(
        facts,
        endpoint=session.address,
        upstream_session=session.upstream_id,
        version=session.version or facts.version,  # an aggregate's member that joined late has one of its own
    )
    endpoint = find_endpoint(gateway, backend, facts)
    if endpoint is None:
        return 404  # its sessions went with it
    headers: h.Headers = [*session_headers(backend, facts, request_id), (b"accept", h.SSE)]
    if cursor:
        headers.append((h.LAST_EVENT_ID, cursor))
    timeouts = Timeouts(backend.timeouts.connect_seconds, math.inf, math.inf)
    call = await open_call(gateway.upstream, gateway.endpoints, backend, endpoint, b"GET", headers, b"", timeouts)
    answer = call.answer
    if answer.status == 200 and h.media_type(answer.headers) == h.SSE:
        return call
    call.end(Outcome.BACKEND_REFUSED)
    if answer.status in FOR_NOW or answer.status >= 500:
        raise Failed(Outcome.UNREACHABLE, "the server has no stream for us now")
    return answer.status
