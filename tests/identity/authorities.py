"""An authority whose keys are made here, the tokens that it issues, and those that only look so."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.identity.gates import IdentityGate
from gateway.policy.admissions import Admission, Issuer
from gateway.protocol.credentials import Credentials
from tests.fakes import FakeAnswer, FakeUpstream, Sent

ISSUER = "https://login.test/realms/mcp"
OTHER_ISSUER = "https://login.other.test"
RESOURCE = "https://mcp.test/echo/mcp"
NOW = 1_800_000_000.0


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def private_keys() -> dict[str, Any]:
    """The authority's, by their ids."""
    return {
        "rsa": rsa_key("authority"),
        "p256": ec_key(ec.SECP256R1),
        "p384": ec_key(ec.SECP384R1),
        "p521": ec_key(ec.SECP521R1),
        "ed": ed_key(),
    }


def public_jwk(key: Any, **members: object) -> dict[str, Any]:
    writers: tuple[tuple[type, Any], ...] = (
        (rsa.RSAPrivateKey, RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, ECAlgorithm),
        (ed25519.Ed25519PrivateKey, OKPAlgorithm),
    )
    writer = next(writer for kind, writer in writers if isinstance(key, kind))
    jwk: dict[str, Any] = writer.to_jwk(key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, **members}


def key_set(*kids: str) -> dict[str, Any]:
    keys = private_keys()
    return {"keys": [public_jwk(keys[kid], kid=kid, use="sig") for kid in kids or keys]}


def claims(**changes: object) -> dict[str, Any]:
    """A good token's; a change to None takes one away."""
    good = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": RESOURCE,
        "exp": int(NOW) + 600,
        "iat": int(NOW),
        "scope": "mcp:tools mcp:read",
        "groups": ["support"],
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def issue(
    told: Mapping[str, Any] | None = None,
    *,
    alg: str = "RS256",
    kid: str | None = "rsa",
    key: Any = None,
    **header: Any,
) -> str:
    """A token that is signed, by the authority where no `key` is given."""
    told = claims() if told is None else dict(told)
    headers = {"kid": kid, **header} if kid is not None else header
    signer = private_keys()[kid or "rsa"] if key is None else key
    return jwt.encode(dict(told), signer, algorithm=alg, headers=headers, sort_headers=True)


def encode_segment(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: object, told: object, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token put together by hand: no library would write it."""
    signed = f"{encode_segment(header)}.{encode_segment(told)}"
    return f"{signed}.{encode_segment(sign(signed.encode()))}"


def hmac_with(secret: bytes, name: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, getattr(hashlib, name)).digest()


def public_pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def public_der(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def bearing(token: str | bytes, resource: str = RESOURCE) -> Credentials:
    raw = token if isinstance(token, bytes) else token.encode("latin-1")
    return Credentials(resource, authorization=b"Bearer " + raw)


class World:
    """A gate, an upstream that answers as issuers would, and clocks that one turns by hand."""

    def __init__(self, admission: Admission | None = None) -> None:
        self.upstream = FakeUpstream()
        self.upstream.respond = self.respond
        self.told: dict[str, Any] = {f"{ISSUER}/keys": key_set()}
        """What is at a URL: a JSON value, a whole answer, or an error."""
        self.now = 1000.0
        self.wall = NOW
        self.gate = IdentityGate(admission or trusting(), self.upstream, lambda: self.now, lambda: self.wall)

    def respond(self, sent: Sent) -> FakeAnswer | Exception:
        told = self.told.get(sent.address)
        if isinstance(told, FakeAnswer | Exception):
            return told
        if told is None:
            return FakeAnswer(404, [], b"")
        return FakeAnswer(200, [(b"content-type", b"application/json")], json.dumps(told).encode())

    @property
    def asked(self) -> list[str]:
        return [sent.address for sent in self.upstream.sent]


def trusting(**changes: Any) -> Admission:
    """An admission that trusts the authority."""
    return Admission(issuers=(Issuer(ISSUER, jwks_url=f"{ISSUER}/keys", **changes),))
