"""Server-sent events: the same bytes are the same events, however the network cut them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol.events import (
    COMMENT,
    Event,
    EventSplitter,
    EventTooLarge,
    _parse_any,
    encode_event,
    message_event,
    parse_event,
    strip_ids,
    without_id,
)
from tests.requirements import proves

LARGE = 1 << 20


def split(pieces: list[bytes], limit_bytes: int = LARGE) -> list[bytes]:
    splitter = EventSplitter(limit_bytes)
    return [event for piece in pieces for event in splitter.feed(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
lines = st.sampled_from(
    [b"data: a", b"data:b", b"data", b": comment", b"id: 7", b"event: x", b"retry: 5", b"", b"", b"\xef\xbb\xbf"]
)
streams = st.lists(st.tuples(lines, line_ends).map(b"".join), max_size=12).map(b"".join) | st.binary(max_size=40)


@proves("SSE-1")
@given(streams, st.lists(st.integers(0, 400), max_size=8))
@example(b"data: a\r\n\r\ndata: b\n\n", [11])
@example(b"data: a\r\r\ndata: b\n\n", [9])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
@example(b"data: a\r\r\n\ndata: b\n\n", [9])
def test_any_cutting_of_the_same_bytes_gives_the_same_events(data: bytes, places: list[int]) -> None:
    whole = [parse_event(block) for block in split([data])]
    assert [parse_event(block) for block in split(cut(data, places))] == whole
    assert [parse_event(block) for block in split([data[i : i + 1] for i in range(len(data))])] == whole


@proves("SSE-1")
@given(streams)
def test_no_byte_of_a_whole_event_is_lost_or_added(data: bytes) -> None:
    data = data.removeprefix(b"\xef\xbb\xbf")
    splitter = EventSplitter(LARGE)
    events = b"".join(splitter.feed(data))
    assert data.startswith(events)
    if data and not data.startswith((b"\xef", b"\xef\xbb")):
        assert splitter.is_between_events == (events == data)


@proves("SSE-1")
@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"data: a\n\r\n", b"data: b\r\n\n"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"data: a\n\n"]),
        (b"\ndata: a\n\n", [b"\ndata: a\n\n"]),
        (b"data: a\n\ndata: cut off\n", [b"data: a\n\n"]),
        (b"", []),
    ],
)
def test_events_end_with_a_blank_line_of_any_kind(data: bytes, events: list[bytes]) -> None:
    assert split([data]) == events


@proves("SSE-1")
@pytest.mark.parametrize(
    ("block", "event"),
    [
        (b"data: a\n\n", Event(b"a")),
        (b"data:a\ndata:  b\n\n", Event(b"a\n b")),
        (b"data\n\n", Event(b"")),
        (b"event: x\r\nid: 7\r\nretry: 100\r\ndata: a\r\n\r\n", Event(b"a", b"x", b"7", 100)),
        (b"id\ndata: a\n\n", Event(b"a", id=b"")),
        (b"id: a\0b\ndata: a\n\n", Event(b"a")),
        (b"retry: -5\nretry: 1x\nretry: 12345678901\ndata: a\n\n", Event(b"a")),
        (b"colour: blue\ndata: a\n\n", Event(b"a")),
        (b": nothing\n\n", Event(is_comment=True)),
        (b"colour: blue\n\n", Event(is_comment=True)),
        (b":\n\n", Event(is_comment=True)),
    ],
)
def test_fields_are_read_as_the_standard_says(block: bytes, event: Event) -> None:
    assert parse_event(block) == event


one_line = st.binary(max_size=20).map(lambda b: b.translate(None, b"\r\n"))
events = st.builds(
    Event,
    data=st.lists(one_line, max_size=3).map(b"\n".join),
    event=one_line,
    id=st.none() | one_line.map(lambda b: b.translate(None, b"\0")),
    retry=st.none() | st.integers(0, 999_999_999),
).filter(lambda event: event != Event())


@proves("SSE-2")
@given(events, st.lists(st.integers(0, 400), max_size=4))
def test_what_is_encoded_is_what_is_parsed(event: Event, places: list[int]) -> None:
    data = encode_event(event)
    (block,) = split(cut(data, places))
    assert block == data
    assert parse_event(block) == event


@proves("SSE-2")
def test_an_event_of_nothing_is_a_comment() -> None:
    assert encode_event(Event()) == COMMENT
    assert split([COMMENT]) == [COMMENT]


@proves("SSE-2")
def test_a_message_is_an_event_without_an_id() -> None:
    assert parse_event(message_event(b'{"a":1}')) == Event(b'{"a":1}', b"message")


@proves("SSE-3")
def test_an_event_beyond_the_bound_is_refused_before_it_is_whole() -> None:
    splitter = EventSplitter(10)
    assert splitter.feed(b"data: 1\n\n") == [b"data: 1\n\n"]
    assert splitter.feed(b"data: 6789") == []
    with pytest.raises(EventTooLarge):
        splitter.feed(b"0")


@proves("SSE-3")
def test_a_long_event_in_many_pieces_is_searched_once() -> None:
    splitter = EventSplitter(LARGE)
    for _ in range(1000):
        assert splitter.feed(b"x" * 100) == []
        assert splitter._searched >= len(splitter._buffer) - 3
    assert len(splitter.feed(b"\n\n")[0]) == 100_002


@proves("SSE-1")
def test_an_event_cut_within_its_last_line_end_keeps_its_bytes() -> None:
    splitter = EventSplitter(1000)
    assert splitter.feed(b"data: a\r\n\r") == []
    assert splitter.feed(b"\ndata: b\n\r") == [b"data: a\r\n\r\n"]
    assert splitter.feed(b"\n") == [b"data: b\n\r\n"]


@proves("SSE-1")
def test_an_event_of_bare_carriage_returns_waits_for_nothing() -> None:
    assert EventSplitter(1000).feed(b"data: a\r\r") == [b"data: a\r\r"]


usual_ids = st.sampled_from([b"", b"id: 7", b"id:7", b"id:  7", b"id", b"id: \0", b"id: a\x0bb"])
usual_data = st.sampled_from([b"data: {}", b"data:{}", b"data:  {}", b"data: ", b"data: \xff", b"data: {} "])
usual_types = st.sampled_from([b"event: message", b"event:message", b"event: messages", b"event: message "])


@given(
    st.lists(st.tuples(usual_ids | usual_types | usual_data, line_ends).map(b"".join), max_size=4).map(b"".join),
    line_ends,
)
@example(b"event: message\ndata: {}\n", b"\n")
@example(b"id: 7\r\nevent: message\r\ndata: {}\r\n", b"\r\n")
@example(b"id: 7\nevent: message\nid: 8\ndata: {}\n", b"\n")
def test_an_event_in_its_usual_form_is_read_as_any_other_is(fields: bytes, line_end: bytes) -> None:
    block = fields + line_end
    assert parse_event(block) == _parse_any(block)


@given(st.lists(st.tuples(usual_types | usual_data | lines, st.just(b"\n")).map(b"".join), max_size=4).map(b"".join))
def test_an_event_without_its_id_says_the_same(fields: bytes) -> None:
    event = parse_event(fields + b"\n")
    bare = Event(event.data, event.event, None, event.retry)
    assert without_id(event) == encode_event(bare)


@given(st.lists(st.lists(usual_ids | usual_types | usual_data | lines, max_size=4), max_size=3), line_ends)
def test_events_lose_their_ids_and_those_without_data_are_left_out(events: list[list[bytes]], line_end: bytes) -> None:
    blocks = [b"".join(field + line_end for field in fields) + line_end for fields in events]
    assert strip_ids(blocks) == [without_id(event) for event in map(_parse_any, blocks) if event.data]


def test_a_line_end_within_data_is_never_written_as_one() -> None:
    assert without_id(Event(b"a\rb", b"message", b"7")) == b"event: message\ndata: a\ndata: b\n\n"
