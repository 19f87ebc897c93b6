"""One caller, three replicas, a real Redis: what all of them together let through."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from tests.fleet.figures import POLL_SECONDS, sum_metric, wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import modern, open_http
from tests.fleet.scripted import WITHIN_SECONDS, Call, scripted
from tests.redis.servers import RedisServer, make_server, running
from tests.requirements import proves

CONFIG = """
redis: {redis}
limits: {limits}
backends: {{echo: {{endpoints: ['{url}'], era: modern}}}}
"""
BURST = 60


class Stage:
    def __init__(self, redis: RedisServer, url: str, cleanup: AsyncExitStack) -> None:
        self.redis = redis
        self._url = url
        self._cleanup = cleanup
        self.fleet: Fleet
        self.long = 0
        self.are_two = asyncio.Event()

    def start(self, rate: str) -> None:
        self.start_with(f"{{requests: {{per_principal: {rate}}}}}")

    def start_with(self, limits: str) -> None:
        config = CONFIG.format(redis=self.redis.url, url=self._url, limits=limits)
        self.fleet = self._cleanup.enter_context(running_fleet(config, 3))

    async def call(self, http: httpx2.AsyncClient) -> httpx2.Response:
        return await http.post(f"{self.fleet.url}/echo/mcp", **modern("tools/call", {"name": "x"}))

    async def call_often(self, calls: int) -> Counter[int]:
        """That many calls, ten at a time; how many got which status."""
        statuses: Counter[int] = Counter()

        async def some(http: httpx2.AsyncClient) -> None:
            for _ in range(calls // 10):
                statuses[(await self.call(http)).status_code] += 1

        async with open_http() as http:
            await asyncio.gather(*(some(http) for _ in range(10)))
        return statuses


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async def script(call: Call) -> None:
        if call.message["params"]["name"] == "long":
            stage.long += 1
            if stage.long == 2:
                stage.are_two.set()
            await call.left.wait()
        else:
            await call.answer({"content": []})

    async with AsyncExitStack() as cleanup:
        redis = make_server(tmp_path)
        cleanup.enter_context(running(redis))
        backend = await cleanup.enter_async_context(scripted(script))
        stage = Stage(redis, backend.url, cleanup)
        yield stage


@proves("LIMIT-1", "LIMIT-2")
async def test_three_replicas_together_let_through_no_more_than_the_limit(stage: Stage) -> None:
    stage.start(f"60/h burst {BURST}")
    statuses = await stage.call_often(300)
    assert set(statuses) == {200, 429}
    # Some tokens may lie with a replica that had no call for them any more; more than there were there never are.
    assert BURST // 2 <= statuses[200] <= BURST
    async with open_http() as http:
        refused = await stage.call(http)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert await sum_metric(stage.fleet, "mcp_gateway_limited_requests_total", limit="requests") == statuses[429] + 1


@proves("LIMIT-1")
async def test_who_calls_for_longer_gets_what_flows_in_and_no_more(stage: Stage) -> None:
    stage.start("50/s burst 50")
    started = time.monotonic()
    statuses = await stage.call_often(500)
    assert statuses[200] <= 50 + 50 * (time.monotonic() - started)
    assert statuses[200] >= 25


@proves("LIMIT-4")
async def test_without_redis_each_replica_holds_its_share(stage: Stage) -> None:
    stage.start(f"60/h burst {BURST}")
    stage.redis.kill()
    await wait_for_metric(stage.fleet, 3, "mcp_gateway_limits_apart")
    statuses = await stage.call_often(300)
    assert set(statuses) == {200, 429}
    # Replicas that have counted each other let through a third each; one that was first may have counted fewer.
    assert BURST // 3 <= statuses[200] <= 3 * BURST
    await asyncio.to_thread(stage.redis.start)
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_limits_apart")


@proves("LIMIT-5")
async def test_the_places_of_a_replica_that_was_killed_are_free_a_little_later(stage: Stage) -> None:
    stage.start_with("{concurrent_calls: 2}")
    urls = [f"{replica.url}/echo/mcp" for replica in stage.fleet.replicas]
    async with open_http() as http, asyncio.TaskGroup() as group:

        async def call_long(url: str) -> None:
            with suppress(httpx2.TransportError):  # a place that was left a moment ago may still be on its way back
                while (await http.post(url, **modern("tools/call", {"name": "long"}))).status_code == 429:
                    pass

        async def call_short(url: str) -> int:
            return (await http.post(url, **modern("tools/call", {"name": "x"}))).status_code

        assert [await call_short(url) for url in urls * 3] == [200] * 9  # one after the other is never too many
        long = [group.create_task(call_long(urls[0])) for _ in range(2)]
        async with asyncio.timeout(WITHIN_SECONDS):
            await stage.are_two.wait()
        assert [await call_short(url) for url in urls] == [429] * 3
        stage.fleet.kill(0)
        await asyncio.wait(long)
        async with asyncio.timeout(WITHIN_SECONDS):
            while await call_short(urls[1]) == 429:  # noqa: ASYNC110  another process sets no event
                await asyncio.sleep(POLL_SECONDS)
        assert [await call_short(url) for url in urls[1:] * 3] == [200] * 6
