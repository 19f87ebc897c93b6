"""Forward: one request to one endpoint, or to another where the first could not be reached."""

import asyncio
from typing import Final

from gateway.exchange.calls import Call, open_call
from gateway.exchange.exchanges import Exchange
from gateway.policy.backends import Backend, Endpoint, Timeouts
from gateway.policy.forwarding import is_trusted, upstream_headers
from gateway.protocol import headers as h
from gateway.protocol.intents import End, Intent, Listen, Resume, Send
from gateway.protocol.outcomes import Failed, Outcome

MAX_ATTEMPTS: Final = 3
"""Endpoints tried for one request. Only one that was unreachable, so that no byte was sent, is followed by another."""

CONFLICT_WAITS_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""A backend answers 409 to a session's second GET stream until it has noticed that the first is gone (facts.md): a client
that drops and reopens, perhaps through another replica, is spared that. A stream that stays open still gets its 409."""

_STANDING: Final = float("inf")


async def forward(exchange: Exchange, backend: Backend, pinned: Endpoint | None, intent: Intent, body: bytes) -> Call:
    """The backend's answer, as far as its head. Raises `Failed`."""
    headers = request_headers(exchange, backend)
    timeouts = backend.timeouts
    if is_standing(intent):
        timeouts = Timeouts(timeouts.connect_seconds, _STANDING, _STANDING)
    call = await attempt(exchange, backend, pinned, headers, body, timeouts)
    if isinstance(intent, Listen | Resume):
        for wait_seconds in CONFLICT_WAITS_SECONDS:
            if call.answer.status != 409:
                break
            call.end(Outcome.BACKEND_REFUSED)
            await asyncio.sleep(wait_seconds)
            call = await attempt(exchange, backend, pinned, headers, body, timeouts)
    return call


def is_standing(intent: Intent) -> bool:
    """Whether the answer is a stream that is meant to be silent for long."""
    if isinstance(intent, Send):
        return intent.first.method == "subscriptions/listen"
    return not isinstance(intent, End)


def request_headers(exchange: Exchange, backend: Backend) -> h.Headers:
    """The upstream request's headers, but for those that belong to its connection."""
    inbound, session, proxies = exchange.inbound, exchange.session, exchange.site.trusted_proxies
    headers = inbound.headers
    if session is not None and session.client_version != session.version:
        version = session.version.encode("latin-1")
        headers = [(name, version if name == h.VERSION else value) for name, value in headers]
    return upstream_headers(
        headers,
        exchange.index,
        backend,
        peer=inbound.peer,
        scheme=inbound.scheme,
        trusted=bool(proxies) and is_trusted(inbound.peer, proxies),
        request_id=exchange.record.request_id,
        traceparent=exchange.traceparent,
        upstream_session=session.upstream_id if session is not None else "",
    )


async def attempt(
    exchange: Exchange, backend: Backend, pinned: Endpoint | None, headers: h.Headers, body: bytes, timeouts: Timeouts
) -> Call:
    """Sends the request to the pinned endpoint, or to one after another until one could be reached."""
    gateway, record = exchange.gateway, exchange.record
    method = exchange.inbound.method.encode("ascii")
    tried: set[str] = set()
    while True:
        endpoint = pinned or pick(exchange, backend, tried)
        record.endpoint, record.forwarded = endpoint.address, gateway.clock()
        if gateway.telemetry.tells_steps:
            gateway.telemetry.step(record, "forward", endpoint=endpoint.address, headers=headers)
        try:
            call = await open_call(
                gateway.upstream, gateway.endpoints, backend, endpoint, method, headers, body, timeouts
            )
        except Failed as failure:
            if failure.outcome is not Outcome.UNREACHABLE:
                raise
            record.forwarded = 0.0  # it didn't leave
            tried.add(endpoint.address)
            if pinned is not None or len(tried) == MAX_ATTEMPTS:
                raise unreachable(record.mount) from failure
            continue
        record.answered = gateway.clock()
        if gateway.telemetry.tells_steps:
            gateway.telemetry.step(record, "answer", status=call.answer.status, headers=call.answer.headers)
        return call


def pick(exchange: Exchange, backend: Backend, tried: set[str]) -> Endpoint:
    """An endpoint that wasn't tried yet. Raises `Failed` (UNREACHABLE) where none is left, or none was ever known."""
    try:
        return exchange.gateway.endpoints.pick(backend, tried)
    except Failed as failure:
        raise unreachable(exchange.record.mount, "" if tried else failure.message) from failure


def unreachable(mount: str, why: str = "") -> Failed:
    """503: the client's user reads which of the mounts it is; no address."""
    return Failed(Outcome.UNREACHABLE, f"no server of mount {mount} can be reached" + (f": {why}" if why else ""))
