"""Redis suffers while long calls are under way through three replicas: a real one, killed, paused, made read-only and full.

Whoever is attached is served on, whoever follows from the log waits for it, whoever comes back meanwhile is held. What Redis
kept is lost by nobody; what it forgot is told to each client that it concerns.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import httpx2
import pytest

from tests.fleet.crowds import gathering, lossless, silent
from tests.fleet.figures import sum_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.resumable import summarise
from tests.redis.servers import HOST, WITH_DATA, RedisServer, free_port, make_server, running
from tests.requirements import proves

TURNS = "mcp_gateway_stream_turns_total"

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
  keeps: {{endpoints: ['{keeps}']}}
"""


class Stage:
    def __init__(self, redis: RedisServer, fleet: Fleet) -> None:
        self.redis = redis
        self.fleet = fleet
        self.url = f"{fleet.url}/keeps/mcp"

    async def count_turns(self) -> dict[str, float]:
        """How often a stream has changed hands, and a loss was told, so far."""
        return {
            turn: await sum_metric(self.fleet, TURNS, turn=turn) for turn in ("taken_over", "fenced", "loss_reported")
        }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One fleet for all faults: each finds it as the one before has left it."""
    redis = make_server(tmp_path_factory.mktemp("redis"), *WITH_DATA)
    with ExitStack() as cleanup:
        cleanup.enter_context(running(redis))
        keeps = cleanup.enter_context(serving("tests.fleet.resumable", "--store"))
        fleet = cleanup.enter_context(running_fleet(CONFIG.format(redis=redis.url, keeps=keeps)))
        yield Stage(redis, fleet)


Fault = Callable[[RedisServer], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(redis: RedisServer) -> AsyncIterator[None]:
    redis.kill()
    yield
    await asyncio.to_thread(redis.start)


def paused(kind: str) -> Fault:
    """CLIENT PAUSE. That of all commands holds the command that would end it, too: it ends when its time is over."""

    @asynccontextmanager
    async def fault(redis: RedisServer) -> AsyncIterator[None]:
        redis.tell("CLIENT", "PAUSE", 3000, kind)
        yield
        await asyncio.to_thread(redis.tell, "SET", "paused", "no longer", "PX", 1)

    return fault


@asynccontextmanager
async def demoted(redis: RedisServer) -> AsyncIterator[None]:
    redis.tell("REPLICAOF", HOST, free_port())
    yield
    redis.tell("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def lonely(redis: RedisServer) -> AsyncIterator[None]:
    """It writes only where a replica has it, too, and there is none."""
    redis.tell("CONFIG", "SET", "min-replicas-to-write", 1)
    yield
    redis.tell("CONFIG", "SET", "min-replicas-to-write", 0)


@asynccontextmanager
async def full(redis: RedisServer) -> AsyncIterator[None]:
    redis.tell("CONFIG", "SET", "maxmemory", 1)
    yield
    redis.tell("CONFIG", "SET", "maxmemory", 0)


FAULTS: dict[str, Fault] = {
    "killed, back with its data": killed,
    "pausing all": paused("ALL"),
    "pausing writes": paused("WRITE"),
    "the replica of a dead primary": demoted,
    "without the replicas it wants": lonely,
    "full": full,
}


@pytest.mark.parametrize("what", FAULTS)
@proves("DUR-2", "REDIS-2")
async def test_nobody_loses_anything_while_redis_is(
    stage: Stage, http: httpx2.AsyncClient, table: list[str], what: str
) -> None:
    before = await stage.count_turns()
    async with gathering(stage.url, http) as crowd, FAULTS[what](stage.redis):
        await crowd.call_late()
        await crowd.wait_until_cut()
    table.append(f"Redis {what}: {len(crowd.reports)} calls: {summarise(crowd.reports)}")
    assert lossless(crowd.reports) == []
    assert await stage.count_turns() == before, "a stream changed hands, or a loss was told"


@proves("DUR-2", "DUR-6", "REDIS-2")
async def test_what_redis_forgot_is_told_to_whom_it_concerns(
    stage: Stage, http: httpx2.AsyncClient, table: list[str]
) -> None:
    async with gathering(stage.url, http) as crowd:
        stage.redis.kill()
        await crowd.call_late()
        await crowd.wait_until_cut()
        forget(stage.redis)
        await asyncio.to_thread(stage.redis.start)
    table.append(f"Redis killed, back empty: {len(crowd.reports)} calls: {summarise(crowd.reports)}")
    assert silent(crowd.reports) == []
    attached = [caller.report for caller in (*crowd.attached, *crowd.late)]
    assert lossless(attached) == []
    assert [report.resumes for report in attached] == [0] * len(attached)
    told = [
        bool(caller.report.error or caller.report.refusal)
        for caller in (*crowd.following, *crowd.held, *crowd.sleeping)
    ]
    assert told == [True] * len(told)


def forget(redis: RedisServer) -> None:
    for left in redis.folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
