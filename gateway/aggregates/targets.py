"""Which member a request is for: found from its name, its URI, its task or its id, and the request turned to it."""

from typing import Final, NamedTuple

import msgspec
from mcp.shared.inbound import encode_header_value

from gateway.aggregates.catalogues import find_listing
from gateway.aggregates.members import turn_to
from gateway.aggregates.questions import name_header
from gateway.exchange.authorizations import unknown
from gateway.exchange.exchanges import Exchange
from gateway.policy.aggregates import Aggregate, Local, permits, read_prefix
from gateway.policy.backends import Backend
from gateway.policy.catalogues import find_shown, match_template
from gateway.protocol import headers as h
from gateway.protocol.catalogues import Kind
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import Message
from gateway.protocol.namespaces import Owned, find_owner, give_back
from gateway.protocol.outcomes import Outcome, Rejected
from gateway.protocol.splices import Doubled, Span, find, replace

_encode: Final = msgspec.json.Encoder().encode


class Narrowed(NamedTuple):
    """A request that is one member's: its backend, and what it is sent."""

    backend: Backend
    intent: Intent
    body: bytes


class Target(NamedTuple):
    """Where in a method's request the name stands, and what it names."""

    kind: Kind
    path: tuple[str, ...]


TARGETS: Final = {
    "tools/call": Target(Kind.TOOL, ("params", "name")),
    "prompts/get": Target(Kind.PROMPT, ("params", "name")),
    "resources/read": Target(Kind.RESOURCE, ("params", "uri")),
    "resources/subscribe": Target(Kind.RESOURCE, ("params", "uri")),
    "resources/unsubscribe": Target(Kind.RESOURCE, ("params", "uri")),
}

TASK_METHODS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel", "tasks/result"})

COMPLETE: Final = "completion/complete"
_REFERENCES: Final = {
    "ref/prompt": Target(Kind.PROMPT, ("params", "ref", "name")),
    "ref/resource": Target(Kind.TEMPLATE, ("params", "ref", "uri")),
}


async def narrow_named(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes, target: Target) -> Narrowed:
    """A request that names a tool, a prompt or a resource. Raises `Rejected` where no member has it, or it may not be seen."""
    span, shown = find_name(body, intent.first.name, target.path)
    local = await resolve(exchange, aggregate, target.kind, shown)
    if local is None or not permits(aggregate, local.member, target.kind, local.name):
        raise unknown(target.kind, shown, intent.era)
    exchange.record.name = local.name
    if local.name != shown:
        body = replace(body, span, _encode(local.name))
        name_header(exchange, h.NAME, encode_header_value(local.name).encode("latin-1"))
        # Whoever looks at the request from now on, grants above all, is to see the member's own name.
        intent = msgspec.structs.replace(intent, messages=(msgspec.structs.replace(intent.first, name=local.name),))
    return Narrowed(turn_to(exchange, aggregate, local.member), intent, body)


async def narrow_completion(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> Narrowed:
    """`completion/complete`, by what it refers to."""
    kind = find_text(body, "params", "ref", "type")
    target = _REFERENCES.get(msgspec.json.decode(kind.value, type=str))
    if target is None:
        raise Rejected(Outcome.INVALID_PARAMS, "`params.ref.type` must be ref/prompt or ref/resource")
    if target.kind is Kind.TEMPLATE:
        # "The URI or URI template of the resource" (2026-07-28, ResourceTemplateReference)
        shown = msgspec.json.decode(find_text(body, *target.path).value, type=str)
        if await resolve(exchange, aggregate, Kind.TEMPLATE, shown) is None:
            target = target._replace(kind=Kind.RESOURCE)
    return await narrow_named(exchange, aggregate, intent, body, target)


def narrow_owned(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes, *path: str) -> Narrowed:
    """A request, notification or response with an id that a member gave. Raises `Rejected` for one that none can have given."""
    owned = read_owner(body, *path)
    member = next((m for m in aggregate.members if m.prefix == owned.prefix), None) if owned else None
    if owned is None or member is None:
        raise Rejected(Outcome.INVALID_PARAMS, f"`{'.'.join(path)}` is no id that this server gave")
    body = give_back(body, owned, *path)
    if isinstance(owned.id, str):
        name_header(exchange, h.NAME, encode_header_value(owned.id).encode("latin-1"))
    messages: tuple[Message, ...] = intent.messages
    if path == ("id",):
        messages = (msgspec.structs.replace(intent.first, id=owned.id),)
    narrowed = msgspec.structs.replace(intent, messages=messages)
    return Narrowed(turn_to(exchange, aggregate, member), narrowed, body)


def read_owner(body: bytes, *path: str) -> Owned | None:
    """Whose the id at that place is. Raises `Rejected` (AMBIGUOUS)."""
    try:
        return find_owner(body, *path)
    except Doubled as doubled:
        raise Rejected(Outcome.AMBIGUOUS, f"the body has more than one {'.'.join(path)}: {doubled}") from doubled
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def find_name(body: bytes, name: str | None, path: tuple[str, ...]) -> tuple[Span, str]:
    """Where the name at that place stands, and what it is. `name`: what it was read as, where it was. Raises as `find_text`."""
    # Where nothing is escaped a text stands in the body as it is; one that stands there once is the one that was read.
    if name is not None and b"\\" not in body:
        quoted = _encode(name)
        if body.count(quoted) == 1:
            start = body.find(quoted)
            return Span(start, start + len(quoted), quoted), name
    span = find_text(body, *path)
    return span, msgspec.json.decode(span.value, type=str)


def find_text(body: bytes, *path: str) -> Span:
    """Where the text at that place stands. Raises `Rejected`: INVALID_PARAMS where there is none, AMBIGUOUS."""
    try:
        span = find(body, *path)
        if span is not None and span.value[:1] == b'"':
            return span
    except Doubled as doubled:
        raise Rejected(Outcome.AMBIGUOUS, f"the body has more than one {'.'.join(path)}: {doubled}") from doubled
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    raise Rejected(Outcome.INVALID_PARAMS, f"`{'.'.join(path)}` must be a string")


async def resolve(exchange: Exchange, aggregate: Aggregate, kind: Kind, shown: str) -> Local | None:
    """Whose it is and what that one calls it; None where no member has it.

    A name under a prefix says it all. Others have to be looked up in what members list, unless only one can have them.
    """
    local = read_prefix(aggregate, kind, shown)
    if local is not None and not local.is_shortened:
        return local
    if local is None and not kind.is_uri:
        bare = [member for member in aggregate.members if member.is_bare]
        if len(bare) < 2:
            return Local(bare[0], shown) if bare else None
    listing = await find_listing(exchange, aggregate, kind, shown)
    if (found := find_shown(aggregate, kind, shown, listing.catalogue)) is not None or not kind.is_uri:
        return found
    return await _resolve_unlisted(exchange, aggregate, kind, shown)


async def _resolve_unlisted(exchange: Exchange, aggregate: Aggregate, kind: Kind, uri: str) -> Local | None:
    """A resource that nobody lists: whose template it matches; else the only member's that there is."""
    if kind is Kind.RESOURCE:
        templates = await find_listing(exchange, aggregate, Kind.TEMPLATE, uri)
        if (found := match_template(templates.catalogue, uri)) is not None:
            return found
    return Local(aggregate.members[0], uri) if len(aggregate.members) == 1 else None
