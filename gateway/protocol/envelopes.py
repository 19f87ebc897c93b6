"""The keys of a message that decide something, read fast, and the proof by counting bytes that each stands once.

The fast side of `messages`: where the proof fails nothing is wrong yet, `objects` then reads every key.
"""

import re
from typing import Any, Final

import msgspec
from mcp_types import PROTOCOL_VERSION_META_KEY

UNSET: Final = msgspec.UNSET
ABSENT: Final = msgspec.Raw(b"")


class Params(msgspec.Struct, gc=False):
    name: Any = UNSET
    uri: Any = UNSET
    meta: msgspec.Raw = msgspec.field(default=ABSENT, name="_meta")
    arguments: msgspec.Raw = ABSENT


class Envelope(msgspec.Struct, gc=False):
    jsonrpc: Any = UNSET
    id: Any = UNSET
    method: Any = UNSET
    params: Params | msgspec.UnsetType = UNSET
    result: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


decode_envelope: Final = msgspec.json.Decoder(Envelope).decode

_VERSION_KEY: Final = f'"{PROTOCOL_VERSION_META_KEY}"'.encode()
_ANY_VERSION_KEY: Final = _VERSION_KEY.lower()

# An escape that can spell a letter of a deciding key, or one that folds to such a letter.
_HIDING_ESCAPE: Final = re.compile(rb"\\u(?:00[4-7]|017[fF]|212[aA])")

SMALL_BYTES: Final = 4096
"""Up to here counting the quotes of a body costs less than looking for its parts."""

_QUOTE: Final = b'"'


def is_unambiguous(body: bytes, envelope: Envelope, meta: bytes) -> bool:
    """Whether byte counts alone prove that every deciding key stands once, spelt exactly."""
    if meta:
        # Its one deciding key has a slash and dots, which can be escaped too: no backslash at all, then.
        versions = meta.lower().count(_ANY_VERSION_KEY)
        if versions > 1 or (versions and _VERSION_KEY not in meta) or b"\\" in meta:
            return False
    if len(body) <= SMALL_BYTES and b"\\" not in body and _count_unknown_quotes(body, envelope, meta) == 0:
        return True
    return _stands_once(body, envelope, meta)


def _count_unknown_quotes(body: bytes, envelope: Envelope, meta: bytes) -> int:
    """How many quotes stand around other strings than those that were found. None: no key can stand twice, or in a variant.

    Without a backslash every string has two, and none in it.
    """
    found, quotes, params = 0, body.count(_QUOTE) - meta.count(_QUOTE), envelope.params
    for value in (envelope.jsonrpc, envelope.id, envelope.method):
        if value is not UNSET:
            found += 2 if isinstance(value, str) else 1
    raws = [envelope.result, envelope.error]
    if params is not UNSET:
        found += 2 if meta else 1
        for value in (params.name, params.uri):
            if value is not UNSET:
                found += 2 if isinstance(value, str) else 1
        raws.append(params.arguments)
    for raw in raws:
        if raw is not ABSENT:
            found += 1
            quotes -= bytes(memoryview(raw)).count(_QUOTE)
    return quotes - 2 * found


def _stands_once(body: bytes, envelope: Envelope, meta: bytes) -> bool:
    """The same for any body: each deciding key occurs outside of what holds none as often as it was found."""
    if b"\\" in body and _HIDING_ESCAPE.search(body):
        return False
    rest, params, result, error = body, envelope.params, envelope.result, envelope.error
    found = (envelope.jsonrpc is not UNSET) + (envelope.id is not UNSET) + (envelope.method is not UNSET)
    if params is not UNSET:
        found += 1 + (params.name is not UNSET) + (params.uri is not UNSET)
        if params.arguments is not ABSENT:
            rest = _cut(rest, params.arguments)
        if meta:
            found += 1
            rest = _cut(rest, params.meta)
    if result is not ABSENT:
        found, rest = found + 1, _cut(rest, result)
    if error is not ABSENT:
        found, rest = found + 1, _cut(rest, error)
    return _count_keys(rest.lower()) == found


def _count_keys(rest: bytes) -> int:
    """How often all deciding keys stand here. Each that was found stands at least once: an equal sum says once each."""
    count = rest.count
    return (
        count(b'"jsonrpc"')
        + count(b'"id"')
        + count(b'"method"')
        + count(b'"params"')
        + count(b'"name"')
        + count(b'"uri"')
        + count(b'"_meta"')
        + count(b'"result"')
        + count(b'"error"')
    )


_NEEDLE_BYTES: Final = 64  # enough to find the place; a needle of a megabyte costs a millisecond to prepare


def _cut(body: bytes, value: msgspec.Raw) -> bytes:
    """`body` without one occurrence of the JSON object `value`; unchanged where that can't be told cheaply.

    Any occurrence of the same bytes will do, since only counts are taken afterwards. A comma stays in its place, so that
    no key can come about at the seam; an object begins and ends with a brace, so none is cut in two.
    """
    view = memoryview(value)
    needle = bytes(view[:_NEEDLE_BYTES])
    if needle[:1] != b"{":
        return body
    start = body.find(needle)
    if start < 0 or not body.startswith(view, start):
        return body
    return body[:start] + b"," + body[start + len(view) :]
