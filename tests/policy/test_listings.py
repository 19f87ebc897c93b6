"""What a worker remembers of merged lists."""

import msgspec
import pytest

from gateway.policy import listings as policy
from gateway.policy.aggregates import Local, Member
from gateway.policy.catalogues import Catalogue
from gateway.policy.listings import Listing, Listings
from gateway.protocol.catalogues import Kind
from gateway.protocol.pages import Entry, digest_entries
from gateway.protocol.results import STALE

KEY = ("all", "", Kind.TOOL)
MATH = Member("math", "math")


def listing_of(**shown: str) -> Listing:
    entries = tuple(Entry("math", name, as_shown, b"{}") for as_shown, name in shown.items())
    locals_ = {as_shown: Local(MATH, name) for as_shown, name in shown.items()}
    return Listing(Catalogue(entries, locals_, frozenset(), 0), STALE, {})


def test_a_name_is_found_for_a_minute() -> None:
    listings, listing = Listings(), listing_of(sum="add")
    listings.keep(KEY, 100.0, listing)
    assert listings.find(KEY, "sum", 159.9) is listing
    assert listings.find(KEY, "sum", 160.0) is None


def test_a_name_that_is_missing_is_looked_for_anew_but_not_more_often_than_each_second() -> None:
    listings, listing = Listings(), listing_of(sum="add")
    listings.keep(KEY, 100.0, listing)
    assert listings.find(KEY, "sub", 100.9) is listing
    assert listings.find(KEY, "sub", 101.0) is None


def test_another_s_list_is_not_looked_into() -> None:
    listings = Listings()
    listings.keep(KEY, 100.0, listing_of(sum="add"))
    assert listings.find(("all", "another session", Kind.TOOL), "sum", 100.0) is None
    assert listings.find(("all", "", Kind.PROMPT), "sum", 100.0) is None


def test_a_backend_s_own_name_leads_to_the_shown_one() -> None:
    listings = Listings()
    listings.keep(KEY, 100.0, listing_of(sum="add"))
    assert listings.find_name(KEY, "math", "add") == "sum"
    assert listings.find_name(KEY, "docs", "add") is None
    assert listings.find_name(("all", "x", Kind.TOOL), "math", "add") is None


def test_so_many_are_remembered_and_the_oldest_goes_first() -> None:
    listings = Listings()
    for number in range(1001):
        listings.keep(("all", str(number), Kind.TOOL), 100.0, listing_of(sum="add"))
    assert listings.find(("all", "0", Kind.TOOL), "sum", 100.0) is None
    assert listings.find(("all", "1", Kind.TOOL), "sum", 100.0) is not None


def test_further_pages_are_taken_from_it_for_five_seconds_by_whoever_has_its_first_and_sees_the_same() -> None:
    listings, listing = Listings(), msgspec.structs.replace(listing_of(sum="add"), view=("a", b"{}"))
    whole = digest_entries(listing.catalogue.entries)
    listings.keep(KEY, 100.0, listing)
    assert listings.find_paged(KEY, ("a", b"{}"), whole, 104.5) == (4.5, listing)
    assert listings.find_paged(KEY, ("a", b"{}"), whole, 105.0) is None
    assert listings.find_paged(KEY, ("b", b"{}"), whole, 100.0) is None
    assert listings.find_paged(KEY, ("a", b"{}"), b"of another list", 100.0) is None
    assert listings.find_paged(("all", "another session", Kind.TOOL), ("a", b"{}"), whole, 100.0) is None


def test_lists_are_bounded_by_their_bytes_the_oldest_goes_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "KEPT_BYTES", 2 * (policy.ENTRY_BYTES + 2))
    listings, one, several = Listings(), listing_of(sum="add"), listing_of(a="a", b="b", c="c")
    for session in ("1", "2", "2", "3"):  # keeping one again counts it once
        listings.keep(("all", session, Kind.TOOL), 100.0, one)
    found = [listings.find(("all", session, Kind.TOOL), "sum", 100.0) for session in ("1", "2", "3")]
    assert found == [None, one, one]
    listings.keep(KEY, 100.0, several)
    assert listings.find(KEY, "a", 100.0) is several
    assert listings.find(("all", "3", Kind.TOOL), "sum", 100.0) is None
