"""What happens at the same time: two followers that would take a stream over, a call that is cancelled while its replica dies,
an append whose answer is lost. Real processes, and a backend that says which of them asked it what."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.crowds import STEPS, gathering, lossless
from tests.fleet.figures import read_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import legacy, legacy_headers, open_session
from tests.fleet.resumable import Event, opened, split_events, summarise
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.redis.proxies import Proxy
from tests.redis.servers import RedisServer, make_server, running
from tests.redis.waiting import until
from tests.requirements import proves

TURNS = "mcp_gateway_stream_turns_total"
CALLS = 12

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
  calls: {{endpoints: ['{calls}'], era: legacy}}
  keeps: {{endpoints: ['{keeps}']}}
"""


class Halting:
    """A backend whose calls tell of two steps and halt; whoever resumes one gets a third, and the result."""

    def __init__(self, backend: Scripted) -> None:
        backend.script = self.serve
        self.resumed: Counter[str] = Counter()
        self.halted: set[str] = set()

    async def serve(self, call: Call) -> None:
        if call.method == "DELETE":
            await call.reply(b"", 200)
        elif call.method == "GET":
            await self._resume(call)
        elif call.message["method"] == "initialize":
            await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s")
        elif call.message["method"] == "tools/call":
            await self._halt(call)
        else:
            await call.reply(b"", 202)

    async def _halt(self, call: Call) -> None:
        await call.start()
        for number in (1, 2):
            await self._step(call, call.message["id"], number)
        self.halted.add(call.message["id"])
        await call.left.wait()

    async def _resume(self, call: Call) -> None:
        rpc_id, _, number = call.headers["last-event-id"].partition("/")
        assert number == "2"
        self.resumed[rpc_id] += 1
        await call.start()
        await self._step(call, rpc_id, 3)
        await self._say(call, rpc_id, 4, {"jsonrpc": "2.0", "id": rpc_id, "result": {}})
        await call.finish()

    async def _step(self, call: Call, rpc_id: str, number: int) -> None:
        params = {"progressToken": "p", "progress": number}
        await self._say(call, rpc_id, number, {"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    async def _say(self, call: Call, rpc_id: str, number: int, message: dict[str, Any]) -> None:
        await call.write_chunk(b"id: %b/%d\ndata: %b\n\n" % (rpc_id.encode(), number, json.dumps(message).encode()))


class Stage:
    """One fleet for all these tests, which reaches Redis through a proxy."""

    def __init__(self, fleet: Fleet, backend: Halting, redis: RedisServer, proxy: Proxy) -> None:
        self.fleet = fleet
        self.backend = backend
        self.redis = redis
        self.proxy = proxy

    def url(self, number: int) -> str:
        """The mount, on that replica."""
        return f"{self.fleet.replicas[number].url}/calls/mcp"

    async def begin(self, session: str, rpc_id: str) -> str:
        """Calls on replica 0, and leaves: the id of the second step."""
        request = legacy("tools/call", {"name": "halt"}, request_id=rpc_id, session=session)
        body = json.dumps(request["json"]).encode()
        async with opened(self.url(0), "POST", request["headers"], body) as (status, _, pieces):
            assert status == 200
            events = split_events(pieces)
            return [await anext(events) for _ in range(3)][-1].id  # the first says where the stream begins

    async def follow(self, number: int, session: str, last_id: str, begun: asyncio.Event) -> list[str]:
        """Resumes on that replica, to the end of the reply: what came, in words."""
        headers = legacy_headers(session) | {"last-event-id": last_id}
        async with opened(self.url(number), "GET", headers, b"") as (status, _, pieces):
            if status != 200:
                return [f"HTTP {status}"]
            found = []
            async for event in split_events(pieces):
                begun.set()
                if event.data:
                    found.append(tell(event))
            return found


def tell(event: Event) -> str:
    message = json.loads(event.data)
    if "method" in message:
        return f"step {message['params']['progress']}"
    return f"{'result' if 'result' in message else 'error'} of {message['id']}"


@pytest.fixture(scope="module")
async def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    redis = make_server(tmp_path_factory.mktemp("redis"))
    async with AsyncExitStack() as cleanup:
        cleanup.enter_context(running(redis))
        proxy = await cleanup.enter_async_context(Proxy(redis.address))
        backend = await cleanup.enter_async_context(scripted())
        keeps = cleanup.enter_context(serving("tests.fleet.resumable", "--store"))
        config = CONFIG.format(redis=proxy.url, calls=backend.url, keeps=keeps)
        yield Stage(cleanup.enter_context(running_fleet(config)), Halting(backend), redis, proxy)


@pytest.fixture
async def stage(whole_stage: Stage) -> Stage:
    """All replicas run, and each has been seen by Redis; nothing was asked of the backend yet."""
    fleet, redis = whole_stage.fleet, whole_stage.redis
    if not fleet.replicas[0].child.running:
        await asyncio.to_thread(fleet.restart, 0)
    redis.tell("FLUSHALL")
    await asyncio.to_thread(until, lambda: len(redis.tell("KEYS", "*:beat:*")) == len(fleet.replicas))
    whole_stage.backend.resumed.clear()
    return whole_stage


@pytest.mark.parametrize("what", ["killed", "drained"])
@proves("DUR-7", "HOLD-1")
async def test_of_two_followers_one_takes_a_stream_over_and_the_backend_is_asked_once(
    stage: Stage, http: httpx2.AsyncClient, table: list[str], what: str
) -> None:
    session, before = await open_session(http, stage.url(0)), await count_takeovers(stage)
    calls = [os.urandom(8).hex() for _ in range(CALLS)]
    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        following = []
        for rpc_id in calls:
            last_id = await stage.begin(session, rpc_id)
            for number in (1, 2):
                begun = asyncio.Event()
                following.append(tasks.create_task(stage.follow(number, session, last_id, begun)))
                await begun.wait()
        await asyncio.to_thread(stage.fleet.kill if what == "killed" else stage.fleet.terminate, 0)
    upstream = sum(stage.backend.resumed.values())
    table.append(f"two followers of each of {CALLS} streams, their replica {what}: {upstream} resumes upstream")
    assert [task.result() for task in following] == [
        ["step 3", f"result of {rpc_id}"] for rpc_id in calls for _ in range(2)
    ]
    assert stage.backend.resumed == dict.fromkeys(calls, 1)
    assert await count_takeovers(stage) == before + CALLS


async def count_takeovers(stage: Stage) -> float:
    """So far, by the replicas that no test kills."""
    return sum([await read_metric(replica, TURNS, turn="taken_over") for replica in stage.fleet.replicas[1:]])


def cancelled(rpc_id: str, session: str) -> tuple[str, dict[str, Any]]:
    return "POST", legacy("notifications/cancelled", {"requestId": rpc_id}, request_id=None, session=session)


def deleted(rpc_id: str, session: str) -> tuple[str, dict[str, Any]]:
    return "DELETE", {"headers": legacy_headers(session)}


@pytest.mark.parametrize("ending", [cancelled, deleted])
@proves("MARK-9", "DUR-7")
async def test_nobody_goes_on_with_a_call_that_its_client_has_ended_elsewhere_while_its_replica_died(
    stage: Stage, http: httpx2.AsyncClient, ending: Callable[[str, str], tuple[str, dict[str, Any]]]
) -> None:
    session, before, begun = await open_session(http, stage.url(0)), await count_takeovers(stage), asyncio.Event()
    last_id = await stage.begin(session, "call")
    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(stage.follow(1, session, last_id, begun))
        await begun.wait()
        stage.fleet.replicas[0].child.process.send_signal(signal.SIGSTOP)  # it hears of nothing any more
        method, request = ending("call", session)
        answer = await http.request(method, stage.url(2), **request)
        assert answer.status_code < 300
        await asyncio.to_thread(stage.fleet.kill, 0)
    assert following.result() == []
    assert await stage.follow(2, session, last_id, begun) == ["HTTP 405"]
    (key,) = stage.redis.tell("KEYS", "*:facts:*")
    assert stage.redis.tell("HGET", key, "s") == b"finished"
    assert stage.backend.resumed == {}
    assert await count_takeovers(stage) == before


@proves("LOG-2", "REDIS-2")
async def test_an_append_that_was_done_though_its_answer_was_lost_is_in_the_log_once(
    stage: Stage, http: httpx2.AsyncClient, table: list[str]
) -> None:
    async with gathering(f"{stage.fleet.url}/keeps/mcp", http) as crowd:
        stage.proxy.withhold()
        await stage.proxy.wait_withheld()
        await crowd.call_late()
        await crowd.wait_until_cut()
        stage.proxy.cut()
        stage.proxy.let_pass()
    kept = [stage.redis.tell("XLEN", key) for key in stage.redis.tell("KEYS", "*:log:*")]
    table.append(f"answers of Redis lost: {len(crowd.reports)} calls: {summarise(crowd.reports)}; {len(kept)} logs")
    assert lossless(crowd.reports) == []
    # Of each stream that was logged: where it begins, its steps, and the result. One that Redis began without being heard is
    # nobody's: its client was served without it.
    assert kept.count(STEPS + 2) == len(crowd.reports) - len(crowd.late)
    assert {count for count in kept if count != STEPS + 2} <= {2}
