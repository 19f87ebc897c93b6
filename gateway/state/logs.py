"""The `EventLog` port on Redis. Knows the scripts and what is sealed; what an event says it doesn't."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from gateway.policy.streams import (
    CREATE_SHARE,
    NOBODY,
    Appended,
    AppendResult,
    Bounds,
    Entry,
    Facts,
    Hold,
    LogAway,
    Owner,
    Reading,
    Refusal,
    SessionDigest,
    State,
    Takeover,
    Trouble,
)
from gateway.protocol.cursors import Cursor, StreamName
from gateway.state import keys, scripts
from gateway.state.stores import Argument, Store
from gateway.state.wakes import Ring, Wakes

EPOCH_LEAP: Final = 1 << 20
"""An epoch is followed by a random one of so many: where Redis lost a takeover, the next one must not have the same."""

KEEP_AT_ONCE: Final = 256

_FACTS: Final = b"facts"
_CURSOR: Final = b"cursor"
_REQUEST: Final = b"request"

_encode_facts: Final = msgspec.msgpack.Encoder().encode
_decode_facts: Final = msgspec.msgpack.Decoder(Facts).decode


class Sealer(Protocol):
    """Seals what belongs to a stream; `Keyring` does."""

    def encrypt(self, plain: bytes, stream: bytes, place: bytes) -> bytes: ...

    def decrypt(self, sealed: bytes, stream: bytes, place: bytes) -> bytes | None: ...


class RedisLog:
    """`gateway.ports.EventLog`."""

    def __init__(self, store: Store, sealer: Sealer, wakes: Wakes, bounds: Bounds) -> None:
        self._store = store
        self._sealer = sealer
        self._wakes = wakes
        self._bounds = bounds
        self._live_ms = _ms(bounds.live_seconds)
        self._finished_ms = _ms(bounds.finished_seconds)

    async def create(
        self,
        hold: Hold,
        facts: Facts,
        events: Sequence[bytes],
        *,
        upstream_cursor: bytes = b"",
        is_final: bool = False,
        request: bytes = b"",
    ) -> AppendResult:
        sealed_facts = self._seal(hold.stream, _FACTS, _encode_facts(facts))
        sealed_request = self._seal(hold.stream, _REQUEST, request) if request else b""
        more = (sealed_facts, sealed_request)
        return await self._add(scripts.CREATE, CREATE_SHARE, hold, 1, events, upstream_cursor, is_final, more)

    async def append(
        self,
        hold: Hold,
        first_seq: int,
        events: Sequence[bytes],
        *,
        upstream_cursor: bytes = b"",
        is_final: bool = False,
        is_across_hole: bool = False,
    ) -> AppendResult:
        more = (first_seq, int(is_across_hole))
        return await self._add(scripts.APPEND, 1, hold, first_seq, events, upstream_cursor, is_final, more)

    async def _add(
        self,
        script: scripts.Script,
        max_share: float,
        hold: Hold,
        first_seq: int,
        events: Sequence[bytes],
        upstream_cursor: bytes,
        is_final: bool,
        more: tuple[Argument, Argument],
    ) -> AppendResult:
        stream, epoch = hold.stream, hold.epoch
        # Its place is its entry's id, as Redis gives it back.
        sealed = [
            self._seal(stream, b"%d-%d" % (seq, epoch), event) for seq, event in enumerate(events, start=first_seq)
        ]
        cursor = self._seal(stream, _CURSOR, upstream_cursor) if upstream_cursor else b""
        bounds = self._bounds
        args: list[Argument] = [epoch, hold.owner, cursor, int(is_final), self._live_ms, self._finished_ms]
        args += (bounds.events, bounds.bytes, *more, keys.wake_channel(stream), stream, *sealed)
        try:
            answer = await self._store.run(
                script, _keys(stream), args, size_bytes=sum(map(len, sealed)), max_share=max_share
            )
        except LogAway as away:
            return AppendResult(Appended.FULL if away.trouble is Trouble.FULL else Appended.AWAY)
        return AppendResult(Appended(answer[0].decode()), answer[1])

    async def read(
        self, stream: StreamName, after: Cursor, limit_events: int = 512, limit_bytes: int = 1024 * 1024
    ) -> Reading | None:
        args = (after.seq, after.epoch, limit_events, limit_bytes)
        # The answer may hold one event of any size: it has the time that the largest log would take.
        size_bytes = limit_bytes + self._bounds.bytes
        word, *got = await self._store.run(scripts.READ, _keys(stream), args, size_bytes=size_bytes, is_bulk=True)
        return self._parse(stream, got) if word == b"ok" else None

    def _parse(self, stream: StreamName, got: list[Any]) -> Reading | None:
        """None for what our keys don't open: whoever asks for it has lost it."""
        known, epoch, owner, state, head, head_epoch, floor, floor_epoch, cursor, sealed_facts, *rest = got
        facts = self._open_facts(stream, sealed_facts)
        entries = tuple(self._open_entries(stream, rest))
        if facts is None or len(entries) * 2 != len(rest):
            return None
        return Reading(
            entries=entries,
            is_continuous=known == 1,
            head=Cursor(int(head), int(head_epoch)),
            floor=Cursor(int(floor), int(floor_epoch)),
            state=State(state.decode()),
            epoch=int(epoch),
            owner=Owner(owner.decode()),
            upstream_cursor=self._open(stream, _CURSOR, cursor),
            facts=facts,
        )

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        epoch = expected_epoch + 1 + secrets.randbelow(EPOCH_LEAP)
        args = (expected_epoch, epoch, owner, self._live_ms)
        word, *got = await self._store.run(scripts.TAKE_OVER, _keys(stream), args)
        if word != b"ok":
            return Refusal(word.decode())
        head, head_epoch, cursor, sealed_facts = got
        facts = self._open_facts(stream, sealed_facts)
        if facts is None:
            return Refusal.LOST
        return Takeover(
            hold=Hold(stream, epoch, owner),
            head=Cursor(int(head), int(head_epoch)),
            upstream_cursor=self._open(stream, _CURSOR, cursor),
            facts=facts,
        )

    async def take_request(self, hold: Hold) -> bytes:
        answer = await self._store.run(scripts.TAKE_REQUEST, _keys(hold.stream), (hold.epoch, hold.owner))
        return self._open(hold.stream, _REQUEST, answer[1]) if answer[0] == b"ok" else b""

    async def release(self, hold: Hold) -> bool:
        return await self._yield(hold, NOBODY, State.OPEN, self._live_ms)

    async def finish(self, hold: Hold, state: State = State.FINISHED) -> bool:
        return await self._yield(hold, hold.owner, state, self._finished_ms)

    async def _yield(self, hold: Hold, owner: Owner, state: State, ttl_ms: int) -> bool:
        channel = keys.wake_channel(hold.stream)
        args = (hold.epoch, hold.owner, owner, state, ttl_ms, channel, hold.stream)
        answer = await self._store.run(scripts.YIELD, _keys(hold.stream), args)
        return bool(answer[0] == b"ok")

    async def keep(self, streams: Collection[StreamName]) -> frozenset[StreamName]:
        gone: set[StreamName] = set()
        left = iter(streams)
        while some := list(islice(left, KEEP_AT_ONCE)):
            told = await asyncio.gather(*(self._keep(stream) for stream in some))
            gone.update(stream for stream, is_there in zip(some, told, strict=True) if not is_there)
        return frozenset(gone)

    async def _keep(self, stream: StreamName) -> bool:
        answer = await self._store.run(scripts.KEEP, _keys(stream), (self._live_ms,))
        return bool(answer[0] == b"ok")

    def wake(self, name: StreamName | SessionDigest, ring: Ring) -> Callable[[], None]:
        return self._wakes.hang(name, ring)

    # ---- what is sealed, and where it opens

    def _seal(self, stream: StreamName, place: bytes, plain: bytes) -> bytes:
        return self._sealer.encrypt(plain, stream.encode(), place)

    def _open(self, stream: StreamName, place: bytes, sealed: bytes) -> bytes:
        return (self._sealer.decrypt(sealed, stream.encode(), place) or b"") if sealed else b""

    def _open_facts(self, stream: StreamName, sealed: bytes) -> Facts | None:
        plain = self._sealer.decrypt(sealed, stream.encode(), _FACTS)
        try:
            return None if plain is None else _decode_facts(plain)
        except msgspec.MsgspecError:  # of a release that knows other facts
            return None

    def _open_entries(self, stream: StreamName, ids_and_payloads: list[bytes]) -> Iterator[Entry]:
        pairs = iter(ids_and_payloads)
        for place, sealed in zip(pairs, pairs, strict=True):
            payload = self._sealer.decrypt(sealed, stream.encode(), place)
            if payload is None:
                return
            seq, _, epoch = place.partition(b"-")
            yield Entry(Cursor(int(seq), int(epoch)), payload)


def _keys(stream: StreamName) -> tuple[str, str]:
    return keys.log_key(stream), keys.facts_key(stream)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
