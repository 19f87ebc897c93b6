"""Redis changes its primary while long calls are under way through three replicas: behind Sentinel, and within a cluster.

What was acknowledged by the old primary alone is lost with it: whoever was served directly doesn't notice, and whoever would
have to read it is told.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.fleet.crowds import STEPS, Crowd, gathering, lossless, silent, wait_for
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.resumable import Caller, summarise
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.sentinels import Watched
from tests.redis.servers import Cluster, running
from tests.redis.waiting import until
from tests.requirements import proves

STEP_MILLISECONDS = 150
ALONE_AT = 8
"""From this step on the old primary has been alone long enough to have acknowledged what will be lost."""

SETTLED_STEPS = 8

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
  keeps: {{endpoints: ['{keeps}']}}
"""


@contextmanager
def fleet_on(redis: str) -> Iterator[Fleet]:
    with (
        serving("tests.fleet.resumable", "--store") as keeps,
        running_fleet(CONFIG.format(redis=redis, keeps=keeps)) as f,
    ):
        yield f


@pytest.mark.parametrize("is_woken", [False, True], ids=["killed", "stopped and woken"])
@proves("DUR-2", "DUR-6", "REDIS-3")
async def test_what_the_old_primary_alone_knew_is_told_and_nothing_comes_twice(
    watched: Watched, http: httpx2.AsyncClient, table: list[str], is_woken: bool
) -> None:
    with fleet_on(watched.url) as fleet:
        url = f"{fleet.url}/keeps/mcp"
        async with gathering(url, http, step_milliseconds=STEP_MILLISECONDS) as crowd:
            watched.cut_off()
            await wait_for_steps(crowd, ALONE_AT)
            watched.primary.pause() if is_woken else watched.primary.kill()
            await crowd.call_late()
            await asyncio.to_thread(watched.wait_promoted)
            if is_woken:
                watched.primary.resume()
            await crowd.wait_until_cut()
    what = "stopped, replaced and woken" if is_woken else "killed and replaced"
    table.append(f"Redis primary {what}: {len(crowd.reports)} calls: {summarise(crowd.reports)}")
    assert silent(crowd.reports) == []
    assert lossless([caller.report for caller in (*crowd.attached, *crowd.late)]) == []
    # They had the second event when the primary was left alone; what came next is in no log.
    assert [bool(caller.report.error) for caller in crowd.sleeping] == [True] * len(crowd.sleeping)


async def wait_for_more(callers: list[Caller], steps: int) -> None:
    """Until each has had so many more, or all."""
    goals = [min(len(caller.report.steps) + steps, STEPS) for caller in callers]
    await wait_for(lambda: all(len(c.report.steps) >= goal for c, goal in zip(callers, goals, strict=True)))


async def wait_for_steps(crowd: Crowd, steps: int) -> None:
    await wait_for(lambda: all(caller.report.steps[-1:] >= [steps] for caller in (*crowd.attached, *crowd.following)))


@proves("DUR-2", "DUR-4", "DUR-7", "REDIS-3")
async def test_streams_in_a_cluster_go_on_though_one_of_its_nodes_and_a_replica_die(
    http: httpx2.AsyncClient, table: list[str], tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path, replicas=3)
    with running(*cluster.nodes):
        await asyncio.to_thread(cluster.join, until)
        with fleet_on(cluster.url) as fleet:
            url = f"{fleet.url}/keeps/mcp"
            async with gathering(url, http, step_milliseconds=STEP_MILLISECONDS) as crowd:
                await asyncio.to_thread(cluster.nodes[0].kill)
                await crowd.call_late()
                await crowd.wait_until_cut()
                await asyncio.to_thread(cluster.wait_replaced, until)
                await wait_for_more(crowd.attached, SETTLED_STEPS)  # what waited for the node has been written
                fleet.kill(0)
    table.append(
        f"a node of the Redis Cluster and a replica killed: {len(crowd.reports)} calls: {summarise(crowd.reports)}"
    )
    assert silent(crowd.reports) == []
