"""Who may do what: by tables, and by any grants in any order."""

import itertools
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.explanations import Explanation, explain
from gateway.policy.filters import filter_result
from gateway.policy.grants import MAX_PERMITS, Audience, Grant, Grants, permit_for, scopes_for
from gateway.policy.identities import ANONYMOUS, Identity
from gateway.policy.permits import TOTAL, Permit
from gateway.policy.rules import EVERYTHING, NOTHING, Rules
from gateway.protocol.catalogues import Kind
from tests.requirements import proves

ANYBODY = Audience(is_anybody=True)
ALICE = Identity("https://idp.test alice", frozenset({"support"}), frozenset({"mcp:read", "mcp:list"}))


def grant(
    *, allow: Rules = NOTHING, deny: Rules = NOTHING, to: Audience = ANYBODY, at: str = "*", key: str = ""
) -> Grant:
    return Grant(to, (at,), allow, deny, key, f"gateway.yaml:{key[7:-1]}" if key else "")


def permit(*grants: Grant, identity: Identity = ALICE, backend: str = "math") -> Permit:
    return permit_for(Grants(grants), identity, backend)


def tools(*globs: str) -> Rules:
    return Rules(tools=globs)


@proves("GRANT-1")
def test_without_grants_everything_is_allowed() -> None:
    assert permit_for(None, ANONYMOUS, "math") is TOTAL
    assert TOTAL.may_call("x/unheard-of")
    assert TOTAL.may_see(Kind.TOOL, "add")
    assert all(map(TOTAL.shows_all, Kind))


@proves("GRANT-1")
@pytest.mark.parametrize("told", [(), (grant(deny=tools("x")),), (grant(allow=EVERYTHING, at="echo"),)])
def test_with_grants_what_none_allows_is_denied(told: tuple[Grant, ...]) -> None:
    denied = permit(*told)
    for method in ("initialize", "ping", "tools/list", "notifications/initialized", "tasks/get", "x/y", ""):
        assert not denied.may_call(method)
    assert not denied.may_call("tools/call", None, "add")
    assert not any(denied.may_see(kind, "add") for kind in Kind)
    assert not any(map(denied.shows_all, Kind))


@pytest.mark.parametrize(
    ("to", "is_held"),
    [
        (Audience(), False),
        (ANYBODY, True),
        (Audience(principals=("https://idp.test alice",)), True),
        (Audience(principals=("https://idp.test *",)), True),
        (Audience(principals=("alice", "https://idp.test ALICE")), False),
        (Audience(groups=("ops", "sup*")), True),
        (Audience(groups=("ops",)), False),
        (Audience(principals=("bob",), groups=("support",)), True),
        (Audience(scopes=("mcp:read",)), True),
        (Audience(scopes=("mcp:read", "mcp:write")), False),
        (Audience(scopes=("mcp:*", "mcp:list")), True),
        (Audience(groups=("support",), scopes=("mcp:write",)), False),
        (Audience(groups=("ops",), scopes=("mcp:read",)), False),
    ],
)
def test_a_grant_is_to_one_of_its_names_who_has_all_its_scopes(to: Audience, is_held: bool) -> None:
    assert permit(grant(allow=tools("add"), to=to)).may_call("tools/call", None, "add") is is_held


def test_who_did_not_say_who_they_are_is_anybody_and_no_principal() -> None:
    everyone_known = grant(allow=EVERYTHING, to=Audience(principals=("*",)))
    assert not permit(everyone_known, identity=ANONYMOUS).is_admitted
    assert permit(grant(allow=EVERYTHING), identity=ANONYMOUS).is_total


@pytest.mark.parametrize(
    ("backends", "is_there"), [("math", True), ("ma*", True), ("*", True), ("Math", False), ("mat", False)]
)
def test_a_grant_is_of_effect_at_its_backends(backends: str, is_there: bool) -> None:
    assert permit(grant(allow=tools("add"), at=backends)).may_call("tools/call", None, "add") is is_there


RULES = grant(
    allow=Rules(
        tools=("add", "get_*", "[a-c]?"), prompts=("*",), resources=("docs://public/*", "x:%41"), methods=("x/y",)
    ),
    deny=Rules(tools=("get_secret*",), prompts=("Bad",), resources=("docs://public/hidden/*",), methods=("logging/*",)),
)


@proves("GRANT-1", "GRANT-5")
@pytest.mark.parametrize(
    ("method", "kind", "name", "may"),
    [
        ("tools/call", None, "add", True),
        ("tools/call", Kind.TOOL, "get_weather", True),
        ("tools/call", None, "get_secrets", False),
        ("tools/call", None, "Add", False),
        ("tools/call", None, "add\n", False),
        ("tools/call", None, "b7", True),
        ("tools/call", None, "d7", False),
        ("tools/call", None, None, False),
        ("prompts/get", None, "any", True),
        ("prompts/get", None, "Bad", False),
        ("resources/read", None, "docs://public/a/b", True),
        ("resources/subscribe", None, "docs://public/a/b", True),
        ("resources/read", None, "docs://secret/a", False),
        ("resources/subscribe", None, "docs://secret/a", False),
        ("resources/read", None, "docs://public/../../secret", False),
        ("resources/read", None, "docs://public/x/../hidden/a", False),
        ("resources/read", None, "docs://public/h%69dden/a", False),
        ("resources/read", None, "DOCS://public/a", False),
        ("resources/read", None, "docs://public/%2525252525", False),
        ("resources/read", None, "x:%41", True),
        ("resources/read", None, "x:A", False),
        ("completion/complete", Kind.PROMPT, "any", True),
        ("completion/complete", Kind.PROMPT, "Bad", False),
        ("completion/complete", Kind.TEMPLATE, "docs://public/{page}", True),
        ("completion/complete", Kind.TEMPLATE, "docs://{page}", False),
        ("completion/complete", None, None, False),
        ("x/y", None, None, True),
        ("x/z", None, None, False),
        ("logging/setLevel", None, None, False),
        ("resources/unsubscribe", None, None, True),
        ("subscriptions/listen", None, None, True),
        ("server/discover", None, None, True),
        ("resources/templates/list", None, None, True),
        ("notifications/cancelled", None, None, True),
        ("tasks/cancel", None, None, True),
        ("tasksy", None, None, False),
        ("", None, None, True),
    ],
)
def test_what_rules_say(method: str, kind: Kind | None, name: str | None, may: bool) -> None:
    assert permit(RULES).may_call(method, kind, name) is may
    assert explain(Grants((RULES,)), ALICE, "math", method, kind, name).is_allowed is may


@proves("GRANT-5")
@pytest.mark.parametrize("allow", [EVERYTHING, Rules(resources=("*",)), Rules(resources=("docs://../x",))])
@pytest.mark.parametrize("uri", ["docs://../x", "docs://%252525252525", "docs://" + "a" * 8192])
def test_a_uri_that_nobody_can_judge_passes_no_denial(allow: Rules, uri: str) -> None:
    denied = grant(allow=allow), grant(deny=Rules(resources=("docs://secret",)))
    assert not permit(*denied).may_call("resources/read", None, uri)
    assert not explain(Grants(denied), ALICE, "math", "resources/read", None, uri).is_allowed
    assert permit(grant(allow=EVERYTHING, deny=tools("x"))).may_call("resources/read", None, uri)


@proves("GRANT-5")
@pytest.mark.parametrize(
    "uri", ["docs://a/open/../secret", "docs://a/open/%2e%2e/b", "docs://a/open/x/../../b", "docs://../open/b"]
)
def test_a_pattern_allows_no_way_out_of_it(uri: str) -> None:
    opened = permit(grant(allow=Rules(resources=("docs://a/open/*", "docs://../open/*"))))
    assert opened.may_call("resources/read", None, "docs://a/open/x/../b")
    assert not opened.may_call("resources/read", None, uri)


@proves("GRANT-5")
@pytest.mark.parametrize("rest", ["?a=b", "#a", "/", "/?a#b", "%3Fa", "//"])
def test_a_denial_holds_whatever_follows_the_path(rest: str) -> None:
    but_one = grant(allow=EVERYTHING, deny=Rules(resources=("docs://a/secret",)))
    assert not permit(but_one).may_call("resources/read", None, f"docs://a/secret{rest}")
    assert permit(but_one).may_call("resources/read", None, f"docs://a/secrets{rest}")


def test_a_method_allows_all_that_it_is_used_for() -> None:
    of_tools = permit(grant(allow=Rules(methods=("tools/*",))))
    assert of_tools.may_call("tools/call", None, "add")
    assert of_tools.shows_all(Kind.TOOL)
    assert not of_tools.may_see(Kind.PROMPT, "a")


def test_a_method_that_is_denied_takes_what_it_is_for_out_of_lists() -> None:
    without = permit(grant(allow=EVERYTHING, deny=Rules(methods=("tools/call",))))
    assert not without.may_see(Kind.TOOL, "add")
    assert not without.shows_all(Kind.TOOL)
    assert without.shows_all(Kind.PROMPT)
    assert without.may_call("tools/list")


@pytest.mark.parametrize(
    ("allow", "deny", "is_total"),
    [
        (EVERYTHING, NOTHING, True),
        (EVERYTHING, tools("x"), False),
        (Rules(("*",), ("*",), ("*",)), NOTHING, False),
    ],
)
def test_everything_without_a_denial_is_total(allow: Rules, deny: Rules, is_total: bool) -> None:
    made = permit(grant(allow=allow), grant(deny=deny))
    assert made.is_total is is_total
    assert made.shows_all(Kind.PROMPT)


# Lists


@proves("GRANT-3")
def test_a_list_loses_what_may_not_be_seen_and_no_other_byte() -> None:
    told = (
        b' { "tools" : [ {"name":"add","n":1e400,"x":{ "b":1 }} , {"name":"sub"},{"title":"?"},'
        b'{"name":"get_z","Name":"add"},{"name": "get_\\u0061"} ],"cacheScope":"public", "ttlMs" : 5,"nextCursor":"c"} '
    )
    assert filter_result(Kind.TOOL, told, permit(RULES)) == (
        b' { "tools" : [{"name":"add","n":1e400,"x":{ "b":1 }},{"name": "get_\\u0061"}],'
        b'"cacheScope":"private", "ttlMs" : 5,"nextCursor":"c"} '
    )


@proves("GRANT-3")
def test_a_list_that_may_be_kept_and_does_not_say_by_whom_is_made_private() -> None:
    told = b'{"ttlMs":5,"resourceTemplates":[{"uriTemplate":"docs://public/{a}"},{"uriTemplate":"docs://{a}"}]}'
    assert filter_result(Kind.TEMPLATE, told, permit(RULES)) == (
        b'{"ttlMs":5,"cacheScope":"private","resourceTemplates":[{"uriTemplate":"docs://public/{a}"}]}'
    )
    assert filter_result(Kind.TOOL, b'{"tools":[]}', permit(RULES)) == b'{"tools":[]}'


@proves("GRANT-3")
def test_a_list_that_is_shown_in_full_is_left_as_it_is() -> None:
    told = b'{"prompts":[{"name":"a"},7],"cacheScope":"public"}'
    assert filter_result(Kind.PROMPT, told, permit(grant(allow=Rules(prompts=("*",))))) is told


# What is remembered


def test_a_permit_is_made_once_for_all_whom_the_same_grants_concern() -> None:
    grants = Grants((RULES,))
    bob = Identity("bob", expires_at=1.0)
    first = permit_for(grants, ALICE, "math")
    assert permit_for(grants, ALICE, "math") is first
    assert permit_for(grants, bob, "echo") is first
    assert len(grants.permits) == 2


def test_what_is_remembered_is_of_that_identity_at_that_backend() -> None:
    of_groups = grant(allow=tools("a"), to=Audience(groups=("g",)), at="math")
    of_scopes = grant(allow=tools("b"), to=Audience(scopes=("s",)), at="math")
    of_names = grant(allow=tools("c"), to=Audience(principals=("p",)), at="math")
    grants = Grants((of_groups, of_scopes, of_names))
    some = [Identity(), Identity(groups=frozenset("g")), Identity(scopes=frozenset("s")), Identity("p")]
    for _ in range(2):
        may = [[permit_for(grants, one, "math").may_see(Kind.TOOL, name) for name in "abc"] for one in some]
        assert may == [[False, False, False], [True, False, False], [False, True, False], [False, False, True]]
        assert not any(permit_for(grants, one, "echo").is_admitted for one in some)


def test_what_is_remembered_is_bounded() -> None:
    grants = Grants((RULES,))
    for number in range(MAX_PERMITS + 3):
        permit_for(grants, Identity(str(number)), "math")
    assert len(grants.permits) == MAX_PERMITS
    assert permit_for(grants, Identity("0"), "math").may_call("tools/call", None, "add")


# What scopes would help


WRITERS = Audience(groups=("support",), scopes=("mcp:list", "mcp:write"))


@pytest.mark.parametrize(
    ("grants", "scopes"),
    [
        ((grant(allow=tools("add"), to=WRITERS),), ("mcp:list", "mcp:write")),
        ((grant(allow=tools("sub"), to=WRITERS),), ()),
        ((grant(allow=tools("add"), to=WRITERS), grant(deny=tools("a*"))), ()),
        ((grant(allow=tools("add"), to=Audience(scopes=("mcp:w*",))),), ()),
        ((grant(allow=tools("add"), to=Audience(("bob",), (), ("w",))),), ()),
        ((grant(allow=EVERYTHING, to=WRITERS, at="echo"),), ()),
        (
            (
                grant(allow=tools("add"), to=Audience(scopes=("a", "b"))),
                grant(allow=tools("add"), to=Audience(scopes=("mcp:*", "c"))),
                grant(allow=tools("add"), to=Audience(scopes=("d",))),
            ),
            ("mcp:list", "mcp:read", "c"),
        ),
    ],
)
def test_the_scopes_that_would_help_are_all_named(grants: tuple[Grant, ...], scopes: tuple[str, ...]) -> None:
    assert not permit(*grants).may_call("tools/call", None, "add")
    assert scopes_for(Grants(grants), ALICE, "math", "tools/call", None, "add") == scopes


# In words


@proves("GRANT-4")
@pytest.mark.parametrize(
    ("question", "told"),
    [
        (
            ("tools/call", None, "get_weather"),
            Explanation(
                True,
                "grants[0] allows the tool 'get_weather': 'get_*' stands in its `allow.tools`",
                "grants[0].allow.tools: get_*",
                "gateway.yaml:0",
            ),
        ),
        (
            ("resources/subscribe", None, "docs://a/b/../secret"),
            Explanation(
                False,
                "grants[1] denies resources/subscribe of the resource 'docs://a/b/../secret': "
                "'docs://a/secret' stands in its `deny.resources`",
                "grants[1].deny.resources: docs://a/secret",
                "gateway.yaml:1",
            ),
        ),
        (
            ("x/y", None, None),
            Explanation(
                False,
                "grants[1] denies the method x/y: 'x/*' stands in its `deny.methods`",
                "grants[1].deny.methods: x/*",
                "gateway.yaml:1",
            ),
        ),
        (
            ("ping", None, None),
            Explanation(
                True,
                "ping belongs to the protocol itself, and grants[0] allows them something at math",
                "grants[0]",
                "gateway.yaml:0",
            ),
        ),
        (
            ("tools/call", None, "add"),
            Explanation(
                False,
                "grants[0] and grants[1] are the only grants to them at math, and what no grant allows is denied",
                scopes=("mcp:write",),
            ),
        ),
    ],
)
def test_the_rule_that_decides_is_told(question: tuple[Any, ...], told: Explanation) -> None:
    grants = Grants(
        (
            grant(allow=Rules(tools=("get_*",), resources=("docs://*",)), key="grants[0]"),
            grant(deny=Rules(resources=("docs://a/secret",), methods=("x/*",)), key="grants[1]"),
            grant(allow=tools("add"), to=Audience(scopes=("mcp:write",)), key="grants[2]"),
        )
    )
    assert explain(grants, ALICE, "math", *question) == told


# Any grants at all

_GLOBS = st.sampled_from(
    ["*", "a", "a*", "?", "[ab]", "b", "x:a", "x:a/*", "x:b", "x:%61", "X:*", "*/b", "x:a/%2A", "[z-a]"]
)
_METHODS = st.sampled_from(
    ["*", "tools/*", "tools/call", "resources/read", "ping", "x/*", "completion/complete", "tools/list"]
)
_RULES = st.builds(Rules, *(st.lists(globs, max_size=2).map(tuple) for globs in (_GLOBS, _GLOBS, _GLOBS, _METHODS)))
_AUDIENCES = st.one_of(
    st.just(ANYBODY),
    st.builds(
        Audience,
        st.sampled_from([(), ("p*",), ("q",)]),
        st.sampled_from([(), ("g",), ("g", "h")]),
        st.sampled_from([(), ("s",), ("s", "t"), ("*",)]),
    ),
)
_BACKENDS = st.sampled_from([("*",), ("m",), ("n", "o"), ("[m-n]",)])
_GRANTS = st.builds(Grant, _AUDIENCES, _BACKENDS, _RULES, _RULES)
_IDENTITIES = st.builds(
    Identity,
    st.sampled_from(["", "p", "pq", "q"]),
    st.frozensets(st.sampled_from("gh")),
    st.frozensets(st.sampled_from("st")),
)
_QUESTIONS = st.tuples(
    st.sampled_from(
        [
            "tools/call",
            "prompts/get",
            "resources/read",
            "resources/subscribe",
            "completion/complete",
            "ping",
            "x/y",
            "",
            "tools/list",
        ]
    ),
    st.sampled_from([None, *Kind]),
    st.sampled_from(
        [
            None,
            "a",
            "b",
            "ab",
            "x:a",
            "x:a/b",
            "x:a/../b",
            "x:a?b",
            "x:%61",
            "x:A",
            "X:b",
            "x:b",
            "x:a/*",
            "x:%25252525252561",
            "?",
        ]
    ),
)
_PLACES = st.sampled_from(["m", "n", "p"])


def may(grants: Sequence[Grant], identity: Identity, backend: str, question: tuple[Any, ...]) -> bool:
    return permit_for(Grants(tuple(grants)), identity, backend).may_call(*question)


@proves("GRANT-1")
@given(st.lists(_GRANTS, max_size=4), _IDENTITIES, _PLACES, _QUESTIONS, st.randoms(use_true_random=False))
def test_the_order_of_grants_decides_nothing(
    grants: list[Grant], identity: Identity, backend: str, question: tuple[Any, ...], chance: Any
) -> None:
    shuffled = chance.sample(grants, len(grants))
    assert may(shuffled, identity, backend, question) is may(grants, identity, backend, question)


@proves("GRANT-1")
@given(st.lists(_GRANTS, max_size=3), _IDENTITIES, _PLACES, _QUESTIONS)
def test_deny_wins_wherever_it_stands(
    grants: list[Grant], identity: Identity, backend: str, question: tuple[Any, ...]
) -> None:
    method, _, _ = question
    denial = grant(deny=Rules(methods=(method,))) if method else grant(deny=Rules(("*",), ("*",), ("*",), ("*",)))
    for place in range(len(grants) + 1):
        assert not may([*grants[:place], denial, *grants[place:]], identity, backend, question)


@proves("GRANT-2")
@given(st.lists(_GRANTS, max_size=3), _GRANTS, _IDENTITIES, _PLACES, _QUESTIONS)
def test_another_allow_takes_nothing_away_and_another_deny_gives_nothing(
    grants: list[Grant], more: Grant, identity: Identity, backend: str, question: tuple[Any, ...]
) -> None:
    before = may(grants, identity, backend, question)
    allowing, denying = Grant(more.to, more.backends, more.allow), Grant(more.to, more.backends, deny=more.deny)
    assert may([*grants, allowing], identity, backend, question) >= before
    assert may([*grants, denying], identity, backend, question) <= before


@proves("GRANT-4")
@given(st.lists(_GRANTS, max_size=4), _IDENTITIES, _PLACES, _QUESTIONS)
def test_what_is_explained_is_what_is_decided(
    grants: list[Grant], identity: Identity, backend: str, question: tuple[Any, ...]
) -> None:
    told = explain(Grants(tuple(grants)), identity, backend, *question)
    assert told.is_allowed is may(grants, identity, backend, question)
    if told.scopes:
        risen = Identity(identity.principal, identity.groups, identity.scopes.union(told.scopes))
        assert may(grants, risen, backend, question)


@proves("GRANT-1")
@given(st.lists(_GRANTS, max_size=4), _IDENTITIES, _PLACES, st.sampled_from(["a", "b", "ab", "?"]))
def test_tools_are_decided_as_the_plainest_reading_of_the_rules_would(
    grants: list[Grant], identity: Identity, backend: str, name: str
) -> None:
    def fits(globs: tuple[str, ...], text: str) -> bool:
        return any(fnmatchcase(text, glob) for glob in globs)

    mine = [g for g in grants if g.to.holds(identity) and fits(g.backends, backend)]
    allowed = any(fits(g.allow.tools, name) or fits(g.allow.methods, "tools/call") for g in mine)
    denied = any(fits(g.deny.tools, name) or fits(g.deny.methods, "tools/call") for g in mine)
    assert may(grants, identity, backend, ("tools/call", None, name)) is (allowed and not denied)


@proves("GRANT-3")
@given(st.lists(_GRANTS, max_size=4), _IDENTITIES)
def test_what_is_said_to_be_shown_in_full_is(grants: list[Grant], identity: Identity) -> None:
    made = permit_for(Grants(tuple(grants)), identity, "m")
    for kind, name in itertools.product(Kind, ["", "a", "zz", "x:a/../b", "x:%252525252525"]):
        assert made.may_see(kind, name) or not made.shows_all(kind)
        assert made.may_call("tools/call", None, name) or not made.is_total
