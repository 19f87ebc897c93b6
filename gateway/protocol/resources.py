"""Protected resources as OAuth knows them: their URIs, their metadata (RFC 9728), and the challenges that name both.

Knows nothing of who may call. MCP: 2025-11-25 and 2026-07-28, basic/authorization.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.protocol.outcomes import Denied, Outcome

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

_encode = msgspec.json.Encoder(order="deterministic").encode


def resource_of(public_url: str | None, mount: str) -> str:
    """The canonical URI (RFC 8707 §2; no last slash) of what is served at a mount; "" without a public URL."""
    return "" if public_url is None else f"{public_url}{mount.rstrip('/')}/mcp"


@lru_cache(maxsize=1024)  # as many as there are mounts
def spell_resource(resource: str) -> tuple[str, ...]:
    """All URIs that mean this resource, the canonical one first: a mount is served at `/name/mcp` and at `/name`, each
    with and without a last slash, and a client asks for a token for the URL that it was given."""
    if not resource:
        return ()
    short = resource.removesuffix("/mcp")
    spelt = (resource, f"{resource}/")
    return (*spelt, short, f"{short}/") if urlsplit(short).path else spelt


def called_as(resource: str, path: str) -> str:
    """The resource spelt as it was called: a client that was given `/echo` takes no metadata of `/echo/mcp` (the SDKs refuse
    what isn't a prefix of their URL; RFC 9728 §3.3 wants the very same)."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{path}" if resource and path else resource


@lru_cache(maxsize=1024)
def metadata_url(resource: str) -> str:
    """Where the resource's metadata is: the well-known path stands between host and path (RFC 9728 §3.1)."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}"


def encode_metadata(resource: str, issuers: Iterable[str], scopes: Iterable[str], name: str) -> bytes:
    """The metadata document (RFC 9728 §2). `resource` is the spelling that was asked for: clients compare it (§3.3)."""
    document: dict[str, object] = {
        "resource": resource,
        "authorization_servers": list(issuers),
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    }
    if told := list(scopes):
        document["scopes_supported"] = told
    return _encode(document)


def unauthenticated(resource: str, scopes: Iterable[str], *, trouble: str = "") -> Denied:
    """401. `trouble` says what is wrong with the token that was sent; empty where none was: then no error code belongs
    into the challenge (RFC 6750 §3.1)."""
    message = trouble or "this server must know who calls: send `Authorization: Bearer` with an access token or API key"
    params = [("error", "invalid_token"), ("error_description", trouble)] if trouble else []
    return Denied(Outcome.UNAUTHENTICATED, message, headers=(_challenge(resource, scopes, params),))


def insufficient_scope(resource: str, needed: Iterable[str]) -> Denied:
    """403 for one who is known, and whose token lacks scopes. `needed`: all that the request takes, those that the token
    has included, since a client asks for a new token with just these (2025-11-25, "Scope Challenge Handling")."""
    scopes = sorted(set(needed))
    text = f"the access token lacks a scope: this needs {' '.join(scopes)}"
    params = [("error", "insufficient_scope"), ("error_description", text)]
    return Denied(Outcome.INSUFFICIENT_SCOPE, text, headers=(_challenge(resource, scopes, params),))


def _challenge(resource: str, scopes: Iterable[str], params: list[tuple[str, str]]) -> tuple[bytes, bytes]:
    """`WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1). Without a resource there is no metadata to point at."""
    if resource:
        params = [("resource_metadata", metadata_url(resource)), *params]
    if told := " ".join(scopes):
        params = [*params, ("scope", told)]
    spelt = ", ".join(f'{name}="{_quotable(text)}"' for name, text in params) or 'realm="mcp"'
    return b"www-authenticate", f"Bearer {spelt}".encode("ascii")


def _quotable(text: str) -> str:
    """What may stand in a quoted parameter (RFC 6750 §3: %x20-21 / %x23-5B / %x5D-7E)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)
