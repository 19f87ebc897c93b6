"""Redis goes and comes back: who keeps something hears that it may have missed a change, and what couldn't be told is told."""

import asyncio
import time

from gateway.exchange.caches import Caches
from gateway.policy.backends import Backend
from gateway.policy.caches import Asker, CacheOutcome
from gateway.protocol.changes import Change
from gateway.state.rooms import RedisRoom
from gateway.state.seals import Keyring
from gateway.state.targets import parse_target
from tests.fakes import KEY, FakeTelemetry
from tests.redis.servers import RedisServer
from tests.requirements import proves

BOUND_SECONDS = 20.0
ECHO = Backend("echo", ("http://10.0.0.1/mcp",), "/echo")


async def fetch() -> bytes:
    return b'{"tools":[],"ttlMs":600000}'


async def until_kept(caches: Caches) -> None:
    """Until it keeps what it is answered: what it had when it began to listen it has dropped."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            if (await caches.ask(ECHO, Asker(""), "tools/list", b"{}", fetch)).outcome is CacheOutcome.HIT:
                return
            await asyncio.sleep(0)


async def until_dropped(caches: Caches) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while len(caches):  # noqa: ASYNC110  what drops it is in another task, and sets no event
            await asyncio.sleep(0.01)


@proves("CACHE-6")
async def test_what_is_kept_is_dropped_when_redis_is_back_and_a_change_told_meanwhile_arrives(
    own_redis: RedisServer,
) -> None:
    target = parse_target(own_redis.url)
    async with RedisRoom(target, Keyring([KEY])) as room, RedisRoom(target, Keyring([KEY])) as other_room:
        one, other = (Caches(FakeTelemetry(), time.monotonic, r.invalidations) for r in (room, other_room))
        for caches in (one, other):
            await until_kept(caches)
        own_redis.kill()
        one.note_change("echo", Change.TOOLS)
        assert (len(one), len(other)) == (0, 1)  # the other can't know yet
        own_redis.start()
        await until_dropped(other)
        await until_kept(other)
        one.note_change("echo", Change.TOOLS)
        await until_dropped(other)
        await one.tidings.close()
        await other.tidings.close()
