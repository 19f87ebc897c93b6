"""How a line looks: one JSON object, or prose with colours. Pure: fields in, bytes out.

Whatever a client put into a name stays inside its quotes: no line breaks, no terminal escapes.
"""

import json
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"
_COLOURS: Final = {"debug": "\x1b[36m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_TOLD_IN_PROSE: Final = frozenset(
    {
        *("timestamp", "level", "event", "http_method", "path", "method", "name", "status", "outcome"),
        *("duration_ms", "upstream_ms", "gateway_ms", "exception"),
    }
)
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def format_time(unix_seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond: `2026-11-21T09:30:00.123Z`."""
    milliseconds = int(unix_seconds * 1000)
    return f"{_format_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=2)  # lines come many a second, and in the order of time
def _format_second(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def encode_json(_logger: object, _level: str, fields: MutableMapping[str, Any]) -> bytes:
    """One JSON object, without the line's end."""
    try:
        return _encode(fields)
    except UnicodeEncodeError:  # a lone surrogate, e.g. from an undecodable file name in a library's message
        return json.dumps(fields, default=str).encode("ascii")


def encode_line(line: msgspec.Struct) -> bytes:
    """The same of a struct, whose fields that say nothing are its defaults, and left out."""
    try:
        return _encode(line)
    except UnicodeEncodeError:
        return encode_json(None, "", to_fields(line))


def to_fields(line: msgspec.Struct) -> dict[str, Any]:
    """The struct's fields but for its defaults."""
    values = msgspec.structs.asdict(line)
    defaults = {field.name: field.default for field in msgspec.structs.fields(line)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def encode_prose(_logger: object, level: str, fields: MutableMapping[str, Any]) -> bytes:
    """Time of day, level and a sentence, then the other fields; headers and traces on lines of their own."""
    clock = fields["timestamp"][11:23]
    told = _TOLD_IN_PROSE if fields["event"] == "exchange" else {"timestamp", "level", "event", "exception"}
    sentence = _summarize(fields) if fields["event"] == "exchange" else quote(fields["event"], {" ", "'", '"', "="})
    rest = {name: value for name, value in fields.items() if name not in told}
    short = " ".join(f"{name}={quote(value)}" for name, value in rest.items() if not isinstance(value, dict))
    line = f"{_DIM}{clock}{_RESET} {_COLOURS.get(level, '')}{level:<8}{_RESET}{sentence}  {_DIM}{short}{_RESET}"
    blocks = [_indent(value) for value in rest.values() if isinstance(value, dict)]
    trace = [_calm(fields["exception"].rstrip())] if "exception" in fields else []
    return "\n".join([line, *blocks, *trace]).encode("utf-8", "backslashreplace")


def _summarize(fields: Mapping[str, Any]) -> str:
    """`tools/call add → 200 ok in 12.3 ms (gateway 0.4)`."""
    asked = fields.get("method") or f"{fields['http_method']} {fields['path']}"
    words = [quote(asked, {" "}), quote(fields["name"]) if "name" in fields else "", "→"]
    words += [str(fields.get("status", "")), fields["outcome"], f"in {fields.get('duration_ms', 0)} ms"]
    if "upstream_ms" in fields:
        words.append(f"(gateway {fields.get('gateway_ms', 0)})")
    return " ".join(word for word in words if word)


def _indent(facts: Mapping[str, object]) -> str:
    return "\n".join(f"             {quote(name)}: {quote(value, {' ', '='})}" for name, value in facts.items())


def _calm(trace: str) -> str:
    """A trace without what could steer a terminal: an exception's text may be a client's."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in trace)


def quote(value: object, harmless: frozenset[str] | set[str] = frozenset()) -> str:
    """The value as one word, JSON-quoted where it holds anything but printable characters and `harmless` ones."""
    text = value if isinstance(value, str) else str(value)
    risky = set(" \"=\\'") - harmless
    if text and text.isprintable() and not risky.intersection(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
