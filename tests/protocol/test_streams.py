"""A backend's stream, read with understanding."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.outcomes import Outcome
from gateway.protocol.streams import StreamReader
from tests.requirements import proves

PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n'
RESULT = b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
PRIMER = b"id: 7\ndata:\n\n"
TOO_LATE = b"data: <html>\n\n"


@proves("RELAY-2")
def test_events_pass_byte_for_byte_and_the_response_is_noted() -> None:
    reader = StreamReader(1000, [1])
    assert reader.feed(PROGRESS + RESULT[:9]) == [PROGRESS]
    assert reader.unfinished == "the backend closed the stream before its final response"
    assert reader.feed(RESULT[9:]) == [RESULT]
    assert (reader.awaited, reader.unfinished, reader.events, reader.outcome) == (set(), "", 2, Outcome.OK)
    assert reader.last_response == b'{"jsonrpc":"2.0","id":1,"result":{}}'


@proves("RELAY-2")
def test_what_follows_the_response_is_not_taken_for_it() -> None:
    reader = StreamReader(1000, [1])
    reader.feed(RESULT + PROGRESS)
    assert reader.last_response == b'{"jsonrpc":"2.0","id":1,"result":{}}'


@proves("RELAY-2")
def test_comments_primers_and_retries_pass_and_count_for_nothing() -> None:
    reader = StreamReader(1000, [1])
    parts = [b": ping\n\n", b"retry: 5\n\n", PRIMER]
    assert reader.feed(b"".join(parts)) == parts
    assert (reader.events, reader.is_resumable) == (0, True)


@proves("FAIL-4")
def test_a_stream_is_nonsense_from_its_first_bad_event_on() -> None:
    reader = StreamReader(1000, [1])
    assert reader.feed(PROGRESS + TOO_LATE + RESULT) == [PROGRESS]
    assert reader.fault == "the backend sent an event that is not a JSON-RPC message"
    assert reader.feed(RESULT) == []
    assert reader.awaited == {1}


@proves("FAIL-4", "ANS-1")
def test_a_response_to_another_request_is_nonsense() -> None:
    for other in (
        b'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n',
        b'data: {"jsonrpc":"2.0","id":"1","result":{}}\n\n',
    ):
        reader = StreamReader(1000, [1])
        assert reader.feed(other) == []
        assert reader.fault == "the backend answered with another id than the request's"


@proves("FAIL-4")
def test_a_second_response_to_the_same_request_is_nonsense() -> None:
    reader = StreamReader(1000, [1])
    assert reader.feed(RESULT + RESULT) == [RESULT]
    assert reader.fault


@proves("SSE-3")
def test_an_event_beyond_the_bound_is_a_fault() -> None:
    reader = StreamReader(20, [1])
    assert reader.feed(b"data: " + b"x" * 20) == []
    assert reader.fault == "the backend sent an event beyond the size limit"


@proves("ANS-1")
def test_an_error_without_an_id_answers_all() -> None:
    reader = StreamReader(1000, [1, "b"])
    reader.feed(b'data: {"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}\n\n')
    assert (reader.awaited, reader.outcome, reader.code) == (set(), Outcome.RPC_ERROR, -32700)


@proves("MSG-5")
def test_a_batch_is_answered_in_any_order_and_any_grouping() -> None:
    reader = StreamReader(1000, [1, 2, "c"])
    reader.feed(b'data: [{"jsonrpc":"2.0","id":"c","result":{}},{"jsonrpc":"2.0","id":1,"result":{}}]\n\n')
    assert reader.awaited == {2}
    reader.feed(b'data: {"jsonrpc":"2.0","id":2,"result":{"isError":true}}\n\n')
    assert (reader.awaited, reader.outcome) == (set(), Outcome.TOOL_ERROR)


@proves("LEAVE-3")
def test_a_standalone_stream_may_carry_responses_that_we_did_not_see_asked_for() -> None:
    reader = StreamReader(1000, [], is_open_ended=True)
    assert reader.feed(RESULT + RESULT) == [RESULT, RESULT]
    assert (reader.fault, reader.unfinished) == ("", "")


@proves("SSE-1")
@given(st.lists(st.sampled_from([PROGRESS, RESULT, PRIMER, TOO_LATE, b": c\n\n"]), max_size=6), st.integers(1, 50))
def test_how_the_bytes_were_cut_changes_nothing(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    whole, cut = StreamReader(1000, [1]), StreamReader(1000, [1])
    events = [event for i in range(0, len(data), size) for event in cut.feed(data[i : i + size])]
    assert events == whole.feed(data)
    assert (cut.fault, cut.awaited, cut.events, cut.outcome) == (
        whole.fault,
        whole.awaited,
        whole.events,
        whole.outcome,
    )
