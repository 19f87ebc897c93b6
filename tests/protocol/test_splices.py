"""A value is found where every reader finds it, or not at all; what stands there is replaced, and nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.messages import parse_message
from gateway.protocol.splices import Doubled, Span, find, replace
from tests.protocol.texts import SPACES, VALUES, objects_of
from tests.requirements import proves


@pytest.mark.parametrize(
    ("body", "path", "found"),
    [
        (b'{"a":1}', ("a",), Span(5, 6, b"1")),
        (b' \n{ "a" : {"b":"x\\"y"} } ', ("a", "b"), Span(15, 21, b'"x\\"y"')),
        (b'{"id":7,"params":{"name":"add","arguments":{"name":"x"}}}', ("params", "name"), Span(25, 30, b'"add"')),
        (b'{"\\u0061":[1, 2]}', ("a",), Span(10, 16, b"[1, 2]")),
        ('{"ä":"ö","a":null}'.encode(), ("a",), Span(15, 19, b"null")),
        (b'{"a":{}}', ("a", "b"), None),
        (b"{}", ("a",), None),
        (b'{"params":{"arguments":{"name":1}}}', ("params", "name"), None),
    ],
)
def test_a_value_is_found_where_it_stands(body: bytes, path: tuple[str, ...], found: Span | None) -> None:
    assert find(body, *path) == found


@proves("AGG-8")
@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"a":1,"a":1}', ("a",)),
        (b'{"a":1,"a":12}', ("a",)),
        (b'{"a":12,"a":1}', ("a",)),
        (b'{"a":1,"\\u0061":1}', ("a",)),
        (b'{"a":"", "a":"}}}}}}}}}}}}"}', ("a",)),  # as long as from the first value to a brace in the second
        (b'{"a":1,"b":2,"b":2}', ("a",)),
        (b'{ "a":1,"b":2,"a":1}', ("a",)),
        (b'{"a":1,"A":2}', ("a",)),
        ('{"task":1,"ta\u017fk":2}'.encode(), ("task",)),
        (b'{"Params":{},"params":{"name":"a"}}', ("params", "name")),
        (b'{"params":{"name":"a"},"params":{"name":"a"}}', ("params", "name")),
        (b'{"params":{"name":"a","Name":"b"}}', ("params", "name")),
        (b'{"A":1}', ("a",)),
    ],
)
def test_a_value_that_another_reader_could_find_elsewhere_is_not_found(body: bytes, path: tuple[str, ...]) -> None:
    with pytest.raises(Doubled):
        find(body, *path)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"a"', b'{"a":1', b'{"a":1}}', b'{"params":[]}', b'{"params":1}', b"\xff"]
)
def test_what_is_no_object_is_told_apart_from_what_has_no_such_key(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        find(body, "params", "name")


def test_keys_may_stand_twice_where_nobody_looks() -> None:
    body = b'{"x":{"a":1,"a":2,"A":3},"a":4}'
    assert find(body, "a") == Span(29, 30, b"4")


KEYS = st.sampled_from(["a", "A", "b", "name", "params", "ä", '"', "\u017f", "s"]) | st.text(max_size=3)


@proves("AGG-8")
@given(st.data(), st.lists(st.tuples(KEYS, VALUES), max_size=6), KEYS, SPACES)
def test_a_value_is_found_exactly_where_no_key_is_doubled(
    data: st.DataObject, pairs: list[tuple[str, Any]], key: str, around: str
) -> None:
    body = (around + data.draw(objects_of(pairs)) + around).encode()
    keys = [name for name, _ in pairs]
    has_variant = any(name != key and name.casefold() == key.casefold() for name in keys)
    is_doubled = has_variant or (key in keys and len(set(keys)) < len(keys))
    if is_doubled:
        with pytest.raises(Doubled):
            find(body, key)
        return
    span = find(body, key)
    assert (span is None) == (key not in keys)
    if span is not None:
        assert body[span.start : span.end] == span.value
        assert json.loads(span.value) == dict(pairs)[key]


@proves("AGG-8")
@given(st.data(), st.dictionaries(KEYS, VALUES, max_size=4), st.text(), st.text())
def test_there_and_back_gives_the_same_bytes_and_only_that_value_differs_between(
    data: st.DataObject, others: dict[str, Any], shown: str, local: str
) -> None:
    taken = {"name", "params"}
    params = [*((k, v) for k, v in others.items() if k.casefold() not in taken), ("name", shown)]
    pairs = [("id", 7), ("params", data.draw(st.permutations(params))), ("x", [1])]
    body = data.draw(objects_of(data.draw(st.permutations(pairs)))).encode()
    span = find(body, "params", "name")
    assert span is not None
    there = replace(body, span, msgspec.json.encode(local))
    assert json.loads(there) == {**(told := json.loads(body)), "params": {**told["params"], "name": local}}
    span_there = find(there, "params", "name")
    assert span_there is not None
    assert (span_there.start, json.loads(span_there.value)) == (span.start, local)
    assert replace(there, span_there, span.value) == body


NOISE = st.lists(
    st.sampled_from([("Name", "b"), ("name", "b"), ("name", "a"), ("_meta", {"name": "c"}), ("x", 1)]), max_size=2
)
MORE = st.lists(
    st.sampled_from(
        [("Params", [("name", "b")]), ("params", [("name", "b")]), ("method", "ping"), ("x", {"name": "c"})]
    ),
    max_size=1,
)


@proves("AGG-8")
@given(st.data(), NOISE, MORE)
def test_what_is_allowed_under_a_name_is_what_is_sent_under_it(
    data: st.DataObject, noise: list[tuple[str, Any]], more: list[tuple[str, Any]]
) -> None:
    params = data.draw(st.permutations([("name", "a"), ("arguments", {"name": "d", "params": {}}), *noise]))
    pairs = [("jsonrpc", "2.0"), ("id", 7), ("method", "tools/call"), ("params", params), *more]
    body = data.draw(objects_of(data.draw(st.permutations(pairs)))).encode()
    try:
        span = find(body, "params", "name")
    except Doubled:
        return
    assert span is not None
    assert parse_message(body).name == json.loads(span.value) == "a"
