"""A replica is told to end (SIGTERM), as at every deploy: load balancers get time to hear of it, what is under way is finished,
what would last for ever is ended in good order, and the process ends with 0. A second signal ends it at once."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fleet.figures import wait_until
from tests.fleet.fleet import Fleet, Replica, fetch, running_fleet
from tests.fleet.nginx import running_nginx
from tests.fleet.processes import END_SECONDS, START_SECONDS, serving
from tests.fleet.requests import legacy, legacy_headers, modern, open_http, open_session, read_events
from tests.fleet.scripted import Call, Scripted, scripted
from tests.requirements import proves

GREETING = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
LISTEN = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, request_id="listen-1")
LISTEN_ENDED = {"resultType": "complete", "_meta": {"io.modelcontextprotocol/subscriptionId": "listen-1"}}
LOST = "the gateway is being replaced, and this call did not end in time: see what it has done, then call again"
NEVER = "1h"
"""A wait that nothing but a second signal ends."""


class Stage:
    """A replica, and a backend whose calls wait until they may end."""

    def __init__(self, backend: Scripted, workers: int, cleanup: AsyncExitStack) -> None:
        self.backend = backend
        self.may_end = asyncio.Event()
        self.may_greet = asyncio.Event()
        self.fleet: Fleet
        self._workers = workers
        self._cleanup = cleanup
        backend.script = self.script

    def open(self, **drain: str) -> None:
        """Starts the replica; `delay` and `grace` are its configuration's."""
        config = f"backends: {{calls: {{endpoints: ['{self.backend.url}'], era: dual}}}}"
        env = {f"MCPGW_DRAIN__{name.upper()}": value for name, value in drain.items()}
        self.fleet = self._cleanup.enter_context(running_fleet(config, 1, workers=self._workers, env=env))

    @property
    def replica(self) -> Replica:
        return self.fleet.replicas[0]

    @property
    def url(self) -> str:
        # Without the balancer: it is the replica's own connections that must end well.
        return f"{self.replica.url}/calls/mcp"

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends the signal; returns when every worker has heard it."""
        self.replica.child.process.send_signal(number)
        count = self._workers
        await wait_until(lambda: self.replica.output.count('"event":"draining"') == count, "all workers drain")

    async def wait_for_end(self) -> int:
        """The exit code."""
        return await asyncio.to_thread(self.replica.child.process.wait, END_SECONDS)

    async def script(self, call: Call) -> None:
        method = "GET" if call.method == "GET" else call.message["method"]
        match method:
            case "GET" | "subscriptions/listen":
                await call.start()
                await call.send(GREETING)
                await self.may_greet.wait()
                await call.send(GREETING)
                await call.left.wait()
            case "initialize":
                await call.answer({"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_session_id="s")
            case "tools/call":
                await call.start()
                await call.progress(1)
                await self.may_end.wait()
                await call.finish({"done": True})
            case "tools/list":
                await self.may_end.wait()
                await call.answer({"done": True})
            case "ping":
                await call.answer({})
            case _:
                await call.reply(b"", 202)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        yield Stage(await cleanup.enter_async_context(scripted()), request.param, cleanup)


class Opened:
    """A stream of which the first event has been read."""

    def __init__(self, events: AsyncIterator[Any]) -> None:
        self._events = events

    async def next(self) -> Any:
        return await anext(self._events)

    async def rest(self) -> list[Any]:
        """All further events; raises where the stream doesn't end as HTTP says that it must."""
        return [event async for event in self._events]


async def open_stream(cleanup: AsyncExitStack, http: httpx2.AsyncClient, method: str, url: str, **kw: Any) -> Opened:
    answer = await cleanup.enter_async_context(http.stream(method, url, **kw))
    assert answer.status_code == 200
    events = read_events(answer)
    await anext(events)
    return Opened(events)


async def open_calls(cleanup: AsyncExitStack, http: httpx2.AsyncClient, url: str) -> list[Opened]:
    """A call of each era, and the first of its progress."""
    session = await open_session(http, url)
    requests = [modern("tools/call", {"name": "long"}), legacy("tools/call", {"name": "long"}, session=session)]
    return [await open_stream(cleanup, http, "POST", url, **request) for request in requests]


# ---- the delay


@proves("DRAIN-1")
async def test_until_the_delay_is_over_a_replica_is_unready_and_serves_whatever_comes(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.open(delay=NEVER)
    async with AsyncExitStack() as cleanup:
        listening = await open_stream(cleanup, http, "POST", stage.url, **LISTEN)
        kept = await cleanup.enter_async_context(open_http(limits=httpx2.Limits(max_connections=1)))
        before = await kept.post(stage.url, **modern("ping"))
        assert "connection" not in before.headers
        await stage.end()

        status, body = await asyncio.to_thread(fetch, f"{stage.replica.url}/readyz", START_SECONDS)
        assert (status, body) == (503, b"not ready: draining\n")
        for client in (kept, http):  # on a connection that was there before, and on a new one
            after = await client.post(stage.url, **modern("ping"))
            assert (after.status_code, after.headers["connection"]) == (200, "close")
        begun = await open_stream(cleanup, http, "POST", stage.url, **modern("tools/call", {"name": "long"}))
        stage.may_end.set()
        assert await begun.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"done": True}}]
        stage.may_greet.set()
        assert await listening.next() == GREETING, "streams stay, too: they would come back here"

        stage.replica.child.process.send_signal(signal.SIGTERM)
        assert await listening.rest() == [{"jsonrpc": "2.0", "id": "listen-1", "result": LISTEN_ENDED}]
        assert await stage.wait_for_end() == 128 + signal.SIGTERM, stage.fleet.describe()


@proves("DRAIN-1")
async def test_after_the_delay_nobody_is_taken_in_while_calls_under_way_go_on(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.open(delay="100ms", grace=NEVER)
    async with AsyncExitStack() as cleanup:
        calls = await open_calls(cleanup, http, stage.url)
        stage.replica.child.process.send_signal(signal.SIGTERM)
        await wait_until(lambda: is_refused(stage.replica), "connections are refused")
        stage.may_end.set()
        for call in calls:
            assert await call.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"done": True}}]
    assert await stage.wait_for_end() == 0, stage.fleet.describe()
    assert '"lost_calls":0' in stage.replica.output


def is_refused(replica: Replica) -> bool:
    try:
        fetch(f"{replica.url}/livez", START_SECONDS)
    except ConnectionRefusedError:
        return True
    except OSError:  # taken in by the kernel, at the very end
        return False
    return False


async def test_an_idle_replica_ends_at_once_though_clients_keep_their_connections(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.open(grace=NEVER)
    assert (await http.post(stage.url, **legacy("notifications/progress", request_id=None))).status_code == 202
    await stage.end()
    assert await stage.wait_for_end() == 0, stage.fleet.describe()


async def test_who_ends_it_at_a_terminal_waits_for_no_load_balancer(stage: Stage) -> None:
    stage.open(delay=NEVER, grace=NEVER)
    await stage.end(signal.SIGINT)
    assert await stage.wait_for_end() == 0, stage.fleet.describe()


# ---- the grace


@proves("LEAVE-3", "DRAIN-3")
async def test_a_drained_replica_finishes_what_it_can_and_ends_the_rest_in_good_order(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.open()
    async with AsyncExitStack() as cleanup, asyncio.TaskGroup() as tasks:
        listening = await open_stream(cleanup, http, "POST", stage.url, **LISTEN)
        session = await open_session(http, stage.url)
        standing = await open_stream(cleanup, http, "GET", stage.url, headers=legacy_headers(session))
        calls = await open_calls(cleanup, http, stage.url)
        whole = tasks.create_task(http.post(stage.url, **modern("tools/list")))
        await stage.backend.wait_call(9)

        await stage.end()

        # The specification's own result for the end of a subscription, and nothing after it.
        assert await listening.rest() == [{"jsonrpc": "2.0", "id": "listen-1", "result": LISTEN_ENDED}]
        assert await standing.rest() == []
        assert stage.replica.child.process.poll() is None
        stage.may_end.set()
        for call in calls:
            assert await call.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"done": True}}]
        assert (await whole).json()["result"] == {"done": True}
    assert await stage.wait_for_end() == 0, stage.fleet.describe()


@proves("DRAIN-3")
async def test_calls_that_outlast_the_grace_are_told_so_and_counted(stage: Stage, http: httpx2.AsyncClient) -> None:
    stage.open(grace="200ms")
    async with AsyncExitStack() as cleanup, asyncio.TaskGroup() as tasks:
        calls = await open_calls(cleanup, http, stage.url)
        whole = tasks.create_task(http.post(stage.url, **modern("tools/list")))
        await stage.backend.wait_call(5)
        await stage.end()
        for call in calls:
            (error,) = await call.rest()
            assert (error["id"], error["error"]["message"]) == (1, LOST)
        refused = await whole
        assert (refused.status_code, refused.json()["error"]["message"]) == (503, LOST)
    assert await stage.wait_for_end() == 0, stage.fleet.describe()
    assert stage.replica.output.count('"outcome":"draining"') == 3
    assert sum(map(int, read_lost(stage.replica))) == 3


def read_lost(replica: Replica) -> list[str]:
    """What each worker counted."""
    return [line.partition('"lost_calls":')[2].partition(",")[0].rstrip("}") for line in drained_lines(replica)]


def drained_lines(replica: Replica) -> list[str]:
    return [line for line in replica.output.splitlines() if '"lost_calls":' in line]


# ---- a second signal


@proves("DRAIN-4")
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_a_replica_at_once(
    stage: Stage, http: httpx2.AsyncClient, second: signal.Signals
) -> None:
    stage.open(grace=NEVER)
    async with AsyncExitStack() as cleanup:
        calls = await open_calls(cleanup, http, stage.url)
        await stage.end()
        stage.replica.child.process.send_signal(second)
        for call in calls:
            (error,) = await call.rest()
            assert (error["id"], error["error"]["message"]) == (1, LOST)
    assert await stage.wait_for_end() == 128 + second, stage.fleet.describe()


@proves("DRAIN-4")
async def test_a_client_that_reads_nothing_does_not_hold_the_end_up(stage: Stage, http: httpx2.AsyncClient) -> None:
    stage.open(grace="100ms")
    async with AsyncExitStack() as cleanup:
        await open_calls(cleanup, http, stage.url)
        stage.replica.child.process.send_signal(signal.SIGTERM)
        assert await stage.wait_for_end() == 0, stage.fleet.describe()


# ---- one replica after the other

CALLERS = 8


@proves("DRAIN-5")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_rolling_restart_loses_no_call(table: list[str], tmp_path: Path, workers: int) -> None:
    """nginx asks nobody whether they are ready: it goes on with another replica where one refuses a connection."""
    with ExitStack() as cleanup:
        echo = cleanup.enter_context(serving("backends.echo"))
        config = f"backends: {{echo: {{endpoints: ['{echo}']}}}}"
        env = {"MCPGW_DRAIN__DELAY": "100ms"}
        fleet = cleanup.enter_context(running_fleet(config, workers=workers, env=env))
        nginx = cleanup.enter_context(running_nginx(tmp_path, [replica.port for replica in fleet.replicas]))
        async with open_http() as http, asyncio.TaskGroup() as tasks:
            load = Load(http, f"{nginx}/echo/mcp")
            callers = [tasks.create_task(load.run()) for _ in range(CALLERS)]
            for number in range(len(fleet.replicas)):
                assert await asyncio.to_thread(fleet.terminate, number) == 0, fleet.describe()
                await asyncio.to_thread(fleet.restart, number)
                await load.wait_for(CALLERS)
            load.is_over = True
            await asyncio.gather(*callers)
    what = f"SIGTERM for each replica, {workers} workers, behind nginx"
    table.append(f"{what}: {load.calls} short calls begun meanwhile: {len(load.lost)} lost")
    assert load.lost == []


class Load:
    """Short calls of both eras, one after the other; what wasn't answered as it should be is kept."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self.calls = 0
        self.lost: list[str] = []
        self.is_over = False

    async def run(self) -> None:
        session = await open_session(self._http, self._url)
        echo = {"name": "echo", "arguments": {"text": "hello"}}
        while not self.is_over:
            for request in (modern("tools/call", echo), legacy("tools/call", echo, session=session)):
                await self._call(request)

    async def _call(self, request: dict[str, Any]) -> None:
        self.calls += 1
        try:
            answer = await self._http.post(self._url, **request)
        except httpx2.TransportError as error:
            self.lost.append(repr(error))
            return
        if answer.status_code != 200 or '"hello"' not in answer.text:
            self.lost.append(f"{answer.status_code} {answer.text}")

    async def wait_for(self, calls: int) -> None:
        """Until so many more have been made."""
        wanted = self.calls + calls
        is_enough: Callable[[], bool] = lambda: self.calls >= wanted  # noqa: E731
        await wait_until(is_enough, f"{wanted} calls are made")
