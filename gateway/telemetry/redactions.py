"""What of a fact may be shown. Whatever isn't known to be harmless is cut: a log outlives the tokens in it, and more
people read it.

Headers are shown in full by an allow-list, because nobody can list all the names that credentials travel under.
"""

import re
from collections.abc import Collection
from itertools import islice
from typing import Final

import msgspec

SHOWN_HEADERS: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "access-control-allow-origin"),
        *("access-control-request-headers", "access-control-request-method", "allow", "cache-control", "connection"),
        *("content-encoding", "content-length", "content-type", "date", "expect", "forwarded", "host", "keep-alive"),
        *("mcp-method", "mcp-name", "mcp-protocol-version", "origin", "retry-after", "sec-fetch-mode"),
        *("sec-fetch-site", "server", "te", "traceparent", "transfer-encoding", "upgrade", "user-agent", "vary", "via"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id"),
    }
)
"""Headers whose values are shown as they are."""

SECRET_WORDS: Final = (
    "authorization",
    "cookie",
    "credential",
    "key",
    "password",
    "query",
    "secret",
    "session",
    "token",
)
"""A fact whose name has one of these is treated like a header that isn't on the list."""

SHOWN_CHARACTERS: Final = 4
HIDDEN_CHARACTERS: Final = 12
"""The start of a secret is shown only where at least this much of it stays hidden."""

SHOWN_ITEMS: Final = 16
"""Of a list: a batch may have thousands of messages."""

LONGEST_TEXT_CHARACTERS: Final = 512
"""Beyond it a value is cut. A line stays short of the 4096 bytes that a pipe takes from several workers unmixed."""

_USERINFO: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_AUTHORIZATION: Final = re.compile(r"\b(bearer|basic|digest)\s+[\w.~+/=-]{8,}", re.IGNORECASE)


def redact(value: str) -> str:
    """The first four characters and the length, e.g. `Bear… (71 characters)`; of a short value only the length."""
    shown = value[:SHOWN_CHARACTERS] if len(value) >= SHOWN_CHARACTERS + HIDDEN_CHARACTERS else ""
    return f"{shown}… ({len(value)} characters)"


def shorten(text: str) -> str:
    """The text, cut where it is longer than a log line can use."""
    return text if len(text) <= LONGEST_TEXT_CHARACTERS else text[: LONGEST_TEXT_CHARACTERS - 1] + "…"


def strip_query(url: str) -> str:
    """A URL without what may hold a key: query, fragment, user and password."""
    bare = url.partition("?")[0].partition("#")[0]
    return scrub(bare) if "@" in bare else bare


def scrub(text: str) -> str:
    """Prose of others (a library's message, a trace) without the credentials that can be told by their form."""
    return _AUTHORIZATION.sub(r"\1 …", _USERINFO.sub(r"\1…@", text))


def redact_headers(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names and values fit to be shown; values of a name that came more than once are joined by `, `."""
    shown: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fit = shorten(value) if name in SHOWN_HEADERS else redact(value)
        shown[shorten(name)] = f"{shown[name]}, {fit}" if name in shown else fit
    return shown


def redact_fact(name: str, value: object) -> object:
    """The value of a named fact as it may be logged. Bytes are only counted: they are bodies. Of an object whose fields
    aren't known, only the type is told: its repr may hold anything."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset | dict | msgspec.Struct):
        return _redact_inside(name, value)
    if not isinstance(value, str | BaseException):
        return f"({type(value).__name__})"
    if any(word in name.lower() for word in SECRET_WORDS):
        return redact(str(value))
    text = scrub(str(value))
    return shorten(strip_query(text) if "://" in text and " " not in text else text)


def _redact_inside(name: str, value: Collection[object] | msgspec.Struct) -> object:
    """The same for each thing in it."""
    if isinstance(value, msgspec.Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        return {"is": type(value).__name__} | {field: redact_fact(field, inner) for field, inner in fields.items()}
    if isinstance(value, dict):
        return {shorten(str(key)): redact_fact(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list) and value and all(_is_header(item) for item in value):
        return redact_headers(value)
    shown = [redact_fact(name, inner) for inner in islice(value, SHOWN_ITEMS)]
    return shown if len(value) <= SHOWN_ITEMS else [*shown, f"… ({len(value)} in all)"]


def _is_header(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and all(isinstance(part, bytes) for part in item)
