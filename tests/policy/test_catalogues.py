"""What all members list, as one list: in order, once each, less what isn't permitted; and whose each name is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.aggregates import Aggregate, Globs, Local, Member
from gateway.policy.catalogues import Catalogue, find_shown, match_template, merge_lists
from gateway.protocol.catalogues import Item, Kind, encode_page, parse_page
from gateway.protocol.pages import Entry
from gateway.protocol.versions import Era
from tests.requirements import proves

ECHO, MATH, DOCS = Member("echo", "echo"), Member("math", "math", is_bare=True), Member("docs", "d", is_bare=True)
ALL = Aggregate("all", "/", (ECHO, MATH, DOCS))
KEYS = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}


def items_of(kind: Kind, *names: str) -> tuple[Item, ...]:
    """As a backend lists them, each with its place as description."""
    raws = [json.dumps({KEYS[kind]: name, "description": n}).encode() for n, name in enumerate(names)]
    return parse_page(kind, encode_page(kind, raws, Era.LEGACY)).items


def merged(kind: Kind, aggregate: Aggregate = ALL, **lists: list[str]) -> Catalogue:
    members = {member.backend: member for member in aggregate.members}
    return merge_lists(aggregate, kind, [(members[name], items_of(kind, *names)) for name, names in lists.items()])


def test_lists_are_merged_in_order_under_the_names_that_clients_see() -> None:
    catalogue = merged(Kind.TOOL, echo=["say", "add"], math=["add", "sub"], docs=["add"])
    assert catalogue == Catalogue(
        (
            Entry("echo", "say", "echo__say", b'{"name": "echo__say", "description": 0}'),
            Entry("echo", "add", "echo__add", b'{"name": "echo__add", "description": 1}'),
            Entry("math", "add", "math__add", b'{"name": "math__add", "description": 0}'),
            Entry("math", "sub", "sub", b'{"name": "sub", "description": 1}'),
            Entry("docs", "add", "d__add", b'{"name": "d__add", "description": 0}'),
        ),
        {
            "echo__say": Local(ECHO, "say"),
            "echo__add": Local(ECHO, "add"),
            "math__add": Local(MATH, "add"),
            "sub": Local(MATH, "sub"),
            "d__add": Local(DOCS, "add"),
        },
        frozenset({"add"}),
        0,
    )


def test_what_a_member_lists_twice_is_shown_once_and_counted() -> None:
    catalogue = merged(Kind.TOOL, math=["add", "add", "sub"])
    assert ([entry.raw for entry in catalogue.entries], catalogue.dropped) == (
        [b'{"name": "add", "description": 0}', b'{"name": "sub", "description": 2}'],
        1,
    )


@proves("AGG-7")
def test_what_is_not_permitted_is_not_there_and_collides_with_nothing() -> None:
    aggregate = Aggregate("all", "/", (MATH, DOCS), deny=Globs(tools=("docs__*",)))
    catalogue = merged(Kind.TOOL, aggregate, math=["add"], docs=["add", "read"])
    assert (list(catalogue.locals), catalogue.doubled, catalogue.dropped) == (["add"], frozenset(), 0)


def test_a_member_that_is_missing_takes_nobodys_name_with_it() -> None:
    assert list(merged(Kind.TOOL, docs=["add"]).locals) == ["add"]
    assert merged(Kind.TOOL) == Catalogue((), {}, frozenset(), 0)


@pytest.mark.parametrize(
    ("shown", "local"),
    [
        ("sub", Local(MATH, "sub")),
        ("add", None),  # two have it: it is known by its prefixed names only
        ("math__add", Local(MATH, "add")),
        ("d__add", Local(DOCS, "add")),
        ("echo__unlisted", Local(ECHO, "unlisted")),  # what isn't listed may still be there
        ("unlisted", None),
    ],
)
def test_a_name_is_found_by_its_prefix_or_in_the_list(shown: str, local: Local | None) -> None:
    catalogue = merged(Kind.TOOL, echo=["say"], math=["add", "sub"], docs=["add"])
    assert find_shown(ALL, Kind.TOOL, shown, catalogue) == local


def test_a_shortened_name_is_found_in_the_list_alone() -> None:
    catalogue = merged(Kind.TOOL, echo=["a" * 60, "a" * 61])
    one, other = catalogue.locals
    assert find_shown(ALL, Kind.TOOL, one, catalogue) == Local(ECHO, "a" * 60)
    assert find_shown(ALL, Kind.TOOL, other, catalogue) == Local(ECHO, "a" * 61)
    assert find_shown(ALL, Kind.TOOL, one[:-1] + "x", catalogue) == Local(ECHO, one[6:-1] + "x")  # not a digest: whole
    assert find_shown(ALL, Kind.TOOL, f"{one[:-8]}00000000", catalogue) is None


NAMES = st.sampled_from(["x", "y", "z", "echo__x", "math__x", "d+x", "math+y", "a" * 60, "b" * 60])


@proves("AGG-4")
@given(st.sampled_from(Kind), st.lists(st.lists(NAMES, max_size=5), min_size=3, max_size=3))
def test_whatever_is_shown_is_found_again_and_nothing_is_lost(kind: Kind, lists: list[list[str]]) -> None:
    catalogue = merged(kind, **dict(zip(("echo", "math", "docs"), lists, strict=True)))
    told = [
        (b, name) for b, names in zip(("echo", "math", "docs"), lists, strict=True) for name in dict.fromkeys(names)
    ]
    assert [(entry.backend, entry.name) for entry in catalogue.entries] == told
    assert len(told) + catalogue.dropped == sum(map(len, lists))
    for entry in catalogue.entries:
        local = find_shown(ALL, kind, entry.shown, catalogue)
        assert local is not None
        assert (local.member.backend, local.name) == (entry.backend, entry.name)
        assert json.loads(entry.raw)[KEYS[kind]] == entry.shown


@pytest.mark.parametrize(
    ("uri", "owner"),
    [
        ("file:///a", MATH),
        ("file:///logs/a", DOCS),  # the more telling template
        ("file:///", MATH),
        ("db://t/1/r/2", DOCS),
        ("db://t/1/2", None),
        ("db://t//r/", DOCS),
        ("db://t/r/", None),
        ("x://whole", ECHO),
        ("x://whole/", None),
        ("search?q=a", ECHO),
        ("p--q--r", ECHO),
        ("p--q", None),
        ("abc-cba", ECHO),
        ("abcba", None),  # what is before the expression can't be what is behind it
        ("other", None),
        ("", None),
    ],
)
def test_a_resource_that_nobody_lists_is_the_one_whose_template_makes_it(uri: str, owner: Member | None) -> None:
    catalogue = merged(
        Kind.TEMPLATE,
        echo=["x://whole", "search{?q}", "both://{x}", "p{a}--{b}--{c}", "abc{x}cba"],
        math=["file:///{path}", "both://{x}"],
        docs=["file:///logs/{+path}", "db://t/{table}/r/{row}"],
    )
    assert match_template(catalogue, uri) == (None if owner is None else Local(owner, uri))
    assert match_template(catalogue, "both://1") is None  # shown under prefixes, which such a URI would have


def test_a_template_can_not_make_matching_slow() -> None:
    catalogue = merged(Kind.TEMPLATE, echo=["{a}x" * 40 + "!"])
    assert match_template(catalogue, "x" * 100_000) is None
