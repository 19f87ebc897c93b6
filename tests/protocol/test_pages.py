"""A merged list in pages: all of it, once each, in order, whichever replica goes on; and a cursor whose place is gone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.pages import (
    CursorGone,
    Entry,
    ListCursor,
    continue_after,
    encode_list_cursor,
    end_page,
    next_cursor,
    parse_list_cursor,
)
from tests.requirements import proves


def entries_of(count: int, size_bytes: int = 10) -> list[Entry]:
    return [Entry("echo", f"t{n}", f"echo__t{n}", b"x" * size_bytes) for n in range(count)]


def walk(entries: list[Entry]) -> list[list[Entry]]:
    """The pages as one client gets them, its cursor sealed and opened by whoever."""
    pages, start = [], 0
    while True:
        end = end_page(entries, start)
        pages.append(entries[start:end])
        cursor = next_cursor(entries, end, "all", "tools/list")
        if cursor is None:
            return pages
        told = parse_list_cursor(encode_list_cursor(cursor), "all", "tools/list")
        assert told == cursor
        start = continue_after(entries, told)


@proves("AGG-4")
@pytest.mark.parametrize(
    ("count", "size_bytes", "pages"),
    [
        (0, 10, [0]),
        (1000, 10, [1000]),
        (1001, 10, [1000, 1]),
        (2500, 10, [1000, 1000, 500]),
        (4, 400_000, [2, 2]),
        (3, 2_000_000, [1, 1, 1]),
        (3, 1024 * 1024 - 1, [1, 1, 1]),
        (4, 512 * 1024 - 1, [2, 2]),
        (4, 512 * 1024, [1, 1, 1, 1]),  # with the commas they are more
    ],
)
def test_a_page_has_a_thousand_items_or_a_megabyte_at_most_and_always_one(
    count: int, size_bytes: int, pages: list[int]
) -> None:
    assert [len(page) for page in walk(entries_of(count, size_bytes))] == pages


ENTRIES = st.lists(
    st.tuples(st.sampled_from(["echo", "math"]), st.text(max_size=3), st.integers(0, 600_000)),
    unique_by=lambda entry: entry[:2],
    max_size=12,
).map(lambda told: [Entry(backend, name, f"{backend}__{name}", bytes(size)) for backend, name, size in told])


@proves("AGG-4")
@settings(max_examples=50)
@given(ENTRIES)
def test_the_pages_together_are_the_whole_list_once_each_in_order(entries: list[Entry]) -> None:
    pages = walk(entries)
    assert [entry for page in pages for entry in page] == entries
    assert all(len(page) == 1 or sum(len(entry.raw) + 1 for entry in page) <= 1024 * 1024 for page in pages)


@settings(max_examples=50)
@given(ENTRIES, st.data())
def test_a_list_that_changes_goes_on_behind_the_item_that_was_last_given(
    entries: list[Entry], data: st.DataObject
) -> None:
    if not entries:
        return
    last = data.draw(st.integers(0, len(entries) - 1))
    cursor = ListCursor("all", "tools/list", entries[last].backend, entries[last].name)
    more = [Entry("new", "a", "new__a", b""), *entries]
    assert more[continue_after(more, cursor) :] == entries[last + 1 :]
    fewer = entries[:last] + entries[last + 1 :]
    with pytest.raises(CursorGone):
        continue_after(fewer, cursor)


def test_another_backends_item_of_that_name_is_not_the_place() -> None:
    entries = [
        Entry("math", "a", "math__a", b""),
        Entry("echo", "a", "echo__a", b""),
        Entry("echo", "b", "echo__b", b""),
    ]
    assert continue_after(entries, ListCursor("all", "tools/list", "echo", "a")) == 2


def test_a_cursor_is_good_for_its_own_aggregate_and_method_only() -> None:
    cursor = ListCursor("all", "tools/list", "echo", "ä", b"\x07")
    plain = encode_list_cursor(cursor)
    assert plain == b"\x01\x95\xa3all\xaatools/list\xa4echo\xa2\xc3\xa4\xc4\x01\x07"
    assert parse_list_cursor(plain, "all", "tools/list") == cursor
    assert parse_list_cursor(plain, "all", "prompts/list") is None
    assert parse_list_cursor(plain, "support", "tools/list") is None


@given(st.binary())
def test_what_is_no_cursor_is_none(plain: bytes) -> None:
    assert parse_list_cursor(plain, "all", "tools/list") is None
    assert parse_list_cursor(b"\x01" + plain, "all", "tools/list") is None


def test_a_cursor_that_says_nothing_of_its_list_is_good_for_any() -> None:
    plain = b"\x01\x94\xa3all\xaatools/list\xa4echo\xa2\xc3\xa4"
    assert parse_list_cursor(plain, "all", "tools/list") == ListCursor("all", "tools/list", "echo", "ä")
