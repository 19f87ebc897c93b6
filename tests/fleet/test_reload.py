"""The configuration file changes on disk: every worker takes it up, or none does, and no stream is cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest

from tests.fleet.figures import read_metric, wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import modern, open_http, read_events
from tests.fleet.scripted import Call, Scripted, scripted

WORKERS = 2
RELOADS = "mcp_gateway_configuration_reloads_total"


class Stage:
    def __init__(self, fleet: Fleet, backend: Scripted) -> None:
        self.fleet = fleet
        self.url = fleet.replicas[0].url
        self.backend = backend
        self.may_end = asyncio.Event()
        backend.script = self.script

    async def script(self, call: Call) -> None:
        if call.message["method"] == "tools/call":
            await call.start()
            await call.progress(1)
            await self.may_end.wait()
            await call.finish({"done": True})
        else:
            await call.answer({"tools": []})

    def config(self, *names: str) -> str:
        return "backends:\n" + "".join(
            f"  {name}: {{endpoints: ['{self.backend.url}'], era: dual}}\n" for name in names
        )

    async def ask(self, name: str) -> set[int]:
        """The statuses of many connections, so that each worker has a share of them."""
        statuses = set()
        for _ in range(20):
            async with open_http() as alone:
                statuses.add((await alone.post(f"{self.url}/{name}/mcp", **modern("tools/list"))).status_code)
        return statuses


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(scripted())
        config = f"backends: {{first: {{endpoints: ['{backend.url}'], era: dual}}}}"
        yield Stage(cleanup.enter_context(running_fleet(config, 1, workers=WORKERS)), backend)


async def test_a_changed_configuration_is_taken_up_by_every_worker_while_streams_run_on(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    streams = []
    async with AsyncExitStack() as cleanup:
        for _ in range(6):
            call = modern("tools/call", {"name": "long"})
            streams.append(
                read_events(await cleanup.enter_async_context(http.stream("POST", f"{stage.url}/first/mcp", **call)))
            )
            assert (await anext(streams[-1]))["params"]["progress"] == 1
        assert await stage.ask("second") == {404}
        stage.fleet.configure(stage.config("second"))
        await wait_for_metric(stage.fleet, WORKERS, RELOADS, result="applied")
        assert await stage.ask("second") == {200}
        assert await stage.ask("first") == {404}
        stage.may_end.set()
        for events in streams:
            assert [event async for event in events] == [{"jsonrpc": "2.0", "id": 1, "result": {"done": True}}]


async def test_an_invalid_configuration_is_refused_counted_and_the_old_one_stays(stage: Stage) -> None:
    before = await show_digest(stage)
    stage.fleet.configure("backends: {first: {endpoint: typo}}")
    await wait_for_metric(stage.fleet, WORKERS, RELOADS, result="refused")
    assert await stage.ask("first") == {200}
    assert await show_digest(stage) == before
    assert await read_metric(stage.fleet.replicas[0], RELOADS, result="applied") == 0
    stage.fleet.replicas[0].child.wait_for_line("configuration refused")
    # A mended one is taken up again.
    stage.fleet.configure(stage.config("first", "second"))
    await wait_for_metric(stage.fleet, WORKERS, RELOADS, result="applied")
    assert await stage.ask("second") == {200}
    assert await show_digest(stage) != before


async def show_digest(stage: Stage) -> list[str]:
    """The lines that say which configuration runs: one, where all workers agree."""
    async with open_http() as alone:
        page = (await alone.get(f"{stage.url}/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("mcp_gateway_configuration_info{")]
    assert len(lines) == 1
    return lines
