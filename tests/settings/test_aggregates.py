"""Several backends as one server: what may be told of it, what it means, and every way in which it can't be served."""

from pathlib import Path

import pytest

from gateway.policy.aggregates import Aggregate, Globs, Member
from gateway.settings.settings import doubts, restart_needed
from tests.requirements import proves
from tests.settings.files import mistakes, read


def backends(*names: str, **eras: str) -> str:
    """A line for each; an era where one is named."""
    lines = [f"  {name}: {{endpoints: [http://localhost:1]}}\n" for name in names]
    lines += [f"  {name}: {{endpoints: [http://localhost:1], era: {era}}}\n" for name, era in eras.items()]
    return "".join(["backends:\n", *lines])


ECHO_AND_MATH = backends("echo", "math")  # lines 1 to 3
ECHO, MATH = Member("echo", "echo"), Member("math", "math")


def aggregate(directory: Path, told: str, before: str = ECHO_AND_MATH) -> Aggregate:
    return read(directory, f"{before}aggregates: {{all: {told}}}\n").site.aggregates["all"]


@pytest.mark.parametrize("told", ["{}", "{backends: all}", "{backends: [echo, math]}", "{backends: 'echo, math'}"])
def test_all_backends_are_meant_unless_some_are_named(tmp_path: Path, told: str) -> None:
    assert aggregate(tmp_path, told) == Aggregate("all", "/all", (ECHO, MATH))


def test_the_order_is_the_one_in_which_they_are_named(tmp_path: Path) -> None:
    assert aggregate(tmp_path, "{backends: [math, echo]}").members == (MATH, ECHO)


@pytest.mark.parametrize("off", ["off", "'off'", "false"])
@pytest.mark.parametrize("on", ["on", "true", "echo"])
def test_a_prefix_may_be_on_off_or_custom(tmp_path: Path, on: str, off: str) -> None:
    told = f"{{backends: [{{name: echo, prefix: {on}}}, {{name: math, prefix: {off}}}]}}"
    assert aggregate(tmp_path, told).members == (ECHO, Member("math", "math", is_bare=True))
    assert aggregate(tmp_path, "{backends: [{name: math, prefix: m-1_x}]}").members == (Member("math", "m-1_x"),)


def test_a_backend_without_prefix_needs_no_name_that_could_be_one(tmp_path: Path) -> None:
    told = "{backends: [{name: a.b__c, prefix: off}]}"
    assert aggregate(tmp_path, told, backends("a.b__c")).members == (Member("a.b__c", "a-b-c", is_bare=True),)


def test_one_list_of_patterns_is_for_tools_prompts_and_resources(tmp_path: Path) -> None:
    made = aggregate(tmp_path, "{allow: ['echo__*', math__add], deny: {tools: '*__drop', resources: []}}")
    both = ("echo__*", "math__add")
    assert (made.allow, made.deny) == (Globs(both, both, both), Globs(("*__drop",), (), ()))


def test_what_a_list_by_kind_does_not_tell_stays_allowed(tmp_path: Path) -> None:
    assert aggregate(tmp_path, "{allow: {tools: []}}").allow == Globs((), ("*",), ("*",))


def test_its_limits_arrive(tmp_path: Path) -> None:
    made = aggregate(tmp_path, "{mount: /a/b/, name_limit: 64, era: modern, deadline: 500ms}")
    assert (made.mount, made.name_limit, made.era, made.deadline_seconds) == ("/a/b", 64, "modern", 0.5)


def test_none_is_there_unless_it_is_configured(tmp_path: Path) -> None:
    assert read(tmp_path, ECHO_AND_MATH).site.aggregates == {}
    assert read(tmp_path, f"{ECHO_AND_MATH}aggregates:\n").site.aggregates == {}


def test_one_of_all_backends_is_nothing_while_there_are_none(tmp_path: Path) -> None:
    told = read(tmp_path, "aggregates: {all: {mount: /}}\n")
    assert (told.site.aggregates, told.site.routes) == ({}, {})
    assert "there are no backends: every request will be answered with 404" in doubts(told)


def test_a_hidden_backend_may_be_part_of_it(tmp_path: Path) -> None:
    site = read(tmp_path, "backends: {a: {endpoints: [http://b], mount: none}}\naggregates: {all: {mount: /}}\n").site
    assert list(site.routes) == ["/mcp", "/mcp/"]


def test_it_changes_without_a_restart_and_with_another_digest(tmp_path: Path) -> None:
    old = read(tmp_path, f"{ECHO_AND_MATH}aggregates: {{all: {{}}}}\n")
    new = read(tmp_path, f"{ECHO_AND_MATH}aggregates: {{all: {{backends: [math, echo]}}}}\n")
    assert restart_needed(old, new) == ()
    assert old.site.digest != new.site.digest


MISTAKES = {
    "no mapping": ("all: 5", "all", "5 must be a mapping"),
    "an unknown key": ("all: {backend: [echo]}", "all.backend", "did you mean `backends`?"),
    "a name": ("All: {}", "All", "an aggregate's name begins with a-z"),
    "backends as a mapping": ("all: {backends: {echo: a}}", "all.backends", "must be a list of backends, such as [echo"),
    "backends as a number": ("all: {backends: 7}", "all.backends", "must be a list of backends"),
    "no backends": ("all: {backends: []}", "all.backends", "is empty: name at least one backend, or write `all`"),
    "an unknown backend": ("all: {backends: [ehco]}", "all.backends[0]", "'ehco' is no backend: did you mean 'echo'?"),
    "a backend far from any": ("all: {backends: [echo, zzz]}", "all.backends[1]", "is no backend: known are echo, math"),
    "an unknown backend in a mapping": ("all: {backends: [{name: zzz}]}", "all.backends[0]", "'zzz' is no backend"),
    "a backend without name": ("all: {backends: [{prefix: a}]}", "all.backends[0]", "is missing: name one of the backends"),
    "a backend twice": ("all: {backends: [echo, math, echo]}", "all.backends[2]", "'echo' stands twice: remove one"),
    "an unknown key of a backend": ("all: {backends: [{name: echo, prefx: a}]}", "all.backends[0].prefx", "`prefix`?"),
    "a prefix with __": ("all: {backends: [{name: echo, prefix: a__b}]}", "all.backends[0].prefix", "single `_` between"),
    "a prefix with _ behind": ("all: {backends: [{name: echo, prefix: a_}]}", "all.backends[0].prefix", "'a_' must be"),
    "a prefix with a dot": ("all: {backends: [{name: echo, prefix: a.b}]}", "all.backends[0].prefix", "or `off`"),
    "an empty prefix": ("all: {backends: [{name: echo, prefix: ''}]}", "all.backends[0].prefix", "must be letters, digits"),
    "a number as prefix": ("all: {backends: [{name: echo, prefix: 7}]}", "all.backends[0].prefix", "must be text"),
    "a prefix too long": (
        "all: {name_limit: 24, backends: [{name: echo, prefix: fifteen-letters}, {name: math, prefix: fourteen-chars}]}",
        "all.backends[0].prefix",
        "is too long, with `name_limit: 24` it can have 14 characters",
    ),
    "another's prefix": (
        "all: {backends: [echo, {name: math, prefix: echo}]}", "all.backends[1].prefix", "is that of 'echo' already",
    ),
    "another's prefix in capitals": (
        "all: {backends: [echo, {name: math, prefix: ECHO}]}", "all.backends[1].prefix", "is that of 'echo' already",
    ),
    "another's prefix where it is off": (
        "all: {backends: [{name: echo, prefix: off}, {name: math, prefix: echo}]}", "all.backends[1].prefix", "of 'echo'",
    ),
    "a pattern that is a number": ("all: {allow: [1]}", "all.allow", "must be a list of patterns, such as [echo__*]"),
    "patterns by another kind": ("all: {deny: {tool: [a]}}", "all.deny.tool", "did you mean `tools`?"),
    "patterns that are a number": ("all: {allow: 5}", "all.allow", "must be a mapping"),
    "a small limit": ("all: {name_limit: 23}", "all.name_limit", "must be 24 or more"),
    "a large limit": ("all: {name_limit: 129}", "all.name_limit", "must be 128 or less"),
    "an unknown era": ("all: {era: dual}", "all.era", "must be 'auto', 'legacy' or 'modern'"),
    "no deadline": ("all: {deadline: 0}", "all.deadline", "must be a duration above 0"),
    "a hidden one": ("all: {mount: none}", "all.mount", "'none' must begin with \"/\""),
    "the root as it is served": ("all: {mount: /mcp}", "all.mount", "is where `mount: /` is served"),
    "a mount below the root's": ("all: {mount: /mcp/x}", "all.mount", "is where `mount: /` is served"),
    "a mount that hides a path": ("all: {mount: /health}", "all.mount", "would hide the gateway's own /health"),
    "a name that hides a path": ("metrics: {}", "metrics.mount", "own /metrics: choose another mount; add a `mount:`"),
    "a name that is the root's": ("mcp: {}", "mcp.mount", "is where `mount: /` is served"),
    "a backend's mount": ("all: {mount: /echo}", "all.mount", "/echo is served by `echo` already"),
    "a backend's name": ("echo: {}", "echo.mount", "/echo is served by `echo` already (gateway.yaml:2:3)"),
    "a mount inside a backend's paths": ("all: {mount: /echo/mcp}", "all.mount", "/echo/mcp is served by `echo`"),
    "one mount twice": ("a: {mount: /}, b: {mount: /}", "b.mount", "/mcp is served by `a` already (gateway.yaml:4:14)"),
}  # fmt: skip


@proves("AGG-9")
@pytest.mark.parametrize(("told", "key", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_line_key_and_mend(tmp_path: Path, told: str, key: str, message: str) -> None:
    found = mistakes(tmp_path, f"{ECHO_AND_MATH}aggregates: {{{told}}}\n")
    messages = [
        (p.key, p.message.replace(f"{tmp_path}/", "")) for p in found if p.line == 4 and p.key == f"aggregates.{key}"
    ]
    assert any(message in said for _, said in messages), found


def test_a_backend_that_stands_twice_is_told_once(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, f"{ECHO_AND_MATH}aggregates: {{all: {{backends: [echo, math, echo]}}}}\n")
    assert (found.key, found.column) == ("aggregates.all.backends[2]", 43)


@pytest.mark.parametrize("name", ["a.b", "a__b", "a_", "a-._b"])
def test_a_name_that_can_not_be_a_prefix_is_told_with_the_mend(tmp_path: Path, name: str) -> None:
    for told, key in (("{}", ""), (f"{{backends: [{name}]}}", "[0].prefix")):
        (found,) = mistakes(tmp_path, f"{backends(name)}aggregates: {{all: {told}}}\n")
        assert (found.line, found.key) == (3, f"aggregates.all.backends{key}")
        assert f"the name '{name}' can't be a prefix: give it a `prefix:`" in found.message
    assert aggregate(tmp_path, f"{{backends: [{{name: {name}, prefix: x}}]}}", backends(name)).members[0].prefix == "x"


def test_the_longest_prefix_leaves_room_for_a_digest(tmp_path: Path) -> None:
    name = "n" * 38
    assert aggregate(tmp_path, "{}", backends(name)).members[0].prefix == name
    (found,) = mistakes(tmp_path, f"{backends('n' * 39)}aggregates: {{all: {{}}}}\n")
    assert "with `name_limit: 48` it can have 38 characters: give it a shorter `prefix:`" in found.message


MIXED = backends("echo", old="legacy", older="legacy", new="modern")


@proves("AGG-9")
def test_one_that_mixes_eras_has_to_say_which_it_serves(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, f"{MIXED}aggregates: {{all: {{backends: [echo, old, new]}}}}\n")
    assert (found.line, found.key) == (6, "aggregates.all.backends")
    assert found.message == (
        "mixes backends that speak only legacy (old) and only modern (new) protocol versions: "
        "say which to serve with `era: legacy` or `era: modern`"
    )


@pytest.mark.parametrize(
    "told", ["{backends: [echo, old, older]}", "{backends: [echo, new]}", "{era: legacy}", "{era: modern}"]
)
def test_one_that_does_not_mix_eras_or_says_which_it_serves_is_fine(tmp_path: Path, told: str) -> None:
    assert aggregate(tmp_path, told, MIXED).members


def test_members_of_another_era_than_it_serves_are_doubted(tmp_path: Path) -> None:
    told = read(tmp_path, f"{MIXED}aggregates: {{all: {{era: legacy}}}}\n")
    assert list(doubts(told)) == ["aggregates.all: new is never there, it speaks only modern versions"]


def test_one_whose_era_no_member_speaks_is_refused(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, f"{MIXED}aggregates: {{all: {{backends: [old, older], era: modern}}}}\n")
    assert (found.key, found.message) == (
        "aggregates.all.era",
        "none of its backends speaks modern protocol versions: remove it",
    )


MANY = [f"b{number}" for number in range(33)]


@proves("AGG-9")
def test_a_legacy_session_names_thirty_two_backends_at_most(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, f"{backends(*MANY)}aggregates: {{all: {{}}}}\n")
    assert (found.key, found.message) == (
        "aggregates.all.backends",
        "has 33 backends, and a legacy session can name 32: split it, or serve modern clients only with `era: modern`",
    )
    assert len(aggregate(tmp_path, "{}", backends(*MANY[:32])).members) == 32
    assert len(aggregate(tmp_path, "{era: modern}", backends(*MANY)).members) == 33
    assert len(aggregate(tmp_path, "{}", backends(**dict.fromkeys(MANY, "modern"))).members) == 33


def test_what_is_known_to_be_wrong_of_a_backend_is_told_once(tmp_path: Path) -> None:
    text = "backends:\n  echo: 5\n  math: {endpoints: [http://b]}\naggregates: {all: {backends: [echo, math]}}\n"
    assert [p.key for p in mistakes(tmp_path, text)] == ["backends.echo"]
