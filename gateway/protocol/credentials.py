"""What of a request's headers says who calls: which headers those are, and how they are read. Whether it is true is
`identity/`'s to find out.

`Authorization: Bearer …` is RFC 6750 §2.1 in the grammar of RFC 9110 §11.4; a token in the query or the body is nobody's
here (MCP 2025-11-25, basic/authorization "Token Requirements"). `X-Forwarded-Client-Cert` is written as Envoy does.
"""

import re
from functools import cached_property
from typing import Final

import msgspec

from gateway.protocol.headers import Headers
from gateway.protocol.outcomes import Outcome, Rejected

API_KEY: Final = b"x-api-key"
CLIENT_CERTIFICATE: Final = b"x-forwarded-client-cert"

MAX_TOKEN_BYTES: Final = 16 * 1024
"""Of a bearer token. Large real ones, with a hundred groups in them, have 8 KiB. Beyond: it is no token."""

_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_SCHEME: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr](?: |$)")
_ELEMENT_END: Final = re.compile(r'[;,]|"(?:[^"\\]|\\.)*"|[^;,"]+')


class CredentialHeaders(msgspec.Struct, frozen=True, dict=True):
    """Which headers are read besides `Authorization`, names in lower case; None: not read, and not ours to keep."""

    api_key: bytes | None = None
    user: bytes | None = None  # of a trusted proxy, as is the next
    groups: bytes | None = None

    @cached_property
    def names(self) -> frozenset[bytes]:
        """All of them. They are for the gateway: none goes on to a backend, whoever sent it."""
        return frozenset(name for name in (self.api_key, self.user, self.groups) if name is not None)


class Credentials(msgspec.Struct, frozen=True):
    """What a request says of its caller, unproven and unparsed. Its repr shows none of it."""

    resource: str  # the canonical URI of what is called; empty where there is no `public_url`
    authorization: bytes = b""
    api_key: bytes = b""
    user: bytes = b""  # a trusted proxy's word, as is the next; empty from any other peer
    groups: bytes = b""
    path: str = ""  # as it was called: a challenge points at the metadata of that spelling

    def __repr__(self) -> str:
        return f"Credentials(resource={self.resource!r}, ***)"


def read_credentials(
    headers: Headers,
    index: dict[bytes, bytes],
    names: CredentialHeaders,
    *,
    trusted: bool,
    resource: str,
    path: str = "",
) -> Credentials:
    """The credentials among the headers (`index` is `index_headers` of them); a proxy's only where the peer is `trusted`.
    `path` is as the request has it.

    Raises `Rejected` where one of them stands twice: the proxy may have meant the other one.
    """
    api_key, user, groups = names.api_key, names.user if trusted else None, names.groups if trusted else None
    if api_key is None and user is None:
        return Credentials(resource, index.get(b"authorization", b""), path=path)
    told = [name for name, _ in headers if name in (api_key, user, groups)]
    if len(told) > len(set(told)):
        raise Rejected(Outcome.AMBIGUOUS, "a header that says who calls stands twice: send it once")
    return Credentials(
        resource,
        index.get(b"authorization", b""),
        b"" if api_key is None else index.get(api_key, b""),
        b"" if user is None else index.get(user, b"").strip(b" \t"),
        b"" if groups is None else index.get(groups, b""),
        path,
    )


def is_bearer(authorization: bytes) -> bool:
    """Whether the header's scheme is Bearer, whatever follows (RFC 9110 §11.1: in any case)."""
    return _SCHEME.match(authorization) is not None


def parse_bearer(authorization: bytes) -> str | None:
    """The token; None where what follows the scheme is none (RFC 6750 §2.1: b64token, and nothing after it)."""
    found = _BEARER.fullmatch(authorization.strip(b" \t"))
    return None if found is None or len(found[1]) > MAX_TOKEN_BYTES else found[1].decode("ascii")


def split_groups(value: bytes) -> frozenset[str]:
    """The groups that a proxy names, apart by commas (or `|`, or `;`, as some write them)."""
    names = re.split(r"[,;|]", value.decode("utf-8", "replace"))
    return frozenset(name.strip() for name in names if name.strip())


def parse_client_certificate(value: bytes, field: str) -> str | None:
    """The `field` (`Subject`, `URI`) of the one certificate in an `X-Forwarded-Client-Cert`; None where there isn't one.

    Several elements are the word of several proxies, and which of them is the client's can't be told: None, too.
    https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
    """
    pairs: list[str] = [""]
    for piece in _ELEMENT_END.findall(value.decode("utf-8", "replace")):
        if piece == ",":
            return None
        if piece == ";":
            pairs.append("")
        else:
            pairs[-1] += piece
    found = [told for key, _, told in (pair.partition("=") for pair in pairs) if key.strip().lower() == field.lower()]
    if len(found) != 1:
        return None
    text = found[0].strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    return text or None
