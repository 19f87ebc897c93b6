"""What the contract suites run over: the same ports on memory, on a Redis, and on a Redis Cluster."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from gateway.policy.streams import Bounds, Facts, Hold, Owner, SessionDigest
from gateway.ports import EventLog, Heartbeats, Invalidations, Marks
from gateway.protocol.cursors import FIRST_EPOCH, StreamName, encode_name
from gateway.state.memory_marks import MemoryRoom
from gateway.state.rooms import RedisRoom
from gateway.state.seals import Keyring
from gateway.state.targets import parse_target

KEY: Final = b"0123456789abcdef0123456789abcdef"
HEARTBEAT_SECONDS: Final = 6.0
PATIENCE_SECONDS: Final = 10.0
"""A contract says what is answered, not how soon: what a busy machine makes of that is `tests/redis`'s to bear."""

KINDS: Final = ("memory", "redis", "cluster")

ALICE: Final = Owner("alice")
BOB: Final = Owner("bob")


class Room(Protocol):
    @property
    def log(self) -> EventLog: ...

    @property
    def marks(self) -> Marks: ...

    @property
    def heartbeats(self) -> Heartbeats: ...

    @property
    def invalidations(self) -> Invalidations: ...


class World:
    """`room` is one worker's, `other` another's: in memory they are the same. `pass_time` makes everything older."""

    def __init__(self, room: Room, other: Room, pass_time: Callable[[float], None]) -> None:
        self.room = room
        self.other = other
        self.log = room.log
        self.marks = room.marks
        self.heartbeats = room.heartbeats
        self.pass_time = pass_time


def new_name() -> StreamName:
    return encode_name(os.urandom(16))


def new_hold(owner: Owner = ALICE) -> Hold:
    return Hold(new_name(), FIRST_EPOCH, owner)


def new_session() -> SessionDigest:
    return SessionDigest(os.urandom(8).hex())


FACTS: Final = Facts(
    session=SessionDigest("5e55"),
    principal="https://idp.example alice",
    mount="/echo",
    backend="echo",
    endpoint="http://127.0.0.1:9000/mcp",
    upstream_session="upstream-secret",
    version="2025-11-25",
    request_id=b'"req-1"',
)


@asynccontextmanager
async def memory_world(bounds: Bounds) -> AsyncIterator[World]:
    now = 1000.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    async with MemoryRoom(bounds=bounds, heartbeat_seconds=HEARTBEAT_SECONDS, clock=lambda: now) as room:
        yield World(room, room, pass_time)


@asynccontextmanager
async def redis_world(bounds: Bounds, url: str, pass_time: Callable[[float], None]) -> AsyncIterator[World]:
    def make_room() -> RedisRoom:
        return RedisRoom(
            parse_target(url),
            Keyring([KEY]),
            bounds=bounds,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            answer_seconds=PATIENCE_SECONDS,
        )

    async with make_room() as room, make_room() as other:
        yield World(room, other, pass_time)
