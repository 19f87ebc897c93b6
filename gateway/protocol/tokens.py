"""Access tokens: what a JWT says of itself before it is proven, and what claims must be true once it is.

No signature is checked here (`identity/` does it, with PyJWT), and no key or issuer is known. The same rules serve the
claims of a JWT and those that an introspection endpoint tells (RFC 7662 §2.2). Sources: RFC 7519, RFC 8725, RFC 9068.
"""

import base64
import binascii
import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

MAX_SUBJECT_LENGTH: Final = 512
"""Of who is meant: distinguished names and pairwise identifiers are shorter. Beyond: refused."""

_TYPES: Final = frozenset({"jwt", "at+jwt"})
"""RFC 9068 §2.1, and what issuers write who don't follow it. `dpop+jwt`, `logout+jwt` and the like are other things that the
same key signs (RFC 8725 §3.11)."""

_ID_TOKEN_CLAIMS: Final = ("at_hash", "c_hash")
"""Only an ID token has them (OpenID Connect Core §3.3.2.11): it tells the client who its user is, and lets nobody in."""


class TokenRefused(Exception):
    """Why a token is no good, as a sentence for its sender that holds nothing of the token."""


class Unproven(msgspec.Struct, frozen=True):
    """What a JWT says by which its proof can be looked for. Nothing of it is true yet."""

    algorithm: str
    key_id: str | None
    issuer: str


class Claims(msgspec.Struct, frozen=True):
    """Who a proven token is about, until when."""

    subject: str
    expires_at: float  # seconds since 1970
    scopes: frozenset[str]
    groups: frozenset[str]


def parse_unproven(token: str) -> Unproven | None:
    """The JWT's header and issuer; None for a token that is no JWT, and so opaque. Raises `TokenRefused`.

    `jku`, `jwk`, `x5u` and `x5c` aren't looked at: a token doesn't say which key proves it (RFC 8725 §3.10).
    """
    segments = token.split(".")
    if len(segments) != 3 or (header := _read_object(segments[0])) is None:
        return None
    if not all(map(_is_canonical, segments)):
        raise TokenRefused("the token is malformed")
    if "crit" in header or "b64" in header:
        raise TokenRefused("the token's header has an extension that is not understood here")
    typ = header.get("typ")
    if typ is not None and (not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES):
        raise TokenRefused("the token is no access token: its `typ` says so")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
        raise TokenRefused("the token's header is malformed")
    claims = _read_object(segments[1])
    issuer = None if claims is None else claims.get("iss")
    if not isinstance(issuer, str):
        raise TokenRefused("the token does not say who issued it")
    return Unproven(algorithm, key_id, issuer)


def _is_canonical(segment: str) -> bool:
    """Whether the segment is the one way to write its bytes: then a token has one spelling."""
    try:
        plain = base64.b64decode(segment + "=" * (-len(segment) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    return base64.urlsafe_b64encode(plain).rstrip(b"=") == segment.encode("ascii")


def _read_object(segment: str) -> dict[str, Any] | None:
    """The JSON object that a segment of a JWS encodes (RFC 7515 §2: base64url without padding)."""
    try:
        value = json.loads(base64.b64decode(segment + "=" * (-len(segment) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def check_claims(
    claims: Mapping[str, Any],
    issuer: str,
    audiences: Collection[str],
    groups_claim: str,
    *,
    now: float,
    skew_seconds: float,
    may_last: bool = False,
) -> Claims:
    """What proven claims come to, if they are this issuer's, for one of these audiences, and of now. Raises `TokenRefused`.

    `now` is in seconds since 1970; the issuer's clock and ours may differ by `skew_seconds`. Without an expiry a token is
    refused, but where it `may_last` because its issuer is asked again.
    """
    if claims.get("iss") != issuer:
        raise TokenRefused("the token is of another issuer")
    if any(name in claims for name in _ID_TOKEN_CLAIMS):
        raise TokenRefused("the token is an ID token: send an access token")
    _check_audience(claims.get("aud"), audiences)
    expires_at = _read_time(claims, "exp")
    if expires_at is None:
        if not may_last:
            raise TokenRefused("the token never expires")
        expires_at = math.inf
    if expires_at + skew_seconds <= now:
        raise TokenRefused("the token has expired")
    for name in ("nbf", "iat"):
        if (begins_at := _read_time(claims, name)) is not None and begins_at - skew_seconds > now:
            raise TokenRefused("the token is not valid yet: are the clocks right?")
    scopes = _read_words(claims.get("scope")) | _read_words(claims.get("scp"))
    return Claims(_read_subject(claims), expires_at, scopes, _read_groups(claims, groups_claim))


def _check_audience(told: object, audiences: Collection[str]) -> None:
    """MCP 2025-11-25, basic/authorization "Token Handling": a server MUST accept only tokens made for itself."""
    names = [told] if isinstance(told, str) else told
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TokenRefused("the token does not say for which server it was made")
    if not any(name in audiences for name in names):
        raise TokenRefused("the token was made for another server: ask for one with this server's URL as `resource`")


def _read_time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
        raise TokenRefused(f"the token's `{name}` is no time")
    return float(value) if math.isfinite(value) else None


def _read_subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not is_name(subject):
        raise TokenRefused("the token does not say whom it is about: its issuer must put that into `sub`")
    return subject


def is_name(text: str) -> bool:
    """Whether somebody can be called that: one line of something visible."""
    return 0 < len(text) <= MAX_SUBJECT_LENGTH and text.isprintable() and text == text.strip()


def _read_words(value: object) -> frozenset[str]:
    """Scopes: apart by spaces (RFC 8693 §4.2), or a list, as some issuers have them."""
    if isinstance(value, str):
        return frozenset(value.split(" ")) - {""}
    return _read_texts(value)


def _read_texts(value: object) -> frozenset[str]:
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def _read_groups(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The claim of that name; where there is none, dots in it lead into objects (`realm_access.roles`)."""
    value: object = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return frozenset({value}) if isinstance(value, str) else _read_texts(value)
