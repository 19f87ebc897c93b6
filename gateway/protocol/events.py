"""Server-sent events: bytes to events and back (WHATWG HTML §9.2).

`EventSplitter` cuts a stream into whole events without looking inside; `parse_event` looks inside one. So whoever relays
an event unchanged passes on its very bytes, and an event that was cut off is never passed on at all.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

COMMENT: Final = b":\n\n"
"""What keeps a silent connection alive: ignored by every reader, allowed only between events."""

# Two line ends in a row, each of \r\n, \n or \r. The lookahead keeps one \r\n from being read as two.
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event goes on beyond the bound."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event's fields. `data` and `event` are empty where the field is absent, `id` and `retry` None."""

    data: bytes = b""
    event: bytes = b""
    id: bytes | None = None
    retry: int | None = None  # milliseconds
    is_comment: bool = False  # no field at all


class EventSplitter:
    """Feed it bytes in any pieces; it gives back whole events, each with its closing blank line."""

    __slots__ = ("_buffer", "_limit_bytes", "_searched", "_started", "_swallow")

    def __init__(self, limit_bytes: int) -> None:
        self._buffer = b""
        self._limit_bytes = limit_bytes
        self._searched = 0  # up to here there is no blank line
        self._started = False
        self._swallow = False  # the \n of a \r\n whose \r ended the last event

    @property
    def is_between_events(self) -> bool:
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises `EventTooLarge`."""
        if self._swallow and data:
            self._swallow = False
            if data[:1] == b"\n":
                data = data[1:]
        buffer = self._buffer + data if self._buffer else data
        if not self._started:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._buffer = buffer
                return []
            self._started = True
            buffer = buffer.removeprefix(_BOM)
        events, position = [], 0
        search = _BLANK_LINE.search
        while match := search(buffer, max(position, self._searched)):
            end = match.end()
            if end == len(buffer) and buffer.endswith(b"\n\r"):
                break  # its \n is still to come, after other line ends that had one
            events.append(buffer[position:end])
            position = end
        self._swallow = position == len(buffer) and position > 0 and buffer.endswith(b"\r")
        self._buffer = rest = buffer[position:]
        # A line end may be the first half of a blank line that the next piece completes: at most three bytes back.
        self._searched = max(0, len(rest) - 3)
        if len(rest) > self._limit_bytes:
            raise EventTooLarge
        return events


_LINE: Final = re.compile(rb"\r\n|\n|\r")

# As the SDKs' servers write a message, with an id before its type, between, or none: most events by far.
_ID: Final = rb"(?:id: ?([^\0\r\n]*)\r?\n)?"
_USUAL: Final = re.compile(_ID + rb"event: message\r?\n" + _ID + rb"data: ([^\r\n]*)\r?\n\r?\n")


def parse_event(block: bytes) -> Event:
    """The fields of one whole event. Never fails: unknown fields are ignored, as the standard demands."""
    if (usual := _USUAL.fullmatch(block)) is not None:
        before, between, data = usual.groups()
        return Event(data, b"message", before if between is None else between)
    return _parse_any(block)


def _parse_any(block: bytes) -> Event:
    data: list[bytes] = []
    event, event_id, retry, is_comment = b"", None, None, True
    for line in _LINE.split(block):
        name, _, value = line.partition(b":")
        if not name:
            continue
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                data.append(value)
            case b"event":
                event = value
            case b"id" if b"\0" not in value:
                event_id = value
            case b"retry" if value.isdigit() and value.isascii() and len(value) < 10:
                retry = int(value)
            case _:
                continue
        is_comment = False
    return Event(b"\n".join(data), event, event_id, retry, is_comment)


def encode_event(event: Event) -> bytes:
    """The bytes of an event; `parse_event` of them gives it back."""
    lines = []
    if event.event:
        lines.append(b"event: " + event.event)
    if event.id is not None:
        lines.append(b"id: " + event.id)
    if event.retry is not None:
        lines.append(b"retry: %d" % event.retry)
    if event.data or event.id is not None:
        lines.extend(b"data: " + part for part in _LINE.split(event.data))
    return b"\n".join(lines) + b"\n\n" if lines else COMMENT


def message_event(message: bytes) -> bytes:
    """A JSON-RPC message (one line of JSON) as an event without an id."""
    return b"event: message\ndata: " + message + b"\n\n"


PRIMER: Final = b"data: \n\n"
"""An event without content: with an id it tells a client where a stream begins, or where it is (2025-11-25)."""


def without_id(event: Event) -> bytes:
    """The event's bytes less its id, which was the backend's."""
    data = event.data
    if event.event == b"message" and event.retry is None and data and b"\n" not in data and b"\r" not in data:
        return b"event: message\ndata: %b\n\n" % data  # what is below would say, for less
    return encode_event(Event(event.data, event.event, None, event.retry))


def strip_ids(blocks: Iterable[bytes]) -> list[bytes]:
    """`without_id` of each of these events that says anything: those without data are the backend's own affair."""
    kept = []
    for block in blocks:
        if (usual := _USUAL.fullmatch(block)) is None:
            event = _parse_any(block)
            if event.data:
                kept.append(without_id(event))
        elif data := usual[3]:
            kept.append(b"event: message\ndata: %b\n\n" % data)
    return kept


def with_id(payload: bytes, event_id: bytes) -> bytes:
    """An event that has no id, with one."""
    return b"id: %b\n%b" % (event_id, payload)
