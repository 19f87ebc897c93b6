"""The audit log of a replica with several workers: every call is in it once, also while it is rotated, or can't be written."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from tests.fleet.figures import wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import modern, open_http
from tests.fleet.scripted import WITHIN_SECONDS, Call, scripted

WORKERS = 2
CALLS = 40
LINES = "mcp_gateway_audit_lines_total"
CONFIG = "audit: {{to: {to}, required: true}}\nbackends: {{tools: {{endpoints: ['{url}'], era: dual}}}}"


async def script(call: Call) -> None:
    await call.answer({"content": []})


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    (tmp_path / "logs").mkdir()
    async with AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(scripted(script))
        config = CONFIG.format(to=tmp_path / "logs" / "audit.log", url=backend.url)
        yield cleanup.enter_context(running_fleet(config, 1, workers=WORKERS))


async def call_once(fleet: Fleet) -> httpx2.Response:
    """On a connection of its own, so that each worker has a share."""
    async with open_http() as alone:
        return await alone.post(f"{fleet.replicas[0].url}/tools/mcp", **modern("tools/call", {"name": "add"}))


async def call_many(fleet: Fleet) -> set[str]:
    """The request ids of calls that were served."""
    answers = [await call_once(fleet) for _ in range(CALLS)]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["x-request-id"] for answer in answers}


def read_ids(file: Path) -> list[str]:
    return sorted(json.loads(line)["request_id"] for line in file.read_text().splitlines())


async def test_no_call_is_lost_or_told_twice_when_the_file_is_rotated(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "logs" / "audit.log"
    before = await call_many(fleet)
    await wait_for_metric(fleet, CALLS, LINES, result="written")
    file.rename(file.with_suffix(".1"))
    after = await call_many(fleet)
    await wait_for_metric(fleet, 2 * CALLS, LINES, result="written")
    assert read_ids(file.with_suffix(".1")) == sorted(before)
    assert read_ids(file) == sorted(after)


async def test_calls_are_refused_while_it_cannot_be_written_and_those_before_are_told_later(
    fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    served = await call_many(fleet)
    await wait_for_metric(fleet, CALLS, LINES, result="written")
    folder.rename(tmp_path / "away")
    async with asyncio.timeout(WITHIN_SECONDS):
        refusals = 0
        while refusals < 20:  # whichever worker is asked: each learns of it by its own line
            answer = await call_once(fleet)
            served |= {answer.headers["x-request-id"]} if answer.status_code == 200 else set()
            refusals = 0 if answer.status_code == 200 else refusals + 1
        assert answer.status_code == 503
        assert "audit log can't be written" in answer.json()["error"]["message"]
        (tmp_path / "away").rename(folder)
        while answer.status_code == 503:
            answer = await call_once(fleet)
    served.add(answer.headers["x-request-id"])
    await wait_for_metric(fleet, len(served), LINES, result="written")
    assert read_ids(folder / "audit.log") == sorted(served)
