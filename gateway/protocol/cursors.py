"""Ids of events on resumable streams: what a client holds, and gives back in `Last-Event-ID`.

An id names the stream, the event's number in it, and the epoch of the pump that wrote it. Numbers are dense, from 1. The
epoch tells two events apart that got the same number because Redis lost the first one in a failover: without it a client
that holds the lost one would be given what follows the other, and miss something without anybody knowing.
"""

import base64
import re
from typing import Final, NamedTuple, NewType

StreamName = NewType("StreamName", str)
"""128 bits as 22 characters of base64url: 127 of them random, the last one says whether the stream is a standing one."""

NAME_BYTES: Final = 16
NAME_CHARS: Final = 22


class Cursor(NamedTuple):
    """One event of a stream, or `START`, the place before the first."""

    seq: int
    epoch: int


START: Final = Cursor(0, 0)

FIRST_EPOCH: Final = 1


class EventId(NamedTuple):
    """Which event of which stream."""

    stream: StreamName
    cursor: Cursor


def encode_name(random: bytes, *, is_standing: bool = False) -> StreamName:
    """The name that 16 random bytes make.

    `is_standing`: of a session's standalone stream. Whoever is given an event id of one sees it, though the stream be gone.
    """
    if len(random) != NAME_BYTES:
        raise ValueError(f"a stream's name is made of {NAME_BYTES} bytes")
    named = random[:-1] + bytes((random[-1] & 0xFE | is_standing,))
    return StreamName(base64.urlsafe_b64encode(named).rstrip(b"=").decode("ascii"))


def is_standing_name(stream: StreamName) -> bool:
    """Whether the name is of a session's standalone stream. Its last character holds the last two bits."""
    return stream[-1] in "Qw"


def encode_event_id(stream: StreamName, cursor: Cursor) -> str:
    """`{stream}.{seq}`, and `.{epoch}` behind it where the stream has changed hands."""
    if cursor.epoch == FIRST_EPOCH:
        return f"{stream}.{cursor.seq}"
    return f"{stream}.{cursor.seq}.{cursor.epoch}"


# 22 characters hold 132 bits: the last one has only its upper two in use. At most 12 digits: Lua's numbers are doubles.
_EVENT_ID: Final = re.compile(r"([A-Za-z0-9_-]{21}[AQgw])\.([1-9][0-9]{0,11})(?:\.([1-9][0-9]{0,11}))?", re.ASCII)


def parse_event_id(text: str) -> EventId | None:
    """The event that an id names; None for anything that no `encode_event_id` made."""
    found = _EVENT_ID.fullmatch(text)
    if found is None:
        return None
    name, seq, epoch = found.groups()
    if epoch == str(FIRST_EPOCH):  # one event has one spelling
        return None
    return EventId(StreamName(name), Cursor(int(seq), FIRST_EPOCH if epoch is None else int(epoch)))
