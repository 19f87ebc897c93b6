"""Five thousand streams of every kind are opened and dropped in waves: tasks, sockets, memory and what is in Redis end up where
they were. A real process, a real Redis."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from gateway.policy.streams import Bounds
from tests.fleet.figures import POLL_SECONDS, count_sockets, read_memory, wait_for_metric, wait_until
from tests.fleet.fleet import Fleet, Replica, running_fleet
from tests.fleet.requests import legacy, legacy_headers, modern, open_http, open_session
from tests.fleet.resumable import Event, opened, split_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer
from tests.requirements import proves

AT_ONCE = 100
WAVES = 10
"""Each opens five streams for each of `AT_ONCE` sessions: 5,000 in all."""

WARMING = 2
"""Waves before anything is weighed: what is made once is made then."""

BLOCKS_OF_A_CALL = 8
"""Of memory, that stay of a logged call: the ciphers of its stream, which are kept for 4,096 streams, oldest dropped first."""

BLOCKS_OF_CHANCE = 2_000
TASKS_OF_CHANCE = 5
"""The worker's own, such as connections to Redis, which come and go."""

MEMORY_BYTES = 8 * 1024 * 1024
"""Resident. The allocator keeps what it got; a leak of 2 kB a stream would show."""

PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "p", "progress": 1}}


class Stage:
    def __init__(self, backend: Scripted, redis: RedisServer) -> None:
        self.backend = backend
        self.redis = redis
        self.may_end = asyncio.Event()
        self.fleet: Fleet
        self.sessions: list[str] = []
        self.resumed = 0
        backend.script = self.script

    @property
    def replica(self) -> Replica:
        return self.fleet.replicas[0]

    @property
    def url(self) -> str:
        return f"{self.replica.url}/calls/mcp"

    async def script(self, call: Call) -> None:
        method = "GET" if call.method == "GET" else call.message["method"]
        match method:
            case "initialize":
                count = len(self.backend.calls)
                await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id=f"s{count}")
            case "notifications/initialized":
                await call.reply(b"", 202)
            case "tools/call":
                await call.start()
                await call.send(PROGRESS)
                await self.may_end.wait()
                await call.finish({})
                call.close()  # else the replica may keep it for the next call
            case _:
                await call.start()
                await call.send(PROGRESS)
                await call.left.wait()

    async def run_waves(self, count: int) -> None:
        for _ in range(count):
            self.may_end.clear()
            async with asyncio.TaskGroup() as tasks:
                for number, session in enumerate(self.sessions):
                    tasks.create_task(self._call_and_resume(session, number))
                    tasks.create_task(self._drop("GET", legacy_headers(session), b""))
                    tasks.create_task(self._post(modern("subscriptions/listen", request_id=number)))
                    tasks.create_task(self._post(modern("tools/call", {"name": "long"}, request_id=number)))
            self.may_end.set()
            await wait_for_metric(self.fleet, 0, "mcp_gateway_open_streams")

    async def _call_and_resume(self, session: str, number: int) -> None:
        """A call that is dropped in the middle, resumed, and dropped again."""
        event_id = await self._post(legacy("tools/call", {"name": "long"}, session=session, request_id=number))
        if event_id:  # else a busy machine had Redis wait too long, and the call went on without it
            await self._drop("GET", legacy_headers(session) | {"last-event-id": event_id}, b"")
            self.resumed += 1

    async def _post(self, request: dict[str, Any]) -> str:
        return await self._drop("POST", request["headers"], json.dumps(request["json"]).encode())

    async def _drop(self, method: str, headers: dict[str, str], body: bytes) -> str:
        """Drops the stream at its first event; that one's id."""
        async with opened(self.url, method, headers, body) as (status, _, pieces):
            assert status == 200
            event: Event = await anext(split_events(pieces))
            return event.id


class Weight(msgspec.Struct):
    """What the gateway holds."""

    tasks: Counter[str]
    blocks: int
    sockets: int
    memory_bytes: int


async def weigh(replica: Replica) -> Weight:
    """As the process says, and the kernel of it."""
    heard = replica.output.count("weighed ")
    replica.child.process.send_signal(signal.SIGUSR1)
    await wait_until(lambda: replica.output.count("weighed ") > heard, "the gateway weighs itself")
    told = json.loads(re.findall(r"weighed (.*)", replica.output)[-1])
    return Weight(Counter(told["tasks"]), told["blocks"], count_sockets(replica), read_memory(replica))


async def weigh_at_rest(stage: Stage, like: Weight | None = None) -> Weight:
    """When no stream is read any more (a standing one for 10 s after its client left), and nothing is being taken leave of."""
    await wait_until(lambda: not stage.backend.connections, "the backend is rid of all connections")
    async with asyncio.timeout(WITHIN_SECONDS):
        weight = await weigh(stage.replica)
        while like is not None and weight.tasks.total() > like.tasks.total() + TASKS_OF_CHANCE:
            await asyncio.sleep(POLL_SECONDS)
            weight = await weigh(stage.replica)
    return weight


@pytest.fixture
async def stage(own_redis: RedisServer) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        stage = Stage(await cleanup.enter_async_context(scripted()), own_redis)
        config = f"redis: {own_redis.url}\nbackends: {{calls: {{endpoints: ['{stage.backend.url}'], era: dual}}}}"
        stage.fleet = cleanup.enter_context(running_fleet(config, 1, program="tests.fleet.weighed"))
        async with open_http() as http:
            stage.sessions = [await open_session(http, stage.url) for _ in range(AT_ONCE)]
        yield stage


@proves("LEAVE-4")
@pytest.mark.timeout(300)
async def test_five_thousand_streams_leave_tasks_sockets_memory_and_redis_where_they_were(
    stage: Stage, table: list[str]
) -> None:
    await stage.run_waves(WARMING)
    before = await weigh_at_rest(stage)
    await stage.run_waves(WAVES)
    after = await weigh_at_rest(stage, before)
    blocks, memory_bytes = after.blocks - before.blocks, after.memory_bytes - before.memory_bytes
    keys = stage.redis.tell("KEYS", "*")
    lifetimes_ms = [stage.redis.tell("PTTL", key) for key in keys]
    print(before, after, sep="\n")
    table.append(
        f"{5 * AT_ONCE * WAVES} streams opened and dropped: {after.sockets - before.sockets:+} sockets, {blocks:+} blocks, "
        f"{memory_bytes / 1024:+.0f} KiB resident; {len(keys)} keys in Redis, the last of them for {max(lifetimes_ms) / 1000:.0f} s"
    )
    assert stage.resumed > AT_ONCE * WAVES / 2
    assert after.sockets <= before.sockets + 2
    assert blocks < BLOCKS_OF_A_CALL * AT_ONCE * WAVES + BLOCKS_OF_CHANCE
    assert memory_bytes < MEMORY_BYTES
    assert all(0 < lifetime_ms <= Bounds().live_seconds * 1000 for lifetime_ms in lifetimes_ms)
