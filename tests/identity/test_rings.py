"""An issuer's keys: found, fetched once for many, rotated, kept while the issuer is away."""

import asyncio
from typing import Any

import pytest

from gateway.identity.keys import parse_keys
from gateway.identity.rings import check_metadata, metadata_urls
from gateway.policy.admissions import Admission, Issuer
from gateway.protocol.outcomes import Denied, Failed, Outcome
from tests.fakes import FakeAnswer
from tests.identity.authorities import ISSUER, World, bearing, claims, issue, key_set, public_jwk, rsa_key
from tests.requirements import proves

KEYS = f"{ISSUER}/keys"
AWAY = Failed(Outcome.UNREACHABLE, "nothing listens there")


def token_of(subject: str, **told: Any) -> Any:
    """Another token each time, so that none is remembered."""
    return bearing(issue(claims(sub=subject), **told))


def rotated() -> dict[str, Any]:
    return {"keys": [public_jwk(rsa_key("next"), kid="next")]}


async def test_keys_are_fetched_when_the_first_token_comes_and_not_again() -> None:
    world = World()
    for name in "abc":
        await world.gate.identify(token_of(name))
    assert world.asked == [KEYS]


async def test_many_who_wait_for_the_same_keys_cause_one_fetch() -> None:
    world = World()
    world.upstream.pending = asyncio.Event()
    callers = [asyncio.create_task(world.gate.identify(token_of(str(n)))) for n in range(20)]
    await world.upstream.called.wait()
    world.upstream.pending.set()
    assert len({identity.principal for identity in await asyncio.gather(*callers)}) == 20
    assert world.asked == [KEYS]


async def test_one_who_leaves_takes_the_keys_from_nobody() -> None:
    world = World()
    world.upstream.pending = asyncio.Event()
    leaver, stayer = (asyncio.create_task(world.gate.identify(token_of(name))) for name in "ab")
    await world.upstream.called.wait()
    leaver.cancel()
    await asyncio.wait({leaver})
    world.upstream.pending.set()
    assert (await stayer).principal == f"{ISSUER} b"
    assert world.upstream.cancelled == 0


async def test_a_rotated_key_is_known_with_its_first_token() -> None:
    world = World()
    await world.gate.identify(token_of("a"))
    world.told[KEYS] = rotated()
    world.now += 10
    assert await world.gate.identify(token_of("b", kid="next", key=rsa_key("next")))
    with pytest.raises(Denied):  # the old one is gone with its issuer's word
        await world.gate.identify(token_of("c"))
    assert world.asked == [KEYS, KEYS]


async def test_unknown_keys_cause_one_fetch_in_ten_seconds() -> None:
    world = World()
    for second in range(25):
        for n in range(4):
            with pytest.raises(Denied, match="a key that its issuer doesn't have"):
                await world.gate.identify(token_of("a", kid=f"x{second}-{n}", key=rsa_key("stranger")))
        world.now += 1
    assert world.asked == [KEYS, KEYS, KEYS]


async def test_old_keys_are_fetched_anew_while_they_still_prove() -> None:
    world = World()
    await world.gate.identify(token_of("a"))
    world.now += 301
    world.upstream.called.clear()
    world.upstream.pending = asyncio.Event()  # who is proven by a known key doesn't wait for this
    assert await world.gate.identify(token_of("b"))
    await world.upstream.called.wait()
    assert world.asked == [KEYS, KEYS]
    world.upstream.pending.set()


@proves("AUTH-3")
async def test_keys_are_kept_while_their_issuer_is_away() -> None:
    world = World()
    await world.gate.identify(token_of("a"))
    world.told[KEYS] = AWAY
    for hours in (1, 12, 23.9):
        world.now = 1000 + hours * 3600
        assert await world.gate.identify(token_of(f"b{hours}"))


@proves("AUTH-3")
async def test_an_unknown_key_while_the_issuer_is_away_is_an_outage_and_no_401() -> None:
    world = World()
    await world.gate.identify(token_of("a"))
    world.told[KEYS] = AWAY
    world.now += 10
    for _ in range(3):
        with pytest.raises(Failed) as caught:
            await world.gate.identify(token_of("b", kid="next", key=rsa_key("next")))
        assert (caught.value.outcome, caught.value.http_status) == (Outcome.ISSUER_AWAY, 503)
    assert await world.gate.identify(token_of("c"))


@proves("AUTH-3")
async def test_keys_that_nobody_could_confirm_for_a_day_prove_nothing() -> None:
    world = World()
    await world.gate.identify(token_of("a"))
    world.told[KEYS] = AWAY
    world.now += 86401
    with pytest.raises(Failed):
        await world.gate.identify(token_of("b"))


async def test_an_issuer_that_is_away_is_asked_ever_more_rarely() -> None:
    world = World()
    world.told[KEYS] = AWAY
    asked_at = []
    for tenth in range(1200):
        before = len(world.asked)
        with pytest.raises(Failed):
            await world.gate.identify(token_of("a"))
        if len(world.asked) > before:
            asked_at.append(tenth / 10)
        world.now = 1000 + (tenth + 1) / 10
    assert asked_at == [0.0, 1.0, 3.0, 8.0, 18.0, 48.0, 78.0, 108.0]


async def test_an_issuer_that_is_back_is_believed_at_once() -> None:
    world = World()
    world.told[KEYS] = AWAY
    with pytest.raises(Failed):
        await world.gate.identify(token_of("a"))
    world.told[KEYS] = key_set()
    world.now += 1
    assert await world.gate.identify(token_of("a"))


@pytest.mark.parametrize(
    "told", [{}, {"keys": []}, {"keys": "rsa"}, {"keys": [1, None, {}]}, {"keys": [{"kty": "oct", "k": "AAAA"}]}]
)
async def test_a_set_without_a_usable_key_is_an_outage(told: Any) -> None:
    world = World()
    world.told[KEYS] = told
    with pytest.raises(Failed):
        await world.gate.identify(token_of("a"))


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "RSA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "n": 1, "e": 2},
        {"kty": "RSA", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
        {"kty": ["RSA"]},
        {"kty": "RSA", "alg": ["RS256"], "n": "AQAB", "e": "AQAB"},
    ],
)
def test_a_key_that_is_none_is_left_out(jwk: dict[str, Any]) -> None:
    found = parse_keys({"keys": [jwk, *key_set("ed")["keys"]]})
    assert [key.key_id for key in found.keys] == ["ed"]


def test_a_token_without_a_key_id_must_leave_no_choice() -> None:
    assert parse_keys(key_set("rsa", "p256")).find("RS256", None) is not None
    two = [public_jwk(rsa_key(name), kid=name) for name in ("authority", "next")]
    assert parse_keys({"keys": two}).find("RS256", None) is None


def test_a_private_key_that_was_published_is_read_as_a_public_one() -> None:
    from jwt.algorithms import RSAAlgorithm

    jwk = RSAAlgorithm.to_jwk(rsa_key("authority"), as_dict=True) | {"key_ops": ["verify"]}
    assert not hasattr(parse_keys({"keys": [jwk]}).keys[0].public, "sign")


# Discovery


def discovering(issuer: str = ISSUER) -> World:
    return World(Admission(issuers=(Issuer(issuer),)))


OAUTH, OPENID_BEFORE, OPENID_AFTER = (
    "https://login.test/.well-known/oauth-authorization-server/realms/mcp",
    "https://login.test/.well-known/openid-configuration/realms/mcp",
    "https://login.test/realms/mcp/.well-known/openid-configuration",
)


@pytest.mark.parametrize("place", [OAUTH, OPENID_BEFORE, OPENID_AFTER])
async def test_keys_are_found_by_the_issuers_metadata(place: str) -> None:
    world = discovering()
    world.told[place] = {"issuer": ISSUER, "jwks_uri": KEYS}
    assert await world.gate.identify(token_of("a"))
    order = [OAUTH, OPENID_BEFORE, OPENID_AFTER]
    assert world.asked == [*order[: order.index(place) + 1], KEYS]


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": ISSUER + "/", "jwks_uri": KEYS},
        {"issuer": "https://evil.test", "jwks_uri": KEYS},
        {"jwks_uri": KEYS},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": 1},
        {"issuer": ISSUER, "jwks_uri": "http://login.test/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER, "jwks_uri": "https://a:b@login.test/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://login.test:x/keys"},
    ],
)
async def test_metadata_of_another_or_an_unsafe_place_are_not_believed(metadata: dict[str, Any]) -> None:
    world = discovering()
    world.told[OAUTH] = metadata
    with pytest.raises(Failed):
        await world.gate.identify(token_of("a"))


def test_an_issuer_without_a_path_has_two_places() -> None:
    assert metadata_urls("https://login.test/") == (
        "https://login.test/.well-known/oauth-authorization-server",
        "https://login.test/.well-known/openid-configuration",
    )


def test_an_issuer_on_plain_http_may_have_keys_there() -> None:
    issuer = "http://127.0.0.1:9"
    assert check_metadata(issuer, {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}) == f"{issuer}/keys"


async def test_an_unchanged_issuer_keeps_its_keys_when_the_configuration_changes() -> None:
    world = World()
    await world.gate.identify(token_of("a"))
    same = Issuer(ISSUER, jwks_url=KEYS)
    world.gate.change(Admission(issuers=(same, Issuer("https://login.other.test"))))
    await world.gate.identify(token_of("b"))
    assert world.asked == [KEYS]


async def test_a_fetch_under_way_when_its_issuer_goes_cancels_nobody() -> None:
    world = World()
    world.upstream.pending = asyncio.Event()
    caller = asyncio.create_task(world.gate.identify(token_of("a")))
    await world.upstream.called.wait()
    world.gate.change(Admission(anonymous=True))
    with pytest.raises(Failed) as caught:
        await caller
    assert caught.value.outcome is Outcome.ISSUER_AWAY


async def test_a_redirect_is_not_followed() -> None:
    world = World()
    world.told[KEYS] = FakeAnswer(302, [(b"location", b"https://evil.test/keys")], b"")
    world.told["https://evil.test/keys"] = key_set()
    with pytest.raises(Failed):
        await world.gate.identify(token_of("a"))
    assert world.asked == [KEYS]
