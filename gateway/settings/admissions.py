"""Who may call: what the file says of it under `auth:`, and the policy that this becomes."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.policy.admissions import (
    ALGORITHMS,
    Admission,
    Algorithm,
    ApiKey,
    CertificateField,
    Introspection,
    Issuer,
    ProxyIdentity,
    read_headers,
)
from gateway.policy.backends import Tls
from gateway.settings import values
from gateway.settings.fields import Duration, Flag, Shape, Texts, TlsShape, Wait, duration_field
from gateway.settings.masks import MaskedText, MaskedUrl

_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 §3.3
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


def check_url(url: str) -> str:
    """An absolute http(s) URL, as it stands: an issuer's is compared character by character (RFC 8414 §3.3)."""
    values.check_endpoint(url)
    if "?" in url:
        raise ValueError("must have no query")
    return url


def check_key_name(name: str) -> str:
    if not _KEY_NAME.fullmatch(name):
        raise ValueError("a key's name holds only letters, digits, '.', '_', '@' and '-', at most 63")
    return name


def check_digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError(
            "must be the SHA-256 of a key, 64 hexadecimal digits: `mcp-gateway keygen --api-key NAME` makes both"
        )
    return text.lower()


def check_scopes(scopes: list[str]) -> list[str]:
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise ValueError('a scope is visible ASCII without spaces, `"` and `\\`')
    return scopes


def check_claim(name: str) -> str:
    if not name.strip():
        raise ValueError("must name a claim, such as `groups`, or a path to one, such as `realm_access.roles`")
    return name


Url = Annotated[str, AfterValidator(check_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
Header = Annotated[str, AfterValidator(values.check_header_name)]
Scopes = Annotated[list[str], BeforeValidator(values.split_commas), AfterValidator(check_scopes)]


class IntrospectionShape(Shape):
    """Where the issuer says whether an opaque token is good (RFC 7662)."""

    url: Url = Field(default="", description="Of its introspection endpoint.")
    client_id: str = Field(default="", description="By which the gateway is known there.")
    client_secret: str = Field(default="", description="Sent as HTTP Basic authentication.")
    cache: Duration = duration_field(
        Introspection("", "", "").cache_seconds,
        "For how long its word on a token is believed; never beyond its expiry.",
    )


class IssuerShape(Shape):
    """An authorization server whose access tokens are accepted."""

    issuer: Url = Field(
        default="",
        description="Exactly as its tokens have it in `iss`.",
        examples=["https://login.example.com/realms/mcp"],
    )
    jwks_url: Url | None = Field(default=None, description="Of its keys. Default: what its metadata say.")
    audiences: Texts = Field(
        default=[],
        description="What a token may have in `aud` besides the URL of what is called; for an issuer that knows no `resource`. "
        "A token with such an audience is good at every mount.",
        examples=[["api://mcp"]],
    )
    algorithms: Annotated[list[Algorithm], BeforeValidator(values.split_commas), Field(min_length=1)] = Field(
        default=list(ALGORITHMS), description="By which its tokens may be signed. Default: all of these."
    )
    introspection: IntrospectionShape | None = Field(default=None, description="For tokens that aren't JWTs.")
    groups_claim: Annotated[str, AfterValidator(check_claim)] = Field(
        default="groups",
        description="The claim with the caller's groups; dots lead into objects.",
        examples=["realm_access.roles"],
    )
    tls: TlsShape = TlsShape()
    proxy: Annotated[str, AfterValidator(values.check_proxy)] | None = Field(
        default=None, description="An outgoing HTTP proxy.", examples=["http://proxy:3128"]
    )


class ApiKeyShape(Shape):
    """A key for a program. `mcp-gateway keygen --api-key NAME` makes one, and these lines."""

    name: Annotated[str, AfterValidator(check_key_name)] = Field(
        default="", description="What the caller is known by: in logs, in grants."
    )
    sha256: Annotated[
        str, AfterValidator(check_digest), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})
    ] = Field(default="", description="Of the key; the key itself is kept by its holder alone.")
    groups: Texts = Field(default=[], description="Its holder's groups.", examples=[["support"]])
    scopes: Scopes = Field(default=[], description="Its scopes.", examples=[["mcp:read"]])


class ProxyShape(Shape):
    """A proxy of `trusted_proxies` says who calls. From any other peer these headers are dropped."""

    user_header: Header = Field(
        default="",
        description="With the caller's name; X-Forwarded-Client-Cert is read as Envoy writes it.",
        examples=["x-forwarded-user", "x-forwarded-client-cert"],
    )
    groups_header: Header | None = Field(
        default=None, description="With the caller's groups, apart by commas.", examples=["x-forwarded-groups"]
    )
    certificate_field: CertificateField = Field(
        default="Subject", description="Of the certificate in X-Forwarded-Client-Cert."
    )


class AuthShape(Shape):
    """Ways to prove who one is; each request needs one."""

    issuers: list[IssuerShape] = Field(default=[], description="OAuth 2.1 authorization servers.")
    api_keys: list[ApiKeyShape] = Field(
        default=[], description="Keys, sent as `Authorization: Bearer mcpgw_…` or as `X-API-Key`."
    )
    proxy: ProxyShape | None = Field(default=None, description="A proxy before the gateway that knows who calls.")
    anonymous: Flag = Field(
        default=False, description="Whether a request without credentials is let in too. One with wrong ones never is."
    )
    scopes: Scopes = Field(
        default=[], description="Scopes that every access token must have.", examples=[["mcp:tools"]]
    )
    clock_skew: Wait = duration_field(
        Admission().clock_skew_seconds, "By how much issuers' clocks and ours may differ."
    )


NOBODY_ASKED: Final = AuthShape()
"""`auth: none`. A mapping that equals it, `auth: {}`, is another object, and a mistake."""


def read_auth(value: object) -> object:
    if isinstance(value, str):
        if value != "none":
            raise ValueError("must be `none`, or a mapping such as {issuers: [{issuer: https://login.example.com}]}")
        return NOBODY_ASKED
    return value


Auth = Annotated[AuthShape, BeforeValidator(read_auth)]


def is_asking(shape: AuthShape | None) -> bool:
    """Whether callers must say who they are."""
    return shape is not None and shape is not NOBODY_ASKED


def compile_admission(shape: AuthShape | None, tls: Mapping[int, Tls]) -> Admission | None:
    """The policy of a configuration without mistakes; `tls` is of the issuers that have any, by their place."""
    if shape is None or not is_asking(shape):
        return None
    told = shape.proxy
    proxy = ProxyIdentity(told.user_header, told.groups_header, told.certificate_field) if told else None
    return Admission(
        issuers=tuple(compile_issuer(issuer, tls.get(place, Tls())) for place, issuer in enumerate(shape.issuers)),
        api_keys=tuple(ApiKey(k.name, k.sha256, frozenset(k.groups), frozenset(k.scopes)) for k in shape.api_keys),
        proxy=proxy,
        anonymous=shape.anonymous,
        scopes=tuple(dict.fromkeys(shape.scopes)),
        clock_skew_seconds=shape.clock_skew,
        headers=read_headers(bool(shape.api_keys), proxy),
    )


def compile_issuer(shape: IssuerShape, tls: Tls) -> Issuer:
    told = shape.introspection
    return Issuer(
        issuer=shape.issuer,
        jwks_url=shape.jwks_url,
        audiences=frozenset(shape.audiences),
        algorithms=frozenset(shape.algorithms),
        introspection=compile_introspection(told) if told else None,
        groups_claim=shape.groups_claim,
        tls=tls,
        proxy=MaskedUrl(shape.proxy) if shape.proxy else None,
    )


def compile_introspection(shape: IntrospectionShape) -> Introspection:
    return Introspection(shape.url, shape.client_id, MaskedText(shape.client_secret), shape.cache)


Found = Iterator[tuple[tuple[str | int, ...], str]]
"""Keys below `auth`, and what is wrong there."""


def check_auth(shape: AuthShape, *, has_proxies: bool) -> Found:
    """What several keys get wrong together, and what is missing."""
    if not (shape.issuers or shape.api_keys or shape.proxy or shape.anonymous):
        yield (), "lets nobody in: give it `issuers`, `api_keys` or `proxy`; or write `auth: none`"
    for place, issuer in enumerate(shape.issuers):
        yield from ((("issuers", place, *key), said) for key, said in _check_issuer(issuer))
    yield from _refuse_twice("issuers", "issuer", [issuer.issuer for issuer in shape.issuers])
    for place, key in enumerate(shape.api_keys):
        for name in ("name", "sha256"):
            if not getattr(key, name):
                made = "`mcp-gateway keygen --api-key NAME` makes a key and these lines"
                yield ("api_keys", place, name), f"is missing: {made}"
    yield from _refuse_twice("api_keys", "name", [key.name for key in shape.api_keys])
    yield from _refuse_twice("api_keys", "sha256", [key.sha256 for key in shape.api_keys])
    if shape.proxy and not shape.proxy.user_header:
        yield ("proxy", "user_header"), "is missing: name the header with the caller's name, such as x-forwarded-user"
    if shape.proxy and not has_proxies:
        yield ("proxy",), "has no effect without `trusted_proxies`: say which proxies may tell who calls"


def _check_issuer(issuer: IssuerShape) -> Found:
    if not issuer.issuer:
        yield ("issuer",), "is missing: give its URL, exactly as its tokens have it in `iss`"
    for given, lacking in (("client_cert", "client_key"), ("client_key", "client_cert")):
        if getattr(issuer.tls, given) and not getattr(issuer.tls, lacking):
            yield ("tls", given), f"needs `{lacking}:` beside it"
    for key in ("url", "client_id", "client_secret"):
        if issuer.introspection and not getattr(issuer.introspection, key):
            yield ("introspection", key), "is missing: introspection needs a URL and client credentials"


def _refuse_twice(key: str, part: str, told: list[str]) -> Found:
    for place, value in enumerate(told):
        if value and value in told[:place]:
            yield (key, place, part), "stands twice: remove one"


def list_crossings(admission: Admission) -> Iterator[tuple[str, str]]:
    """Of each issuer the URLs, told or standing for what is found there, that anyone on the way may answer."""
    for issuer in admission.issuers:
        told = issuer.introspection.url if issuer.introspection else ""
        for url in (issuer.jwks_url or issuer.issuer, told):
            if url.startswith("http://") and not values.is_loopback(values.host_of(url)):
                yield issuer.issuer, url
