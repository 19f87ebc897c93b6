"""Opaque tokens: whether they are good is asked of their issuer (RFC 7662), once for all who wait for the same answer."""

import base64
from typing import Any
from urllib.parse import quote_plus, urlencode

from gateway.identity.fetches import Fetcher
from gateway.policy.admissions import Introspection, Issuer
from gateway.protocol.tokens import TokenRefused


async def introspect(fetcher: Fetcher, issuer: Issuer, told: Introspection, token: str) -> dict[str, Any]:
    """The claims of a good token, `iss` among them. Raises `TokenRefused`, or `Failed` (ISSUER_AWAY)."""
    form = urlencode({"token": token, "token_type_hint": "access_token"}).encode("ascii")
    claims = await fetcher.post(told.url, [(b"authorization", _authorize(told))], form)
    if claims.get("active") is not True:
        raise TokenRefused("the token is not, or no longer, good")
    claims.setdefault("iss", issuer.issuer)  # optional there (RFC 7662 §2.2): it was this issuer that we asked
    return claims


def _authorize(told: Introspection) -> bytes:
    """HTTP Basic, both parts encoded as in a form first (RFC 6749 §2.3.1)."""
    pair = f"{quote_plus(told.client_id)}:{quote_plus(told.client_secret)}"
    return b"Basic " + base64.b64encode(pair.encode("ascii"))
