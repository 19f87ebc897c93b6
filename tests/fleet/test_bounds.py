"""What the file says of room for streams, and of calls whose clients have left, holds in a running gateway."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

import httpx2
import pytest

from tests.fleet.figures import POLL_SECONDS, sum_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import open_session
from tests.fleet.resumable import Caller
from tests.requirements import proves

TURNS = "mcp_gateway_stream_turns_total"
CALLS = "mcp_gateway_durable_calls"

CONFIG = """
redis: memory
drain: {{delay: 0s, grace: 0s}}
streams: {{{streams}}}
backends:
  slow: {{endpoints: ['{backend}']}}
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    with serving("tests.fleet.tallies") as url:
        yield url


def open_fleet(backend: str, streams: str) -> AbstractContextManager[Fleet]:
    return running_fleet(CONFIG.format(streams=streams, backend=backend), 1)


async def make_callers(fleet: Fleet, http: httpx2.AsyncClient, count: int, **options: int) -> list[Caller]:
    url = f"{fleet.url}/slow/mcp"
    return [Caller(url, await open_session(http, url), os.urandom(8).hex(), **options) for _ in range(count)]


async def wait_for(fleet: Fleet, metric: str, wanted: float, **labels: str) -> None:
    async with asyncio.timeout(60):  # another process sets no event
        while await sum_metric(fleet, metric, **labels) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


@proves("ORPHAN-1")
async def test_of_calls_whose_clients_have_left_the_oldest_is_given_up(backend: str, http: httpx2.AsyncClient) -> None:
    with open_fleet(backend, "max_orphans: 2") as fleet:
        callers = await make_callers(fleet, http, 3)
        for caller in callers:
            call = asyncio.create_task(caller.run(600, 100))
            await caller.begun.wait()
            call.cancel()
        await wait_for(fleet, TURNS, 1, turn="orphan_given_up")
        await wait_for(fleet, CALLS, 2, state="orphan")
        await callers[0]._come_back()
        assert "too many clients had left" in callers[0].report.error


@proves("LOG-8")
async def test_beyond_the_budget_calls_go_on_and_are_not_kept(backend: str, http: httpx2.AsyncClient) -> None:
    with open_fleet(backend, "budget: 2KiB") as fleet:
        for caller in await make_callers(fleet, http, 3):
            report = await caller.run(20, 20)
            assert report.faults(20) == []
        assert await sum_metric(fleet, TURNS, turn="not_kept") == 2
