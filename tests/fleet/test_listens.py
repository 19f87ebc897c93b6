"""Standalone GET streams over a real fleet and a real Redis: clients that come and go among the replicas, and replicas that die
or are replaced under them. The backend serves one GET stream at a time, and answers 409 to a second one, as the SDK's does."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from mcp import Client

from tests.fleet.figures import sum_metric, wait_for_metric, wait_until
from tests.fleet.fleet import Fleet, Replica, running_fleet
from tests.fleet.requests import legacy_headers, open_session
from tests.fleet.resumable import Cut, opened, split_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted
from tests.redis.servers import RedisServer, make_server, running
from tests.requirements import proves

TURNS = "mcp_gateway_stream_turns_total"
CONFIG = "{{redis: '{redis}', streams: {{heartbeat: 1s}}, backends: {{told: {{endpoints: ['{url}'], era: legacy}}}}}}"
NOTE = "notifications/message"


class Stage:
    """A fleet, and a backend with one session, which says what it is told to say."""

    def __init__(self, backend: Scripted, fleet: Fleet, http: httpx2.AsyncClient) -> None:
        self.backend = backend
        self.fleet = fleet
        self.sessions: list[str] = []
        self._http = http
        self.statuses: Counter[int] = Counter()  # of the backend's answers to GET
        self._said: list[dict[str, Any]] = []
        self._live: Call | None = None
        backend.script = self._answer

    def url(self, replica: Replica | None = None) -> str:
        """Of that replica, or the balancer's."""
        return f"{self.fleet.url if replica is None else replica.url}/told/mcp"

    async def open_session(self) -> str:
        """A new one, which ends with the test."""
        self.sessions.append(await open_session(self._http, self.url()))
        return self.sessions[-1]

    @property
    def is_heard(self) -> bool:
        """Whether anybody has the backend's stream."""
        return self._live is not None and not self._live.left.is_set()

    async def say(self) -> int:
        """One more message, numbered."""
        number = len(self._said) + 1
        params = {"level": "info", "data": number}
        self._said.append({"jsonrpc": "2.0", "method": NOTE, "params": params})
        if self._live is not None and not self._live.left.is_set():
            with suppress(ConnectionError):
                await self._send(self._live, number)
        return number

    async def _send(self, call: Call, number: int) -> None:
        data = json.dumps(self._said[number - 1]).encode()
        await call.write_chunk(b"id: %d\r\nevent: message\r\ndata: %b\r\n\r\n" % (number, data))

    async def _answer(self, call: Call) -> None:
        if call.method == "GET":
            await self._listen(call)
        elif call.method == "DELETE":
            await call.reply(b"")
        elif call.message["method"] == "initialize":
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"logging": {}},
                "serverInfo": {"name": "told", "version": "1"},
            }
            await call.answer(result, mcp_session_id="s")
        elif "id" in call.message:
            await call.answer({})
        else:
            await call.reply(b"", 202)

    async def _listen(self, call: Call) -> None:
        if self.is_heard:
            self.statuses[409] += 1
            await call.reply(b"{}", 409)
            return
        self.statuses[200] += 1
        after = int(call.headers.get("last-event-id", "0"))
        await call.start()
        await call.write_chunk(b"id: %d\r\ndata:\r\n\r\n" % after)
        for number in range(after + 1, len(self._said) + 1):
            await self._send(call, number)
        self._live = call
        await call.left.wait()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One of this module's own: its keys and its commands are counted."""
    server = make_server(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture(scope="module")
def port() -> int:
    """Where each test's backend listens, one after the other: the fleet's configuration names it once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def fleet(redis: RedisServer, port: int) -> Iterator[Fleet]:
    with running_fleet(CONFIG.format(redis=redis.url, url=f"http://127.0.0.1:{port}/mcp")) as fleet:
        yield fleet


@pytest.fixture
async def stage(fleet: Fleet, port: int, http: httpx2.AsyncClient) -> AsyncIterator[Stage]:
    backend = Scripted()
    backend.port = port
    await backend.start()
    stage = Stage(backend, fleet, http)
    try:
        yield stage
        for replica in fleet.replicas:
            if not replica.child.running:
                await asyncio.to_thread(replica.restart)
        for session in stage.sessions:
            await http.delete(stage.url(), headers=legacy_headers(session))
        await wait_until(lambda: not stage.is_heard, "no pump is left")
    finally:
        await backend.stop()
    assert backend.failures == []


class Listener:
    """A client of one session: one GET at a time, of which it keeps what it was told and where it is."""

    def __init__(self, session: str) -> None:
        self._headers = legacy_headers(session)
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.told: list[int] = []
        self.statuses: list[int] = []
        self.last_id = ""
        self.is_open = False

    async def open(self, url: str, *, with_id: bool = False) -> None:
        """Returns once it has a reply's head."""
        headers = self._headers | ({"last-event-id": self.last_id} if with_id and self.last_id else {})
        before = len(self.statuses)
        self._task = asyncio.create_task(self._read(url, headers))
        await self._until(lambda: len(self.statuses) > before)

    async def _read(self, url: str, headers: dict[str, str]) -> None:
        try:
            async with opened(url, "GET", headers, b"") as (status, _, pieces):
                self.is_open = status == 200
                self._note(lambda: self.statuses.append(status))
                async for event in split_events(pieces):
                    self.last_id = event.id or self.last_id
                    if event.data:
                        number = json.loads(event.data)["params"]["data"]
                        self._note(lambda number=number: self.told.append(number))
        except (Cut, OSError):
            pass
        finally:
            self._note(lambda: setattr(self, "is_open", False))

    def _note(self, change: Callable[[], object]) -> None:
        change()
        self._changed.set()

    async def _until(self, is_so: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            state = f"open {self.is_open}, told {self.told}, statuses {self.statuses}, last id {self.last_id}"
            raise AssertionError(f"waited in vain: {state}") from None

    async def until_told(self, number: int) -> None:
        await self._until(lambda: number in self.told)

    async def until_ended(self) -> None:
        await self._until(lambda: not self.is_open)

    async def drop(self) -> None:
        """Cuts its connection."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def keep_open(self, url: str) -> None:
        """Comes back whenever it is cut, with the last id, until it is cancelled; any status but 200 ends it."""
        try:
            while not self.statuses or self.statuses[-1] == 200:
                try:
                    await self.open(url, with_id=True)
                    await self.until_ended()
                except AssertionError:
                    pass
                await asyncio.sleep(0.1)
        finally:
            await self.drop()


@proves("STAND-2")
async def test_of_two_gets_on_two_replicas_the_later_is_live_and_none_meets_a_409(stage: Stage) -> None:
    session = await stage.open_session()
    first, second = Listener(session), Listener(session)
    one, two, _ = stage.fleet.replicas
    await first.open(stage.url(one))
    await stage.say()
    await first.until_told(1)
    await second.open(stage.url(two), with_id=True)
    await first.until_ended()
    await stage.say()
    await second.until_told(2)
    assert (first.told, second.told[-1]) == ([1], 2)
    assert stage.statuses == {200: 1}
    await second.drop()
    await wait_until(lambda: not stage.is_heard, "the stream that nobody follows is closed")
    await wait_for_metric(stage.fleet, 0, "mcp_gateway_open_streams")


@proves("STAND-3")
@pytest.mark.parametrize("with_id", [False, True])
async def test_a_client_that_comes_back_elsewhere_gets_exactly_what_came_in_between(
    stage: Stage, redis: RedisServer, with_id: bool
) -> None:
    client = Listener(await stage.open_session())
    said = 0
    for replica in (*stage.fleet.replicas, *stage.fleet.replicas):
        await client.open(stage.url(replica), with_id=with_id)
        said = await stage.say()
        await client.until_told(said)
        await client.drop()
        await wait_until(lambda: is_left(redis), "the replica has seen that its client left")
        for _ in range(3):
            said = await stage.say()
    await client.open(stage.url(), with_id=with_id)
    await client.until_told(said)
    assert client.told == list(range(1, 25))
    assert stage.statuses == {200: 1}


def is_left(redis: RedisServer) -> bool:
    """Whether it is noted that nobody follows any standing stream."""
    return all(redis.tell("HGET", key, "follower") == b"" for key in redis.tell("KEYS", "*:standing:*"))


@proves("STAND-6")
@pytest.mark.parametrize("is_followed_elsewhere", [False, True])
async def test_a_stream_goes_on_when_its_replica_is_killed(stage: Stage, is_followed_elsewhere: bool) -> None:
    client = Listener(await stage.open_session())
    one, two, _ = stage.fleet.replicas
    await client.open(stage.url(one))
    await stage.say()
    await client.until_told(1)
    if is_followed_elsewhere:
        await client.drop()
        await client.open(stage.url(two), with_id=True)
    await asyncio.to_thread(stage.fleet.kill, 0)
    taken_before = await sum_metric(stage.fleet, TURNS, turn="taken_over")
    await stage.say()
    if not is_followed_elsewhere:
        await client.until_ended()
        await client.open(stage.url(two), with_id=True)
    await client.until_told(2)
    await stage.say()
    await client.until_told(3)
    assert client.told == [1, 2, 3]
    assert stage.statuses[200] == 2
    assert await sum_metric(stage.fleet, TURNS, turn="taken_over") == taken_before + 1


@proves("STAND-6")
async def test_nothing_is_lost_or_doubled_while_all_replicas_are_replaced(stage: Stage, table: list[str]) -> None:
    client = Listener(await stage.open_session())
    listening = asyncio.create_task(client.keep_open(stage.url()))
    talking = asyncio.create_task(talk(stage))
    try:
        await client.until_told(1)
        for number in range(3):
            assert await asyncio.to_thread(stage.fleet.terminate, number) == 0
            await asyncio.to_thread(stage.fleet.restart, number)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    last = await stage.say()
    await client.until_told(last)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert client.told == list(range(1, last + 1))
    assert set(client.statuses) == {200}
    table.append(f"GET stream, all replicas replaced: {last} messages, {len(client.statuses)} connections, none lost")


async def talk(stage: Stage) -> None:
    while True:
        await stage.say()
        await asyncio.sleep(0.05)


@proves("STAND-7")
async def test_a_deleted_session_ends_its_stream_on_whichever_replica_it_is(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await stage.open_session()
    client, (one, two, three) = Listener(session), stage.fleet.replicas
    await client.open(stage.url(one))
    await stage.say()
    await client.until_told(1)
    await client.drop()
    await client.open(stage.url(two), with_id=True)
    assert (await http.delete(stage.url(three), headers=legacy_headers(session))).status_code == 200
    await client.until_ended()
    await wait_until(lambda: not stage.is_heard, "the backend's stream is closed")


@proves("STAND-5")
async def test_a_backend_that_restarts_is_listened_to_again_unseen_by_its_clients(stage: Stage) -> None:
    client = Listener(await stage.open_session())
    await client.open(stage.url())
    await stage.say()
    await client.until_told(1)
    await stage.backend.stop()
    await stage.say()
    await stage.backend.start()
    await client.until_told(2)
    assert client.told == [1, 2]
    assert client.statuses == [200]


@proves("STAND-8")
async def test_a_stream_outlives_a_redis_that_is_killed_and_comes_back_empty(stage: Stage, redis: RedisServer) -> None:
    one, two, _ = stage.fleet.replicas
    client = Listener(await stage.open_session())
    await client.open(stage.url(one))
    await stage.say()
    await client.until_told(1)
    await asyncio.to_thread(redis.kill)
    await stage.say()
    await client.until_told(2)
    await asyncio.to_thread(redis.start)
    await wait_until(lambda: bool(redis.tell("KEYS", "*:standing:*")), "the stream is registered again")
    await stage.say()
    await client.until_told(3)
    await client.drop()
    await stage.say()
    await client.open(stage.url(two), with_id=True)
    await client.until_told(4)
    assert (client.told, client.statuses, stage.statuses) == ([1, 2, 3, 4], [200, 200], {200: 1})


@proves("STAND-8")
async def test_a_get_that_comes_while_redis_is_stopped_is_held_where_the_stream_is_anothers(
    stage: Stage, redis: RedisServer
) -> None:
    one, two, _ = stage.fleet.replicas
    client = Listener(await stage.open_session())
    await client.open(stage.url(one))
    await stage.say()
    await client.until_told(1)
    redis.pause()
    try:
        late = Listener(stage.sessions[-1])
        await late.open(stage.url(two))
        await stage.say()
        await client.until_told(2)
        assert late.statuses == [200]
    finally:
        redis.resume()
    await client.until_ended()
    await stage.say()
    await late.until_told(3)


async def test_the_sdks_client_hears_what_is_said_after_its_replica_was_killed(stage: Stage) -> None:
    heard: list[Any] = []
    changed = asyncio.Event()

    async def hear(message: Any) -> None:
        if getattr(message, "method", "") == NOTE:
            heard.append(message.params.data)
            changed.set()

    async with Client(stage.url(), mode="legacy", message_handler=hear):
        await wait_until(lambda: stage.is_heard, "the client listens")
        for number in range(3):
            await stage.say()
            async with asyncio.timeout(WITHIN_SECONDS):
                while len(heard) <= number:
                    changed.clear()
                    await changed.wait()
            if number < 2:
                await asyncio.to_thread(stage.fleet.kill, await find_follower(stage.fleet))
    assert heard == [1, 2, 3]


async def find_follower(fleet: Fleet) -> int:
    """The replica that has the one open stream."""
    for replica in fleet.replicas:
        only = Fleet.__new__(Fleet)
        only.replicas = [replica]
        if await sum_metric(only, "mcp_gateway_open_streams", kind="get"):
            return replica.number
    raise AssertionError("nobody follows")


async def test_idle_streams_ask_redis_nothing(stage: Stage, redis: RedisServer, table: list[str]) -> None:
    clients = [Listener(await stage.open_session()) for _ in range(30)]
    stage._live = None
    for number, client in enumerate(clients):
        await client.open(stage.url(stage.fleet.replicas[number % 3]))
        stage._live = None  # each session has a stream of its own
    await wait_until(lambda: beats(redis) > 0, "the first heartbeats")
    before, since = count_commands(redis), beats(redis)
    while before["publish"] != (now := count_commands(redis))["publish"]:
        before, since = now, beats(redis)
    await wait_until(lambda: beats(redis) >= since + 30, "thirty heartbeats later")
    grown = count_commands(redis) - before
    assert grown["hmget"] + grown["hget"] + grown["xadd"] + grown["publish"] == 0
    table.append(f"{len(clients)} idle GET streams over {beats(redis) - since} heartbeats: 0 Redis commands of theirs")
    for client in clients:
        await client.drop()


def count_commands(redis: RedisServer) -> Counter[str]:
    told = redis.tell("INFO", "commandstats")
    return Counter({name.removeprefix("cmdstat_"): stats["calls"] for name, stats in told.items()})


def beats(redis: RedisServer) -> int:
    return count_commands(redis)["pexpire"]
