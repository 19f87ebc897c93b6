"""A request that is run a second time, as its client gets the answer."""

import json
from typing import Any

import pytest

from gateway.protocol.repetitions import Hint, Repetition, Seen, name_tool, read_hint, with_request_id
from tests.requirements import proves


def event(message: Any, event_id: str = "") -> bytes:
    return (f"id: {event_id}\n" if event_id else "").encode() + b"event: message\ndata: %b\n\n" % json.dumps(
        message
    ).encode()


def progress(made: float, token: int | str = "t") -> dict[str, Any]:
    params = {"progressToken": token, "progress": made}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


def repetition(*seen: bytes, asked_id: int | str = 7) -> Repetition:
    noted = Seen()
    for payload in seen:
        noted.note(payload)
    return Repetition("again", asked_id, noted)


def has_questions(*seen: bytes) -> bool:
    noted = Seen()
    for payload in seen:
        noted.note(payload)
    return noted.has_questions


def test_a_message_gets_another_id_and_keeps_all_other_bytes() -> None:
    body = b'{"jsonrpc":"2.0", "id" : 1,"method":"tools/call","params":{"n": 1.0e2,"id":1}}'
    assert with_request_id(body, "again") == (
        b'{"jsonrpc":"2.0","id":"again","method":"tools/call","params":{"n": 1.0e2,"id":1}}'
    )


@proves("AGAIN-1")
@pytest.mark.parametrize("asked_id", [7, "7", "seven"])
def test_the_response_comes_on_the_id_that_the_client_gave(asked_id: int | str) -> None:
    block = event({"jsonrpc": "2.0", "id": "again", "result": {"n": 1}}, event_id="backend-9")
    assert repetition(asked_id=asked_id).translate(block) == (
        b'event: message\ndata: {"jsonrpc":"2.0","id":%b,"result":{"n": 1}}\n\n' % json.dumps(asked_id).encode()
    )


@proves("AGAIN-1")
def test_an_error_without_an_id_comes_on_the_id_that_the_client_gave() -> None:
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}'
    assert repetition().translate_data(body) == (b'{"jsonrpc":"2.0","id":7,"error":{"code":-32700,"message":"what?"}}')


@proves("AGAIN-1")
def test_an_answer_to_something_else_is_left_for_others_to_judge() -> None:
    for data in (b'{"jsonrpc":"2.0","id":"other","result":{}}', b"<html>", b"[1]", b'"text"'):
        assert repetition().translate_data(data) == data


@proves("AGAIN-2")
def test_progress_that_was_seen_is_not_told_again() -> None:
    again = repetition(event(progress(1)), event(progress(2.5)))
    told = [again.translate(event(progress(made))) for made in (1, 2, 2.5, 3, 3, 2, 4)]
    assert told == [b"", b"", b"", event_of(3), b"", b"", event_of(4)]


def event_of(made: float) -> bytes:
    return event(progress(made))


@proves("AGAIN-2")
def test_another_token_s_progress_is_another_s() -> None:
    again = repetition(event(progress(5, token=1)))
    assert again.translate(event(progress(1, token="1"))) == event(progress(1, token="1"))
    assert again.translate(event(progress(1, token=1))) == b""


@proves("AGAIN-2")
def test_all_other_messages_pass_also_comments_don_t() -> None:
    again = repetition(event(progress(5)))
    log = event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}})
    odd = event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": "half"}})
    assert [again.translate(block) for block in (log, odd, b": ping\n\n", b"id: 3\ndata:\n\n")] == [log, odd, b"", b""]


@proves("AGAIN-2")
def test_of_a_batch_what_was_seen_is_left_out() -> None:
    again = repetition(event(progress(1)))
    response = {"jsonrpc": "2.0", "id": "again", "result": {}}
    assert again.translate(event([progress(1), response])) == (
        b'event: message\ndata: [{"jsonrpc":"2.0","id":7,"result":{}}]\n\n'
    )
    assert again.translate(event([progress(1)])) == b""


@proves("AGAIN-3")
def test_a_question_to_the_client_is_noticed() -> None:
    ask = {"jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": {}}
    assert has_questions(event(ask))
    assert has_questions(event([progress(1), ask]))
    assert has_questions(b"data: what?\n\n")
    assert not has_questions(b"data: \n\n", event(progress(1)), event({"jsonrpc": "2.0", "id": 1, "result": {}}))


@proves("AGAIN-3")
@pytest.mark.parametrize(
    ("tool", "hint"),
    [
        ({"name": "find", "annotations": {"readOnlyHint": True}}, Hint(True)),
        ({"name": "find", "annotations": {"readOnlyHint": False}}, Hint(False)),
        ({"name": "find", "annotations": {"readOnlyHint": "true"}}, Hint(False)),
        ({"name": "find", "annotations": {"readOnlyHint": 1}}, Hint(False)),
        ({"name": "find", "annotations": {"idempotentHint": True}}, Hint(False)),
        ({"name": "find", "annotations": None}, Hint(False)),
        ({"name": "find"}, Hint(False)),
        ({"name": "Find", "annotations": {"readOnlyHint": True}}, Hint(None, "page 2")),
    ],
)
def test_a_tool_is_read_only_where_its_annotations_say_so_and_only_then(tool: dict[str, Any], hint: Hint) -> None:
    result = {"tools": [{"name": "other"}, tool], "nextCursor": "page 2"}
    assert read_hint(json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode(), "find") == hint


@proves("AGAIN-3")
@pytest.mark.parametrize("response", [b"", b"what?", b'{"error":{}}', b'{"result":{"tools":1}}', b'{"result":{}}'])
def test_what_is_no_list_of_tools_calls_nothing_read_only(response: bytes) -> None:
    assert read_hint(response, "find") == Hint(False)


def test_a_call_names_its_tool() -> None:
    assert name_tool(b'{"method":"tools/call","params":{"name":"find","arguments":{"name":"x"}}}') == "find"
    assert [name_tool(body) for body in (b"", b"{}", b'{"params":{"name":1}}')] == ["", "", ""]
