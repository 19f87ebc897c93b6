"""Long calls survive: replicas are killed one after the other, or replaced all in turn, and no client loses anything. Real
processes, a real Redis, `kill -9`; the clients do no more than the specification tells them to."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.fleet.deaths import dying
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import open_session
from tests.fleet.resumable import Caller, Report, summarise
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer

CLIENTS = 30
STEPS = 50
STEP_MILLISECONDS = 200
FEED_STEPS = 10
FEED_STEP_MILLISECONDS = 60
BETWEEN_CALLS_SECONDS = 0.05
WITHIN_SECONDS = 90.0
"""For all calls together, each of which takes 10 s where nobody dies. Beyond it they hang."""

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
  keeps: {{endpoints: ['{keeps}']}}
  forgets: {{endpoints: ['{forgets}']}}
"""


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer) -> Iterator[Fleet]:
    """One backend remembers what it sent and the other doesn't; takeovers come after seconds, as the heartbeat is short."""
    with serving("tests.fleet.resumable", "--store") as keeps, serving("tests.fleet.resumable") as forgets:
        config = CONFIG.format(redis=redis_server.url, keeps=keeps, forgets=forgets)
        with running_fleet(config) as fleet:
            yield fleet


@asynccontextmanager
async def calling(fleet: Fleet, mount: str, http: httpx2.AsyncClient) -> AsyncIterator["list[asyncio.Task[Report]]"]:
    """So many calls under way, each in a session of its own, and each so far that it can be resumed."""
    url = f"{fleet.url}/{mount}/mcp"
    callers = [Caller(url, await open_session(http, url), f"{random.getrandbits(64):x}") for _ in range(CLIENTS)]
    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        yield calls


async def test_no_client_loses_anything_while_replicas_are_killed(
    fleet: Fleet, http: httpx2.AsyncClient, table: list[str]
) -> None:
    reports, deaths = await survive(fleet, "keeps", http)
    table.append(f"kill -9 every 2 s, {deaths} times, backend resumes: {CLIENTS} calls: {summarise(reports)}")
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []
    assert deaths >= 2


async def test_a_call_that_cannot_be_resumed_ends_in_a_clear_error(
    fleet: Fleet, http: httpx2.AsyncClient, table: list[str]
) -> None:
    reports, deaths = await survive(fleet, "forgets", http)
    table.append(f"kill -9 every 2 s, {deaths} times, backend forgets: {CLIENTS} calls: {summarise(reports)}")
    assert [report.refusal for report in reports if report.refusal] == []
    for report in reports:
        assert report.doubled == 0
        assert report.steps == list(range(1, len(report.steps) + 1)), "what came is a beginning"
        if report.result:
            assert report.faults(STEPS) == []
        else:
            assert "call again" in report.error
    assert any(report.error for report in reports), "nobody's replica was killed"


async def survive(fleet: Fleet, mount: str, http: httpx2.AsyncClient) -> tuple[list[Report], int]:
    """What the clients saw, and how often a replica was killed meanwhile."""
    async with calling(fleet, mount, http) as calls, dying(fleet) as deaths:
        reports = await asyncio.gather(*calls)
    return reports, deaths.count


class Feed:
    """Calls that begin all the time, one after the other, in a few sessions."""

    def __init__(self, url: str, sessions: list[str]) -> None:
        self._url = url
        self._sessions = sessions
        self._calls: list[asyncio.Task[Report]] = []
        self._is_over = False

    async def run(self) -> list[Report]:
        """What became of each that began before `stop`."""
        async with asyncio.TaskGroup() as tasks:
            while not self._is_over:
                session = self._sessions[len(self._calls) % len(self._sessions)]
                caller = Caller(self._url, session, f"{random.getrandbits(64):x}")
                self._calls.append(tasks.create_task(caller.run(FEED_STEPS, FEED_STEP_MILLISECONDS)))
                await asyncio.sleep(BETWEEN_CALLS_SECONDS)
        return [call.result() for call in self._calls]

    def stop(self) -> None:
        self._is_over = True


@pytest.mark.parametrize("mount", ["keeps", "forgets"])
async def test_a_rolling_restart_loses_nothing(
    fleet: Fleet, http: httpx2.AsyncClient, table: list[str], mount: str
) -> None:
    url = f"{fleet.url}/{mount}/mcp"
    feed = Feed(url, [await open_session(http, url) for _ in range(10)])
    started = asyncio.get_running_loop().time()
    async with calling(fleet, mount, http) as calls, asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed.run())
        try:
            for number in range(len(fleet.replicas)):
                status = await asyncio.to_thread(fleet.terminate, number)
                assert status == 0, fleet.describe()
                await asyncio.to_thread(fleet.restart, number)
        finally:
            feed.stop()
        seconds = asyncio.get_running_loop().time() - started
        reports, fed = await asyncio.gather(*calls), await feeding
    what = f"SIGTERM for each replica, {seconds:.0f} s in all, backend {mount}"
    table.append(f"{what}: {CLIENTS} calls under way: {summarise(reports)}")
    table.append(f"{what}: {len(fed)} calls begun meanwhile: {summarise(fed)}")
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []
    assert [faults for report in fed if (faults := report.faults(FEED_STEPS))] == []
