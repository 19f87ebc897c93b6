"""The keys of one issuer, kept true: found by its metadata, fetched when they are needed, and again as they age.

A token whose key is known never waits for the issuer. One whose key isn't may be newly signed by a rotated key, or forged:
the keys are fetched again, by one request for all who wait, and not more often than `COOLDOWN_SECONDS` allows. While an
issuer is away its keys are kept.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from jwt.algorithms import AllowedPublicKeys

from gateway.identity.fetches import Fetcher, issuer_away
from gateway.identity.keys import KeySet, parse_keys
from gateway.policy.admissions import Issuer
from gateway.protocol.outcomes import Failed

REFRESH_SECONDS: Final = 300.0
"""Older keys are fetched anew, while tokens are still proven by them: so long may a withdrawn key live on."""

KEEP_SECONDS: Final = 86400.0
"""How long keys prove tokens while their issuer can't be asked. Beyond: 503."""

COOLDOWN_SECONDS: Final = 10.0
"""Between two fetches for unknown keys: anyone can send tokens that name some."""

RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""After so many failures in a row, until the issuer is asked again."""

logger: Final = logging.getLogger("gateway.identity")


class Ring:
    """The keys of one issuer. Belongs to one event loop."""

    def __init__(self, issuer: Issuer, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetcher = fetcher
        self._clock = clock
        self._keys = KeySet(())
        self._fetched_at = float("-inf")
        self._next_try_at = float("-inf")
        self._failures = 0
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, algorithm: str, key_id: str | None) -> AllowedPublicKeys | None:
        """The key that proves such a token, None where the issuer has none. Raises `Failed` (ISSUER_AWAY)."""
        if (key := self._recall(algorithm, key_id)) is not None:
            if self._clock() - self._fetched_at > REFRESH_SECONDS:
                self._begin_fetch()
            return key
        if (fetching := self._begin_fetch()) is not None:
            await asyncio.wait({fetching})  # one who leaves takes nothing from the others
            if (key := self._recall(algorithm, key_id)) is not None:
                return key
        if self._failures or not self._keys.keys:
            raise issuer_away(self._issuer.issuer, "its keys can't be had, and this token's is not among those known")
        return None

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()

    def _recall(self, algorithm: str, key_id: str | None) -> AllowedPublicKeys | None:
        if self._clock() - self._fetched_at > KEEP_SECONDS:
            return None
        return self._keys.find(algorithm, key_id)

    def _begin_fetch(self) -> "asyncio.Task[None] | None":
        """The fetch that is under way, or a new one where it is time for one."""
        if self._fetching is None and self._clock() >= self._next_try_at:
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = parse_keys(await self._fetcher.get(self._issuer.jwks_url or await self._discover()))
            if not keys.keys:
                raise issuer_away(self._issuer.issuer, "its key set holds no key that is understood")
        except Failed as failed:
            self._note_failure(failed)
        else:
            if self._failures:
                logger.info("issuer %s can be asked again", self._issuer.issuer)
            self._keys, self._failures = keys, 0
            self._fetched_at = self._clock()
            self._next_try_at = self._fetched_at + COOLDOWN_SECONDS
        finally:
            self._fetching = None

    def _note_failure(self, failed: Failed) -> None:
        if not self._failures:
            logger.warning("issuer's keys can't be fetched: %s", failed.__cause__)
        self._next_try_at = self._clock() + RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1

    async def _discover(self) -> str:
        """The `jwks_uri` of the issuer's metadata. Raises `Failed`, of the first place that was tried."""
        first: Failed | None = None
        for url in metadata_urls(self._issuer.issuer):
            try:
                return check_metadata(self._issuer.issuer, await self._fetcher.get(url))
            except Failed as failed:
                first = first or failed
        raise first or issuer_away(self._issuer.issuer, "it has no metadata")


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where an issuer's metadata may be, in the order of MCP 2025-11-25, basic/authorization "Authorization Server
    Metadata Discovery": RFC 8414 §3.1, then OpenID Connect Discovery, its path before and after."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if not path:
        return (f"{origin}/.well-known/oauth-authorization-server", f"{origin}/.well-known/openid-configuration")
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )


def check_metadata(issuer: str, metadata: dict[str, object]) -> str:
    """The keys' URL. Raises `Failed` where the metadata are another issuer's (RFC 8414 §3.3), or less safe than it."""
    url = metadata.get("jwks_uri")
    if metadata.get("issuer") != issuer:
        raise issuer_away(issuer, "its metadata name another issuer: is `issuer` spelt exactly as there?")
    if not isinstance(url, str) or (issuer.startswith("https://") and not url.startswith("https://")):
        raise issuer_away(issuer, "its metadata name no `jwks_uri` that may be used: set `jwks_url`")
    return url
