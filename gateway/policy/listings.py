"""What is known of a merged list besides its entries: who is missing, for how long it holds; and what a worker remembers of it.

Pure. Times are seconds of any one clock.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from gateway.policy.catalogues import Catalogue
from gateway.protocol.catalogues import Item, Kind
from gateway.protocol.pages import digest_entries
from gateway.protocol.results import STALE, Freshness

KEPT_SECONDS: Final = 60.0
"""How long it is remembered whose a name is. It is for finding it, not for showing it."""

AGAIN_SECONDS: Final = 1.0
"""A name that isn't in what is remembered is looked for anew, but not more often."""

KEPT_LISTINGS: Final = 1000
KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of all lists together, each session's own. The newest is kept whatever its size: its client is about to use it."""

ENTRY_BYTES: Final = 512
"""What an entry costs besides its bytes."""

PAGED_SECONDS: Final = 5.0
"""How long further pages are taken from the list of which the first was: the client's other pages are as old."""


class LeftOut(NamedTuple):
    """Why a member's answer is missing: a word for clients and metrics, a sentence for the log."""

    reason: str
    detail: str = ""


class Listed(msgspec.Struct, frozen=True):
    """One member's whole list."""

    items: tuple[Item, ...]
    freshness: Freshness = STALE
    is_cut: bool = False  # it has more than is taken


class Listing(msgspec.Struct, frozen=True, dict=True):
    """The merged list of one kind. `left_out`: by backend. `view`: all that its members' answers may have depended on."""

    catalogue: Catalogue
    freshness: Freshness
    left_out: Mapping[str, LeftOut]
    view: Hashable = None

    @cached_property
    def digest(self) -> bytes:
        return digest_entries(self.catalogue.entries)

    @property
    def size_bytes(self) -> int:
        return sum([len(entry.raw) + ENTRY_BYTES for entry in self.catalogue.entries])


Key = tuple[str, str, Kind]
"""Aggregate and configuration, whose view of it, and what kind of list."""


class Listings:
    """What a worker remembers, so much at most: the oldest goes first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, tuple[float, Listing]] = OrderedDict()
        self._size_bytes = 0

    def find(self, key: Key, shown: str, now: float) -> Listing | None:
        """One to look the name up in: it has it, or is so fresh that asking anew would find no more."""
        asked, listing = self._known.get(key, (0.0, None))
        if listing is None or asked <= now - KEPT_SECONDS:
            return None
        return listing if shown in listing.catalogue.locals or asked > now - AGAIN_SECONDS else None

    def keep(self, key: Key, asked: float, listing: Listing) -> None:
        """Members had this when they were asked."""
        self._remove(key)
        self._known[key] = (asked, listing)
        self._size_bytes += listing.size_bytes
        while len(self._known) > 1 and (len(self._known) > KEPT_LISTINGS or self._size_bytes > KEPT_BYTES):
            self._remove(next(iter(self._known)))

    def _remove(self, key: Key) -> None:
        _, listing = self._known.pop(key, (0.0, None))
        self._size_bytes -= 0 if listing is None else listing.size_bytes

    def find_paged(self, key: Key, view: Hashable, digest: bytes, now: float) -> tuple[float, Listing] | None:
        """The list to go on with, and for how many seconds it has been known; None where it is too old, another's, or another."""
        asked, listing = self._known.get(key, (0.0, None))
        if listing is None or asked <= now - PAGED_SECONDS or listing.view != view or listing.digest != digest:
            return None
        return now - asked, listing

    def find_name(self, key: Key, backend: str, name: str) -> str | None:
        """Under which name clients see what that backend calls so; None where that isn't remembered."""
        _, listing = self._known.get(key, (0.0, None))
        entries = () if listing is None else listing.catalogue.entries
        return next((entry.shown for entry in entries if (entry.backend, entry.name) == (backend, name)), None)
