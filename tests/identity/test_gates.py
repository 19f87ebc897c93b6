"""Which credentials count, what is remembered of them, and what is said to those that have none."""

import asyncio
from typing import Any

import pytest

from gateway.identity.api_keys import digest_api_key, make_api_key
from gateway.policy.admissions import Admission, ApiKey, Introspection, Issuer, ProxyIdentity, read_headers
from gateway.policy.identities import ANONYMOUS, Identity
from gateway.protocol.credentials import Credentials
from gateway.protocol.outcomes import Denied, Failed, Outcome, Rejected
from tests.fakes import FakeAnswer
from tests.identity.authorities import ISSUER, NOW, RESOURCE, World, bearing, claims, issue, trusting
from tests.requirements import proves

METADATA = 'resource_metadata="https://mcp.test/.well-known/oauth-protected-resource/echo/mcp"'
KEY = "mcpgw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
NIGHTLY = ApiKey("nightly", digest_api_key(KEY), frozenset({"reports"}), frozenset({"mcp:read"}))
MESH = ProxyIdentity("x-forwarded-user", "x-forwarded-groups")
CERTIFICATES = ProxyIdentity("x-forwarded-client-cert")


def challenge(denied: Denied) -> str:
    assert [name for name, _ in denied.headers] == [b"www-authenticate"]
    return denied.headers[0][1].decode()


async def refusal(world: World, credentials: Credentials) -> Denied:
    with pytest.raises(Denied) as caught:
        await world.gate.identify(credentials)
    return caught.value


async def test_a_good_token_says_who_calls() -> None:
    world = World()
    identity = await world.gate.identify(bearing(issue()))
    assert identity == Identity(
        f"{ISSUER} alice", frozenset({"support"}), frozenset({"mcp:tools", "mcp:read"}), NOW + 600
    )


@pytest.mark.parametrize("audience", [RESOURCE, f"{RESOURCE}/", "https://mcp.test/echo", "https://mcp.test/echo/"])
@pytest.mark.parametrize("listed", [False, True])
async def test_a_token_for_any_spelling_of_the_mount_is_good(audience: str, listed: bool) -> None:
    told = claims(aud=["https://elsewhere.test", audience] if listed else audience)
    assert await World().gate.identify(bearing(issue(told)))


async def test_a_configured_audience_is_good_at_every_mount() -> None:
    world = World(trusting(audiences=frozenset({"api://mcp"})))
    token = issue(claims(aud="api://mcp"))
    assert await world.gate.identify(bearing(token))
    assert await world.gate.identify(bearing(token, "https://mcp.test/math/mcp"))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
async def test_an_access_token_of_every_type_is_good(typ: str) -> None:
    assert await World().gate.identify(bearing(issue(typ=typ)))


@pytest.mark.parametrize(
    ("told", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": None}, set()),
        ({"scope": ""}, set()),
    ],
)
async def test_scopes_are_read_as_issuers_write_them(told: dict[str, Any], scopes: set[str]) -> None:
    assert (await World().gate.identify(bearing(issue(claims(**told))))).scopes == scopes


@pytest.mark.parametrize(
    ("path", "told", "groups"),
    [
        ("groups", {"groups": ["a", "b"]}, {"a", "b"}),
        ("groups", {"groups": "a"}, {"a"}),
        ("groups", {"groups": {"a": True}}, set()),
        ("groups", {"groups": ["a", 1]}, {"a"}),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
        ("https://mcp.test/groups", {"https://mcp.test/groups": ["a"]}, {"a"}),
        ("realm_access.roles", {"realm_access": "a"}, set()),
    ],
)
async def test_groups_are_read_from_their_claim(path: str, told: dict[str, Any], groups: set[str]) -> None:
    world = World(trusting(groups_claim=path))
    assert (await world.gate.identify(bearing(issue(claims(**{"groups": None, **told}))))).groups == groups


async def test_clocks_may_differ_by_the_skew() -> None:
    world = World()
    for told in (claims(exp=int(NOW) - 29), claims(nbf=int(NOW) + 29), claims(iat=int(NOW) + 29)):
        assert await world.gate.identify(bearing(issue(told)))


@proves("AUTH-4")
async def test_who_sends_nothing_is_told_where_the_metadata_are() -> None:
    denied = await refusal(World(), Credentials(RESOURCE))
    assert (denied.outcome, denied.http_status) == (Outcome.UNAUTHENTICATED, 401)
    assert challenge(denied) == f"Bearer {METADATA}"


@pytest.mark.parametrize("path", ["/echo", "/echo/", "/echo/mcp/"])
async def test_a_challenge_points_at_the_metadata_of_the_url_that_was_called(path: str) -> None:
    denied = await refusal(World(), Credentials(RESOURCE, path=path))
    at = f"https://mcp.test/.well-known/oauth-protected-resource{path}"
    assert challenge(denied) == f'Bearer resource_metadata="{at}"'


async def test_a_bad_token_is_told_what_is_wrong_with_it() -> None:
    denied = await refusal(World(), bearing(issue(claims(exp=1))))
    assert challenge(denied) == (f'Bearer {METADATA}, error="invalid_token", error_description="the token has expired"')


async def test_without_an_issuer_no_metadata_are_pointed_at() -> None:
    denied = await refusal(World(Admission(api_keys=(NIGHTLY,))), Credentials(RESOURCE))
    assert challenge(denied) == 'Bearer realm="mcp"'


@proves("AUTH-5")
async def test_a_token_without_a_needed_scope_is_told_all_that_are_needed() -> None:
    admission = Admission(issuers=trusting().issuers, scopes=("mcp:tools", "mcp:write"))
    denied = await refusal(World(admission), bearing(issue()))
    assert (denied.outcome, denied.http_status) == (Outcome.INSUFFICIENT_SCOPE, 403)
    assert challenge(denied) == (
        f'Bearer {METADATA}, error="insufficient_scope", '
        'error_description="the access token lacks a scope: this needs mcp:tools mcp:write", scope="mcp:tools mcp:write"'
    )


async def test_a_challenge_names_the_scopes_to_begin_with() -> None:
    admission = Admission(issuers=trusting().issuers, scopes=("mcp:tools",))
    assert challenge(await refusal(World(admission), Credentials(RESOURCE))) == f'Bearer {METADATA}, scope="mcp:tools"'


async def test_a_token_is_proven_once_and_remembered() -> None:
    world = World()
    credentials = bearing(issue())
    assert world.gate.recall(credentials) is None
    identity = await world.gate.identify(credentials)
    assert world.gate.recall(bearing(issue())) == identity


async def test_no_token_is_remembered_beyond_its_expiry() -> None:
    world = World()
    credentials = bearing(issue(claims(exp=int(NOW) + 60)))
    await world.gate.identify(credentials)
    world.wall = NOW + 59.9
    assert world.gate.recall(credentials) is not None
    world.wall = NOW + 60
    assert world.gate.recall(credentials) is None


async def test_a_long_lived_token_is_proven_again_after_five_minutes() -> None:
    world = World()
    credentials = bearing(issue(claims(exp=int(NOW) + 86400)))
    await world.gate.identify(credentials)
    world.wall = NOW + 299
    assert world.gate.recall(credentials) is not None
    world.wall = NOW + 300
    assert world.gate.recall(credentials) is None


async def test_only_so_many_callers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.identity.gates.MAX_REMEMBERED", 3)
    world = World()
    callers = [bearing(issue(claims(sub=name), alg="EdDSA", kid="ed")) for name in "abcd"]
    for caller in callers:
        await world.gate.identify(caller)
    assert [world.gate.recall(caller) is not None for caller in callers] == [False, True, True, True]


async def test_a_changed_configuration_forgets_who_was_let_in() -> None:
    world = World()
    credentials = bearing(issue())
    await world.gate.identify(credentials)
    world.gate.change(trusting(audiences=frozenset({"x"})))
    assert world.gate.recall(credentials) is None
    world.gate.change(Admission(api_keys=(NIGHTLY,)))
    assert "no API key" in (await refusal(world, bearing(KEY[:-1] + "B"))).message
    assert "not trusted" in (await refusal(world, credentials)).message


async def test_an_unchanged_configuration_forgets_nothing() -> None:
    world = World()
    await world.gate.identify(bearing(issue()))
    world.gate.change(trusting())
    assert world.gate.recall(bearing(issue())) is not None


# API keys


@proves("AUTH-7")
@pytest.mark.parametrize(
    "credentials", [bearing(KEY), Credentials(RESOURCE, api_key=KEY.encode())], ids=["bearer", "x-api-key"]
)
async def test_an_api_key_says_who_calls(credentials: Credentials) -> None:
    world = World(Admission(api_keys=(ApiKey("other", "0" * 64), NIGHTLY)))
    identity = await world.gate.identify(credentials)
    assert identity == Identity("key nightly", frozenset({"reports"}), frozenset({"mcp:read"}))
    assert world.gate.recall(credentials) == identity


@pytest.mark.parametrize("key", [KEY[:-1] + "B", KEY + "A", KEY[:-1], "A" * 43, "", "mcpgw_", KEY.upper(), "\xe9" * 49])
async def test_another_api_key_lets_nobody_in(key: str) -> None:
    world = World(Admission(api_keys=(NIGHTLY, ApiKey("weak", digest_api_key("hunter2")))))
    for credentials in (bearing(key), Credentials(RESOURCE, api_key=key.encode("latin-1") or b" ")):
        assert (await refusal(world, credentials)).outcome is Outcome.UNAUTHENTICATED


async def test_a_digest_is_no_key_and_a_weak_secret_is_none_either() -> None:
    world = World(Admission(api_keys=(NIGHTLY, ApiKey("weak", digest_api_key("hunter2")))))
    for text in (NIGHTLY.sha256, "mcpgw_" + NIGHTLY.sha256, "hunter2"):
        assert (await refusal(world, Credentials(RESOURCE, api_key=text.encode()))).http_status == 401


def test_a_made_key_is_found_by_its_digest_and_never_made_twice() -> None:
    key, digest = make_api_key()
    assert len(key) == 49
    assert key.startswith("mcpgw_")
    assert digest_api_key(key) == digest
    assert make_api_key()[0] != key


async def test_two_kinds_of_credentials_at_once_are_refused() -> None:
    world = World(Admission(issuers=trusting().issuers, api_keys=(NIGHTLY,)))
    both = Credentials(RESOURCE, authorization=f"Bearer {issue()}".encode(), api_key=KEY.encode())
    with pytest.raises(Rejected, match="not both"):
        await world.gate.identify(both)


# A proxy's word


async def test_a_trusted_proxy_says_who_calls() -> None:
    world = World(Admission(proxy=MESH))
    identity = await world.gate.identify(Credentials(RESOURCE, user=b"zo\xc3\xab@example.com", groups=b"a, b|c"))
    assert identity == Identity("proxy zoë@example.com", frozenset({"a", "b", "c"}))


@pytest.mark.parametrize("user", [b"\xff", b"a\x07", b"a" * 513, "\u200b".encode()])
async def test_a_proxy_that_speaks_unclearly_lets_nobody_in(user: bytes) -> None:
    assert (await refusal(World(Admission(proxy=MESH)), Credentials(RESOURCE, user=user))).http_status == 401


@pytest.mark.parametrize(
    ("header", "field", "principal"),
    [
        (b'By=spiffe://a/b;Hash=0a;Subject="CN=alice,O=Acme";URI=spiffe://a/alice', "Subject", "proxy CN=alice,O=Acme"),
        (b'By=spiffe://a/b;Hash=0a;Subject="CN=alice";URI=spiffe://a/alice', "URI", "proxy spiffe://a/alice"),
        (b'subject="CN=a \\"b\\"; c"', "Subject", 'proxy CN=a "b"; c'),
    ],
)
async def test_a_client_certificate_says_who_calls(header: bytes, field: Any, principal: str) -> None:
    world = World(Admission(proxy=ProxyIdentity("x-forwarded-client-cert", None, field)))
    assert (await world.gate.identify(Credentials(RESOURCE, user=header))).principal == principal


@pytest.mark.parametrize(
    "header",
    [
        b'Subject="CN=alice",Subject="CN=admin"',
        b'Subject="CN=alice";Subject="CN=admin"',
        b"Hash=0a",
        b'Subject=""',
        b"CN=alice",
        b'By="Subject=x',
    ],
)
async def test_a_client_certificate_that_could_be_anybodys_is_nobodys(header: bytes) -> None:
    assert (await refusal(World(Admission(proxy=CERTIFICATES)), Credentials(RESOURCE, user=header))).http_status == 401


async def test_a_token_speaks_before_the_proxy() -> None:
    world = World(Admission(issuers=trusting().issuers, proxy=MESH))
    both = Credentials(RESOURCE, authorization=f"Bearer {issue()}".encode(), user=b"bob")
    assert (await world.gate.identify(both)).principal == f"{ISSUER} alice"
    wrong = Credentials(RESOURCE, authorization=b"Bearer x", user=b"bob")
    assert (await refusal(world, wrong)).http_status == 401


async def test_a_bearer_that_nobody_here_takes_is_the_proxys_own_business() -> None:
    world = World(Admission(proxy=MESH))
    both = Credentials(RESOURCE, authorization=b"Bearer for-the-proxy", user=b"bob")
    assert (await world.gate.identify(both)).principal == "proxy bob"


# Nobody


async def test_who_sends_nothing_is_anonymous_where_that_is_allowed() -> None:
    world = World(Admission(issuers=trusting().issuers, anonymous=True))
    assert await world.gate.identify(Credentials(RESOURCE)) is ANONYMOUS


@pytest.mark.parametrize("authorization", [b"Bearer x", b"Bearer", b"Basic dTpw", b"Negotiate", b"x", b"Bearer  "])
async def test_wrong_credentials_are_never_taken_for_none(authorization: bytes) -> None:
    world = World(Admission(issuers=trusting().issuers, anonymous=True))
    assert (await refusal(world, Credentials(RESOURCE, authorization=authorization))).http_status == 401


# Opaque tokens


INTROSPECT = f"{ISSUER}/introspect"


def introspecting() -> Admission:
    told = Introspection(INTROSPECT, "gate way", "s:cret", 30.0)
    return Admission(issuers=(Issuer(ISSUER, introspection=told),))


async def test_an_opaque_token_is_asked_about() -> None:
    world = World(introspecting())
    world.told[INTROSPECT] = {"active": True, **claims(iss=None, exp=None)}
    identity = await world.gate.identify(bearing("opaque-1"))
    assert identity.principal == f"{ISSUER} alice"
    sent = world.upstream.sent[0]
    assert sent.body == b"token=opaque-1&token_type_hint=access_token"
    assert sent.header(b"authorization") == b"Basic Z2F0ZSt3YXk6cyUzQWNyZXQ="  # gate+way:s%3Acret
    world.wall = NOW + 29
    assert world.gate.recall(bearing("opaque-1")) == identity
    world.wall = NOW + 30
    assert world.gate.recall(bearing("opaque-1")) is None


@pytest.mark.parametrize(
    "told",
    [
        {"active": False},
        {"active": "true", **claims()},
        {"active": 1, **claims()},
        claims(),
        {"active": True, **claims(aud="https://other.test")},
        {"active": True, **claims(aud=None)},
        {"active": True, **claims(exp=1)},
        {"active": True, **claims(iss="https://evil.test")},
        {"active": True, **claims(sub=None)},
    ],
)
async def test_an_opaque_token_that_its_issuer_does_not_vouch_for_lets_nobody_in(told: dict[str, Any]) -> None:
    world = World(introspecting())
    world.told[INTROSPECT] = told
    for _ in range(3):
        assert (await refusal(world, bearing("opaque-1"))).http_status == 401
    assert len(world.asked) == 1  # it isn't asked again at once
    world.now += 10.1
    await refusal(world, bearing("opaque-1"))
    assert len(world.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        FakeAnswer(500, [], b"{}"),
        FakeAnswer(401, [], b"{}"),
        FakeAnswer(302, [(b"location", b"https://evil.test")], b""),
        FakeAnswer(200, [], b"<html>"),
        FakeAnswer(200, [], b"[true]"),
        Failed(Outcome.UNREACHABLE, "no"),
    ],
    ids=["500", "401", "302", "html", "list", "unreachable"],
)
@proves("AUTH-3")
async def test_where_an_issuer_cannot_be_asked_it_is_an_outage_and_no_401(answer: Any) -> None:
    world = World(introspecting())
    world.told[INTROSPECT] = answer
    with pytest.raises(Failed) as caught:
        await world.gate.identify(bearing("opaque-1"))
    assert (caught.value.outcome, caught.value.http_status) == (Outcome.ISSUER_AWAY, 503)
    world.told[INTROSPECT] = {"active": True, **claims()}
    assert await world.gate.identify(bearing("opaque-1"))


async def test_an_opaque_token_without_an_issuer_that_knows_such_is_refused_unasked() -> None:
    world = World()
    assert "no JWT" in (await refusal(world, bearing("opaque-1"))).message
    assert world.asked == []


# Nothing is given away


@proves("AUTH-8")
async def test_no_repr_and_no_error_shows_a_credential() -> None:
    secret = "s3cr3t-t0ken"
    credentials = Credentials(RESOURCE, f"Bearer {secret}".encode(), secret.encode(), secret.encode(), secret.encode())
    assert repr(credentials) == f"Credentials(resource='{RESOURCE}', ***)"
    world = World(Admission(api_keys=(NIGHTLY,), proxy=MESH))
    for sent in (bearing(secret), Credentials(RESOURCE, api_key=secret.encode())):
        denied = await refusal(world, sent)
        assert secret not in f"{denied!r} {denied.message} {denied.headers} {denied.__cause__!r} {denied.data}"


def test_the_headers_that_are_read_are_known_by_name() -> None:
    assert read_headers(True, MESH).names == {b"x-api-key", b"x-forwarded-user", b"x-forwarded-groups"}
    assert read_headers(False, CERTIFICATES).names == {b"x-forwarded-client-cert"}
    assert read_headers(False, None).names == frozenset()


async def test_many_who_send_the_same_opaque_token_cause_one_question() -> None:
    world = World(introspecting())
    world.told[INTROSPECT] = {"active": True, **claims()}
    world.upstream.pending = asyncio.Event()
    callers = [asyncio.create_task(world.gate.identify(bearing("opaque-1"))) for _ in range(10)]
    await world.upstream.called.wait()
    callers[0].cancel()  # the first takes nothing from the others
    await asyncio.wait(callers[:1])
    world.upstream.pending.set()
    assert {(await caller).principal for caller in callers[1:]} == {f"{ISSUER} alice"}
    assert world.asked == [INTROSPECT]


async def test_each_issuer_is_asked_about_an_opaque_token_until_one_knows_it() -> None:
    other = "https://login.other.test"
    issuers = tuple(
        Issuer(issuer, introspection=Introspection(f"{issuer}/introspect", "gw", "s")) for issuer in (ISSUER, other)
    )
    world = World(Admission(issuers=issuers))
    world.told |= {INTROSPECT: {"active": False}, f"{other}/introspect": {"active": True, **claims(iss=other)}}
    assert (await world.gate.identify(bearing("opaque-1"))).principal == f"{other} alice"
    world.told |= {INTROSPECT: Failed(Outcome.UNREACHABLE, "no"), f"{other}/introspect": {"active": False}}
    with pytest.raises(Failed):  # the one that is away may be the one that knows it
        await world.gate.identify(bearing("opaque-2"))


async def test_what_was_asked_by_rules_that_are_no_more_is_not_remembered() -> None:
    world = World(introspecting())
    world.told[INTROSPECT] = {"active": True, **claims()}
    world.upstream.pending = asyncio.Event()
    caller = asyncio.create_task(world.gate.identify(bearing("opaque-1")))
    await world.upstream.called.wait()
    world.gate.change(trusting())
    world.upstream.pending.set()
    assert await caller  # it ends as it began
    assert world.gate.recall(bearing("opaque-1")) is None
