"""Who may do what: what may be told of it, what it means, and every grant that can't be meant as it stands."""

from pathlib import Path

import pytest

from gateway.policy.grants import Audience, Grant, Grants
from gateway.policy.rules import EVERYTHING, NOTHING, Rules
from gateway.settings.settings import doubts
from tests.requirements import proves
from tests.settings.files import mistakes, read, write

BACKENDS = "backends:\n  echo: {endpoints: [http://localhost:1]}\n  math: {endpoints: [http://localhost:2]}\n"
ANYBODY = Audience(is_anybody=True)


def grants(directory: Path, *told: str) -> tuple[Grant, ...]:
    lines = "".join(f"  - {one}\n" for one in told)
    made = read(directory, f"{BACKENDS}grants:\n{lines}").site.grants
    assert made is not None
    return made.grants


def test_without_grants_there_are_none_and_an_empty_list_is_one_that_allows_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, BACKENDS).site.grants is None
    assert read(tmp_path, f"{BACKENDS}grants: []\n").site.grants == Grants(())


def test_a_grant_says_to_whom_where_and_what(tmp_path: Path) -> None:
    (made,) = grants(
        tmp_path,
        "{to: {principals: ['key a', b*], groups: support, scopes: [mcp:read]}, backends: [math], "
        "allow: {tools: 'add, sub', prompts: ['*'], resources: ['docs://a,b'], methods: [x/y]}, deny: {tools: [drop_*]}}",
    )
    assert made == Grant(
        to=Audience(("key a", "b*"), ("support",), ("mcp:read",)),
        backends=("math",),
        allow=Rules(("add", "sub"), ("*",), ("docs://a,b",), ("x/y",)),
        deny=Rules(("drop_*",)),
        key="grants[0]",
        place=f"{tmp_path}/gateway.yaml:5:5",
    )


@pytest.mark.parametrize("to", ["anybody", "{anybody: true}"])
@pytest.mark.parametrize("where", ["", ", backends: all", ", backends: '*'", ", backends: ['*']"])
@pytest.mark.parametrize("what", ["all", "{methods: '*'}"])
def test_the_short_forms_mean_what_the_long_ones_do(tmp_path: Path, to: str, where: str, what: str) -> None:
    (made,) = grants(tmp_path, f"{{to: {to}{where}, allow: {what}}}")
    assert (made.to, made.backends, made.allow, made.deny) == (ANYBODY, ("*",), EVERYTHING, NOTHING)


def test_a_list_alone_is_for_tools_prompts_and_resources(tmp_path: Path) -> None:
    (made,) = grants(tmp_path, "{to: anybody, allow: ['a*', b, 'x:*'], deny: '*b'}")
    assert made.allow == Rules(("a*", "b", "x:*"), ("a*", "b", "x:*"), ("a*", "x:*"))  # b is no URI
    assert made.deny == Rules(("*b",), ("*b",), ("*b",))


@proves("GRANT-6")
@pytest.mark.parametrize(
    ("grant", "key", "message"),
    [
        ("{allow: all}", "to", "is to nobody: name `principals`, `groups` or `scopes`, or write `to: anybody`"),
        ("{to: {}, allow: all}", "to", "is to nobody: name"),
        ("{to: {groups: []}, allow: all}", "to", "is to nobody: name"),
        ("{to: {anybody: false}, allow: all}", "to", "is to nobody: name"),
        (
            "{to: everybody, allow: all}",
            "to",
            "'everybody' must be `anybody`, or a mapping such as {groups: [support]}",
        ),
        ("{to: {anybody: true, groups: [a]}, allow: all}", "to.anybody", "stands beside those who are named"),
        ("{to: {group: [a]}, allow: all}", "to.group", "unknown key: did you mean `groups`?"),
        ("{to: {groups: 'a, b'}, allow: all}", "to.groups", "'a, b' has a comma: write a list, such as [a, b]"),
        ("{to: {groups: ['']}, allow: all}", "to.groups[0]", "'' can never match: it is empty"),
        (
            "{to: {principals: ['key a ']}, allow: all}",
            "to.principals[0]",
            "'key a ' can never match: it is empty, or has white",
        ),
        (
            "{to: {scopes: [a b]}, allow: all}",
            "to.scopes[0]",
            "'a b' can never match, scopes have no white space: write each",
        ),
        ("{to: anybody}", "", "has no effect: say what it allows or denies, under `allow:` or `deny:`"),
        ("{to: anybody, allow: {tools: []}, deny: []}", "", "has no effect: say"),
        (
            "{to: anybody, allow: {tools: [a], prompts: [b]}, deny: {tools: ['*']}}",
            "allow.tools",
            "has no effect: the same",
        ),
        (
            "{to: anybody, allow: {prompts: [b]}, deny: all}",
            "allow.prompts",
            "has no effect: the same grant denies all of it",
        ),
        (
            "{to: anybody, allow: {tools: [add], methods: [x/y, tools/*]}}",
            "allow.tools",
            "has no effect beside `methods`: 'tools/*' allows all tools; remove one of the two",
        ),
        ("{to: anybody, allow: [['a']]}", "allow", "must be `all`, a list of patterns, or such lists by `tools:`"),
        ("{to: anybody, allow: {tool: [a]}}", "allow.tool", "unknown key: did you mean `tools`?"),
        ("{to: anybody, allow: all, backends: []}", "backends", "is empty: name at least one backend, or write `all`"),
        ("{to: anybody, allow: all, backends: [mth]}", "backends[0]", "'mth' is no backend: did you mean 'math'?"),
        (
            "{to: anybody, allow: all, backends: [math, zzz]}",
            "backends[1]",
            "'zzz' is no backend: known are echo, math",
        ),
        ("{to: anybody, allow: all, backends: ['m?']}", "backends[0]", "'m?' fits no backend: known are echo, math"),
        (
            "{to: anybody, allow: {tools: ['']}}",
            "allow.tools[0]",
            "'' can never match: it is empty, or has white space",
        ),
        (
            "{to: anybody, deny: {prompts: ['[z-a]']}}",
            "deny.prompts[0]",
            "'[z-a]' can never match: a range in it is empty",
        ),
        (
            "{to: anybody, deny: {methods: [a b]}}",
            "deny.methods[0]",
            "'a b' can never match, methods have no white space",
        ),
        (
            "{to: anybody, deny: {resources: [docs]}}",
            "deny.resources[0]",
            "'docs' can never match: it is no URI, and no pattern",
        ),
        (
            "{to: anybody, deny: {resources: ['a:/../*']}}",
            "deny.resources[0]",
            "'a:/../*' can never match: URIs are compared",
        ),
    ],
)
def test_a_grant_that_can_not_be_meant_so_is_refused(tmp_path: Path, grant: str, key: str, message: str) -> None:
    (found,) = mistakes(tmp_path, f"{BACKENDS}grants:\n  - {grant}\n")
    assert (found.file, found.line, found.key) == ("gateway.yaml", 5, f"grants[0]{'.' if key else ''}{key}")
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("told", "message"),
    [("grants:\n", "has no value"), ("grants: {a: b}\n", "must be a list"), ("grants: [a]\n", "must be a mapping")],
)
def test_what_is_no_list_of_grants_is_refused(tmp_path: Path, told: str, message: str) -> None:
    (found,) = mistakes(tmp_path, BACKENDS + told)
    assert message in found.message


def test_a_backend_that_is_wrong_itself_is_not_said_to_be_unknown(tmp_path: Path) -> None:
    text = (
        "backends: {math: {endpoints: [ftp://a]}, B: {endpoints: [http://b]}}\n"
        "grants: [{to: anybody, backends: [math, B], allow: all}]\n"
    )
    assert [found.key for found in mistakes(tmp_path, text)] == ["backends.math.endpoints[0]", "backends.B"]


def test_what_is_probably_not_meant_is_said(tmp_path: Path) -> None:
    told = "grants:\n  - {to: {scopes: [s]}, deny: {tools: [math__add, x__y], methods: [tool/call, x/y, 'tools/*', tasks/get]}}\n"
    assert list(doubts(read(tmp_path, BACKENDS + told))) == [
        "grants: none allows anything, so that every request will be denied",
        "grants[0]: is to nobody as long as `auth` asks nobody who they are",
        "grants[0]: denies by `scopes`, which a client can leave out of its token: allow by scopes instead",
        "grants[0]: 'math__add' looks like an aggregate's name: a grant has the backend's own, 'add'",
        "grants[0]: the method 'tool/call' is unknown: did you mean 'tools/call'?",
    ]
    assert list(doubts(read(tmp_path, f"{BACKENDS}grants: [{{to: anybody, allow: all}}]\n"))) == []


# Files of teams


def team(name: str, *grants: str) -> str:
    lines = "".join(f"  - {one}\n" for one in grants)
    return f"backends:\n  {name}: {{endpoints: [http://{name}.localhost:1/mcp]}}\n" + (
        f"grants:\n{lines}" if grants else ""
    )


@proves("GRANT-7")
def test_an_included_file_grants_what_is_its_own(tmp_path: Path) -> None:
    write(tmp_path, team("a", "{to: anybody, backends: a, allow: all}"), "conf.d/a.yaml")
    write(tmp_path, team("b", "{to: anybody, backends: [b], deny: all}"), "conf.d/b.yaml")
    made = read(tmp_path, f"include: conf.d/*.yaml\n{team('own')}grants: [{{to: anybody, deny: [x]}}]\n").site.grants
    assert made is not None
    assert [(one.key, one.place.removeprefix(f"{tmp_path}/"), one.backends) for one in made.grants] == [
        ("grants[0]", "gateway.yaml:4:10", ("*",)),
        ("grants[1]", "conf.d/a.yaml:4:5", ("a",)),
        ("grants[2]", "conf.d/b.yaml:4:5", ("b",)),
    ]


@proves("GRANT-7")
@pytest.mark.parametrize(
    ("grant", "key", "message"),
    [
        (
            "{to: anybody, allow: all}",
            "grants[0].backends",
            "is missing: in an included file a grant names backends of that",
        ),
        (
            "{to: anybody, backends: [own], allow: all}",
            "grants[0].backends[0]",
            "'own' is no backend of this file: an included",
        ),
        (
            "{to: anybody, backends: ['a*'], deny: all}",
            "grants[0].backends[0]",
            "'a*' is a pattern: an included file grants",
        ),
        (
            "{to: anybody, backends: all, deny: all}",
            "grants[0].backends[0]",
            "'*' is a pattern: an included file grants",
        ),
    ],
)
def test_an_included_file_grants_nothing_else(tmp_path: Path, grant: str, key: str, message: str) -> None:
    write(tmp_path, team("a", grant), "conf.d/a.yaml")
    (found,) = mistakes(tmp_path, f"include: conf.d/*.yaml\n{team('own')}grants: []\n")
    assert (found.file, found.line, found.key) == ("conf.d/a.yaml", 4, key)
    assert found.message.startswith(message)


@proves("GRANT-7")
def test_an_included_file_can_not_end_that_everything_is_allowed(tmp_path: Path) -> None:
    write(tmp_path, team("a", "{to: anybody, backends: [a], allow: all}"), "conf.d/a.yaml")
    (found,) = mistakes(tmp_path, f"include: conf.d/*.yaml\n{team('own')}")
    assert (found.file, found.line, found.key) == ("conf.d/a.yaml", 4, "grants")
    assert found.message == (
        "are of no effect where the main file has none, and everything is allowed: "
        "write `grants: []` there, and nothing is allowed any more that no grant allows"
    )


def test_grants_of_an_included_file_that_are_no_list_are_refused(tmp_path: Path) -> None:
    write(tmp_path, f"{team('a')}grants: {{to: anybody}}\n", "conf.d/a.yaml")
    (found,) = mistakes(tmp_path, f"include: conf.d/*.yaml\n{team('own')}grants: []\n")
    assert (found.file, found.key, found.message) == ("conf.d/a.yaml", "grants", "must be a list (`- to: ...` lines)")


# The digest


def test_the_digest_tells_grants_and_not_where_they_stand(tmp_path: Path) -> None:
    told = [
        f"{BACKENDS}grants: [{{to: anybody, allow: all}}]\n",
        f"# the same\n{BACKENDS}grants:\n  - to: anybody\n    allow: all\n",
        f"{BACKENDS}grants: [{{to: anybody, allow: ['*']}}]\n",
        f"{BACKENDS}grants: []\n",
        BACKENDS,
    ]
    digests = [read(tmp_path, text).site.digest for text in told]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
