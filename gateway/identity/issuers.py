"""What is asked of one issuer: whether a JWT is proven by its keys, and what it says of an opaque token."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import msgspec
from jwt.exceptions import PyJWTError

from gateway.identity.fetches import Fetcher
from gateway.identity.introspections import introspect
from gateway.identity.rings import Ring
from gateway.policy.admissions import Admission, Issuer
from gateway.policy.identities import Identity
from gateway.ports import Upstream
from gateway.protocol.outcomes import Failed
from gateway.protocol.tokens import TokenRefused, Unproven, check_claims

_jws: Final = jwt.PyJWS()
logger: Final = logging.getLogger("gateway.identity")


class Proof(msgspec.Struct, frozen=True):
    """Who it is; whether an access token said so; and for how long that may be believed."""

    identity: Identity
    is_token: bool = False
    good_for_seconds: float = float("inf")


class IssuerDesk:
    """One issuer, as it is configured. Belongs to one event loop."""

    def __init__(self, issuer: Issuer, upstream: Upstream, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self._fetcher = Fetcher(upstream, issuer)
        self._ring = Ring(issuer, self._fetcher, clock)
        self._is_away = False  # where opaque tokens are asked about

    def close(self) -> None:
        self._ring.close()

    async def prove(
        self,
        token: str,
        unproven: Unproven,
        audiences: tuple[str, ...],
        wall_clock: Callable[[], float],
        skew_seconds: float,
    ) -> Proof:
        """Who the JWT is about. Raises `TokenRefused`, or `Failed` (ISSUER_AWAY) where its key can't be had now."""
        # The list is the operator's, never the token's (RFC 8725 §3.1).
        if unproven.algorithm not in self.issuer.algorithms:
            raise TokenRefused("the token is signed by an algorithm that is not taken here")
        key = await self._ring.find(unproven.algorithm, unproven.key_id)
        if key is None:
            raise TokenRefused("the token is signed by a key that its issuer doesn't have")
        try:
            payload = _jws.decode(token, key, algorithms=[unproven.algorithm])
            claims = msgspec.json.decode(payload)
        except (PyJWTError, ValueError, TypeError, RecursionError):
            raise TokenRefused("the token's signature is wrong") from None
        return self._read(claims, audiences, wall_clock(), skew_seconds)

    async def introspect(
        self, token: str, audiences: tuple[str, ...], wall_clock: Callable[[], float], skew_seconds: float
    ) -> Proof:
        """Who the opaque token is about. Raises `TokenRefused`, or `Failed` (ISSUER_AWAY)."""
        told = self.issuer.introspection
        if told is None:
            raise TokenRefused("the token is no JWT")
        try:
            claims = await introspect(self._fetcher, self.issuer, told, token)
        except Failed as failed:
            if not self._is_away:
                logger.warning("issuer can't be asked about tokens: %s", failed.__cause__)
            self._is_away = True
            raise
        self._is_away = False
        proof = self._read(claims, audiences, wall_clock(), skew_seconds, may_last=True)
        return msgspec.structs.replace(proof, good_for_seconds=told.cache_seconds)

    def _read(
        self, claims: Any, audiences: tuple[str, ...], now: float, skew_seconds: float, *, may_last: bool = False
    ) -> Proof:
        if not isinstance(claims, dict):
            raise TokenRefused("the token says nothing")
        issuer = self.issuer
        accepted = {*audiences, *issuer.audiences}
        told = check_claims(
            claims,
            issuer.issuer,
            accepted,
            issuer.groups_claim,
            now=now,
            skew_seconds=skew_seconds,
            may_last=may_last,
        )
        # An issuer's URL holds no space: no subject of one can be spelt so that it becomes another's.
        principal = f"{issuer.issuer} {told.subject}"
        return Proof(Identity(principal, told.groups, told.scopes, told.expires_at), is_token=True)


def list_desks(
    admission: Admission, upstream: Upstream, clock: Callable[[], float], before: Mapping[str, IssuerDesk]
) -> dict[str, IssuerDesk]:
    """A desk for each issuer, those before kept where nothing about them changed."""
    desks = {}
    for issuer in admission.issuers:
        old = before.get(issuer.issuer)
        desks[issuer.issuer] = old if old and old.issuer == issuer else IssuerDesk(issuer, upstream, clock)
    return desks
