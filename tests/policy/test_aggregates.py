"""Names of several backends' things: made alike everywhere, read back whole, and never two alike."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.aggregates import (
    Aggregate,
    Globs,
    Local,
    Member,
    expose,
    expose_all,
    expose_uri,
    max_prefix_length,
    permits,
    read_prefix,
    spell_scheme,
)
from gateway.protocol.catalogues import Kind
from tests.requirements import proves

ECHO, MATH, DOCS = Member("echo", "echo"), Member("math", "math", is_bare=True), Member("docs", "d_1")


def of(*members: Member, **told: Any) -> Aggregate:
    return Aggregate("all", "/", members, **told)


ALL = of(ECHO, MATH, DOCS)


@proves("AGG-1")
@pytest.mark.parametrize(
    ("member", "name", "shown"),
    [
        (ECHO, "say", "echo__say"),
        (DOCS, "say", "d_1__say"),
        (ECHO, "", "echo__"),
        (ECHO, "_x", "echo___x"),
        (ECHO, "math__add", "echo__math__add"),
        (ECHO, "grüßen", "echo__grüßen"),
        (ECHO, "a" * 42, "echo__" + "a" * 42),
        (ECHO, "a" * 43, "echo__" + "a" * 33 + "_06557989"),
        (ECHO, "a" * 44, "echo__" + "a" * 33 + "_76472c5d"),
        # looks shortened, is not: so it is shortened
        (ECHO, "a" * 33 + "_06557989", "echo__" + "a" * 33 + "_1f9bc5fb"),
        (ECHO, "\ud800" + "a" * 60, "echo__\ud800" + "a" * 32 + "_7be8c025"),
    ],
)
def test_a_name_is_the_same_on_every_replica_and_across_restarts(member: Member, name: str, shown: str) -> None:
    assert expose(ALL, member, name) == shown


def test_a_name_of_exactly_the_limit_is_whole_unless_it_looks_shortened() -> None:
    aggregate = of(ECHO, name_limit=24)
    whole, odd = "a" * 18, "a" * 9 + "_0123abcd"
    assert expose(aggregate, ECHO, whole) == f"echo__{whole}"
    assert read_prefix(aggregate, Kind.TOOL, f"echo__{whole}") == Local(ECHO, whole)
    shown = expose(aggregate, ECHO, odd)
    assert len(shown) == 24
    assert shown != f"echo__{odd}"
    assert read_prefix(aggregate, Kind.TOOL, shown) == Local(ECHO, shown[6:], is_shortened=True)


@pytest.mark.parametrize(
    ("shown", "local"),
    [
        ("echo__say", Local(ECHO, "say")),
        ("math__add", Local(MATH, "add")),  # also under its prefix, though it is shown without
        ("d_1__a__b", Local(DOCS, "a__b")),
        ("echo___x", Local(ECHO, "_x")),
        ("echo__", Local(ECHO, "")),
        ("add", None),
        ("echo", None),
        ("echo_say", None),
        ("Echo__say", None),
        ("docs__say", None),  # its prefix is another
        ("__say", None),
        ("", None),
    ],
)
def test_a_prefix_is_read_whole_or_not_at_all(shown: str, local: Local | None) -> None:
    assert read_prefix(ALL, Kind.TOOL, shown) == read_prefix(ALL, Kind.PROMPT, shown) == local


@pytest.mark.parametrize(
    ("prefix", "scheme"),
    [("docs", "docs"), ("d_1", "d.1"), ("My-Docs", "my-docs"), ("1st", "n..1st"), ("-x", "n..-x"), ("n-1st", "n-1st")],
)
def test_what_marks_a_uri_is_what_a_scheme_may_begin_with(prefix: str, scheme: str) -> None:
    assert spell_scheme(prefix) == scheme
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme)


@pytest.mark.parametrize(
    ("shown", "local"),
    [
        ("echo+file:///a", Local(ECHO, "file:///a")),
        ("d.1+git+ssh://a+b", Local(DOCS, "git+ssh://a+b")),
        ("ECHO+file:///a", Local(ECHO, "file:///a")),  # a client may spell a scheme as it likes
        ("git+ssh://a", None),
        ("file:///a+b", None),
        ("d_1+file:///a", None),
        ("echo", None),
    ],
)
def test_the_prefix_of_a_uri_is_read_whatever_its_case(shown: str, local: Local | None) -> None:
    assert read_prefix(ALL, Kind.RESOURCE, shown) == read_prefix(ALL, Kind.TEMPLATE, shown) == local


def shown_of(kind: Kind, aggregate: Aggregate, *lists: list[str]) -> tuple[list[str], set[str]]:
    shown, doubled = expose_all(aggregate, kind, zip(aggregate.members, lists, strict=True))
    return list(shown.values()), set(doubled)


def test_bare_names_are_shown_as_they_are_and_others_with_their_prefix() -> None:
    assert shown_of(Kind.TOOL, ALL, ["say"], ["add"], ["read"]) == (["echo__say", "add", "d_1__read"], set())


@proves("AGG-2")
def test_two_bare_names_that_are_alike_both_get_their_prefix() -> None:
    both = of(Member("a", "a", is_bare=True), Member("b", "b", is_bare=True))
    assert shown_of(Kind.TOOL, both, ["x", "y"], ["x"]) == (["a__x", "y", "b__x"], {"x"})


def test_a_bare_name_like_a_prefixed_members_is_no_double() -> None:
    assert shown_of(Kind.TOOL, ALL, ["x"], ["x"], ["x"]) == (["echo__x", "x", "d_1__x"], set())


def test_a_bare_name_that_reads_as_anothers_under_its_prefix_gets_its_own() -> None:
    assert shown_of(Kind.TOOL, ALL, ["say"], ["echo__say", "math__x", "other__x"], []) == (
        ["echo__say", "math__echo__say", "math__math__x", "other__x"],
        set(),
    )


def test_a_bare_name_beyond_the_limit_is_shortened_under_its_prefix() -> None:
    ((shown,), _) = shown_of(Kind.TOOL, of(MATH), ["a" * 49])
    assert shown.startswith("math__aaa")
    assert len(shown) == 48


def test_resources_keep_their_uris_unless_two_have_the_same() -> None:
    assert shown_of(Kind.RESOURCE, ALL, ["file:///a", "x://1"], ["file:///a"], ["docs+x://1", "echo+x://1"]) == (
        ["echo+file:///a", "x://1", "math+file:///a", "docs+x://1", "d.1+echo+x://1"],
        {"file:///a"},
    )


def test_a_name_that_one_member_lists_twice_is_no_double() -> None:
    assert shown_of(Kind.TOOL, of(MATH), ["x", "x"]) == (["x"], set())


PREFIXES = st.sampled_from(["a", "b", "a_b", "a-b", "A_b_c", "1", "n", "n-1", "-", "0_0", "p" * 13])
ENDS = st.sampled_from(["", "_", "_0123abcd", "_ffffffff", "__", "_0123abc"])
NAMES = st.text(max_size=60) | st.builds("{}{}".format, st.text("ab_", max_size=50), ENDS)
MEMBERS = st.lists(
    st.tuples(PREFIXES, st.booleans()), min_size=1, max_size=4, unique_by=lambda told: spell_scheme(told[0])
).map(lambda told: tuple(Member(f"b{n}", prefix, is_bare) for n, (prefix, is_bare) in enumerate(told)))
AGGREGATES = st.builds(Aggregate, st.just("all"), st.just("/"), MEMBERS, name_limit=st.sampled_from([24, 25, 48, 128]))


@proves("AGG-1")
@given(AGGREGATES, st.data())
def test_naming_is_total_and_reversible(aggregate: Aggregate, data: st.DataObject) -> None:
    member, name = data.draw(st.sampled_from(aggregate.members)), data.draw(NAMES)
    shown = expose(aggregate, member, name)
    assert len(shown) <= aggregate.name_limit
    local = read_prefix(aggregate, Kind.TOOL, shown)
    assert local is not None
    assert local.member == member
    assert local.is_shortened or local.name == name
    assert read_prefix(aggregate, Kind.RESOURCE, expose_uri(member, name)) == Local(member, name)


@proves("AGG-2")
@given(AGGREGATES, st.sampled_from(Kind), st.data())
def test_no_two_things_are_shown_alike_and_each_is_found_again(
    aggregate: Aggregate, kind: Kind, data: st.DataObject
) -> None:
    prefixed = st.builds(
        "{}{}{}".format, st.sampled_from([m.prefix for m in aggregate.members]), st.sampled_from(["__", "+"]), NAMES
    )
    lists = [
        (member, data.draw(st.lists(NAMES | prefixed | st.sampled_from(["x", "y"])))) for member in aggregate.members
    ]
    shown, doubled = expose_all(aggregate, kind, lists)
    assert set(shown) == {(member.backend, name) for member, names in lists for name in names}
    assert len(set(shown.values())) == len(shown)
    for (backend, name), text in shown.items():
        local = read_prefix(aggregate, kind, text)
        if local is None:
            assert text == name
            assert name not in doubled
        else:
            assert local.member.backend == backend
            assert local.is_shortened or local.name == name


@given(st.integers(24, 128), st.text(min_size=1))
def test_the_longest_prefix_can_be_read_from_the_shortest_names(limit: int, name: str) -> None:
    member = Member("a", "p" * max_prefix_length(limit))
    local = read_prefix(aggregate := of(member, name_limit=limit), Kind.TOOL, expose(aggregate, member, name))
    assert local is not None
    assert local.member == member


@pytest.mark.parametrize(
    ("globs", "name", "is_matched"),
    [
        (("*",), "say", True),
        ((), "say", False),
        (("echo__say",), "say", True),
        (("echo__*",), "say", True),
        (("math__*", "echo__s?y"), "say", True),
        (("echo__[rs]ay",), "say", True),
        (("say",), "say", False),
        (("ECHO__*",), "say", False),
        (("echo__a*",), "say", False),
        (("echo__*",), "a\nb", True),
    ],
)
def test_patterns_are_matched_against_backend_and_name(globs: tuple[str, ...], name: str, is_matched: bool) -> None:
    assert permits(of(ECHO, allow=Globs(tools=globs)), ECHO, Kind.TOOL, name) is is_matched
    assert permits(of(ECHO, deny=Globs(tools=globs)), ECHO, Kind.TOOL, name) is not is_matched


@proves("AGG-7")
def test_deny_stands_over_allow_and_each_kind_has_its_own() -> None:
    aggregate = of(DOCS, allow=Globs(("*",), (), ("docs__file:///public/*",)), deny=Globs(tools=("docs__drop",)))
    assert not permits(aggregate, DOCS, Kind.TOOL, "drop")
    assert permits(aggregate, DOCS, Kind.TOOL, "read")  # by the backend's name, whatever its prefix
    assert not permits(aggregate, DOCS, Kind.PROMPT, "read")
    for kind in (Kind.RESOURCE, Kind.TEMPLATE):
        assert permits(aggregate, DOCS, kind, "file:///public/{x}")
        assert not permits(aggregate, DOCS, kind, "file:///private/x")


def test_what_is_made_of_an_aggregate_for_reading_is_no_part_of_it() -> None:
    read, fresh = of(ECHO), of(ECHO)
    assert read_prefix(read, Kind.TOOL, "echo__a") == Local(ECHO, "a")
    assert read_prefix(read, Kind.RESOURCE, "echo+x:y") == Local(ECHO, "x:y")
    assert (read, msgspec.json.encode(read)) == (fresh, msgspec.json.encode(fresh))
    other = msgspec.structs.replace(read, members=(MATH,))
    assert read_prefix(other, Kind.TOOL, "echo__a") is None
