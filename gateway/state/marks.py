"""The `Marks` and `Heartbeats` ports on Redis."""

import asyncio
from collections.abc import Collection, Sequence

from gateway.policy.streams import Bounds, Owner, SessionDigest, Sighting, Standing
from gateway.protocol.cursors import Cursor, StreamName
from gateway.state import keys, scripts
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
        await self._store.run(scripts.MARK, [keys.ended_key(session, request_id)], args)

    async def is_ended(self, session: SessionDigest, request_id: bytes | None) -> bool:
        marks = {keys.ended_key(session, None): None, keys.ended_key(session, request_id): None}
        found: int = await self._store.command(("EXISTS", *marks), keys.ended_key(session, None))
        return found > 0

    async def join(
        self, session: SessionDigest, candidate: StreamName, replacing: StreamName | None = None
    ) -> Standing:
        args = (candidate, replacing or "", self._live_ms, keys.wake_channel(session), session)
        _, *got = await self._store.run(scripts.JOIN, [keys.standing_key(session)], args)
        return _parse(got)

    async def standing(self, session: SessionDigest) -> Standing | None:
        key = keys.standing_key(session)
        got: list[bytes | None] = await self._store.command(("HMGET", key, "stream", "turn", "seq", "epoch"), key)
        return None if got[0] is None else _parse([value or b"0" for value in got])

    async def deliver(self, session: SessionDigest, standing: Standing) -> bool:
        args = (standing.stream, standing.turn, *standing.delivered, self._live_ms)
        answer = await self._store.run(scripts.DELIVER, [keys.standing_key(session)], args)
        return bool(answer[0] == b"ok")

    async def keep_standing(self, sessions: Collection[SessionDigest]) -> None:
        named = [keys.standing_key(session) for session in sessions]
        for first in range(0, len(named), KEEP_AT_ONCE):
            some = named[first : first + KEEP_AT_ONCE]
            await asyncio.gather(*(self._store.command(("PEXPIRE", key, self._live_ms), key) for key in some))

    async def leave(self, session: SessionDigest, stream: StreamName) -> None:
        await self._store.run(scripts.LEAVE, [keys.standing_key(session)], (stream,))


def _parse(got: Sequence[bytes]) -> Standing:
    stream, turn, seq, epoch = got
    return Standing(StreamName(stream.decode()), int(turn), Cursor(int(seq), int(epoch)))


class RedisHeartbeats:
    """`gateway.ports.Heartbeats`."""

    def __init__(self, store: Store, ttl_seconds: float) -> None:
        self._store = store
        self._ttl_ms = round(ttl_seconds * 1000)

    async def beat(self, owner: Owner) -> None:
        await self._store.run(scripts.BEAT, [keys.beat_key(owner)], (self._ttl_ms,))

    async def look(self, owners: Collection[Owner]) -> Sighting:
        if not owners:
            return Sighting("", frozenset())
        named = list(owners)
        server, *found = await self._store.run(scripts.LOOK, [keys.beat_key(owner) for owner in named], ())
        absent = frozenset(owner for owner, is_there in zip(named, found, strict=True) if not is_there)
        return Sighting(server.decode(), absent)
