"""A merged list in pages: how much goes on one, and a cursor that any replica can go on from.

The cursor names the last item that was given, by its backend's own name for it, not a number: a list that has changed in
between goes on behind it, with nothing twice. It is the caller's to seal, under `PURPOSE`.

Spec: 2026-07-28 and 2025-11-25, server/utilities/pagination.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

FORMAT: Final = 1
PURPOSE: Final = b"cursor"

PAGE_ITEMS: Final = 1000
"""On one page at most. Clients without paging see the first only: a thousand tools are more than any model takes."""

PAGE_BYTES: Final = 1024 * 1024
"""On one page at most, unless a single item is larger: what the Python client takes as one event."""


class Entry(NamedTuple):
    """One item of a merged list: whose it is, its own name, the name it is shown under, its bytes as they are shown."""

    backend: str
    name: str
    shown: str
    raw: bytes


class ListCursor(msgspec.Struct, frozen=True, array_like=True):
    """The place behind one item of a merged list."""

    aggregate: str
    method: str
    backend: str
    after: str  # the backend's own name of the item
    whole: bytes = b""  # `digest_entries` of the list that the page was of


class CursorGone(Exception):
    """The item that a cursor names is no longer listed: the client has to begin anew."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(ListCursor).decode


def encode_list_cursor(cursor: ListCursor) -> bytes:
    """The bytes to seal."""
    return bytes((FORMAT,)) + _encode(cursor)


def parse_list_cursor(plain: bytes, aggregate: str, method: str) -> ListCursor | None:
    """The cursor in what was sealed; None for another aggregate's or method's, as for anything that isn't one."""
    if plain[:1] != bytes((FORMAT,)):
        return None
    try:
        cursor = _decode(plain[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return cursor if (cursor.aggregate, cursor.method) == (aggregate, method) else None


def continue_after(entries: Sequence[Entry], cursor: ListCursor) -> int:
    """The index from which on a list goes on. Raises `CursorGone`."""
    for index, entry in enumerate(entries):
        if entry.name == cursor.after and entry.backend == cursor.backend:
            return index + 1
    raise CursorGone


def end_page(entries: Sequence[Entry], start: int) -> int:
    """The index behind the last entry of the page that begins at `start`: at least one, where there is one."""
    size = 0
    for index in range(start, min(start + PAGE_ITEMS, len(entries))):
        size += len(entries[index].raw) + 1
        if size > PAGE_BYTES and index > start:
            return index
    return min(start + PAGE_ITEMS, len(entries))


def next_cursor(
    entries: Sequence[Entry], end: int, aggregate: str, method: str, whole: bytes = b""
) -> ListCursor | None:
    """The cursor behind a page that ends before `end`; None where nothing follows. `whole`: of all entries."""
    if not 0 < end < len(entries):
        return None
    last = entries[end - 1]
    return ListCursor(aggregate, method, last.backend, last.name, whole)


def digest_entries(entries: Iterable[Entry]) -> bytes:
    """What tells one merged list from another, on any replica."""
    digest = blake2b(digest_size=8)
    for entry in entries:
        digest.update(entry.raw)
    return digest.digest()
