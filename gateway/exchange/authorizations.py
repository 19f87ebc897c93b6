"""Who calls, and whether it may: asked before anything is sent, at the backend, whichever way led there.

A name that may not be used is answered as one that nobody has. Lists come without it, and are then their asker's alone.
"""

from typing import Final

import msgspec

from gateway.exchange.calls import Call
from gateway.exchange.exchanges import Exchange, reply
from gateway.exchange.responses import read_response
from gateway.policy.backends import Backend
from gateway.policy.filters import filter_result
from gateway.policy.forwarding import is_trusted
from gateway.policy.grants import permit_for, scopes_for
from gateway.policy.rules import COMPLETION, KINDS
from gateway.protocol import headers as h
from gateway.protocol.catalogues import LIST_METHODS, Kind
from gateway.protocol.credentials import read_credentials
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import Message
from gateway.protocol.outcomes import Denied, Failed, Outcome, Rejected
from gateway.protocol.resources import called_as, insufficient_scope, resource_of
from gateway.protocol.results import Malformed
from gateway.protocol.splices import Doubled, find, replace
from gateway.protocol.subscriptions import LISTEN, read_filter
from gateway.protocol.versions import Era

_REFERENCES: Final = {"ref/prompt": (Kind.PROMPT, "name"), "ref/resource": (Kind.TEMPLATE, "uri")}


async def authenticate(exchange: Exchange, mount: str) -> None:
    """Finds out who calls. Raises `Denied`, `Failed` where nobody can say now, `Rejected` where it can't be read."""
    site, gate, inbound = exchange.site, exchange.gateway.gate, exchange.inbound
    if site.admission is None:
        return
    if gate is None:  # never open what was meant to be closed
        raise RuntimeError("`auth:` asks who calls, and there is no gate")
    trusted = bool(site.trusted_proxies) and is_trusted(inbound.peer, site.trusted_proxies)
    resource = resource_of(site.public_url, mount)
    headers = site.admission.headers
    credentials = read_credentials(
        inbound.headers, exchange.index, headers, trusted=trusted, resource=resource, path=inbound.path
    )
    exchange.identity = gate.recall(credentials) or await gate.identify(credentials)
    if not headers.names.isdisjoint(exchange.index):  # they were for us
        kept = [header for header in inbound.headers if header[0] not in headers.names]
        exchange.inbound = msgspec.structs.replace(inbound, headers=kept)


def authorize(exchange: Exchange, backend: Backend, intent: Intent, body: bytes) -> None:
    """Whether it may do this at the backend. Raises `Denied`, or `Rejected` as for a name that nobody has."""
    permit = permit_for(exchange.site.grants, exchange.identity, backend.name)
    exchange.permit = permit
    if permit.is_total:
        return
    if not isinstance(intent, Send):
        check_call(exchange, backend, "", None, "", Era.LEGACY)
        return
    if intent.is_batch and any(message.method in LIST_METHODS for message in intent.messages):
        raise Rejected(Outcome.INVALID_REQUEST, "ask for lists one at a time, not in a batch")
    for message in intent.messages:
        check(exchange, backend, message, b"" if intent.is_batch else body, intent.era)


def check(exchange: Exchange, backend: Backend, message: Message, body: bytes, era: Era) -> None:
    """Raises where the message may not pass. `body`: its own; empty for a member of a batch."""
    method = message.method
    kind, name = KINDS.get(method), message.name
    if kind is not None and name is None:
        name = read_text(body, "params", "uri")
    elif method == COMPLETION:
        kind, name = read_reference(body)
    check_call(exchange, backend, method, kind, name or "", era)
    wanted = read_filter(body) if method == LISTEN else None
    for uri in () if wanted is None else wanted.uris:
        check_call(exchange, backend, "resources/subscribe", Kind.RESOURCE, uri, era)


def check_call(exchange: Exchange, backend: Backend, method: str, kind: Kind | None, name: str, era: Era) -> None:
    """Raises where it may not be done: a challenge where further scopes would help; else as for what nobody has."""
    permit, grants, admission = exchange.permit, exchange.site.grants, exchange.site.admission
    if permit.may_call(method, kind, name):
        return
    # Only an issuer gives further scopes: for API keys alone there is nowhere to be sent.
    if grants is not None and admission is not None and admission.issuers:
        scopes = scopes_for(grants, exchange.identity, backend.name, method, kind, name)
        if scopes:
            resource = resource_of(exchange.site.public_url, exchange.record.mount)
            # All that its next token should have: some clients ask for just these, and would lose what they had.
            kept = exchange.identity.scopes.union(admission.scopes)
            raise insufficient_scope(called_as(resource, exchange.inbound.path), kept.union(scopes))
    if not permit.is_admitted:
        raise not_granted("this server")
    raise not_granted(f"`{method}`") if kind is None else unknown(kind, name, era)


def read_reference(body: bytes) -> tuple[Kind, str]:
    """What a completion is about. Raises `Rejected`."""
    reference = _REFERENCES.get(read_text(body, "params", "ref", "type"))
    if reference is None:
        raise Rejected(Outcome.INVALID_PARAMS, "`params.ref.type` must be ref/prompt or ref/resource")
    return reference[0], read_text(body, "params", "ref", reference[1])


def read_text(body: bytes, *path: str) -> str:
    """The text at that place. Raises `Rejected` where there is none, or more than one reader could find."""
    try:
        span = find(body, *path)
        return "" if span is None else msgspec.json.decode(span.value, type=str)
    except (Doubled, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(Outcome.INVALID_PARAMS, f"`{'.'.join(path)}` must be a string, once") from error


def not_granted(what: str) -> Denied:
    """Known who it is, and that it may not."""
    return Denied(Outcome.NOT_GRANTED, f"you may not use {what}: ask whoever runs this gateway for a grant")


def unknown(kind: Kind, shown: str, era: Era) -> Rejected:
    """The same for a name that no member has and for one that may not be seen."""
    what = {Kind.TOOL: "tool", Kind.PROMPT: "prompt"}.get(kind, "resource")
    status = 400 if era is Era.MODERN else 200
    data = {"uri": shown} if kind.is_uri else None  # 2026-07-28, server/resources "Error Handling"
    return Rejected(Outcome.UNKNOWN_NAME, f"Unknown {what}: {shown}", status=status, data=data)


def is_filtered(exchange: Exchange, intent: Intent) -> bool:
    """Whether the answer is a list of which not all may be seen."""
    permit = exchange.permit
    if permit.is_total or not isinstance(intent, Send):
        return False
    kind = LIST_METHODS.get(intent.first.method)
    return kind is not None and not permit.shows_all(kind)


async def relay_filtered(exchange: Exchange, backend: Backend, intent: Send, call: Call) -> None:
    """A list, less what may not be seen, in one reply. Raises `Failed`."""
    kind = LIST_METHODS[intent.first.method]
    rpc_id = intent.first.id
    assert rpc_id is not None  # a list is asked for
    response = await read_response(call, rpc_id, exchange.site.limits.answer_bytes)
    try:
        span = find(response, "result")
        if span is not None:
            response = replace(response, span, filter_result(kind, span.value, exchange.permit))
    except (Doubled, Malformed, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failed(Outcome.NONSENSE, f"backend {backend.name!r} answered with something that is no list") from error
    exchange.record.outcome = Outcome.OK if span is not None else Outcome.RPC_ERROR
    exchange.record.upstream_ended = exchange.gateway.clock()
    await reply(exchange, 200, [(b"content-type", h.JSON), *exchange.reply_headers], response)
