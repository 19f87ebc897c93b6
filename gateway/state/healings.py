"""The `Healings` port: on Redis, and in one process."""

from typing import Final

from gateway.policy.streams import SessionDigest
from gateway.ports import Remedy
from gateway.state import keys, mark_scripts
from gateway.state.stores import Store

HEALED_SECONDS: Final = 24 * 3600.0
"""How long what stands in for a session is remembered. A client still there then is healed once more."""

CLAIM_SECONDS: Final = 15.0
"""How long a worker has for it. One that dies meanwhile keeps the others waiting no longer."""


class RedisHealings:
    """For a fleet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, session: SessionDigest, failed: bytes, claim: str) -> Remedy:
        args = (failed, claim, round(CLAIM_SECONDS * 1000), round(HEALED_SECONDS * 1000))
        word, *healed = await self._store.run(mark_scripts.HEAL_BEGIN, _keys(session), args)
        match word:
            case b"known":
                return Remedy("known", healed[0])
            case b"mine":
                return Remedy("mine")
            case _:
                return Remedy("busy")

    async def end(self, session: SessionDigest, claim: str, healed: bytes) -> None:
        await self._store.run(mark_scripts.HEAL_END, _keys(session), (claim, healed, round(HEALED_SECONDS * 1000)))


def _keys(session: SessionDigest) -> tuple[str, str]:
    return keys.healed_key(session), keys.healing_key(session)


class MemoryHealings:
    """For one process. Bounded: the oldest are forgotten, and would be healed once more."""

    KEPT: Final = 10_000

    def __init__(self) -> None:
        self._healed: dict[SessionDigest, bytes] = {}
        self._claims: dict[SessionDigest, str] = {}

    async def begin(self, session: SessionDigest, failed: bytes, claim: str) -> Remedy:
        healed = self._healed.get(session)
        if healed is not None and healed != failed:
            return Remedy("known", healed)
        if session in self._claims:
            return Remedy("busy")
        self._claims[session] = claim
        return Remedy("mine")

    async def end(self, session: SessionDigest, claim: str, healed: bytes) -> None:
        if self._claims.get(session) != claim:
            return
        del self._claims[session]
        if healed:
            self._healed[session] = healed
            if len(self._healed) > self.KEPT:
                del self._healed[next(iter(self._healed))]
