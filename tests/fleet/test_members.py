"""Aggregates whose members, and replicas, die under their clients: three replicas as processes, one Redis, each request to
another replica."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Self

import httpx2
import pytest

from tests.fleet.figures import POLL_SECONDS, sum_metric, wait_until
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import Child, serving
from tests.fleet.requests import initialize, legacy, legacy_headers, modern, open_session, read_events
from tests.fleet.resumable import Caller, opened, split_events, summarise
from tests.fleet.scripted import WITHIN_SECONDS, Call, scripted
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer
from tests.requirements import proves

LEFT_OUT = "mcp-stateless-gateway/leftOut"
HEALED = "mcp_gateway_healed_sessions_total"
TURNS = "mcp_gateway_stream_turns_total"
ECHO = ["echo__echo", "echo__count", "echo__ask", "echo__summarise"]
MATH = ["math__add", "math__multiply", "math__divide", "math__statistics"]

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
{backends}
aggregates:
  all: {{mount: /, backends: all, deadline: 20s}}
"""


class Mortal:
    """A sample backend that dies and comes back, on one port."""

    def __init__(self, module: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self._command = [sys.executable, "-m", module, "--port", str(self.port)]
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        self._child = Child(self._command, name=" ".join(self._command[2:]))
        self._child.wait_for_line("listens at")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._child is not None:
            self._child.end(how)


def configure(redis: RedisServer, **urls: str) -> str:
    lines = [f"  {name}: {{endpoints: ['{url}']}}" for name, url in urls.items()]
    return CONFIG.format(redis=redis.url, backends="\n".join(lines))


@pytest.fixture
def math() -> Iterator[Mortal]:
    math = Mortal("backends.math")
    math.start()
    yield math
    math.end()


@pytest.fixture
def fleet(math: Mortal, redis_server: RedisServer) -> Iterator[Fleet]:
    with serving("backends.echo") as echo, running_fleet(configure(redis_server, echo=echo, math=math.url)) as fleet:
        yield fleet


class Both:
    """A client of each era at the aggregate, which hears what it is told."""

    def __init__(self, fleet: Fleet, http: httpx2.AsyncClient) -> None:
        self.url = f"{fleet.url}/mcp"
        self.http = http
        self.session = ""
        self.told: dict[str, list[Any]] = {"legacy": [], "modern": []}
        self._listening: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.session = await open_session(self.http, self.url)
        wanted = {"notifications": {"toolsListChanged": True}}
        asked = {
            "legacy": self.http.stream("GET", self.url, headers=legacy_headers(self.session)),
            "modern": self.http.stream("POST", self.url, **modern("subscriptions/listen", wanted)),
        }
        for era, streaming in asked.items():
            is_open = asyncio.Event()
            self._listening.append(asyncio.create_task(self._listen(era, streaming, is_open)))
            await asyncio.wait_for(is_open.wait(), WITHIN_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)

    async def _listen(self, era: str, streaming: Any, is_open: asyncio.Event) -> None:
        async with streaming as response:
            assert response.status_code == 200
            is_open.set()
            async for message in read_events(response):
                self.told[era].append(message.get("method"))

    def has_heard(self, era: str, method: str) -> bool:
        return method in self.told[era]

    async def list_tools(self) -> list[tuple[list[str], dict[str, str]]]:
        """The names, and who is left out, as each era is told."""
        return [
            (
                [tool["name"] for tool in result["tools"]],
                result.get("_meta", {}).get(LEFT_OUT, {}),
            )
            for result in [
                (await self.http.post(self.url, **request)).json()["result"]
                for request in (legacy("tools/list", session=self.session), modern("tools/list"))
            ]
        ]

    async def call(self, tool: str, **arguments: Any) -> list[Any]:
        """The answers of both eras: the structured content, or the code of the error."""
        params = {"name": tool, "arguments": arguments}
        answers = [
            await self.http.post(self.url, **legacy("tools/call", params, session=self.session)),
            await self.http.post(self.url, **modern("tools/call", params)),
        ]
        return [read_answer(answer) for answer in answers]


def read_answer(answer: httpx2.Response) -> Any:
    text = answer.text.rpartition("data: ")[2] if "event-stream" in answer.headers["content-type"] else answer.text
    message = json.loads(text)
    return message["result"]["structuredContent"] if "result" in message else (answer.status_code, message["error"])


@proves("AGG-10")
@pytest.mark.timeout(180)
async def test_a_member_that_dies_is_left_out_and_its_return_is_told_and_its_sessions_healed(
    fleet: Fleet, math: Mortal, http: httpx2.AsyncClient
) -> None:
    async with Both(fleet, http) as both:
        assert await both.list_tools() == [(ECHO + MATH, {})] * 2
        await both.http.post(both.url, **legacy("resources/subscribe", {"uri": "echo://last"}, session=both.session))
        math.end(signal.SIGKILL)
        for _ in fleet.replicas:
            assert await both.list_tools() == [(ECHO, {"math": "unreachable"})] * 2
            assert await both.call("echo__echo", text="on") == [{"result": "on"}] * 2
            for status, error in await both.call("math__add", a=1, b=2):
                assert (status, error["code"], error["data"]["source"]) == (503, -32603, "gateway")
        math.start()
        changed = "notifications/tools/list_changed"
        await wait_until(lambda: both.has_heard("legacy", changed), "a legacy client is told")
        await wait_until(lambda: both.has_heard("modern", changed), "a modern client is told")
        for _ in fleet.replicas:
            assert await both.list_tools() == [(ECHO + MATH, {})] * 2
            assert await both.call("math__add", a=1, b=2) == [{"result": 3}] * 2
        assert await sum_metric(fleet, HEALED, backend="math") == 1
        # The other member's session is the one that it was: what it watches is still told.
        both.told["legacy"].clear()
        await both.call("echo__echo", text="still")
        await wait_until(lambda: both.has_heard("legacy", "notifications/resources/updated"), "the watch is told")
        assert await sum_metric(fleet, HEALED, backend="echo") == 0


# ---- a replica dies


STEPS = 40
STEP_MILLISECONDS = 100
CALLERS = 9


@pytest.fixture
def lasting(redis_server: RedisServer) -> Iterator[Fleet]:
    """A fleet with a backend whose calls take long and can be resumed, and another."""
    with (
        serving("tests.fleet.resumable", "--store") as keeps,
        serving("backends.echo") as echo,
        running_fleet(configure(redis_server, keeps=keeps, echo=echo)) as fleet,
    ):
        yield fleet


@proves("AGG-11")
@pytest.mark.timeout(180)
async def test_long_calls_of_a_killed_replica_go_on_at_another_and_others_are_not_held_up(
    lasting: Fleet, http: httpx2.AsyncClient, table: list[str]
) -> None:
    url = f"{lasting.url}/mcp"
    session = await open_session(http, url)
    callers = [Caller(url, session, number, tool="keeps__count") for number in range(CALLERS)]
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.run(STEPS, STEP_MILLISECONDS)) for caller in callers]
        for caller in callers:
            await caller.begun.wait()
        lasting.kill(0)
        for number in range(10):
            params = {"name": "echo__echo", "arguments": {"text": str(number)}}
            asked = legacy("tools/call", params, request_id=f"echo-{number}", session=session)
            assert read_answer(await http.post(url, **asked)) == {"result": str(number)}
    reports = [call.result() for call in calls]
    table.append(f"/mcp, a replica killed: {len(reports)} calls: {summarise(reports)}")
    assert [faults for report in reports if (faults := report.faults(STEPS))] == []
    cut = [report for report in reports if report.resumes]
    assert cut, "the replica had no call"
    assert await sum_metric(lasting, TURNS, turn="taken_over") == len(cut)


async def test_two_long_calls_at_once_with_one_id_to_two_members_each_have_their_own_stream(
    lasting: Fleet, http: httpx2.AsyncClient
) -> None:
    url = f"{lasting.url}/mcp"
    session = await open_session(http, url)
    tools = ("keeps__count", "echo__count")
    # Each comes back once, and is given the rest of its own.
    callers = [Caller(url, session, 1, tool=tool, cut_at=n) for n, tool in enumerate(tools, start=4)]
    reports = await asyncio.gather(*(caller.run(n, STEP_MILLISECONDS) for n, caller in enumerate(callers, start=14)))
    assert [report.faults(n) for n, report in enumerate(reports, start=14)] == [[], []]
    assert [report.resumes for report in reports] == [1, 1]


@proves("AGG-11")
async def test_a_session_s_stream_of_a_killed_replica_goes_on_at_another(
    lasting: Fleet, http: httpx2.AsyncClient
) -> None:
    url = f"{lasting.url}/mcp"
    session = await open_session(http, url)
    await http.post(url, **legacy("resources/subscribe", {"uri": "echo://last"}, session=session))
    last_id, ids = "", set[str]()

    async def keep_echoing() -> None:
        for number in count(1):
            params = {"name": "echo__echo", "arguments": {"text": str(number)}}
            await http.post(url, **legacy("tools/call", params, request_id=number, session=session))
            await asyncio.sleep(POLL_SECONDS)

    async def hear_echo(at: str) -> None:
        """Opens the stream there, until it is told that what was echoed has changed."""
        nonlocal last_id
        headers = legacy_headers(session) | ({"last-event-id": last_id} if last_id else {})
        async with asyncio.timeout(WITHIN_SECONDS), opened(at, "GET", headers, b"") as (status, _, pieces):
            assert status == 200
            async for event in split_events(pieces):
                last_id = event.id or last_id
                if event.data:
                    assert event.id not in ids
                    ids.add(event.id)
                    if json.loads(event.data)["params"].get("uri") == "echo://last":
                        return

    # What the backend says while nobody has its stream is lost: it gives no event ids. So it says it again and again.
    echoing = asyncio.create_task(keep_echoing())
    await hear_echo(f"{lasting.replicas[1].url}/mcp")
    await hear_echo(f"{lasting.replicas[1].url}/mcp")
    lasting.kill(1)
    for _ in range(4):
        await hear_echo(url)
    echoing.cancel()
    assert await sum_metric(lasting, TURNS, turn="taken_over") == 1


class Asking:
    """A backend that asks its client in the middle of a call: on whichever connection the call's stream is resumed."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.answer: Any = None

    async def script(self, call: Call) -> None:
        if call.method == "GET":
            if "last-event-id" not in call.headers:
                await call.reply(b"", 405)
            else:
                await self.resume(call)
        elif call.method == "DELETE":  # of the session with which the gateway finds out what it speaks
            await call.reply(b"")
        elif "method" not in call.message:
            self.answer = call.message
            await call.reply(b"", 202)
            self.answered.set()
        elif call.message["method"] == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": SERVER}
            await call.answer(result, mcp_session_id="asking")
        elif call.message["method"] == "tools/call":
            await call.start()
            await self.send(call, 1, {"method": "notifications/message", "params": {"level": "info", "data": "begun"}})
            await call.left.wait()
        else:
            await call.reply(b"", 202)

    async def resume(self, call: Call) -> None:
        assert call.headers["last-event-id"] == "1"
        await call.start()
        await self.send(call, 2, {"id": 7, "method": "elicitation/create", "params": {"message": "?"}})
        await asyncio.wait_for(self.answered.wait(), WITHIN_SECONDS)
        await self.send(call, 3, {"id": "long", "result": {"content": [{"type": "text", "text": "thanks"}]}})
        await call.finish()

    @staticmethod
    async def send(call: Call, number: int, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        await call.write_chunk(b"id: %d\r\nevent: message\r\ndata: %b\r\n\r\n" % (number, data))


SERVER = {"name": "asking", "version": "1"}


@proves("AGG-11")
async def test_what_a_member_asks_after_a_takeover_is_asked_and_answered_under_its_own_name(
    redis_server: RedisServer, http: httpx2.AsyncClient
) -> None:
    asking, seen = Asking(), []
    async with AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(scripted(asking.script))
        echo = cleanup.enter_context(serving("backends.echo"))
        fleet = cleanup.enter_context(running_fleet(configure(redis_server, echo=echo, asking=backend.url)))
        url = f"{fleet.url}/mcp"
        session = await open_session(http, url)
        asked = legacy("tools/call", {"name": "asking__long"}, request_id="long", session=session)
        body = json.dumps(asked["json"]).encode()
        async with opened(f"{fleet.replicas[2].url}/mcp", "POST", asked["headers"], body) as (_, _, pieces):
            begun = await anext(event async for event in split_events(pieces) if event.data)
            fleet.kill(2)
        resuming = legacy_headers(session) | {"last-event-id": begun.id}
        async with asyncio.timeout(WITHIN_SECONDS), opened(url, "GET", resuming, b"") as (_, _, pieces):
            async for event in split_events(pieces):
                if event.data:
                    seen.append(json.loads(event.data))
                if "elicitation/create" in event.data:
                    answer = {"jsonrpc": "2.0", "id": seen[-1]["id"], "result": {"action": "decline"}}
                    taken = await http.post(url, headers=legacy_headers(session), json=answer)
                    assert taken.status_code == 202
    assert [message["id"] for message in seen] == ["asking:7", "long"]
    assert seen[1]["result"] == {"content": [{"type": "text", "text": "thanks"}]}
    assert asking.answer == {"jsonrpc": "2.0", "id": 7, "result": {"action": "decline"}}


# ---- a backend is away when a session begins


class Counting:
    """A backend that counts its sessions, and gives each a tool."""

    def __init__(self) -> None:
        self.begun: list[Any] = []

    async def script(self, call: Call) -> None:
        method = call.message["method"] if call.method == "POST" else ""
        if method == "initialize":
            self.begun.append(call.message["params"]["clientInfo"])
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": SERVER}
            await call.answer(result, mcp_session_id=f"s-{len(self.begun)}")
        elif method == "tools/call":
            named = (call.headers["mcp-session-id"], call.headers["mcp-protocol-version"])
            await call.answer({"content": [], "structuredContent": {"named": named}})
        elif call.method == "GET":
            await call.reply(b"", 405)
        else:
            await call.reply(b"", 202)


@proves("AGG-10")
async def test_a_member_that_was_away_when_a_session_began_joins_it_once_whichever_replica_needs_it_first(
    redis_server: RedisServer, http: httpx2.AsyncClient
) -> None:
    counting = Counting()
    async with AsyncExitStack() as cleanup:
        late = await cleanup.enter_async_context(scripted(counting.script))
        await late.stop()
        echo = cleanup.enter_context(serving("backends.echo"))
        fleet = cleanup.enter_context(running_fleet(configure(redis_server, echo=echo, late=late.url)))
        url = f"{fleet.url}/mcp"
        begun = await http.post(url, **initialize())
        assert json.loads(begun.text)["result"]["_meta"][LEFT_OUT] == {"late": "unreachable"}
        session = begun.headers["mcp-session-id"]
        await late.start()
        calls = [
            http.post(url, **legacy("tools/call", {"name": "late__where"}, request_id=number, session=session))
            for number in range(9)
        ]
        answers = [read_answer(answer) for answer in await asyncio.gather(*calls)]
    assert answers == [{"named": ["s-1", "2025-06-18"]}] * 9
    assert counting.begun == [{"name": "tests", "version": "1"}]
