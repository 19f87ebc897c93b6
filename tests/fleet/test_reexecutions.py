"""Calls that are lost with their replica, on backends that can't resume: a read-only one is run once more, no other ever is.

Real processes: replicas are killed, and the backends keep a tally of what was begun.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.fleet.figures import POLL_SECONDS, sum_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import legacy, open_session, read_events
from tests.fleet.resumable import Caller, Report, summarise
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer
from tests.requirements import proves

STEPS = 30
STEP_MILLISECONDS = 100
CALLS = 9  # to each backend: three for each replica, as the balancer deals them
TURNS = "mcp_gateway_stream_turns_total"

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
  reads: {{endpoints: ['{reads}'], reexecute: read_only}}
  writes: {{endpoints: ['{writes}'], reexecute: read_only}}
  doubted: {{endpoints: ['{reads}']}}
"""


@pytest.fixture
def fleet(own_redis: RedisServer) -> Iterator[Fleet]:
    with ExitStack() as cleanup:
        reads = cleanup.enter_context(serving("tests.fleet.tallies", "--read-only"))
        writes = cleanup.enter_context(serving("tests.fleet.tallies"))
        config = CONFIG.format(redis=own_redis.url, reads=reads, writes=writes)
        yield cleanup.enter_context(running_fleet(config, 3))


async def make_callers(fleet: Fleet, http: httpx2.AsyncClient, backend: str) -> list[Caller]:
    url = f"{fleet.url}/{backend}/mcp"
    return [Caller(url, await open_session(http, url), os.urandom(8).hex()) for _ in range(CALLS)]


async def read_tally(fleet: Fleet, http: httpx2.AsyncClient, backend: str) -> str:
    url = f"{fleet.url}/{backend}/mcp"
    session = await open_session(http, url)
    asked = legacy("tools/call", {"name": "tally", "arguments": {}}, session=session)
    async with http.stream("POST", url, **asked) as answer:
        messages = [message async for message in read_events(answer)]
    return str(messages[-1]["result"]["content"][0]["text"])


def cut_of(reports: list[Report]) -> list[Report]:
    return [report for report in reports if report.resumes]


@proves("AGAIN-1", "AGAIN-2", "AGAIN-3", "AGAIN-4")
async def test_of_calls_lost_with_their_replica_only_read_only_ones_are_run_again(
    fleet: Fleet, http: httpx2.AsyncClient, table: list[str]
) -> None:
    reading, writing = await make_callers(fleet, http, "reads"), await make_callers(fleet, http, "writes")
    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in reading]
        writes = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in writing]
        for caller in [*reading, *writing]:
            await caller.begun.wait()
        await asyncio.to_thread(fleet.kill, 0)
        await asyncio.to_thread(fleet.restart, 0)
    read, written = [call.result() for call in reads], [call.result() for call in writes]
    table.append(f"replica killed, backend can't resume, read-only: {CALLS} calls: {summarise(read)}")
    table.append(f"replica killed, backend can't resume, not read-only: {CALLS} calls: {summarise(written)}")
    again = len(cut_of(read))
    assert again, "the killed replica had none of these calls"
    assert [faults for report in read if (faults := report.faults(STEPS))] == []
    tally = await read_tally(fleet, http, "reads")
    table.append(f"of {again} first runs that were lost, those under way still were cancelled: {tally}")
    assert tally.startswith(f"{CALLS + again} begun")
    assert await sum_metric(fleet, TURNS, turn="run_again") == again
    lost = cut_of(written)
    assert lost, "the killed replica had none of these calls"
    assert [(bool(report.result), "call again" in report.error) for report in lost] == [(False, True)] * len(lost)
    assert [report.faults(STEPS) for report in written if not report.resumes] == [[]] * (CALLS - len(lost))
    assert await read_tally(fleet, http, "writes") == f"{CALLS} begun, 0 cancelled"


@proves("AGAIN-3")
async def test_on_a_backend_that_is_not_trusted_nothing_is_run_again(fleet: Fleet, http: httpx2.AsyncClient) -> None:
    callers = await make_callers(fleet, http, "doubted")
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        await asyncio.to_thread(fleet.kill, 0)
        await asyncio.to_thread(fleet.restart, 0)
    lost = cut_of([call.result() for call in calls])
    assert lost, "the killed replica had none of these calls"
    assert [(bool(report.result), "call again" in report.error) for report in lost] == [(False, True)] * len(lost)
    assert await read_tally(fleet, http, "doubted") == f"{CALLS} begun, 0 cancelled"


@proves("AGAIN-4")
async def test_a_call_whose_second_run_is_lost_too_is_not_run_a_third_time(
    fleet: Fleet, http: httpx2.AsyncClient, table: list[str]
) -> None:
    callers = await make_callers(fleet, http, "reads")
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, 10 * STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        for number in range(3):
            await asyncio.to_thread(fleet.kill, number)
        for number in range(3):
            await asyncio.to_thread(fleet.restart, number)
        await wait_for_runs(fleet, CALLS)
        for number in range(3):
            await asyncio.to_thread(fleet.kill, number)
        for number in range(3):
            await asyncio.to_thread(fleet.restart, number)
    reports = [call.result() for call in calls]
    table.append(f"all replicas killed twice, read-only: {CALLS} calls: {summarise(reports)}")
    assert [(bool(report.result), "call again" in report.error) for report in reports] == [(False, True)] * CALLS
    assert [report.steps for report in reports] == [list(range(1, 1 + len(report.steps))) for report in reports]
    assert (await read_tally(fleet, http, "reads")).startswith(f"{2 * CALLS} begun")


@proves("AGAIN-1", "AGAIN-2")
async def test_calls_lost_with_their_backend_are_run_again_when_it_is_back(
    own_redis: RedisServer, http: httpx2.AsyncClient, table: list[str]
) -> None:
    with ExitStack() as cleanup:
        before = cleanup.enter_context(ExitStack())
        reads = before.enter_context(serving("tests.fleet.tallies", "--read-only"))
        config = f"redis: {own_redis.url}\nbackends:\n  reads: {{endpoints: ['{reads}'], reexecute: read_only}}\n"
        fleet = cleanup.enter_context(running_fleet(config, 2))
        callers = await make_callers(fleet, http, "reads")
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
            for caller in callers:
                await caller.begun.wait()
            await asyncio.to_thread(before.close)
            port = str(urlsplit(reads).port)
            again = serving("tests.fleet.tallies", "--read-only", "--port", port)
            await asyncio.to_thread(cleanup.enter_context, again)
        reports = [call.result() for call in calls]
        table.append(f"backend restarted, read-only: {CALLS} calls: {summarise(reports)}")
        assert [faults for report in reports if (faults := report.faults(STEPS))] == []
        assert await read_tally(fleet, http, "reads") == f"{CALLS} begun, 0 cancelled"
        assert await sum_metric(fleet, TURNS, turn="run_again") == CALLS


async def wait_for_runs(fleet: Fleet, wanted: int) -> None:
    async with asyncio.timeout(60):  # another process sets no event
        while await sum_metric(fleet, TURNS, turn="run_again") < wanted:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
