"""Lists that are kept and streams that are shared, on replicas as processes: one upstream stream for many listeners, and a
change that one replica hears of dropped by all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.figures import read_metric, wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import modern, open_http, read_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer
from tests.requirements import proves

LISTENERS = 200
CHANGED = "notifications/tools/list_changed"
META = {"io.modelcontextprotocol/subscriptionId": "gateway-listen"}
QUESTIONS = "mcp_gateway_cache_questions_total"


class Stage:
    """A backend that counts its lists, tells of changes, and keeps them for ten minutes."""

    def __init__(self, backend: Scripted) -> None:
        self.backend = backend
        self.fleet: Fleet
        self.lists = 0
        self.listening: list[Call] = []
        backend.script = self.script

    async def script(self, call: Call) -> None:
        if call.message["method"] == "subscriptions/listen":
            await call.start()
            wanted = call.message["params"]["notifications"]
            await self.tell(call, "notifications/subscriptions/acknowledged", notifications=wanted)
            self.listening.append(call)
            await call.left.wait()
            self.listening.remove(call)
        else:
            self.lists += 1
            await call.answer({"tools": [{"name": f"tool-{self.lists}"}], "ttlMs": 600_000, "cacheScope": "private"})

    async def tell(self, call: Call, method: str, **params: Any) -> None:
        await call.send({"jsonrpc": "2.0", "method": method, "params": {**params, "_meta": META}})

    def url(self, replica: int) -> str:
        return f"{self.fleet.replicas[replica].url}/lists/mcp"

    async def list_tools(self, http: httpx2.AsyncClient, replica: int) -> str:
        answer = await http.post(self.url(replica), **modern("tools/list"))
        name: str = answer.json()["result"]["tools"][0]["name"]
        return name


@pytest.fixture
async def stage(redis_server: RedisServer) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        stage = Stage(await cleanup.enter_async_context(scripted()))
        config = f"redis: {redis_server.url}\nbackends: {{lists: {{endpoints: ['{stage.backend.url}'], era: modern}}}}"
        stage.fleet = cleanup.enter_context(running_fleet(config, 2))
        yield stage


async def until_kept(stage: Stage, http: httpx2.AsyncClient, replica: int) -> str:
    """What the replica keeps, once it keeps it: what was asked before it heard the others is not to be relied on."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            first, second = [await stage.list_tools(http, replica) for _ in range(2)]
            if first == second:
                return first


async def until_asked_anew(stage: Stage, http: httpx2.AsyncClient, replica: int, before: str) -> None:
    """Until the replica has dropped what it kept, long before its time is over.

    Redis had taken the news before the listener was told; a replica that gets no CPU may still read it a little later.
    """
    async with asyncio.timeout(WITHIN_SECONDS):
        while await stage.list_tools(http, replica) == before:
            pass


@proves("CACHE-6", "LISTEN-1")
async def test_a_change_that_one_replica_hears_of_is_asked_anew_by_the_other(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    wanted = {"notifications": {"toolsListChanged": True}}
    async with http.stream("POST", stage.url(0), **modern("subscriptions/listen", wanted)) as response:
        events = read_events(response)
        assert (await anext(events))["method"] == "notifications/subscriptions/acknowledged"
        kept = [await until_kept(stage, http, replica) for replica in (0, 1)]
        asked = stage.lists
        for round_ in range(10):
            (listening,) = stage.listening
            await stage.tell(listening, CHANGED)
            assert (await anext(events))["method"] == CHANGED
            await until_asked_anew(stage, http, 1, kept[1])
            assert await stage.list_tools(http, 0) != kept[0], round_
            kept = [await until_kept(stage, http, replica) for replica in (0, 1)]
        assert stage.lists >= asked + 20
        assert await read_metric(stage.fleet.replicas[1], QUESTIONS, outcome="hit") >= 10


@proves("LISTEN-1", "LISTEN-5")
async def test_hundreds_of_listeners_are_one_stream_of_the_backends(stage: Stage) -> None:
    wanted = {"notifications": {"toolsListChanged": True}}
    async with AsyncExitStack() as cleanup:
        http = await cleanup.enter_async_context(open_http(limits=httpx2.Limits(max_connections=None)))

        async def listen(number: int) -> AsyncIterator[Any]:
            asked = modern("subscriptions/listen", wanted, request_id=f"listen-{number}")
            events = read_events(await cleanup.enter_async_context(http.stream("POST", stage.url(0), **asked)))
            await anext(events)
            return events

        streams = [await listen(number) for number in range(LISTENERS)]
        assert len(stage.listening) == 1
        assert await read_metric(stage.fleet.replicas[0], "mcp_gateway_shared_listens", backend="lists") == 1
        assert await read_metric(stage.fleet.replicas[0], "mcp_gateway_open_streams", kind="listen") == LISTENERS
        await stage.tell(stage.listening[0], CHANGED)
        ids = [(await anext(events))["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] for events in streams]
        assert ids == [f"listen-{number}" for number in range(LISTENERS)]
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams", kind="listen")
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_shared_listens", backend="lists")
    assert stage.listening == []


@proves("LISTEN-3")
async def test_a_backend_that_restarts_costs_its_listeners_nothing_but_a_look(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    wanted = {"notifications": {"toolsListChanged": True}}
    async with http.stream("POST", stage.url(0), **modern("subscriptions/listen", wanted)) as response:
        events = read_events(response)
        await anext(events)
        await until_kept(stage, http, 0)
        for _ in range(3):
            asked = stage.lists
            await stage.backend.stop()
            await stage.backend.start()
            assert (await anext(events))["method"] == CHANGED  # it may have been told of something unheard
            await stage.list_tools(http, 0)
            assert stage.lists == asked + 1
            await until_kept(stage, http, 0)
