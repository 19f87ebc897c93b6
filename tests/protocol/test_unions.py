"""What several servers say of themselves, as one would: what any can, how to use each, versions that all speak."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types._v2025_11_25 import InitializeResult
from mcp_types._v2026_07_28 import DiscoverResult

from gateway.protocol.results import Freshness, Malformed, ServerInfo
from gateway.protocol.unions import (
    Introduction,
    join_instructions,
    merge_capabilities,
    merge_discover,
    merge_initialize,
    merge_versions,
    parse_discover,
    parse_initialize,
)
from tests.requirements import proves

GATEWAY = ServerInfo("mcp-stateless-gateway", "0.1.0")
ECHO = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":60000,"cacheScope":"public",'
    b'"capabilities":{"tools":{"listChanged":false},"logging":{}},"instructions":" Say it. "}'
)
MATH = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"public","capabilities":'
    b'{"tools":{"listChanged":true},"resources":{"subscribe":true},"extensions":{"io.modelcontextprotocol/tasks":{"x":[1]}}}}'
)


def test_a_discovery_is_read() -> None:
    assert parse_discover(ECHO) == Introduction(
        {"tools": {"listChanged": False}, "logging": {}}, "Say it.", ("2026-07-28",), Freshness(60000, "public")
    )


def test_several_discoveries_become_one() -> None:
    merged = merge_discover({"echo": parse_discover(ECHO), "math": parse_discover(MATH)}, GATEWAY)
    DiscoverResult.model_validate_json(merged)
    assert json.loads(merged) == {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {
            "tools": {"listChanged": True},
            "logging": {},
            "resources": {"subscribe": True},
            "extensions": {"io.modelcontextprotocol/tasks": {"x": [1]}},
        },
        "instructions": "# echo\n\nSay it.",
        "ttlMs": 60000,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "mcp-stateless-gateway", "version": "0.1.0"}},
    }


@proves("AGG-6")
def test_several_handshakes_become_one_and_who_is_missing_is_named() -> None:
    told = {
        "echo": parse_initialize(
            b'{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{},"instructions":"A"}'
        ),
        "math": parse_initialize(b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"instructions":"B\\n"}'),
    }
    assert told["echo"].versions == ("2025-06-18",)
    merged = merge_initialize(told, "2025-06-18", GATEWAY, {"weather": "unreachable"})
    InitializeResult.model_validate_json(merged)
    assert json.loads(merged) == {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "mcp-stateless-gateway", "version": "0.1.0"},
        "instructions": "# echo\n\nA\n\n# math\n\nB",
        "_meta": {"mcp-stateless-gateway/leftOut": {"weather": "unreachable"}},
    }


SPOKEN = b'"supportedVersions":["2026-07-28"],"protocolVersion":"2025-11-25"'


@pytest.mark.parametrize(
    "result",
    [
        b"",
        b"[]",
        b"{}",
        b'{"supportedVersions":["2026-07-28"],"protocolVersion":"2025-11-25"}',
        b'{"supportedVersions":["2026-07-28"],"protocolVersion":"2025-11-25","capabilities":[]}',
        b'{"supportedVersions":"2026-07-28","protocolVersion":7,"capabilities":{}}',
        b'{"supportedVersions":[7],"capabilities":{}}',
        b'{"capabilities":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b'{%b,"capabilities":%b1%b}' % (SPOKEN, b'{"a":' * 34, b"}" * 34),
        b'{"capabilities":{"a":' + b"9" * 5000 + b"}}",
        b'{"capabilities":{"a":"\xff"}}',
    ],
)
def test_what_is_no_introduction_is_malformed(result: bytes) -> None:
    for parse in (parse_discover, parse_initialize):
        with pytest.raises(Malformed):
            parse(result)


@pytest.mark.parametrize("instructions", [b"7", b"null", b'""', b'" \\n"'])
def test_instructions_that_say_nothing_are_none(instructions: bytes) -> None:
    told = parse_initialize(b'{"protocolVersion":"2025-11-25","capabilities":{},"instructions":' + instructions + b"}")
    assert told.instructions == ""
    assert "instructions" not in json.loads(merge_initialize({"echo": told}, "2025-11-25", GATEWAY))


@proves("AGG-6")
@pytest.mark.parametrize(
    ("each", "whole"),
    [
        ([], {}),
        ([{"tools": {}}, {"tools": {"listChanged": True}}], {"tools": {"listChanged": True}}),
        ([{"a": True}, {"a": False}], {"a": True}),
        ([{"a": False}, {"a": True}], {"a": True}),
        ([{"a": False}, {"a": {"b": 1}}], {"a": {"b": 1}}),
        ([{"a": {"b": 1}}, {"a": True}], {"a": {"b": 1}}),
        ([{"a": "x"}, {"a": "y"}], {"a": "x"}),
        ([{"a": None}, {"a": 7}], {"a": 7}),
        ([{"a": [1, 2]}, {"a": [2, 3]}], {"a": [1, 2, 3]}),
        ([{"experimental": {"x": {}}}, {"experimental": {"y": {}}}], {"experimental": {"x": {}, "y": {}}}),
    ],
)
def test_what_any_can_the_whole_can(each: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    assert merge_capabilities(each) == whole


def test_capabilities_may_be_nested_within_reason() -> None:
    deep = b'{"a":' * 32 + b"1" + b"}" * 32
    result = b'{"protocolVersion":"2025-11-25","capabilities":' + deep + b"}"
    assert merge_capabilities([parse_initialize(result).capabilities] * 2) == json.loads(deep)


FLAGS = st.recursive(st.booleans(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8).filter(
    lambda value: isinstance(value, dict)
)


@given(st.lists(FLAGS, max_size=4))
def test_merging_again_what_is_merged_changes_nothing(each: list[dict[str, Any]]) -> None:
    whole = merge_capabilities(each)
    assert merge_capabilities([whole, whole]) == whole
    for one in each:
        assert merge_capabilities([whole, one]) == whole


def test_instructions_stand_under_their_backends_names() -> None:
    assert join_instructions({"a": "One.", "b": "", "c": "Two.\nThree."}) == "# a\n\nOne.\n\n# c\n\nTwo.\nThree."


@pytest.mark.parametrize(
    ("each", "versions"),
    [
        ([["2026-07-28"]], ["2026-07-28"]),
        ([["2026-07-28", "2025-11-25"], ["2025-11-25", "2026-07-28"]], ["2025-11-25", "2026-07-28"]),
        ([["2026-07-28", "2027-05-01"], ["2026-07-28"]], ["2026-07-28"]),
        ([["2027-05-01"], ["2026-07-28"]], ["2026-07-28", "2027-05-01"]),
        ([["DRAFT", "2027-05-01", "2026-07-28"]], ["2026-07-28", "2027-05-01", "DRAFT"]),
        ([], []),
    ],
)
def test_versions_are_those_that_all_speak_else_those_that_any_does(each: list[list[str]], versions: list[str]) -> None:
    assert merge_versions(each) == versions


def test_that_tasks_can_be_listed_is_not_said_for_all() -> None:
    told = Introduction({"tasks": {"list": {}, "cancel": {}}}, "", ("2025-11-25",))
    result = json.loads(merge_initialize({"a": told}, "2025-11-25", ServerInfo("gateway", "1")))
    assert result["capabilities"] == {"tasks": {"cancel": {}}}
