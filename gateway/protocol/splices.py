"""Where a value stands in the bytes of a JSON object, and another put in its place, every other byte untouched.

A value is found only where nobody could find another: on the way to it no object has a key twice, nor a variant of the key
that some parser takes for it (Go's folds case). Nothing here knows what the keys mean.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec


class Doubled(ValueError):
    """An object on the way has a key twice, or the key in a variant: two readers could find two values."""


class Span(NamedTuple):
    """Where a value stands, and its bytes."""

    start: int
    end: int
    value: bytes


_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_SPACE: Final = b" \t\r\n"
_KEY: Final = re.compile(rb'[ \t\r\n]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*')
_NEXT: Final = re.compile(rb"[ \t\r\n]*([,}])")


def find(body: bytes, *path: str) -> Span | None:
    """Where the value at `path` stands in an object; None where there is none.

    Raises `Doubled`, or msgspec.MsgspecError where the body, or anything on the way but the last, is no JSON object.
    """
    begin = len(body) - len(body.lstrip(_SPACE))
    holder = memoryview(body.strip(_SPACE))
    for key in path:
        found = _find_field(body, begin, holder, key)
        if found is None:
            return None
        begin, holder = found
    return Span(begin, begin + len(holder), bytes(holder))


def _find_field(body: bytes, begin: int, holder: memoryview, key: str) -> tuple[int, memoryview] | None:
    """The place and the value of one field of the object `holder`, which begins at `begin` in the body."""
    fields = _decode_fields(holder)
    is_there = key in fields
    if list(map(str.casefold, fields)).count(key.casefold()) != is_there:
        raise Doubled(f"`{key}` must be spelt exactly so")
    if not is_there:
        return None
    names, values = list(fields), [memoryview(raw) for raw in fields.values()]
    name_sizes, value_sizes = list(map(len, names)), list(map(len, values))
    # Of a doubled key the decoder keeps one value. So where the quotes, colons, commas and braces of what it kept add up
    # to all there is, no key is doubled, none is escaped, and no space stands between them: nothing has to be looked for.
    if sum(name_sizes) + sum(value_sizes) + 4 * len(names) + 1 == len(holder):
        at = names.index(key)
        return begin + 4 * at + 4 + sum(name_sizes[: at + 1]) + sum(value_sizes[:at]), values[at]
    return _walk_to(body, begin, dict(zip(names, values, strict=True)), key)


def _walk_to(body: bytes, begin: int, values: Mapping[str, memoryview], key: str) -> tuple[int, memoryview]:
    """The same where there is white space, or a key that is escaped.

    Of a doubled key the decoder keeps the first place and the last value: the walk along the bytes doesn't come out then.
    """
    found, place, end = 0, begin + 1, b""
    for name, value in values.items():
        head = _KEY.match(body, place)
        if head is None or not body.startswith(value, head.end()):
            raise Doubled(_TWICE)
        tail = _NEXT.match(body, head.end() + len(value))
        if tail is None:
            raise Doubled(_TWICE)
        place, end = tail.end(), tail[1]
        if name == key:
            found = head.end()
    if end != b"}":
        raise Doubled(_TWICE)
    return found, values[key]


_TWICE: Final = "a key stands twice: send each once"


def replace(body: bytes, span: Span, value: bytes) -> bytes:
    """The body with `value`, which must be JSON, where the span's stood."""
    return body[: span.start] + value + body[span.end :]
