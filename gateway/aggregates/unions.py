"""What concerns all members: handshakes, lists, and what a client tells its one server. Each is asked, one answer is made.

A member that fails is left out and named; only where all fail the client is told of a failure.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from gateway.aggregates.catalogues import find_rest, load_listing
from gateway.aggregates.questions import ask, ask_all, find_endpoint, read_meta, read_result
from gateway.exchange.attempts import forward
from gateway.exchange.endings import note_ending
from gateway.exchange.exchanges import Exchange, reply
from gateway.exchange.handshakes import name_client, read_params
from gateway.exchange.healings import forward_healing, unknown_session
from gateway.exchange.recalls import asker_of
from gateway.exchange.responses import read_response
from gateway.policy.aggregates import Aggregate, Member, permits
from gateway.policy.backends import Backend
from gateway.policy.listings import LeftOut, Listing
from gateway.protocol import headers as h
from gateway.protocol.cacheables import normalize_request
from gateway.protocol.catalogues import LIST_METHODS, Kind, encode_page
from gateway.protocol.intents import End, Intent, Send
from gateway.protocol.outcomes import Ended, Failed, Outcome, Rejected
from gateway.protocol.pages import (
    PURPOSE,
    CursorGone,
    ListCursor,
    continue_after,
    encode_list_cursor,
    end_page,
    next_cursor,
    parse_list_cursor,
)
from gateway.protocol.results import Malformed
from gateway.protocol.sessions import MAX_PARAMS_BYTES, Part, Session, encode_session
from gateway.protocol.sessions import PURPOSE as SESSION
from gateway.protocol.splices import Doubled, find
from gateway.protocol.unions import Introduction, merge_discover, merge_initialize, parse_discover, parse_initialize
from gateway.protocol.versions import Era

DISCOVER: Final = "server/discover"
_encode: Final = msgspec.json.Encoder().encode


async def reply_result(exchange: Exchange, *result: bytes, headers: h.Headers | None = None) -> None:
    """The response to the client's request. `result`: in as many pieces as it comes."""
    exchange.record.outcome = Outcome.OK
    body = b"".join((b'{"jsonrpc":"2.0","id":', _encode(exchange.rpc_id), b',"result":', *result, b"}"))
    await reply(exchange, 200, [(b"content-type", h.JSON), *exchange.reply_headers, *(headers or [])], body)


def name_missing(left_out: Mapping[str, LeftOut]) -> dict[str, str]:
    """For clients: who is missing, and the word for why."""
    return {backend: one.reason for backend, one in left_out.items()}


def nobody(aggregate: Aggregate, left_out: Mapping[str, LeftOut]) -> Ended:
    """All members failed; where all have forgotten the session, it is over."""
    if all(one.reason == Outcome.UNKNOWN_SESSION for one in left_out.values()):
        return unknown_session()
    message = f"no server behind {aggregate.mount} can answer now"
    return Failed(Outcome.UNREACHABLE, message, data={"leftOut": name_missing(left_out)})


async def begin_all(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> None:
    """`initialize`: one session that has a part at each member that is there."""

    async def begin_one(copy: Exchange, backend: Backend) -> tuple[Part, Introduction]:
        call = await forward(copy, backend, None, intent, body)
        try:
            response = await read_response(call, intent.first.id or 0, exchange.site.limits.answer_bytes)
            upstream_id = (h.find_header(call.answer.headers, h.SESSION) or b"").decode("latin-1")
        finally:
            call.end(Outcome.OK)
        told = read_introduction(parse_initialize, read_result(response, backend), backend)
        address = call.endpoint.address if upstream_id else ""
        return Part(backend.name, address, upstream_id, told.versions[0]), told

    given, left_out = await ask_all(exchange, aggregate, aggregate.members, begin_one)
    if not given:
        raise nobody(aggregate, left_out)
    parts = tuple(part for part, _ in given.values())
    params = read_params(body)
    session = Session(
        mount=aggregate.mount,
        address="",
        upstream_id="",
        principal=exchange.principal,
        version=max(part.version for part in parts),
        params=params if len(params) <= MAX_PARAMS_BYTES else b"",
        client_name=name_client(params),
        parts=parts,
    )
    token = exchange.gateway.seals.seal(encode_session(session), SESSION)
    exchange.record.session, exchange.record.client_name = token[:8], session.client_name
    told = {backend: one for backend, (_, one) in given.items()}
    result = merge_initialize(told, session.version, exchange.gateway.server, name_missing(left_out))
    await reply_result(exchange, result, headers=[(h.SESSION, token.encode("ascii"))])


async def discover_all(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> None:
    """`server/discover`: what all members can do together."""

    async def discover_one(copy: Exchange, backend: Backend) -> Introduction:
        result = await ask(copy, backend, DISCOVER, read_meta(exchange))
        return read_introduction(parse_discover, result, backend)

    async def make() -> bytes:
        given, left_out = await ask_all(exchange, aggregate, aggregate.members, discover_one)
        if not given:
            raise nobody(aggregate, left_out)
        return merge_discover(given, exchange.gateway.server, name_missing(left_out))

    await reply_result(exchange, *await recall(exchange, aggregate, intent, body, make))


def read_introduction(parse: Callable[[bytes], Introduction], result: bytes, backend: Backend) -> Introduction:
    """What a member says of itself. Raises `Failed` (NONSENSE)."""
    try:
        return parse(result)
    except Malformed as malformed:
        raise Failed(
            Outcome.NONSENSE, f"backend {backend.name!r} introduces itself wrongly: {malformed}"
        ) from malformed


async def recall(
    exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes, make: Callable[[], Awaitable[bytes]]
) -> tuple[bytes, ...]:
    """The merged result, or what is kept of it, in pieces. A legacy one is its session's own, and never kept."""
    said = normalize_request(body) if intent.era is Era.MODERN else None
    if said is None:
        return (await make(),)
    whole = stand_in(aggregate.name, exchange.site.digest)
    caches, asker = exchange.gateway.caches, asker_of(exchange)
    told = await caches.ask(whole, asker, intent.first.method, said, make)
    caches.depend(whole.name, (member.backend for member in aggregate.members))
    exchange.record.cache = told.outcome
    return told.pieces


@lru_cache(maxsize=256)
def stand_in(name: str, digest: str) -> Backend:
    """What an aggregate is to the cache. With another configuration it is another one."""
    return Backend(f"aggregate {name}", (), mount=digest)


async def list_all(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> None:
    """One page of a merged list. Raises `Rejected` for a cursor that isn't of this list."""

    async def make() -> bytes:
        return await make_page(exchange, aggregate, intent, body)

    await reply_result(exchange, *await recall(exchange, aggregate, intent, body, make))


async def make_page(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> bytes:
    """The page, of what members list now, or, if it isn't the first, did when that was given."""
    method, seals = intent.first.method, exchange.gateway.seals
    cursor = open_cursor(exchange, aggregate, method, body)
    listing, start = await find_page(exchange, aggregate, LIST_METHODS[method], cursor)
    entries, left_out = listing.catalogue.entries, listing.left_out
    if not entries and len(left_out) == len(aggregate.members):
        raise nobody(aggregate, left_out)
    end = end_page(entries, start)
    has_more = end < len(entries)
    following = next_cursor(entries, end, aggregate.name, method, listing.digest if has_more else b"")
    return encode_page(
        LIST_METHODS[method],
        [entry.raw for entry in entries[start:end]],
        intent.era,
        next_cursor=None if following is None else seals.seal(encode_list_cursor(following), purpose_of(exchange)),
        freshness=listing.freshness,
        server=exchange.gateway.server,
        left_out=name_missing(left_out),
    )


async def find_page(
    exchange: Exchange, aggregate: Aggregate, kind: Kind, cursor: ListCursor | None
) -> tuple[Listing, int]:
    """The list, and where its page begins. Raises `Rejected` where the place is gone that the cursor names."""
    if cursor is None:
        return await load_listing(exchange, aggregate, kind), 0
    if (rest := find_rest(exchange, aggregate, kind, cursor)) is not None:
        return rest
    listing = await load_listing(exchange, aggregate, kind)
    try:
        return listing, continue_after(listing.catalogue.entries, cursor)
    except CursorGone:
        raise Rejected(Outcome.INVALID_PARAMS, "the list has changed: ask for it from its beginning") from None


def purpose_of(exchange: Exchange) -> bytes:
    """A cursor is for whoever it was given to."""
    return PURPOSE + b" " + exchange.principal.encode()


def open_cursor(exchange: Exchange, aggregate: Aggregate, method: str, body: bytes) -> ListCursor | None:
    """The place in the list that `params.cursor` names; None where it begins. Raises `Rejected`."""
    try:
        span = find(body, "params", "cursor")
        shown = None if span is None else msgspec.json.decode(span.value, type=str | None)
    except (Doubled, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(Outcome.INVALID_PARAMS, "`params.cursor` must be a string, once") from error
    if shown is None:
        return None
    plain = exchange.gateway.seals.open(shown, purpose_of(exchange))
    cursor = None if plain is None else parse_list_cursor(plain, aggregate.name, method)
    if cursor is None:
        raise Rejected(Outcome.INVALID_PARAMS, "`params.cursor` is none that this server gave for this list")
    return cursor


def members_with_part(exchange: Exchange, aggregate: Aggregate) -> Iterable[Member]:
    """The members that have a part in the session: all, where there are no sessions."""
    if exchange.session is None:
        return aggregate.members
    present = {part.backend for part in exchange.session.parts}
    return [member for member in aggregate.members if member.backend in present]


async def tell_all(exchange: Exchange, aggregate: Aggregate, intent: Intent, body: bytes) -> None:
    """A notification, or the session's end, for everybody: 202, or 200, once one has taken it."""

    async def tell_one(copy: Exchange, backend: Backend) -> int:
        call = await forward_healing(copy, backend, find_endpoint(copy, backend), intent, body)
        call.end(Outcome.OK)
        return call.answer.status

    given, left_out = await ask_all(exchange, aggregate, members_with_part(exchange, aggregate), tell_one)
    if set(given.values()) == {404} and not left_out:
        raise unknown_session()
    await note_ending(exchange, intent, 200, body)
    if left_out and not given and not isinstance(intent, End):
        raise nobody(aggregate, left_out)
    exchange.record.outcome = Outcome.OK
    await reply(exchange, 200 if isinstance(intent, End) else 202, exchange.reply_headers, b"")


async def set_level(exchange: Exchange, aggregate: Aggregate, body: bytes) -> None:
    """`logging/setLevel`, for all members that log."""
    params = read_params(body)

    async def set_one(copy: Exchange, backend: Backend) -> bytes:
        return await ask(copy, backend, "logging/setLevel", msgspec.json.decode(params, type=dict[str, msgspec.Raw]))

    given, left_out = await ask_all(exchange, aggregate, members_with_part(exchange, aggregate), set_one)
    if not given:
        if any(one.reason != "rpc_error" for one in left_out.values()):
            raise nobody(aggregate, left_out)
        raise Rejected(Outcome.UNKNOWN_METHOD, "Method not found: logging/setLevel")
    await reply_result(exchange, b"{}")


async def read_anywhere(exchange: Exchange, aggregate: Aggregate, uri: str) -> bytes | None:
    """A resource that nobody lists, from the first member that has it and whose it may be; None where none has."""
    params = {**read_meta(exchange), "uri": msgspec.Raw(_encode(uri))}

    async def read_one(copy: Exchange, backend: Backend) -> bytes:
        return await ask(copy, backend, "resources/read", params)

    for member in aggregate.members:
        if not permits(aggregate, member, Kind.RESOURCE, uri):
            continue
        given, _ = await ask_all(exchange, aggregate, [member], read_one)
        if given:
            return given[member.backend]
    return None
