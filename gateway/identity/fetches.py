"""How an issuer is asked: one bounded request for one JSON object, by the client that also calls the backends.

Whatever goes wrong is `Failed` (ISSUER_AWAY): it says nothing about a token. No redirect is followed; an answer is read
up to a bound in bytes and seconds.
"""

from typing import Any, Final

import msgspec

from gateway.policy.admissions import Issuer
from gateway.policy.backends import Backend, Timeouts, parse_endpoint
from gateway.ports import Headers, Upstream
from gateway.protocol.outcomes import Failed, Outcome

MAX_ANSWER_BYTES: Final = 512 * 1024
"""Of an issuer. Metadata and keys are below 32 KiB, also where keys come with their certificates. Beyond: refused."""

TIMEOUTS: Final = Timeouts(connect_seconds=3.0, idle_seconds=5.0, total_seconds=10.0)
"""A client waits meanwhile, or, if its key is known, not at all."""

MAX_CALLS: Final = 16
"""To one issuer at a time, per worker: a flood of opaque tokens must not become one at the issuer. Beyond: 503."""

_HEADERS: Final = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]


def issuer_away(issuer: str, why: str) -> Failed:
    """503: what the token is worth can't be told now. Never 401: the client would throw a good token away."""
    message = "whether this token is good can't be told now: its issuer can't be asked; try again"
    failed = Failed(Outcome.ISSUER_AWAY, message)
    failed.__cause__ = IssuerTrouble(f"{issuer}: {why}")
    return failed


class IssuerTrouble(Exception):
    """What went wrong with an issuer, for our own log."""


class Fetcher:
    """Asks one issuer."""

    def __init__(self, upstream: Upstream, issuer: Issuer) -> None:
        self._upstream = upstream
        self._issuer = issuer

    async def get(self, url: str) -> dict[str, Any]:
        """The object at `url`. Raises `Failed` (ISSUER_AWAY)."""
        return await self._ask(url, b"GET", [], b"")

    async def post(self, url: str, headers: Headers, form: bytes) -> dict[str, Any]:
        """What the form is answered with. Raises `Failed` (ISSUER_AWAY)."""
        content_type = (b"content-type", b"application/x-www-form-urlencoded")
        return await self._ask(url, b"POST", [content_type, *headers], form)

    async def _ask(self, url: str, method: bytes, headers: Headers, body: bytes) -> dict[str, Any]:
        issuer = self._issuer
        backend = Backend(
            name=f"issuer {issuer.issuer}",
            endpoints=(url,),
            tls=issuer.tls,
            proxy=issuer.proxy,
            max_connections=MAX_CALLS,
        )
        try:
            endpoint = parse_endpoint(url, server_name=issuer.tls.server_name)
            answer = await self._upstream.send(backend, endpoint, method, [*_HEADERS, *headers], body, TIMEOUTS)
            try:
                status, content = answer.status, await answer.read(MAX_ANSWER_BYTES)
            finally:
                answer.close()
            told = msgspec.json.decode(content) if status == 200 else None
        except Failed as failed:
            raise issuer_away(issuer.issuer, failed.message)  # noqa: B904  # its cause is what our log says
        except (ValueError, RecursionError):
            raise issuer_away(issuer.issuer, f"{url} can't be asked, or gave no JSON")  # noqa: B904
        if status != 200:
            raise issuer_away(issuer.issuer, f"{url} answered {status}")
        if not isinstance(told, dict):
            raise issuer_away(issuer.issuer, f"{url} gave no JSON object")
        return told
