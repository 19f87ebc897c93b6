"""What members list, asked of all of them at once and page by page."""

from collections.abc import Hashable
from typing import Final

import msgspec

from gateway.aggregates.questions import Fields, Refused, ask, ask_all, read_meta
from gateway.exchange.exchanges import Exchange
from gateway.exchange.recalls import asker_of, name_asker
from gateway.exchange.sessions import digest_session
from gateway.policy.aggregates import Aggregate
from gateway.policy.backends import Backend
from gateway.policy.catalogues import merge_lists
from gateway.policy.listings import Key, LeftOut, Listed, Listing
from gateway.protocol.cacheables import normalize_request
from gateway.protocol.catalogues import LIST_METHODS, Item, Kind, ListPage, parse_page
from gateway.protocol.outcomes import METHOD_NOT_FOUND, Failed, Outcome
from gateway.protocol.pages import CursorGone, ListCursor, continue_after
from gateway.protocol.results import SILENT, Freshness, Malformed, merge_freshness
from gateway.protocol.versions import Era

MAX_ITEMS: Final = 10_000
"""Of one member's list. A longer one is cut, and its backend named."""

MAX_PAGES: Final = 200
"""Of one member's list. Their bytes are bounded together as those of one answer are (`limits.answer`)."""

_encode: Final = msgspec.json.Encoder().encode

METHODS: Final = {kind: method for method, kind in LIST_METHODS.items()}


def key_of(exchange: Exchange, aggregate: Aggregate, kind: Kind) -> Key:
    """Under what the exchange's view of a list is remembered: a legacy session's own, or whoever may see the same."""
    whose = digest_session(exchange.token) if exchange.token else name_asker(exchange)
    return f"{aggregate.name} {exchange.site.digest}", whose, kind


def view_of(exchange: Exchange) -> Hashable:
    """All on which what the exchange's client is listed may depend; of a session's requests only who may send them can change."""
    if exchange.record.era != Era.MODERN:
        return name_asker(exchange)
    return asker_of(exchange), normalize_request(_encode({"params": read_meta(exchange)}))


def find_rest(exchange: Exchange, aggregate: Aggregate, kind: Kind, cursor: ListCursor) -> tuple[Listing, int] | None:
    """The list whose first pages the client has just had, and where it goes on; None where members are to be asked anew."""
    gateway = exchange.gateway
    key, view = key_of(exchange, aggregate, kind), view_of(exchange)
    found = gateway.listings.find_paged(key, view, cursor.whole, gateway.clock())
    if found is None:
        return None
    age_seconds, listing = found
    left_ms = max(0, listing.freshness.ttl_ms - int(age_seconds * 1000))
    try:
        start = continue_after(listing.catalogue.entries, cursor)
    except CursorGone:
        return None
    return msgspec.structs.replace(listing, freshness=listing.freshness._replace(ttl_ms=left_ms)), start


async def find_listing(exchange: Exchange, aggregate: Aggregate, kind: Kind, shown: str) -> Listing:
    """A list to look the name up in."""
    gateway = exchange.gateway
    found = gateway.listings.find(key_of(exchange, aggregate, kind), shown, gateway.clock())
    return found or await load_listing(exchange, aggregate, kind)


async def load_listing(exchange: Exchange, aggregate: Aggregate, kind: Kind) -> Listing:
    """The list as members have it now."""
    gateway = exchange.gateway
    asked = gateway.clock()

    async def list_one(copy: Exchange, backend: Backend) -> Listed:
        return await list_member(copy, backend, kind)

    given, left_out = await ask_all(exchange, aggregate, aggregate.members, list_one)
    members = [member for member in aggregate.members if member.backend in given]
    catalogue = merge_lists(aggregate, kind, [(member, given[member.backend].items) for member in members])
    if catalogue.doubled:
        gateway.telemetry.names_collided(aggregate.name, kind, sorted(catalogue.doubled))
    cut = {backend: LeftOut("cut_short", "its list is too long") for backend, one in given.items() if one.is_cut}
    freshness = merge_freshness(one.freshness for one in given.values())
    listing = Listing(catalogue, freshness, left_out | cut, view_of(exchange))
    gateway.listings.keep(key_of(exchange, aggregate, kind), asked, listing)
    return listing


async def list_member(exchange: Exchange, backend: Backend, kind: Kind) -> Listed:
    """One member's whole list, page by page; empty where it has no such list. Raises `Refused`, `Ended`."""
    items: list[Item] = []
    freshness: list[Freshness] = []
    cursors: set[str | None] = {None}
    cursor: str | None = None
    left_bytes = exchange.site.limits.answer_bytes
    for _ in range(MAX_PAGES):
        try:
            result = await ask(exchange, backend, METHODS[kind], _params(exchange, cursor))
        except Refused as refused:
            if refused.code == METHOD_NOT_FOUND and not items:
                return Listed((), SILENT)
            raise
        page = _parse(kind, result, backend)
        items += page.items
        freshness.append(page.freshness)
        cursor = page.next_cursor
        left_bytes -= len(result)
        if cursor in cursors or len(items) > MAX_ITEMS or left_bytes < 0:
            break
        cursors.add(cursor)
    is_cut = cursor is not None or len(items) > MAX_ITEMS
    return Listed(tuple(items[:MAX_ITEMS]), merge_freshness(freshness), is_cut)


def _parse(kind: Kind, result: bytes, backend: Backend) -> ListPage:
    try:
        return parse_page(kind, result)
    except Malformed as malformed:
        raise Failed(Outcome.NONSENSE, f"backend {backend.name!r} answered with no list: {malformed}") from malformed


def _params(exchange: Exchange, cursor: str | None) -> Fields:
    """What a list is asked with: the client's own metadata, where its era has any, and the place to go on from."""
    params = read_meta(exchange)
    return params if cursor is None else {**params, "cursor": msgspec.Raw(msgspec.json.encode(cursor))}
