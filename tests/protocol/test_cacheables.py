"""Which requests are the same question, and what an answer says of its being kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.cacheables import find_result, normalize_request, parse_cacheable, parse_freshness
from tests.requirements import proves

META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def asking(request_id: object = 1, meta: object = META, **params: object) -> bytes:
    params = {**params, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/list", "params": params}).encode()


PLAIN = normalize_request(asking())


@proves("CACHE-1")
@pytest.mark.parametrize(
    "body",
    [
        asking(2),
        asking("a"),
        asking('quoted "id":7'),
        asking("\\"),
        asking(meta={**META, "progressToken": 7}),
        asking(meta={**META, "traceparent": "00-1-2-00", "tracestate": "a=b", "baggage": "c=d"}),
        asking(meta={**META, "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"}}),
        asking(meta=dict(reversed(META.items()))),
        asking().replace(b", ", b",").replace(b": ", b":"),
    ],
)
def test_what_no_answer_depends_on_is_left_out(body: bytes) -> None:
    assert PLAIN is not None
    assert normalize_request(body) == PLAIN


@proves("CACHE-1")
@pytest.mark.parametrize(
    "body",
    [
        asking(cursor="p2"),
        asking(meta={**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}),
        asking(meta={**META, "io.modelcontextprotocol/protocolVersion": "2027-01-01"}),
        asking(meta={**META, "io.modelcontextprotocol/logLevel": "debug"}),
        asking(meta={**META, "com.example/tenant": "a"}),
        asking(Cursor="p2"),
        asking(meta={**META, "x": {"id": 5}}),
        asking(meta={**META, "x": {"id": 6}}),
    ],
)
def test_whatever_else_is_said_makes_another_question(body: bytes) -> None:
    found = normalize_request(body)
    assert found is not None
    assert found != PLAIN


def test_an_id_further_in_is_no_request_id() -> None:
    assert normalize_request(asking(meta={"x": {"id": 5}})) != normalize_request(asking(meta={"x": {"id": 6}}))


@proves("CACHE-2")
@pytest.mark.parametrize(
    "body",
    [
        asking(cursor="a").replace(b'"cursor": "a"', b'"cursor": "a", "cursor": "b"'),
        asking().replace(b'Capabilities": {}', b'Capabilities": {"x": 1, "x": 2}'),
        asking(cursor="a").replace(b'"cursor": "a"', b'"cursor": "a", "curs\\u006fr": "b"'),
        asking(inputResponses={}),
        asking(requestState="s"),
        asking(cursor="x" * 4096),
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","extra":1}',
        b"[" * 4000,
    ],
)
def test_a_question_that_could_be_read_differently_is_no_question(body: bytes) -> None:
    assert normalize_request(body) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_PARAMS = st.dictionaries(st.sampled_from(["cursor", "id", "_meta", "x", "é", '"']), _JSON, max_size=4)


@given(_PARAMS, _PARAMS, st.integers() | st.text(max_size=8), st.integers() | st.text(max_size=8))
def test_two_questions_are_the_same_exactly_where_their_params_are(
    one: dict[str, Any], other: dict[str, Any], first_id: object, second_id: object
) -> None:
    a, b = (
        json.dumps({"jsonrpc": "2.0", "id": i, "method": "m", "params": p}).encode()
        for i, p in ((first_id, one), (second_id, other))
    )
    assert (normalize_request(a) == normalize_request(b)) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


RESULT = b'{"tools": [{"ttlMs": 5}], "ttlMs" : 60000, "cacheScope":"public","x":1}'


@proves("CACHE-3")
def test_a_result_is_cut_where_its_lifetime_stands() -> None:
    found = parse_cacheable(RESULT)
    assert found is not None
    assert (found.ttl_ms, found.scope) == (60000, "public")
    assert b"".join(found.with_ttl(60000)) == RESULT
    assert b"".join(found.with_ttl(1)) == b'{"tools": [{"ttlMs": 5}], "ttlMs" : 1, "cacheScope":"public","x":1}'
    assert found.response("a\n", 7) == (
        b'{"jsonrpc":"2.0","id":"a\\n","result":{"tools": [{"ttlMs": 5}], "ttlMs" : 7, "cacheScope":"public","x":1}}'
    )


@proves("CACHE-3")
@pytest.mark.parametrize(
    "result",
    [
        b'{"tools":[]}',
        b'{"ttlMs":0}',
        b'{"ttlMs":-1}',
        b'{"ttlMs":"60000"}',
        b'{"ttlMs":null}',
        b'{"ttlMs":1.5}',
        b'{"ttlMs":5,"ttlMs":6}',
        b'{"ttlMs":5,"TTLMS":6}',
        b'{"ttlMs":5,"resultType":"input_required"}',
        b"[]",
        b"",
    ],
)
def test_a_result_that_does_not_say_for_how_long_is_not_kept(result: bytes) -> None:
    assert parse_cacheable(result) is None
    assert parse_freshness(result) == (0, "private")


@proves("CACHE-3")
@pytest.mark.parametrize("scope", [b"", b',"cacheScope":"private"', b',"cacheScope":"shared"'])
def test_a_scope_that_is_not_public_is_private(scope: bytes) -> None:
    assert parse_freshness(b'{"ttlMs":5%b}' % scope) == (5, "private")


def test_the_result_of_a_response_is_its_very_bytes() -> None:
    assert find_result(b'{"id": 1, "result" : {"a" : 1.50 } , "jsonrpc":"2.0"}') == b'{"a" : 1.50 }'
    assert find_result(b'{"id":1,"error":{"code":1}}') is None
    assert find_result(b'[{"id":1,"result":{}}]') is None
    assert find_result(b"<html>") is None
