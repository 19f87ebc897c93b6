"""Who owns a stream when its worker, or Redis, is dead, or only seems so. Real processes: one worker of several is killed, a
replica and Redis are stopped (SIGSTOP) and woken."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fleet.figures import POLL_SECONDS, count_sockets_of, read_metric, sum_metric
from tests.fleet.fleet import Fleet, Replica, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import legacy, modern, open_session
from tests.fleet.resumable import Caller, summarise
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer

HEARTBEAT_SECONDS = 1.0
STEPS = 50
STEP_MILLISECONDS = 160
TURNS = "mcp_gateway_stream_turns_total"

CONFIG = """
redis: {redis}
streams: {{heartbeat: {heartbeat}}}
backends:
  echo: {{endpoints: ['{echo}']}}
  keeps: {{endpoints: ['{keeps}']}}
"""


class Stage:
    """Two backends, and fleets in front of them."""

    def __init__(self, cleanup: ExitStack, redis: RedisServer) -> None:
        self._cleanup = cleanup
        self.redis = redis
        self._config = CONFIG.format(
            redis=redis.url,
            heartbeat=HEARTBEAT_SECONDS,
            echo=cleanup.enter_context(serving("backends.echo")),
            keeps=cleanup.enter_context(serving("tests.fleet.resumable", "--store")),
        )

    def open(self, replicas: int, workers: int = 1) -> Fleet:
        return self._cleanup.enter_context(running_fleet(self._config, replicas, workers=workers))


@pytest.fixture
def stage(own_redis: RedisServer) -> Iterator[Stage]:
    with ExitStack() as cleanup:
        yield Stage(cleanup, own_redis)


async def make_callers(fleet: Fleet, http: httpx2.AsyncClient, count: int, **options: Any) -> list[Caller]:
    url = f"{fleet.url}/keeps/mcp"
    return [Caller(url, await open_session(http, url), os.urandom(8).hex(), **options) for _ in range(count)]


def pids_of_workers(replica: Replica) -> list[int]:
    parent = replica.child.process.pid
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


async def test_the_streams_of_a_killed_worker_are_taken_over(
    stage: Stage, http: httpx2.AsyncClient, table: list[str]
) -> None:
    fleet = stage.open(replicas=1, workers=4)
    callers = await make_callers(fleet, http, 16)
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        # The kernel shares connections out as it likes: the worker that has more of them has streams.
        os.kill(max(pids_of_workers(fleet.replicas[0]), key=count_sockets_of), signal.SIGKILL)
    reports = [call.result() for call in calls]
    table.append(f"one worker of four killed: {len(reports)} calls: {summarise(reports)}")
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []
    cut = [report for report in reports if report.resumes]
    assert cut, "the worker had no streams"
    assert await sum_metric(fleet, TURNS, turn="taken_over") == len(cut)


async def test_no_stream_changes_hands_while_redis_is_stopped_and_calls_go_on(
    stage: Stage, http: httpx2.AsyncClient, table: list[str]
) -> None:
    fleet = stage.open(replicas=3)
    attached = await make_callers(fleet, http, 10)
    following = await make_callers(fleet, http, 10, cut_at=2)
    held = await make_callers(fleet, http, 10, cut_at=12)  # while Redis is stopped
    callers = [*attached, *following, *held]
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        await wait_for_resumes(following)
        stage.redis.pause()
        steps_before = [len(caller.report.steps) for caller in attached]
        paused_until = asyncio.get_running_loop().time() + 3.5 * HEARTBEAT_SECONDS
        slowest = await call_until(paused_until, f"{fleet.url}/echo/mcp", http)
        assert all(len(caller.report.steps) > before for caller, before in zip(attached, steps_before, strict=True))
        assert [(len(caller.report.steps), caller.report.resumes) for caller in held] == [(12, 1)] * 10
        stage.redis.resume()
    reports = [call.result() for call in calls]
    table.append(
        f"Redis stopped for 3.5 TTL: {len(reports)} calls: {summarise(reports)}; slowest other call {slowest:.3f} s"
    )
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []
    assert [report.resumes for report in reports] == [0] * 10 + [1] * 20
    assert epochs(stage.redis) == [b"1"] * 30
    for turn in ("taken_over", "fenced", "loss_reported"):
        assert await sum_metric(fleet, TURNS, turn=turn) == 0, turn


async def wait_for_resumes(callers: list[Caller]) -> None:
    async with asyncio.timeout(30):
        while not all(caller.report.resumes for caller in callers):  # noqa: ASYNC110  # the reports set no event
            await asyncio.sleep(0.01)


async def call_until(until: float, url: str, http: httpx2.AsyncClient) -> float:
    """Ordinary calls of both eras, one after the other; how long the slowest took."""
    session = await open_session(http, url)
    slowest = 0.0
    while asyncio.get_running_loop().time() < until:
        for request in (
            legacy("tools/call", {"name": "echo", "arguments": {"text": "x"}}, session=session),
            modern("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
        ):
            started = time.monotonic()
            answer = await http.post(url, **request)
            slowest = max(slowest, time.monotonic() - started)
            assert answer.status_code == 200, answer.text
            assert '"x"' in answer.text
    return slowest


def epochs(redis: RedisServer) -> list[bytes]:
    """Of every stream that there is: 1 where it never changed hands."""
    return [redis.tell("HGET", key, "e") for key in redis.tell("KEYS", "*:facts:*")]


async def test_calls_go_on_when_redis_is_killed_and_streams_with_those_who_hold_them(
    stage: Stage, http: httpx2.AsyncClient, table: list[str]
) -> None:
    fleet = stage.open(replicas=3)
    callers = await make_callers(fleet, http, 10)
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        await asyncio.to_thread(stage.redis.kill)
        killed_until = asyncio.get_running_loop().time() + 2.0
        slowest = await call_until(killed_until, f"{fleet.url}/echo/mcp", http)
        begun_without = (await make_callers(fleet, http, 1))[0]
        calls.append(tasks.create_task(begun_without.run(STEPS, 40)))
        await begun_without.begun.wait()
        await asyncio.to_thread(stage.redis.start)
    reports = [call.result() for call in calls]
    table.append(
        f"Redis killed, back empty: {len(reports)} calls: {summarise(reports)}; slowest other call {slowest:.3f} s"
    )
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []
    assert sum(report.resumes for report in reports) == 0


async def test_what_a_woken_zombie_sends_reaches_nobody_twice(
    stage: Stage, http: httpx2.AsyncClient, table: list[str]
) -> None:
    fleet = stage.open(replicas=3)
    callers = await make_callers(fleet, http, 15, patience_seconds=1.0)
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        zombie = fleet.replicas[0]
        zombie.child.process.send_signal(signal.SIGSTOP)
        try:
            taken = await wait_for_takeovers(fleet.replicas[1:], 5)
        finally:
            zombie.child.process.send_signal(signal.SIGCONT)
    reports = [call.result() for call in calls]
    fenced = await wait_for_fenced(zombie, taken)
    table.append(
        f"a replica stopped and woken: {len(reports)} calls: {summarise(reports)}; {taken} taken over, {fenced} fenced"
    )
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []


async def wait_for_takeovers(replicas: list[Replica], wanted: int) -> int:
    async with asyncio.timeout(60):  # another process sets no event
        while (taken := sum([await read_metric(r, TURNS, turn="taken_over") for r in replicas])) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
    return int(taken)


async def wait_for_fenced(zombie: Replica, wanted: int) -> int:
    async with asyncio.timeout(30):
        while (fenced := await read_metric(zombie, TURNS, turn="fenced")) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
    return int(fenced)
