"""What looks like a token and is none: every kind of forgery that the field knows, and none is let in.

RFC 8725 (JWT Best Current Practices) tells most of them; each row says what its attacker hopes for.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.admissions import Admission, Issuer
from gateway.protocol.credentials import Credentials
from gateway.protocol.outcomes import Denied, Ended, Outcome
from tests.identity.authorities import (
    ISSUER,
    NOW,
    OTHER_ISSUER,
    RESOURCE,
    World,
    bearing,
    claims,
    ec_key,
    ed_key,
    encode_segment,
    forge,
    hmac_with,
    issue,
    key_set,
    private_keys,
    public_der,
    public_jwk,
    public_pem,
    rsa_key,
    trusting,
)
from tests.requirements import proves

HEADER = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}


def stranger() -> Any:
    return rsa_key("stranger")


def signed_by_hand(header: dict[str, Any], told: object, key: Any = None) -> str:
    """By the authority's own RSA key where no other is given, with any header."""
    import jwt.algorithms

    algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    return forge(header, told, lambda message: algorithm.sign(message, key or rsa_key("authority")))


def altered(token: str, segment: int, change: Callable[[str], str]) -> str:
    parts = token.split(".")
    parts[segment] = change(parts[segment])
    return ".".join(parts)


def flip(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def retold(**changes: object) -> Callable[[str], str]:
    """The payload with other claims, under the old signature."""
    return lambda _: encode_segment(claims(**changes))


def last_bits(text: str) -> str:
    """Another spelling of the same bytes: the last character has bits that no byte needs."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for other in alphabet:
        same = text[:-1] + other
        if other != text[-1] and _plain(same) == _plain(text):
            return same
    return text + "="


def _plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def p1363_to_der(token: str) -> str:
    """ECDSA's signature in the encoding that JWS doesn't use (RFC 7518 §3.4)."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    raw = _plain(token.split(".")[2])
    half = len(raw) // 2
    der = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
    return altered(token, 2, lambda _: encode_segment(der))


FORGERIES: dict[str, Callable[[], str | bytes]] = {
    # no signature at all
    "alg none": lambda: forge({**HEADER, "alg": "none"}, claims()),
    "alg None": lambda: forge({**HEADER, "alg": "None"}, claims()),
    "alg NONE, with the old signature": lambda: altered(
        issue(), 0, lambda _: encode_segment({**HEADER, "alg": "NONE"})
    ),
    "alg empty": lambda: forge({**HEADER, "alg": ""}, claims()),
    "no alg": lambda: forge({"typ": "JWT", "kid": "rsa"}, claims()),
    "alg no text": lambda: forge({**HEADER, "alg": ["RS256"]}, claims()),
    "alg null": lambda: forge({**HEADER, "alg": None}, claims()),
    "signature cut off": lambda: issue().rpartition(".")[0] + ".",
    "signature of zeros": lambda: altered(issue(), 2, lambda _: encode_segment(bytes(256))),
    "ECDSA signature of zeros": lambda: altered(issue(alg="ES256", kid="p256"), 2, lambda _: encode_segment(bytes(64))),
    # the public key as a shared secret
    "HS256 with the PEM": lambda: forge(
        {**HEADER, "alg": "HS256"}, claims(), hmac_with(public_pem(rsa_key("authority")))
    ),
    "HS256 with the DER": lambda: forge(
        {**HEADER, "alg": "HS256"}, claims(), hmac_with(public_der(rsa_key("authority")))
    ),
    "HS512 with the PEM": lambda: forge(
        {**HEADER, "alg": "HS512"}, claims(), hmac_with(public_pem(rsa_key("authority")), "sha512")
    ),
    "HS256 with the JWK": lambda: forge(
        {**HEADER, "alg": "HS256"}, claims(), hmac_with(json.dumps(public_jwk(rsa_key("authority"))).encode())
    ),
    "HS256 with an empty secret": lambda: forge({**HEADER, "alg": "HS256"}, claims(), hmac_with(b"")),
    "HS256 under an EC key's id": lambda: forge(
        {"alg": "HS256", "kid": "p256"}, claims(), hmac_with(public_pem(ec_key(ec.SECP256R1)))
    ),
    "hs256, lower case": lambda: forge(
        {**HEADER, "alg": "hs256"}, claims(), hmac_with(public_pem(rsa_key("authority")))
    ),
    # one algorithm for another
    "RS256 told as PS256": lambda: altered(issue(), 0, lambda _: encode_segment({**HEADER, "alg": "PS256"})),
    "RS256 told as RS512": lambda: altered(issue(), 0, lambda _: encode_segment({**HEADER, "alg": "RS512"})),
    "RS256 told as ES256": lambda: altered(
        issue(), 0, lambda _: encode_segment({"alg": "ES256", "kid": "p256", "typ": "JWT"})
    ),
    "RS256 under an EC key's id": lambda: issue(kid="p256", key=rsa_key("authority")),
    "ES256 by the P-384 key's id": lambda: issue(alg="ES256", kid="p384", key=ec_key(ec.SECP256R1)),
    "EdDSA under the RSA key's id": lambda: issue(alg="EdDSA", kid="rsa", key=ed_key()),
    "ECDSA in DER": lambda: p1363_to_der(issue(alg="ES256", kid="p256")),
    "rs256, lower case": lambda: signed_by_hand({**HEADER, "alg": "rs256"}, claims()),
    "an algorithm that nobody has": lambda: signed_by_hand({**HEADER, "alg": "RS256 "}, claims()),
    # the wrong key
    "a stranger's key under our id": lambda: issue(key=stranger()),
    "a stranger's key under no id": lambda: issue(kid=None, key=stranger()),
    "a stranger's key under its own id": lambda: issue(kid="stranger", key=stranger()),
    "a small key": lambda: signed_by_hand({**HEADER, "kid": "small"}, claims(), rsa_key("small", 1024)),
    "a key for encryption": lambda: issue(kid="enc", key=rsa_key("enc")),
    "a key bound to another algorithm": lambda: issue(kid="bound", key=rsa_key("bound")),
    "a key whose id two have": lambda: issue(kid="twin", key=rsa_key("twin")),
    "kid a path": lambda: issue(kid="../../../../dev/null", key=stranger()),
    "kid an injection": lambda: issue(kid="rsa' UNION SELECT 'x", key=stranger()),
    "kid a URL": lambda: issue(kid="https://evil.test/keys#1", key=stranger()),
    "kid empty": lambda: issue(kid="", key=stranger()),
    "kid no text": lambda: signed_by_hand({"alg": "RS256", "kid": 1}, claims()),
    # keys that a token brings along
    "jwk in the header": lambda: issue(key=stranger(), jwk=public_jwk(stranger(), kid="rsa")),
    "jwk in the header, and its id": lambda: issue(kid="mine", key=stranger(), jwk=public_jwk(stranger(), kid="mine")),
    "jku in the header": lambda: issue(key=stranger(), jku="https://evil.test/keys"),
    "x5u in the header": lambda: issue(key=stranger(), x5u="https://evil.test/cert"),
    "x5c in the header": lambda: issue(key=stranger(), x5c=[base64.b64encode(public_der(stranger())).decode()]),
    "x5t in the header": lambda: issue(key=stranger(), x5t="AAAA"),
    # extensions that change what is signed
    "crit": lambda: signed_by_hand({**HEADER, "crit": ["exp"], "exp": 1}, claims()),
    "crit, empty": lambda: signed_by_hand({**HEADER, "crit": []}, claims()),
    "b64 false": lambda: signed_by_hand({**HEADER, "b64": False, "crit": ["b64"]}, claims()),
    # another kind of token
    "typ dpop": lambda: issue(typ="dpop+jwt"),
    "typ logout": lambda: issue(typ="logout+jwt"),
    "typ no text": lambda: signed_by_hand({**HEADER, "typ": 1}, claims()),
    "an ID token": lambda: issue(claims(at_hash="x")),
    "encrypted, five segments": lambda: issue() + ".AAAA.AAAA",
    # another issuer
    "an issuer that isn't trusted": lambda: issue(claims(iss="https://evil.test")),
    "another issuer, our key": lambda: issue(claims(iss=OTHER_ISSUER)),
    "the issuer with a last slash": lambda: issue(claims(iss=ISSUER + "/")),
    "the issuer in capitals": lambda: issue(claims(iss=ISSUER.upper())),
    "the issuer's beginning": lambda: issue(claims(iss="https://login.test")),
    "the issuer and more": lambda: issue(claims(iss=ISSUER + ".evil.test")),
    "no issuer": lambda: issue(claims(iss=None)),
    "a list of issuers": lambda: signed_by_hand(HEADER, claims(iss=[ISSUER])),
    # another server
    "another mount": lambda: issue(claims(aud="https://mcp.test/math/mcp")),
    "another host": lambda: issue(claims(aud="https://mcp.other.test/echo/mcp")),
    "another scheme": lambda: issue(claims(aud="http://mcp.test/echo/mcp")),
    "the host alone": lambda: issue(claims(aud="https://mcp.test")),
    "the path and more": lambda: issue(claims(aud=RESOURCE + "/tools")),
    "the path's beginning": lambda: issue(claims(aud="https://mcp.test/ech")),
    "a client's id": lambda: issue(claims(aud="some-client")),
    "no audience": lambda: issue(claims(aud=None)),
    "no audiences": lambda: issue(claims(aud=[])),
    "audience a number": lambda: signed_by_hand(HEADER, claims(aud=1)),
    "audience an object": lambda: signed_by_hand(HEADER, claims(aud={RESOURCE: True})),
    "audience with a stranger in it": lambda: signed_by_hand(HEADER, claims(aud=[RESOURCE, 1])),
    "audience *": lambda: issue(claims(aud="*")),
    # another time
    "expired": lambda: issue(claims(exp=int(NOW) - 31)),
    "expired for years": lambda: issue(claims(exp=1)),
    "without expiry": lambda: issue(claims(exp=None)),
    "expiry a text": lambda: signed_by_hand(HEADER, claims(exp=str(int(NOW) + 600))),
    "expiry a flag": lambda: signed_by_hand(HEADER, claims(exp=True)),
    "expiry beyond all time": lambda: signed_by_hand(HEADER, claims(exp=1e300)),
    "expiry not a number": lambda: signed_by_hand(
        HEADER, json.dumps(claims()).replace(str(int(NOW) + 600), "NaN").encode()
    ),
    "expiry negative": lambda: issue(claims(exp=-1)),
    "not yet valid": lambda: issue(claims(nbf=int(NOW) + 31)),
    "issued tomorrow": lambda: issue(claims(iat=int(NOW) + 86400)),
    "not-before a text": lambda: signed_by_hand(HEADER, claims(nbf="yesterday")),
    # about nobody
    "no subject": lambda: issue(claims(sub=None)),
    "an empty subject": lambda: issue(claims(sub="")),
    "a subject of two lines": lambda: issue(claims(sub="alice\nadmin")),
    "a subject with spaces around": lambda: issue(claims(sub=" alice")),
    "a subject without end": lambda: issue(claims(sub="a" * 513)),
    "a subject that is a number": lambda: signed_by_hand(HEADER, claims(sub=1)),
    # changed on the way
    "another subject under the signature": lambda: altered(issue(), 1, retold(sub="admin")),
    "later expiry under the signature": lambda: altered(issue(), 1, retold(exp=int(NOW) + 10_000)),
    "more scopes under the signature": lambda: altered(issue(), 1, retold(scope="admin")),
    "header flipped": lambda: altered(issue(), 0, lambda text: flip(text, 5)),
    "payload flipped": lambda: altered(issue(), 1, lambda text: flip(text, 20)),
    "signature flipped": lambda: altered(issue(), 2, lambda text: flip(text, 10)),
    "signature spelt in another way": lambda: altered(issue(alg="EdDSA", kid="ed"), 2, last_bits),
    "signature with padding": lambda: issue(alg="EdDSA", kid="ed") + "==",
    "signature twice": lambda: altered(issue(), 2, lambda text: text * 2),
    "signature of another token": lambda: altered(issue(), 2, lambda _: issue(claims(sub="bob")).rpartition(".")[2]),
    "truncated in the payload": lambda: issue()[:200],
    "truncated by a byte": lambda: issue()[:-1],
    # not a token
    "empty": lambda: "",
    "dots": lambda: "..",
    "one word": lambda: "hunter2",
    "JSON as it is": lambda: json.dumps(claims()),
    "header no object": lambda: forge([1], claims()),
    "header no JSON": lambda: forge(b"\xff\xfe", claims()),
    "payload no object": lambda: signed_by_hand(HEADER, [claims()]),
    "payload no JSON": lambda: signed_by_hand(HEADER, b"{"),
    "payload nested without end": lambda: signed_by_hand(HEADER, b'{"iss":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "header nested without end": lambda: forge(b"[" * 5000 + b"]" * 5000, claims()),
    "two tokens": lambda: f"{issue()} {issue()}",
    "two tokens and a comma": lambda: f"{issue()},{issue()}",
    "a byte beyond ASCII": lambda: issue().encode() + b"\xe9",
    "oversized": lambda: issue(claims(groups=["g" * 100] * 200)),
    "an API key of nobody": lambda: "mcpgw_" + "A" * 43,
}


def world() -> World:
    made = World()
    keys = key_set()["keys"]
    keys += [
        public_jwk(rsa_key("small", 1024), kid="small"),
        public_jwk(rsa_key("enc"), kid="enc", use="enc"),
        public_jwk(rsa_key("bound"), kid="bound", alg="PS256"),
        public_jwk(rsa_key("twin"), kid="twin"),
        public_jwk(stranger(), kid="twin"),
        {"kty": "oct", "k": encode_segment(b"secret"), "kid": "oct"},
    ]
    made.told[f"{ISSUER}/keys"] = {"keys": keys}
    return made


@proves("AUTH-1")
@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_lets_nobody_in(name: str) -> None:
    tested = world()
    credentials = bearing(FORGERIES[name]())
    with pytest.raises(Denied) as caught:
        await tested.gate.identify(credentials)
    assert caught.value.outcome is Outcome.UNAUTHENTICATED
    assert caught.value.http_status == 401
    assert tested.gate.recall(credentials) is None
    assert set(tested.asked) <= {f"{ISSUER}/keys"}  # nothing that a token names is ever fetched


def test_there_are_enough_forgeries() -> None:
    assert len(FORGERIES) >= 60
    assert len({forge() for forge in map(FORGERIES.get, FORGERIES) if forge is not None}) >= 60


@pytest.mark.parametrize(
    ("alg", "kid"),
    [
        *(("RS256", "rsa"), ("RS384", "rsa"), ("RS512", "rsa"), ("PS256", "rsa"), ("PS384", "rsa"), ("PS512", "rsa")),
        *(("ES256", "p256"), ("ES384", "p384"), ("ES512", "p521"), ("EdDSA", "ed")),
    ],
)
async def test_a_token_of_every_good_algorithm_lets_in(alg: str, kid: str) -> None:
    identity = await World().gate.identify(bearing(issue(alg=alg, kid=kid)))
    assert identity.principal == f"{ISSUER} alice"


async def test_an_algorithm_that_is_not_listed_lets_nobody_in() -> None:
    strict = World(trusting(algorithms=frozenset({"ES256"})))
    with pytest.raises(Denied, match="algorithm"):
        await strict.gate.identify(bearing(issue()))
    assert await strict.gate.identify(bearing(issue(alg="ES256", kid="p256")))


async def test_one_issuer_cannot_speak_for_another() -> None:
    both = Admission(
        issuers=(
            Issuer(ISSUER, jwks_url=f"{ISSUER}/keys"),
            Issuer(OTHER_ISSUER, jwks_url=f"{OTHER_ISSUER}/keys"),
        )
    )
    tested = World(both)
    tested.told[f"{OTHER_ISSUER}/keys"] = {"keys": [public_jwk(stranger(), kid="rsa")]}
    with pytest.raises(Denied):
        await tested.gate.identify(bearing(issue(claims(iss=OTHER_ISSUER))))
    with pytest.raises(Denied):
        await tested.gate.identify(bearing(issue(key=stranger())))
    theirs = await tested.gate.identify(bearing(issue(claims(iss=OTHER_ISSUER), key=stranger())))
    ours = await tested.gate.identify(bearing(issue()))
    assert (theirs.principal, ours.principal) == (f"{OTHER_ISSUER} alice", f"{ISSUER} alice")


@proves("AUTH-2")
async def test_a_token_for_one_mount_is_no_good_at_another() -> None:
    tested = World()
    token = issue()
    assert await tested.gate.identify(bearing(token))
    elsewhere = bearing(token, "https://mcp.test/math/mcp")
    assert tested.gate.recall(elsewhere) is None
    with pytest.raises(Denied, match="made for another server"):
        await tested.gate.identify(elsewhere)


@given(st.binary(max_size=300))
@settings(max_examples=300)
async def test_no_byte_string_is_accepted(raw: bytes) -> None:
    tested = World()
    for credentials in (Credentials(RESOURCE, authorization=raw), bearing(raw)):
        with pytest.raises(Ended) as caught:
            await tested.gate.identify(credentials)
        assert caught.value.http_status == 401


TOKEN_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


@given(st.data())
@settings(max_examples=200)
async def test_no_token_with_a_changed_character_is_accepted(data: st.DataObject) -> None:
    token = issue(alg="ES256", kid="p256")
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(TOKEN_ALPHABET.replace(token[place], "")))
    with pytest.raises(Denied):
        await World().gate.identify(bearing(token[:place] + other + token[place + 1 :]))


def test_the_authority_has_a_key_of_every_kind() -> None:
    assert list(private_keys()) == ["rsa", "p256", "p384", "p521", "ed"]
