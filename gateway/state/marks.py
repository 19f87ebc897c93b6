"""The `Marks` and `Heartbeats` ports on Redis."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from gateway.policy.streams import NOBODY, Bounds, Census, Owner, SessionDigest, Sighting, Standing
from gateway.protocol.cursors import Cursor, StreamName
from gateway.state import keys, mark_scripts
from gateway.state.logs import KEEP_AT_ONCE
from gateway.state.stores import Store


class RedisMarks:
    """`gateway.ports.Marks`."""

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._store = store
        self._live_ms = round(bounds.live_seconds * 1000)
        self._mark_ms = round(bounds.mark_seconds * 1000)

    async def mark_ended(self, session: SessionDigest, request_id: bytes | None) -> None:
        args = (self._mark_ms, keys.wake_channel(session), session)
        await self._store.run(mark_scripts.MARK, [keys.ended_key(session, request_id)], args)

    async def is_ended(self, session: SessionDigest, request_id: bytes | None) -> bool:
        marks = {keys.ended_key(session, None): None, keys.ended_key(session, request_id): None}
        found: int = await self._store.command(("EXISTS", *marks), keys.ended_key(session, None))
        return found > 0

    async def join(
        self,
        session: SessionDigest,
        candidate: StreamName,
        replacing: StreamName | None = None,
        follower: Owner = NOBODY,
    ) -> Standing:
        args = (candidate, replacing or "", self._live_ms, keys.wake_channel(session), session, follower)
        return _parse(await self._store.run(mark_scripts.JOIN, [keys.standing_key(session)], args))

    async def standing(self, session: SessionDigest) -> Standing | None:
        key = keys.standing_key(session)
        command = ("HMGET", key, "stream", "turn", "seq", "epoch", "follower")
        got: list[bytes | None] = await self._store.command(command, key)
        return None if got[0] is None else _parse(got)

    async def deliver(self, session: SessionDigest, standing: Standing) -> bool:
        place = (standing.stream, standing.turn, *standing.delivered, standing.follower)
        args = (*place, self._live_ms, keys.wake_channel(session), session)
        answer = await self._store.run(mark_scripts.DELIVER, [keys.standing_key(session)], args)
        return bool(answer[0] == b"ok")

    async def keep_standing(self, sessions: Collection[SessionDigest]) -> Census:
        standing: dict[SessionDigest, Standing] = {}
        ended: set[SessionDigest] = set()
        named = list(sessions)
        for first in range(0, len(named), KEEP_AT_ONCE):
            some = named[first : first + KEEP_AT_ONCE]
            told = await asyncio.gather(*map(self._keep_standing, some))
            for session, (is_ended, *got) in zip(some, told, strict=True):
                if is_ended:
                    ended.add(session)
                if got:
                    standing[session] = _parse(got)
        return Census(standing, frozenset(ended))

    async def _keep_standing(self, session: SessionDigest) -> list[Any]:
        named = [keys.standing_key(session), keys.ended_key(session, None)]
        return await self._store.run(mark_scripts.KEEP_STANDING, named, (self._live_ms,))

    async def leave(self, session: SessionDigest, stream: StreamName, turn: int | None = None) -> bool:
        args = (stream, "" if turn is None else turn, keys.wake_channel(session), session)
        answer = await self._store.run(mark_scripts.LEAVE, [keys.standing_key(session)], args)
        return bool(answer[0] == b"ok")


def _parse(got: Sequence[bytes | None]) -> Standing:
    stream, turn, seq, epoch, follower = (value or b"" for value in got)
    return Standing(StreamName(stream.decode()), int(turn), Cursor(int(seq), int(epoch)), Owner(follower.decode()))


class RedisHeartbeats:
    """`gateway.ports.Heartbeats`."""

    def __init__(self, store: Store, ttl_seconds: float) -> None:
        self._store = store
        self._ttl_ms = round(ttl_seconds * 1000)

    async def beat(self, owner: Owner) -> None:
        await self._store.run(mark_scripts.BEAT, [keys.beat_key(owner)], (self._ttl_ms,))

    async def look(self, owners: Collection[Owner]) -> Sighting:
        if not owners:
            return Sighting("", frozenset())
        named = list(owners)
        server, *found = await self._store.run(mark_scripts.LOOK, [keys.beat_key(owner) for owner in named], ())
        absent = frozenset(owner for owner, is_there in zip(named, found, strict=True) if not is_there)
        return Sighting(server.decode(), absent)
