"""What one exchange holds: the worker's ports, the request, and the record of how it goes."""

import time
from collections.abc import Callable

import msgspec

from gateway.exchange.allowances import Allowances
from gateway.exchange.caches import Caches
from gateway.exchange.flights import Flight
from gateway.exchange.healers import Healer
from gateway.exchange.hubs import Hubs
from gateway.exchange.owners import Owners
from gateway.exchange.pumps import Pumps
from gateway.exchange.reservations import Desk, Reservations
from gateway.exchange.standing import Standing
from gateway.exchange.turns import Turns
from gateway.exchange.views import View
from gateway.policy.backends import Backend
from gateway.policy.identities import ANONYMOUS, Identity
from gateway.policy.listings import Listings
from gateway.policy.permits import TOTAL, Permit
from gateway.policy.sites import Site
from gateway.ports import (
    AuditLog,
    Client,
    ClientLeft,
    Endpoints,
    Eras,
    EventLog,
    Gate,
    Inbound,
    Marks,
    Record,
    Seals,
    Telemetry,
    Upstream,
)
from gateway.protocol import headers as h
from gateway.protocol.errors import encode_error
from gateway.protocol.intents import Intent
from gateway.protocol.outcomes import Ended, Outcome
from gateway.protocol.results import ServerInfo
from gateway.protocol.sessions import Session


class Gateway(msgspec.Struct):
    """The ports of one worker, and the configuration in force. `site` is replaced when that changes."""

    site: Site
    upstream: Upstream
    endpoints: Endpoints
    eras: Eras
    seals: Seals
    telemetry: Telemetry
    pumps: Pumps
    standing: Standing
    caches: Caches
    hubs: Hubs
    clock: Callable[[], float]
    new_trace: Callable[[], str]  # 32 hexadecimal digits, never the same again
    wall_clock: Callable[[], float] = time.time  # seconds since 1970: for what another replica reads
    log: EventLog | None = None  # None: no stream outlives its connection
    marks: Marks | None = None
    owners: Owners | None = None
    turns: Turns | None = None  # of standing streams; there with the three before it
    gate: Gate | None = None  # None: nobody is asked who they are
    audit: AuditLog | None = None  # None: nobody is told who called what
    allowances: Allowances | None = None  # None: nobody is held to a limit
    reservations: Reservations | None = None  # there with `allowances`
    healer: Healer | None = None  # None: a session that its backend forgot is gone
    listings: Listings = msgspec.field(default_factory=Listings)
    server: ServerInfo = ServerInfo("mcp-stateless-gateway", "unknown")  # what an aggregate calls itself


class Exchange(msgspec.Struct):
    """One downstream request and all that is done to answer it. It ends with the `site` that it began with."""

    gateway: Gateway
    site: Site
    inbound: Inbound
    client: Client
    record: Record
    index: dict[bytes, bytes]
    doubled: bytes | None
    traceparent: bytes
    reply_headers: h.Headers  # on every reply: the request id, and CORS where a browser asks
    rpc_id: int | str | None = None  # of the JSON-RPC request, once it is known and there is but one
    session: Session | None = None
    token: str = ""  # the session's
    identity: Identity = ANONYMOUS
    permit: Permit = TOTAL  # what it may do at the backend that it calls
    view: View | None = None  # through which the client sees the backend; None: it called the backend's own mount
    body: bytes = b""  # of a request to an aggregate: what the gateway asks on its behalf says some of the same
    asked: tuple[Intent | None, bytes] | None = (None, b"")  # as far as it is understood; None: no audit is told of it
    flight: Flight | None = None  # where the answer may be kept, or others wait for it
    desks: tuple[Desk, ...] = ()  # where it has a place, to be left at its end
    is_settled: bool = False  # all that was asked for has been answered: a client that leaves now has missed nothing

    @property
    def principal(self) -> str:
        """Who calls, as what is theirs alone is marked by; empty where nobody is asked who they are (`auth: none`)."""
        return self.identity.principal


def begin(gateway: Gateway, inbound: Inbound, client: Client) -> Exchange:
    """The exchange, with its ids. A client's own request id and trace context are kept where they are well-formed."""
    index, doubled = h.index_headers(inbound.headers)
    trace = gateway.new_trace()
    request_id = h.request_id_of(index) or trace
    traceparent = h.traceparent_of(index) or f"00-{trace}-{trace[:16]}-00".encode()
    record = Record(request_id, inbound.method, inbound.path, gateway.clock())
    if (place := gateway.site.routes.get(inbound.path)) is not None:
        record.mount, record.backend = place.mount or "", place.name if isinstance(place, Backend) else ""
    if gateway.telemetry.tells_steps:
        gateway.telemetry.step(record, "receive", method=inbound.method, path=inbound.path, headers=inbound.headers)
    reply_headers: h.Headers = [(h.REQUEST_ID, request_id.encode("ascii"))]
    return Exchange(gateway, gateway.site, inbound, client, record, index, doubled, traceparent, reply_headers)


async def reply(exchange: Exchange, status: int, headers: h.Headers, body: bytes) -> None:
    """One whole reply. Raises `ClientLeft`."""
    exchange.record.status = status
    exchange.record.bytes_out = len(body)
    if exchange.gateway.telemetry.tells_steps:
        exchange.gateway.telemetry.step(exchange.record, "reply", status=status, headers=headers)
    await exchange.client.reply(status, headers, body)


async def refuse(exchange: Exchange, ended: Ended) -> None:
    """The gateway's own word instead of an answer: HTTP status and JSON-RPC error, on the request's id where it is known."""
    record, client = exchange.record, exchange.client
    record.outcome, record.detail, record.rpc_code = ended.outcome, ended.message, ended.code
    if client.started:  # the reply was under way when we broke: nothing true can be added
        return
    body = encode_error(ended, record.request_id, exchange.rpc_id)
    headers = [(b"content-type", h.JSON), *exchange.reply_headers, *ended.headers]
    if ended.http_status in (429, 503) and not any(name == b"retry-after" for name, _ in ended.headers):
        headers.append((b"retry-after", b"1"))
    try:
        await reply(exchange, ended.http_status, headers, b"" if exchange.inbound.method == "HEAD" else body)
    except ClientLeft:
        record.outcome = Outcome.CLIENT_LEFT


def session_header(exchange: Exchange, answered: h.Headers) -> h.Headers:
    """The client's session token, where the backend repeated its own session id (the Python SDK's server always does)."""
    if exchange.token and h.find_header(answered, h.SESSION) is not None:
        return [(h.SESSION, exchange.token.encode("ascii"))]
    return []
