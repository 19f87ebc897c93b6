"""The lists of what a server has: tools, prompts, resources, resource templates. Read from a backend, renamed, written.

An item stays the bytes that its backend wrote: only its name is read, and only that can be replaced, so that what nobody
here knows (unknown fields, big integers, the order of keys) survives.

Spec: 2026-07-28 and 2025-11-25, server/tools, server/prompts, server/resources, server/utilities/pagination.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from gateway.protocol.results import STALE, Freshness, Malformed, ServerInfo, encode_result, read_freshness
from gateway.protocol.splices import Doubled, Span, find, replace
from gateway.protocol.versions import Era


class Kind(StrEnum):
    """What a list lists."""

    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    TEMPLATE = "template"  # a resource's

    @property
    def is_uri(self) -> bool:
        """Whether it goes by a URI, or a template of URIs, and not by a name."""
        return self is Kind.RESOURCE or self is Kind.TEMPLATE


LIST_METHODS: Final[Mapping[str, Kind]] = {
    "tools/list": Kind.TOOL,
    "prompts/list": Kind.PROMPT,
    "resources/list": Kind.RESOURCE,
    "resources/templates/list": Kind.TEMPLATE,
}

_LIST_KEYS: Final = {
    Kind.TOOL: "tools",
    Kind.PROMPT: "prompts",
    Kind.RESOURCE: "resources",
    Kind.TEMPLATE: "resourceTemplates",
}
_NAME_KEYS: Final = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}


class Item(NamedTuple):
    """One entry of a list: its name (of a resource the URI, of a template the `uriTemplate`), its bytes, and where in
    them the name stands."""

    name: str
    raw: bytes
    span: Span


class ListPage(NamedTuple):
    """One page of a backend's list. `dropped`: how many entries were no object with one name."""

    items: tuple[Item, ...]
    next_cursor: str | None = None
    freshness: Freshness = STALE
    dropped: int = 0


_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def parse_page(kind: Kind, result: bytes) -> ListPage:
    """The page in the `result` object of a list method. Raises `Malformed`.

    An entry without a name, or with two, is dropped and counted: nobody could call it, or two readers would call it by two
    names; the rest of the list is sound. A page that isn't a list at all, or isn't UTF-8, is malformed as a whole.
    """
    key = _LIST_KEYS[kind]
    try:
        if not result.isascii():
            result.decode("utf-8")
        fields = _decode_fields(result)
        if key not in fields:
            raise Malformed(f"the result has no `{key}`")
        raws = _decode_list(fields[key])
        cursor, ttl_ms, scope = (
            _decode_any(fields.get(name, b"null")) for name in ("nextCursor", "ttlMs", "cacheScope")
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(f"the result is no object with a list `{key}`") from error
    if not isinstance(cursor, str | None):
        raise Malformed("`nextCursor` is no string")
    items = tuple(item for raw in raws if (item := _parse_item(kind, bytes(raw))) is not None)
    # An empty cursor would ask for the first page again: servers that send it mean that there is no further one.
    return ListPage(items, cursor or None, read_freshness(ttl_ms, scope), len(raws) - len(items))


def _parse_item(kind: Kind, raw: bytes) -> Item | None:
    try:
        span = find(raw, _NAME_KEYS[kind])
        name = None if span is None else _decode_any(span.value)
    except (Doubled, msgspec.MsgspecError, RecursionError):
        return None
    return Item(name, raw, span) if span is not None and isinstance(name, str) else None


def keep_items(kind: Kind, result: bytes, is_kept: Callable[[str], bool]) -> bytes:
    """The `result` object with those items alone whose names are kept, and private. Raises `Malformed`.

    Every other byte is the backend's. An entry without one sure name isn't kept: two readers would judge two names.
    """
    page = parse_page(kind, result)
    kept = [item.raw for item in page.items if is_kept(item.name)]
    try:
        items, scope, ttl_ms = (find(result, key) for key in (_LIST_KEYS[kind], "cacheScope", "ttlMs"))
    except (Doubled, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("a key of the result stands twice, or in a variant") from error
    if items is None:
        raise Malformed(f"the result has no `{_LIST_KEYS[kind]}`")
    changes = [(items, b"[" + b",".join(kept) + b"]")]
    if scope is not None:
        changes.append((scope, _PRIVATE))
    elif ttl_ms is not None:
        changes.append((ttl_ms, ttl_ms.value + b',"cacheScope":' + _PRIVATE))
    for span, value in sorted(changes, reverse=True):  # from the end, so that the places before it stay what they are
        result = replace(result, span, value)
    return result


_PRIVATE: Final = b'"private"'


def rename_item(item: Item, shown: str) -> bytes:
    """The item's bytes with `shown` for its name, every other byte untouched."""
    return item.raw if shown == item.name else replace(item.raw, item.span, _encode(shown))


def encode_page(
    kind: Kind,
    items: Iterable[bytes],
    era: Era,
    *,
    next_cursor: str | None = None,
    freshness: Freshness = STALE,
    server: ServerInfo | None = None,
    left_out: Mapping[str, str] | None = None,
) -> bytes:
    """The `result` object of a list method. `left_out`: backend → why it is missing."""
    content: dict[str, Any] = {_LIST_KEYS[kind]: [msgspec.Raw(item) for item in items]}
    if next_cursor is not None:
        content["nextCursor"] = next_cursor
    return encode_result(content, era, freshness=freshness, server=server, left_out=left_out)
