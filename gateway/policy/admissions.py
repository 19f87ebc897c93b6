"""Who may say who they are, and how it is proven: what `auth:` in the configuration comes to. `identity/` does as it says."""

from typing import Final, Literal

import msgspec

from gateway.policy.backends import Tls
from gateway.protocol.credentials import API_KEY, CredentialHeaders

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # signatures by public keys alone (RFC 7518 §3.1, RFC 8037 §3.1): `none` and HMAC can't even be configured
CertificateField = Literal["Subject", "URI"]

ALGORITHMS: Final[tuple[Algorithm, ...]] = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)


class Introspection(msgspec.Struct, frozen=True):
    """Where an issuer says whether an opaque token is good (RFC 7662)."""

    url: str
    client_id: str
    client_secret: str
    cache_seconds: float = 30.0  # for how long its word is believed


class Issuer(msgspec.Struct, frozen=True):
    """One authorization server whose tokens count."""

    issuer: str  # exactly as its tokens have it in `iss`
    jwks_url: str | None = None  # None: its metadata say (RFC 8414, OpenID Connect Discovery)
    audiences: frozenset[str] = frozenset()  # besides what is called itself
    algorithms: frozenset[Algorithm] = frozenset(ALGORITHMS)
    introspection: Introspection | None = None
    groups_claim: str = "groups"
    tls: Tls = Tls()
    proxy: str | None = None  # as a backend's


class ApiKey(msgspec.Struct, frozen=True):
    """A key that `mcp-gateway keygen --api-key` made. Only its digest is known here."""

    name: str
    sha256: str  # hexadecimal
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()


class ProxyIdentity(msgspec.Struct, frozen=True):
    """The headers, in lower case, by which a trusted proxy says who calls."""

    user_header: str
    groups_header: str | None = None
    certificate_field: CertificateField = "Subject"  # of X-Forwarded-Client-Cert


class Admission(msgspec.Struct, frozen=True):
    """All ways in. A request needs one of them, unless it may be anonymous."""

    issuers: tuple[Issuer, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    proxy: ProxyIdentity | None = None
    anonymous: bool = False
    scopes: tuple[str, ...] = ()  # that every token must have
    clock_skew_seconds: float = 30.0
    headers: CredentialHeaders = CredentialHeaders()


def read_headers(api_keys: bool, proxy: ProxyIdentity | None) -> CredentialHeaders:
    """Which headers such an admission reads."""
    user = proxy.user_header.encode("ascii") if proxy else None
    groups = proxy.groups_header.encode("ascii") if proxy and proxy.groups_header else None
    return CredentialHeaders(api_key=API_KEY if api_keys else None, user=user, groups=groups)
