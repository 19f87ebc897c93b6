"""The `Gate` port: which kind of credentials these are, who proves them, and for how long that is remembered.

What was sent is judged by itself: credentials that are no good are never taken for none, nor replaced by others that came
with them. A bearer token or an API key speaks for its caller; where there is neither, a trusted proxy does; where that is
silent, the caller is anonymous, if that is allowed.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

from gateway.identity.api_keys import find_api_key, is_api_key
from gateway.identity.issuers import IssuerDesk, Proof, list_desks
from gateway.policy.admissions import Admission, ProxyIdentity
from gateway.policy.identities import ANONYMOUS, Identity
from gateway.ports import Upstream
from gateway.protocol.credentials import (
    CLIENT_CERTIFICATE,
    Credentials,
    is_bearer,
    parse_bearer,
    parse_client_certificate,
    split_groups,
)
from gateway.protocol.outcomes import Failed, Outcome, Rejected
from gateway.protocol.resources import called_as, insufficient_scope, spell_resource, unauthenticated
from gateway.protocol.tokens import TokenRefused, Unproven, is_name, parse_unproven

REMEMBER_SECONDS: Final = 300.0
"""For how long a proof is believed, if the token lives so long: a withdrawn key is worth nothing after this and
`rings.REFRESH_SECONDS`. Proving a token again costs some 100 µs."""

MAX_REMEMBERED: Final = 8192
"""Callers per worker, some 1 kB each. Beyond: the oldest is proven again when it calls."""

REFUSE_SECONDS: Final = 10.0
"""For how long an opaque token that its issuer refused is refused without asking."""

T = TypeVar("T")

_UNKNOWN_ISSUER: Final = "the token is of an issuer that is not trusted here"


class IdentityGate:
    """`gateway.ports.Gate`. Belongs to one event loop; `close` it."""

    def __init__(
        self,
        admission: Admission | None,
        upstream: Upstream,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._admission = admission or Admission()
        self._upstream = upstream
        self._clock = clock
        self._wall_clock = wall_clock
        self._known: dict[bytes, tuple[float, Identity]] = {}
        self._refused: dict[bytes, tuple[float, str]] = {}
        self._asking: dict[bytes, asyncio.Task[Proof]] = {}
        self._desks: dict[str, IssuerDesk] = list_desks(self._admission, upstream, clock, {})

    def change(self, admission: Admission | None) -> None:
        """From now on these ways in. Nothing that was proven by others is remembered; unchanged issuers keep their keys."""
        if (changed := admission or Admission()) == self._admission:
            return
        self._admission = changed
        self._known.clear()
        self._refused.clear()
        self._asking.clear()
        before, self._desks = self._desks, list_desks(changed, self._upstream, self._clock, self._desks)
        for issuer, desk in before.items():
            if self._desks.get(issuer) is not desk:
                desk.close()

    def close(self) -> None:
        """Ends what is under way."""
        for desk in self._desks.values():
            desk.close()
        for asking in self._asking.values():
            asking.cancel()

    def recall(self, credentials: Credentials) -> Identity | None:
        found = self._known.get(digest_credentials(credentials))
        return None if found is None or found[0] <= self._wall_clock() else found[1]

    async def identify(self, credentials: Credentials) -> Identity:
        admission = self._admission
        # Without an issuer there are no metadata worth a look.
        resource = called_as(credentials.resource, credentials.path) if admission.issuers else ""
        try:
            proof = await self._prove(admission, credentials)
        except TokenRefused as refused:
            raise unauthenticated(resource, admission.scopes, trouble=str(refused)) from None
        if proof is None:
            raise unauthenticated(resource, admission.scopes)
        identity = proof.identity
        if proof.is_token and not identity.scopes.issuperset(admission.scopes):
            raise insufficient_scope(resource, admission.scopes)
        if self._admission is admission:  # else it was proven by rules that are no more
            until = min(identity.expires_at, self._wall_clock() + min(REMEMBER_SECONDS, proof.good_for_seconds))
            _remember(self._known, digest_credentials(credentials), (until, identity))
        return identity

    async def _prove(self, admission: Admission, credentials: Credentials) -> Proof | None:
        """Whose they are, None where there are none. Raises `TokenRefused`, or `Failed` (ISSUER_AWAY)."""
        takes_bearers = bool(admission.issuers or admission.api_keys)
        sends_bearer = takes_bearers and is_bearer(credentials.authorization)
        if sends_bearer and credentials.api_key:
            raise Rejected(Outcome.AMBIGUOUS, "send either an access token or X-API-Key, not both")
        if credentials.api_key:
            return _prove_api_key(admission, credentials.api_key.decode("latin-1").strip(" \t"))
        if sends_bearer:
            return await self._prove_bearer(admission, credentials)
        if credentials.user and admission.proxy is not None:
            return Proof(_read_proxy(admission.proxy, credentials))
        if credentials.authorization:
            raise TokenRefused("these credentials are of a kind that is not taken here: send `Authorization: Bearer`")
        return Proof(ANONYMOUS) if admission.anonymous else None

    async def _prove_bearer(self, admission: Admission, credentials: Credentials) -> Proof:
        if (token := parse_bearer(credentials.authorization)) is None:
            raise TokenRefused("what follows `Bearer` is no token")
        if admission.api_keys and is_api_key(token):
            return _prove_api_key(admission, token)
        audiences = spell_resource(credentials.resource)
        if (unproven := parse_unproven(token)) is None:
            return await self._ask_issuers(token, audiences, digest_credentials(credentials))
        desk = self._desks.get(unproven.issuer)
        if desk is None:
            raise TokenRefused(_UNKNOWN_ISSUER)
        return await self._prove_jwt(desk, token, unproven, audiences)

    async def _prove_jwt(self, desk: IssuerDesk, token: str, unproven: Unproven, audiences: tuple[str, ...]) -> Proof:
        skew_seconds = self._admission.clock_skew_seconds
        return await desk.prove(token, unproven, audiences, self._wall_clock, skew_seconds)

    async def _ask_issuers(self, token: str, audiences: tuple[str, ...], digest: bytes) -> Proof:
        """What the issuers say of an opaque token: each is asked, once for all who send it now, until one knows it."""
        refused = self._refused.get(digest)
        if refused is not None and refused[0] > self._clock():
            raise TokenRefused(refused[1])
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._ask_all(token, audiences, digest))
            asking.add_done_callback(lambda done: self._forget(digest, done))
        await asyncio.wait({asking})  # one who leaves takes nothing from the others
        return asking.result()

    def _forget(self, digest: bytes, done: "asyncio.Task[Proof]") -> None:
        if self._asking.get(digest) is done:
            del self._asking[digest]
        if not done.cancelled():
            done.exception()  # whoever waited for it has it; if all have left, nobody misses it

    async def _ask_all(self, token: str, audiences: tuple[str, ...], digest: bytes) -> Proof:
        admission, said = self._admission, "the token is no JWT, and no issuer that is trusted here knows others"
        away: Failed | None = None
        for desk in [desk for desk in self._desks.values() if desk.issuer.introspection is not None]:
            try:
                return await desk.introspect(token, audiences, self._wall_clock, admission.clock_skew_seconds)
            except TokenRefused as refused:
                said = str(refused)
            except Failed as failed:
                away = failed
        if away is not None:  # it may be the one that knows this token
            raise away
        if self._admission is admission:
            _remember(self._refused, digest, (self._clock() + REFUSE_SECONDS, said))
        raise TokenRefused(said)


def digest_credentials(credentials: Credentials) -> bytes:
    """By what credentials are remembered: nothing in memory gives them away. No header's value holds a line end."""
    parts = (credentials.authorization, credentials.api_key, credentials.user, credentials.groups)
    return hashlib.sha256(b"\n".join((credentials.resource.encode(), *parts))).digest()


def _remember(where: dict[bytes, T], digest: bytes, what: T) -> None:
    where.pop(digest, None)  # it becomes the newest
    if len(where) >= MAX_REMEMBERED:
        del where[next(iter(where))]
    where[digest] = what


def _prove_api_key(admission: Admission, text: str) -> Proof:
    key = find_api_key(admission.api_keys, text) if is_api_key(text) else None
    if key is None:
        raise TokenRefused("this is no API key that is known here")
    return Proof(Identity(f"key {key.name}", key.groups, key.scopes))


def _read_proxy(proxy: ProxyIdentity, credentials: Credentials) -> Identity:
    """Whom a trusted proxy names. Raises `TokenRefused`."""
    if proxy.user_header.encode("ascii") == CLIENT_CERTIFICATE:
        user = parse_client_certificate(credentials.user, proxy.certificate_field) or ""
    else:
        user = credentials.user.decode("utf-8", "replace")
    if not is_name(user) or "\ufffd" in user:
        raise TokenRefused("the proxy before this server does not say clearly who calls")
    return Identity(f"proxy {user}", split_groups(credentials.groups))
