"""An issuer's public keys: read from its JWK Set (RFC 7517), and which of them may prove which token.

A key proves by the algorithms of its own kind alone, so that no header of a token can make one kind of key be taken for
another (RFC 8725 §3.1). What is no public key of a kind known here, or too small, is left out.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.algorithms import AllowedPublicKeys
from jwt.exceptions import PyJWTError

MIN_RSA_BITS: Final = 2048
"""RFC 7518 §3.3: a smaller key MUST NOT be used."""

MAX_KEYS: Final = 100
"""Of one issuer. Real ones have two or three; Entra ID some ten. Beyond: left out."""

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ALGORITHMS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
_PUBLIC_MEMBERS: Final = ("kty", "crv", "n", "e", "x", "y")


class Key(msgspec.Struct, frozen=True):
    """One public key, and the algorithms by which it proves."""

    key_id: str | None
    algorithms: frozenset[str]
    public: Any  # of `cryptography`: what PyJWT takes


class KeySet(msgspec.Struct, frozen=True):
    """All keys of an issuer, as it told them at one time."""

    keys: tuple[Key, ...]

    def find(self, algorithm: str, key_id: str | None) -> AllowedPublicKeys | None:
        """The one key that may prove such a token. A token that names no key must leave no choice."""
        found = [key for key in self.keys if algorithm in key.algorithms and (key_id is None or key.key_id == key_id)]
        return cast("AllowedPublicKeys", found[0].public) if len(found) == 1 else None


def parse_keys(document: Mapping[str, Any]) -> KeySet:
    """The usable keys of a JWK Set; none where it is something else."""
    told = document.get("keys")
    listed = told[:MAX_KEYS] if isinstance(told, list) else []
    keys = (read_key(jwk) for jwk in listed if isinstance(jwk, dict))
    return KeySet(tuple(key for key in keys if key is not None))


def read_key(jwk: Mapping[str, Any]) -> Key | None:
    """The key, None unless it is a public one that signs."""
    kty, crv, told, key_id = jwk.get("kty"), jwk.get("crv"), jwk.get("alg"), jwk.get("kid")
    operations = jwk.get("key_ops")
    if jwk.get("use") not in (None, "sig") or (isinstance(operations, list) and "verify" not in operations):
        return None
    algorithms = _ALGORITHMS.get((str(kty), "" if kty == "RSA" else str(crv)), frozenset())
    if told is not None:
        algorithms &= {told} if isinstance(told, str) else set()
    if not algorithms or not (key_id is None or isinstance(key_id, str)):
        return None
    public = _load({name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}, min(algorithms))
    return None if public is None else Key(key_id, algorithms, public)


def _load(jwk: dict[str, Any], algorithm: str) -> object | None:
    try:
        public = PyJWK(jwk, algorithm).key
    except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return None if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS else public
