"""An aggregate of twenty backends with a thousand tools, on three replicas; some of them dead, slow, or out of their minds."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import legacy, modern, open_session
from tests.fleet.scripted import JSON, Call, Scripted
from tests.requirements import proves

BACKENDS = [f"b{number:02}" for number in range(20)]
TOOLS = [f"tool_{number:02}" for number in range(49)]
LONG = "a_tool_whose_name_is_so_long_that_no_client_could_take_it_under_a_prefix"
SHORTENED = "__a_tool_whose_name_is_so_long_that__e6c14d19"
"""Behind a backend's name: 48 characters in all."""

PAGE_TOOLS = 30
SERVER = {"name": "many", "version": "1"}
LEFT_OUT = "mcp-stateless-gateway/leftOut"


class Stage:
    """All twenty backends, told apart by the path at which they are called; and the fleet in front of them.

    `failing`: how those fail that do. `description_bytes`: of each tool.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.failing: dict[str, str] = {}
        self.description_bytes = 40

    @property
    def url(self) -> str:
        return f"{self.fleet.url}/mcp"

    async def script(self, call: Call) -> None:
        backend, method = call.path.split("/")[1], call.message.get("method") if call.body else None
        if method == "initialize":
            version = call.message["params"]["protocolVersion"]
            await call.answer({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": SERVER})
        elif method == "server/discover":
            await call.answer({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
        elif method == "tools/list":
            await self.list_tools(call, backend, int(call.message["params"].get("cursor", "0")))
        elif method == "tools/call":
            await call.answer({"content": [], "structuredContent": {"at": [backend, call.message["params"]["name"]]}})
        else:
            await call.reply(b"", 405 if call.method == "GET" else 202)

    async def list_tools(self, call: Call, backend: str, start: int) -> None:
        names = [*TOOLS, LONG]
        end = start + PAGE_TOOLS
        match self.failing.get(backend):
            case None:
                more = {"nextCursor": str(end)} if end < len(names) else {}
                await call.answer({"tools": [self.describe(name) for name in names[start:end]], **more})
            case "dead":
                call.drop()
            case "slow":
                await call.left.wait()
            case "endless":
                await call.answer({"tools": [self.describe(f"more_{start}")], "nextCursor": str(start + 1)})
            case "repeating":
                await call.answer({"tools": [self.describe("again")], "nextCursor": "7"})
            case "vast":
                await call.answer({"tools": [{"name": f"t{number}"} for number in range(10_001)]})
            case "malformed":
                await call.answer({"tools": {"name": "x"}})
            case "nonsense":
                await call.reply(b'{"jsonrpc": "2.0", "id": 1, "result"', content_type=JSON)

    def describe(self, name: str) -> dict[str, Any]:
        return {"name": name, "description": "x" * self.description_bytes, "inputSchema": {"type": "object"}}


@pytest.fixture(scope="module")
def port() -> int:
    """Where each test's backends listen, one test after the other: the fleet's configuration names it once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def fleet(port: int) -> Iterator[Fleet]:
    lines = [f"  {name}: {{endpoints: ['http://127.0.0.1:{port}/{name}']}}" for name in BACKENDS]
    aggregate = "aggregates: {all: {mount: /, backends: all, deadline: 5s}}"
    with running_fleet("\n".join(["backends:", *lines, aggregate])) as fleet:
        yield fleet


@pytest.fixture
async def stage(port: int, fleet: Fleet) -> AsyncIterator[Stage]:
    stage = Stage(fleet)
    backend = Scripted(stage.script)
    backend.port = port
    await backend.start()
    yield stage
    await backend.stop()
    assert backend.failures == []


def names_of(*backends: str) -> list[str]:
    return [shown for name in backends for shown in (*(f"{name}__{tool}" for tool in TOOLS), name + SHORTENED)]


async def list_all(http: httpx2.AsyncClient, stage: Stage, session: str = "") -> tuple[list[str], int, dict[str, str]]:
    """All names, on how many pages, and who is missing. Every page is another replica's."""
    names: list[str] = []
    params: dict[str, str] = {}
    for pages in itertools.count(1):  # noqa: B007  # it is what is returned
        asked = legacy("tools/list", params, session=session) if session else modern("tools/list", params)
        answer = await http.post(stage.url, **asked)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        names += [tool["name"] for tool in result["tools"]]
        if "nextCursor" not in result:
            break
        params = {"cursor": result["nextCursor"]}
    return names, pages, result.get("_meta", {}).get(LEFT_OUT, {})


async def call(http: httpx2.AsyncClient, stage: Stage, name: str, session: str = "") -> Any:
    params: dict[str, Any] = {"name": name, "arguments": {}}
    asked = legacy("tools/call", params, session=session) if session else modern("tools/call", params)
    return (await http.post(stage.url, **asked)).json()["result"]["structuredContent"]["at"]


@pytest.mark.timeout(180)
@proves("AGG-1")
async def test_a_thousand_tools_are_listed_whole_in_order_alike_on_every_replica_and_each_can_be_called(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, stage.url)
    for era in ("", session):
        assert await list_all(http, stage, era) == (names_of(*BACKENDS), 1, {})
        for backend in BACKENDS:
            assert await call(http, stage, f"{backend}__tool_07", era) == [backend, "tool_07"]
            assert await call(http, stage, backend + SHORTENED, era) == [backend, LONG]
    for asked in (modern("tools/list"), legacy("tools/list", session=session)):
        answers = [await http.post(f"{replica.url}/mcp", **asked) for replica in stage.fleet.replicas]
        assert len({answer.content for answer in answers}) == 1
    stage.description_bytes = 3000
    for era in ("", session):
        assert await list_all(http, stage, era) == (names_of(*BACKENDS), 3, {})


@proves("AGG-12")
@pytest.mark.timeout(180)
async def test_of_twenty_backends_one_dead_and_one_slow_the_others_don_t_notice(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, stage.url)
    stage.failing = {"b07": "dead", "b11": "slow"}
    others = [backend for backend in BACKENDS if backend not in stage.failing]
    for era in ("", session):
        assert await list_all(http, stage, era) == (names_of(*others), 1, {"b07": "broken", "b11": "timed_out"})
        for backend in others:
            assert await call(http, stage, f"{backend}__tool_07", era) == [backend, "tool_07"]
    stage.failing = {}
    for era in ("", session):
        assert await list_all(http, stage, era) == (names_of(*BACKENDS), 1, {})


@proves("AGG-12")
@pytest.mark.timeout(180)
async def test_what_backends_list_that_are_out_of_their_minds_is_cut_or_left_out_and_calls_go_on(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, stage.url)
    stage.failing = {"b01": "endless", "b03": "repeating", "b05": "vast", "b08": "malformed", "b13": "nonsense"}
    others = [backend for backend in BACKENDS if backend not in stage.failing]
    cut = {"b01": "cut_short", "b03": "cut_short", "b05": "cut_short", "b08": "nonsense", "b13": "nonsense"}
    for era in ("", session):
        listing = asyncio.create_task(list_all(http, stage, era))
        while not listing.done():
            assert await call(http, stage, "b02__tool_07", era) == ["b02", "tool_07"]
        names, _, left_out = await listing
        assert left_out == cut
        by_backend = {name: [shown for shown in names if shown.startswith(f"{name}__")] for name in BACKENDS}
        assert by_backend["b01"] == [f"b01__more_{number}" for number in range(200)]
        assert by_backend["b03"] == ["b03__again"]
        assert by_backend["b05"] == [f"b05__t{number}" for number in range(10_000)]
        assert [shown for name in others for shown in by_backend[name]] == names_of(*others)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_calls_at_once_with_one_id_to_two_backends_are_both_answered(
    era: str, stage: Stage, http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, stage.url) if era == "legacy" else ""
    for _ in range(10):
        calls = [call(http, stage, f"{backend}__tool_01", session) for backend in ("b04", "b16", "b04")]
        assert await asyncio.gather(*calls) == [["b04", "tool_01"], ["b16", "tool_01"], ["b04", "tool_01"]]
