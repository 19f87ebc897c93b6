"""What a client asks to be told, what a server tells, and where a listener's id is put."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.changes import Change
from gateway.protocol.events import parse_event
from gateway.protocol.subscriptions import (
    Acknowledged,
    Filter,
    Note,
    Over,
    acknowledge,
    cut_id,
    encode_listen,
    make_note,
    parse_listen,
    parse_told,
)
from tests.requirements import proves

KEY = "io.modelcontextprotocol/subscriptionId"
EVERYTHING = Filter(frozenset(Change), ("a:/",))


@proves("LISTEN-1")
def test_what_the_gateway_asks_is_what_a_server_reads() -> None:
    assert parse_listen(encode_listen(["a:/"], "2026-07-28")) == EVERYTHING


@proves("LISTEN-1")
def test_what_it_acknowledges_is_what_a_client_reads() -> None:
    data = parse_event(acknowledge("l", EVERYTHING)).data
    assert parse_told(data) == Acknowledged(EVERYTHING)
    assert json.loads(data)["params"]["_meta"] == {KEY: "l"}


@proves("LISTEN-2")
@pytest.mark.parametrize(
    "params",
    [
        {"notifications": {}},
        {"_meta": {}},
        {"notifications": {"taskIds": []}, "_meta": {}},
        {"notifications": {}, "_meta": {}, "cursor": "x"},
        {"notifications": {}, "_meta": {"com.example/x": 1}},
        {"notifications": [], "_meta": {}},
        {"notifications": {"resourceSubscriptions": [1]}, "_meta": {}},
    ],
)
def test_what_is_not_understood_in_full_is_not_read_at_all(params: object) -> None:
    assert parse_listen(json.dumps({"id": 1, "method": "subscriptions/listen", "params": params}).encode()) is None


def test_doubled_uris_are_one_and_flags_that_are_not_set_are_none() -> None:
    wanted = {"toolsListChanged": False, "promptsListChanged": None, "resourceSubscriptions": ["b:/", "a:/", "b:/"]}
    body = json.dumps({"params": {"notifications": wanted, "_meta": {}}}).encode()
    assert parse_listen(body) == Filter(frozenset(), ("b:/", "a:/"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"id":"x","result":{}}', Over(is_error=False)),
        (b'{"id":"x","error":{"code":1}}', Over(is_error=True)),
        (b'{"method":"notifications/message","params":{}}', None),
        (b'{"method":"notifications/progress"}', None),
    ],
)
def test_a_server_also_tells_other_things(data: bytes, told: object) -> None:
    assert parse_told(data) == told


@pytest.mark.parametrize("data", [b"x", b"[]", b'{"method":"notifications/resources/updated","params":{}}', b"{"])
def test_nonsense_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_told(data)


@proves("LISTEN-1")
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b'{"a":1,"params":{"_meta":{"%b" : "x" }}}', b'{"a":1,"params":{"_meta":{"%b" : 7 }}}'),
        (b'{"a":1,"params":{"_meta": { }}}', b'{"a":1,"params":{"_meta": {"%b":7 }}}'),
        (b'{"a":1,"params":{"_meta":{"b":2}}}', b'{"a":1,"params":{"_meta":{"%b":7,"b":2}}}'),
        (b'{"a":1,"params":{"uri":"u"}}', b'{"a":1,"params":{"_meta":{"%b":7},"uri":"u"}}'),
        (b'{"a":1,"params":{}}', b'{"a":1,"params":{"_meta":{"%b":7}}}'),
        (b' {"a":1}', b' {"params":{"_meta":{"%b":7}},"a":1}'),
    ],
)
def test_a_listeners_id_is_put_where_it_belongs_and_no_other_byte_changes(message: bytes, expected: bytes) -> None:
    before, after = cut_id(message.replace(b"%b", KEY.encode()))
    assert before + b"7" + after == expected.replace(b"%b", KEY.encode())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_OBJECT = st.dictionaries(st.sampled_from(["uri", "a", "é", '"', "_metal", ""]), _JSON, max_size=3)


@proves("LISTEN-1")
@given(_OBJECT, st.none() | _OBJECT, st.none() | _OBJECT, st.booleans(), st.integers() | st.text(max_size=5))
def test_stamping_a_message_changes_nothing_but_the_id(
    message: dict[str, Any],
    params: dict[str, Any] | None,
    meta: dict[str, Any] | None,
    has_id: bool,
    listener: int | str,
) -> None:
    if params is not None:
        message = {**message, "params": params}
        if meta is not None:
            params["_meta"] = {**meta, KEY: "theirs"} if has_id else meta
    note = Note(None, "", *cut_id(json.dumps(message, ensure_ascii=False).encode()))
    stamped = json.loads(note.message(listener))
    assert stamped["params"]["_meta"].pop(KEY) == listener
    assert json.loads(parse_event(note.event(listener)).data)["params"]["_meta"][KEY] == listener
    if meta is not None and params is not None:
        params["_meta"].pop(KEY, None)
    assert stamped == {**message, "params": {**(params or {}), "_meta": (params or {}).get("_meta", {})}}


@proves("LISTEN-3")
@pytest.mark.parametrize(
    ("note", "method", "params"),
    [
        (make_note(Change.PROMPTS), "notifications/prompts/list_changed", {}),
        (make_note(None, 'a:/"é'), "notifications/resources/updated", {"uri": 'a:/"é'}),
    ],
)
def test_a_note_of_the_gateways_own_is_as_a_servers(note: Note, method: str, params: dict[str, Any]) -> None:
    data = note.message(3)
    assert json.loads(data) == {"jsonrpc": "2.0", "method": method, "params": {"_meta": {KEY: 3}, **params}}
    told = parse_told(data)
    assert isinstance(told, Note)
    assert (told.key, told.change, told.uri) == (note.key, note.change, note.uri)
