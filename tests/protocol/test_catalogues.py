"""Lists of backends: what is read of them, what is dropped, and that renaming touches a name and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import _v2025_11_25 as legacy
from mcp_types import _v2026_07_28 as modern

from gateway.protocol.catalogues import LIST_METHODS, Kind, encode_page, keep_items, parse_page, rename_item
from gateway.protocol.results import Freshness, Malformed, ServerInfo
from gateway.protocol.versions import Era
from tests.protocol.texts import VALUES, objects_of
from tests.requirements import proves

NAME_KEYS = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}


@pytest.mark.parametrize(
    ("method", "kind", "result", "names"),
    [
        ("tools/list", Kind.TOOL, b'{"tools":[{"name":"add"},{"name":"sub"}]}', ["add", "sub"]),
        ("prompts/list", Kind.PROMPT, b'{"prompts":[{"name":"greet"}]}', ["greet"]),
        ("resources/list", Kind.RESOURCE, b'{"resources":[{"name":"a","uri":"x://y"}]}', ["x://y"]),
        (
            "resources/templates/list",
            Kind.TEMPLATE,
            b'{"resourceTemplates":[{"name":"a","uriTemplate":"x://{y}"}]}',
            ["x://{y}"],
        ),
    ],
)
def test_each_list_has_its_own_key_and_name(method: str, kind: Kind, result: bytes, names: list[str]) -> None:
    page = parse_page(LIST_METHODS[method], result)
    assert LIST_METHODS[method] is kind
    assert ([item.name for item in page.items], page.dropped) == (names, 0)


def test_a_page_says_where_it_goes_on_and_how_long_it_holds() -> None:
    page = parse_page(Kind.TOOL, b'{"tools":[],"nextCursor":"b","ttlMs":60000,"cacheScope":"public","x":1}')
    assert (page.items, page.next_cursor, page.freshness) == ((), "b", Freshness(60000, "public"))


@pytest.mark.parametrize("said", ["", ',"nextCursor":null', ',"nextCursor":""'])
def test_a_page_without_cursor_or_with_an_empty_one_is_the_last(said: str) -> None:
    page = parse_page(Kind.TOOL, f'{{"tools":[]{said}}}'.encode())
    assert (page.next_cursor, page.freshness) == (None, Freshness(0, "private"))


@proves("AGG-5")
@pytest.mark.parametrize(
    ("item", "why"),
    [
        ('{"title":"no name"}', "no name"),
        ('{"name":7}', "a name that is no string"),
        ('{"name":null}', "no name either"),
        ('{"name":"a","name":"b"}', "two names"),
        ('{"name":"a","Name":"b"}', "a name that Go reads last"),
        ('{"name":"a","n\\u0061me":"b"}', "two names, one escaped"),
        ('{"x":1,"name":"a","x":2}', "a key twice: readers differ on what is read first"),
        ('["name","a"]', "no object"),
        ('"name"', "text"),
        ("null", "nothing"),
    ],
)
def test_an_entry_that_nobody_could_call_by_one_name_is_dropped_and_counted(item: str, why: str) -> None:
    page = parse_page(Kind.TOOL, f'{{"tools":[{{"name":"good"}},{item},{{"name":"too"}}]}}'.encode())
    assert ([i.name for i in page.items], page.dropped) == (["good", "too"], 1), why


@proves("AGG-5")
@pytest.mark.parametrize(
    "result",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"tools":null}',
        b'{"tools":{}}',
        b'{"prompts":[]}',
        b'{"tools":[}',
        b'{"tools":[],"nextCursor":7}',
        b'{"tools":[{"name":"\xff"}]}',
        b'{"tools":[{"name":"\\ud800"}]}',
        b'{"tools":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_list_is_malformed(result: bytes) -> None:
    with pytest.raises(Malformed):
        parse_page(Kind.TOOL, result)


UNTOUCHED = (
    b'{ "title" : "Adds", "n\\u0061me"\t:\n"add" ,"big":12345678901234567890123,"e":1.0e5,"_meta":{"b":1,"a":{"name":"add"}},'
    b'"inputSchema":{"properties":{"name":{"type":"string"},"name":{"type":"number"}}},"icons":[{"src":"\\u0041\\/"}]}'
)


@proves("AGG-3")
def test_every_byte_but_the_names_survives() -> None:
    page = parse_page(Kind.TOOL, b'{"tools":[' + UNTOUCHED + b"]}")
    assert [rename_item(item, "math__add") for item in page.items] == [
        UNTOUCHED.replace(b'\n"add"', b'\n"math__add"', 1)
    ]
    assert [rename_item(item, "add") for item in page.items] == [UNTOUCHED]


def test_of_a_resource_only_the_uri_is_replaced() -> None:
    page = parse_page(Kind.RESOURCE, b'{"resources":[{"name":"x://y","uri":"x://y","title":"x://y"}]}')
    assert rename_item(page.items[0], "d+x://y") == b'{"name":"x://y","uri":"d+x://y","title":"x://y"}'


@proves("AGG-3")
@given(st.data(), st.sampled_from(Kind), st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.text(), st.text())
def test_renaming_there_and_back_gives_the_same_bytes(
    data: st.DataObject, kind: Kind, others: dict[str, Any], name: str, shown: str
) -> None:
    key = NAME_KEYS[kind]
    pairs = [(other, value) for other, value in others.items() if other.casefold() != key.casefold()]
    raw = data.draw(objects_of(data.draw(st.permutations([*pairs, (key, name)])))).encode()
    (item,) = parse_page(kind, encode_page(kind, [raw], Era.LEGACY)).items
    assert (item.name, item.raw) == (name, raw)
    renamed = rename_item(item, shown)
    assert json.loads(renamed) == json.loads(raw) | {key: shown}
    (back,) = parse_page(kind, encode_page(kind, [renamed], Era.LEGACY)).items
    assert json.loads(rename_item(back, name)) == json.loads(raw)
    assert len(rename_item(back, name)) - len(json.dumps(name)) <= len(raw)


RESULTS: dict[Kind, tuple[Any, Any]] = {
    Kind.TOOL: (legacy.ListToolsResult, modern.ListToolsResult),
    Kind.PROMPT: (legacy.ListPromptsResult, modern.ListPromptsResult),
    Kind.RESOURCE: (legacy.ListResourcesResult, modern.ListResourcesResult),
    Kind.TEMPLATE: (legacy.ListResourceTemplatesResult, modern.ListResourceTemplatesResult),
}
ITEMS = {
    Kind.TOOL: b'{"name":"a","inputSchema":{"type":"object"}}',
    Kind.PROMPT: b'{"name":"a"}',
    Kind.RESOURCE: b'{"name":"a","uri":"x://y"}',
    Kind.TEMPLATE: b'{"name":"a","uriTemplate":"x://{y}"}',
}


@pytest.mark.parametrize("kind", Kind)
def test_a_page_of_ours_is_what_either_era_of_the_specification_has(kind: Kind) -> None:
    of_legacy, of_modern = RESULTS[kind]
    made = {
        era: encode_page(
            kind,
            [ITEMS[kind]],
            era,
            next_cursor="c",
            freshness=Freshness(60000, "public"),
            server=ServerInfo("gateway", "1.2"),
            left_out={"math": "timed_out"},
        )
        for era in Era
    }
    of_legacy.model_validate_json(made[Era.LEGACY])
    of_modern.model_validate_json(made[Era.MODERN])
    left_out = {"mcp-stateless-gateway/leftOut": {"math": "timed_out"}}
    told = json.loads(made[Era.LEGACY])
    (items,) = (value for value in told.values() if isinstance(value, list))
    assert items == [json.loads(ITEMS[kind])]
    assert {key: value for key, value in told.items() if value is not items} == {"nextCursor": "c", "_meta": left_out}
    told = json.loads(made[Era.MODERN])
    assert {key: value for key, value in told.items() if not isinstance(value, list)} == {
        "nextCursor": "c",
        "resultType": "complete",
        "ttlMs": 5000,
        "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "gateway", "version": "1.2"}, **left_out},
    }


def test_a_page_from_which_nobody_is_missing_says_so_by_saying_nothing() -> None:
    assert encode_page(Kind.TOOL, [b"1"], Era.LEGACY, left_out={}) == b'{"tools":[1]}'
    assert json.loads(encode_page(Kind.TOOL, [], Era.MODERN, freshness=Freshness(60000, "public"))) == {
        "tools": [],
        "resultType": "complete",
        "ttlMs": 60000,
        "cacheScope": "public",
    }


@proves("GRANT-3")
@pytest.mark.parametrize(
    "result",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tools":{}}',
        b'{"tools":[],"tools":[]}',
        b'{"tools":[],"Tools":[]}',
        b'{"tools":[],"cachescope":1}',
    ],
)
def test_what_is_no_list_for_sure_can_not_lose_items(result: bytes) -> None:
    with pytest.raises(Malformed):
        keep_items(Kind.TOOL, result, lambda _: True)


@proves("GRANT-3")
@given(st.lists(st.text(max_size=5), max_size=5), st.sets(st.integers(0, 4)), st.sampled_from([b"", b" "]))
def test_items_that_are_kept_are_kept_whole(names: list[str], kept: set[int], space: bytes) -> None:
    raws = [json.dumps({"name": f"{number}{name}", "x": name}).encode() for number, name in enumerate(names)]
    told = b'{"tools":%b[%b],"n":1}' % (space, (space + b",").join(raws))
    left = keep_items(Kind.TOOL, told, lambda name: int(name[0]) in kept)
    assert left == b'{"tools":%b[%b],"n":1}' % (space, b",".join(raw for n, raw in enumerate(raws) if n in kept))
