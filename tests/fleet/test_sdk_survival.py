"""Long calls of the SDKs' own clients, while replicas are killed: directly, where a client knows the tests' round-robin balancer
alone, and behind nginx with the configuration that operators are given.

The promise is to whoever comes back. An SDK gives a stream up when two attempts to resume it fail, and calls nothing twice:
calls that end so are counted apart, by reason. Whatever else is not a whole result is a fault.
"""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from tests.fleet.deaths import BETWEEN_DEATHS_SECONDS, dying
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.nginx import check_configuration, running_nginx
from tests.fleet.processes import ROOT, START_SECONDS, serving
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer
from tests.requirements import proves
from tests.tools.install import MODULES, node, python_of

SPREAD_SECONDS = 2 * BETWEEN_DEATHS_SECONDS
"""From the first call's beginning to the last one's: half of them begin while replicas die."""
STEPS = 50
STEP_MILLISECONDS = 200
PATIENCE_SECONDS = 60.0
"""For the result: what TypeScript's SDK has by itself. The call takes 10 s where nobody dies."""
WITHIN_SECONDS = 120.0
"""For all calls of all clients. Beyond it they hang."""

CLIENTS = {"Python SDK 2, legacy": 8, "Python SDK 1": 8, "TypeScript SDK 2, legacy": 7, "TypeScript SDK 1": 7}

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
backends:
  keeps: {{endpoints: ['{keeps}']}}
"""


class GaveUp(StrEnum):
    """Why a client has no result. There are no other reasons."""

    CUT_AT_ONCE = "cut before the first event"
    """It holds no event id to resume with, and a tool must not be called twice unasked."""
    VAIN_RESUMES = "two attempts to resume failed"


CUT = re.compile(
    r"Server disconnected without sending a response|ReadError|"  # Python, directly
    r"fetch failed|"  # TypeScript, directly
    r"502 Bad Gateway|Server returned an error response"  # both, behind nginx
)


class Report(msgspec.Struct):
    """What a client has seen of one call, as `long_calls.py` and `.mjs` print it."""

    steps: list[int]
    result: str
    error: str
    vain_handshakes: int
    resumes: int
    vain_resumes: list[str]
    is_exhausted: bool  # the SDK says that it tries no longer to resume the call
    is_deaf: bool  # the same of the standing stream

    @property
    def is_whole(self) -> bool:
        return (self.result, self.steps) == (f"counted to {STEPS}", list(range(1, STEPS + 1)))

    @property
    def gave_up(self) -> GaveUp | None:
        """Why the client did; None where it didn't, as far as it can be seen."""
        if self.result:
            return None
        if self.is_exhausted and len(self.vain_resumes) >= 2:
            return GaveUp.VAIN_RESUMES
        has_seen = self.steps or self.resumes or self.vain_resumes
        return GaveUp.CUT_AT_ONCE if CUT.search(self.error) and not has_seen else None

    @property
    def has_doubles(self) -> bool:
        return len(set(self.steps)) < len(self.steps)


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer) -> Iterator[Fleet]:
    with ExitStack() as cleanup:
        keeps = cleanup.enter_context(serving("tests.fleet.resumable", "--store"))
        yield cleanup.enter_context(running_fleet(CONFIG.format(redis=redis_server.url, keeps=keeps)))


def test_nginx_takes_the_configuration_that_operators_are_given(tmp_path: Path) -> None:
    said = check_configuration(tmp_path, [8081, 8082, 8083])
    assert "test is successful" in said, said
    assert "[warn]" not in said, said


@proves("SDK-1")
@pytest.mark.timeout(300)
async def test_every_client_that_comes_back_has_its_result(fleet: Fleet, table: list[str]) -> None:
    await survive(fleet, fleet.url, "directly", table)


@proves("SDK-1")
@pytest.mark.timeout(300)
async def test_every_client_that_comes_back_through_nginx_has_its_result(
    fleet: Fleet, tmp_path: Path, table: list[str]
) -> None:
    with running_nginx(tmp_path, [replica.port for replica in fleet.replicas]) as url:
        await survive(fleet, url, "behind nginx", table)


async def survive(fleet: Fleet, base: str, how: str, table: list[str]) -> None:
    """All clients' calls. Replicas die from when each kind of client has a call under way, and until the last has ended."""
    async with AsyncExitStack() as cleanup:
        programs = {client: await start(make_command(client, f"{base}/keeps/mcp"), cleanup) for client in CLIENTS}
        await hear(programs.values(), b"ready\n")
        for program in programs.values():
            assert program.stdin is not None
            program.stdin.write(b"go\n")
        await hear(programs.values(), b"begun\n")
        async with dying(fleet) as deaths, asyncio.timeout(WITHIN_SECONDS):
            seen = await asyncio.gather(*map(finish, programs.values()))
    reports = dict(zip(CLIENTS, seen, strict=True))
    table += describe(reports, f"{how}, {deaths.count} kills")
    every = [report for calls in seen for report in calls]
    assert [report for report in every if not report.is_whole and report.gave_up is None] == []
    assert [report for report in every if report.steps != list(range(1, len(report.steps) + 1))] == []
    assert deaths.count >= 2
    assert sum(report.resumes for report in every) > 0, "nobody's replica was killed"
    # A kill takes a third of the calls that it finds before their first event: on a slow machine that may be several.
    assert sum(report.is_whole for report in every) >= len(every) // 2


async def start(command: Sequence[str], cleanup: AsyncExitStack) -> Process:
    program = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    cleanup.push_async_callback(end, program)
    return program


async def end(program: Process) -> None:
    if program.returncode is None:
        program.kill()
    await program.wait()


async def hear(programs: Iterable[Process], line: bytes) -> None:
    """Waits until each of the programs has said that."""
    for program in programs:
        assert program.stdout is not None
        assert await asyncio.wait_for(program.stdout.readline(), START_SECONDS) == line


async def finish(program: Process) -> list[Report]:
    """What the program's calls saw, when all have ended."""
    output, _ = await program.communicate()
    assert program.returncode == 0
    return msgspec.json.decode(output, type=list[Report])


def make_command(client: str, url: str) -> list[str]:
    """The program that makes this client's calls."""
    tail = [url, *map(str, (CLIENTS[client], SPREAD_SECONDS, STEPS, STEP_MILLISECONDS, PATIENCE_SECONDS))]
    program = str(Path(__file__).with_name("long_calls.mjs" if "TypeScript" in client else "long_calls.py"))
    if "TypeScript" in client:
        return [str(node()), program, str(MODULES), "2" if "SDK 2" in client else "1", *tail]
    return [sys.executable if "SDK 2" in client else str(python_of("mcp1")), program, *tail]


def describe(reports: Mapping[str, Sequence[Report]], how: str) -> Iterator[str]:
    """The table that a reader of the output looks for."""
    columns = ["calls", "results", "doubled", "resumes", "vain", "handshakes again", "deaf", "gave up"]
    yield f"{how:<28}{'  '.join(columns)}"
    for client, calls in reports.items():
        cells = [
            len(calls),
            sum(report.is_whole for report in calls),
            sum(report.has_doubles for report in calls),
            sum(report.resumes for report in calls),
            sum(len(report.vain_resumes) for report in calls),
            sum(report.vain_handshakes for report in calls),
            sum(report.is_deaf for report in calls),
        ]
        row = "  ".join(f"{cell:>{len(column)}}" for cell, column in zip(cells, columns, strict=False))
        reasons = Counter(report.gave_up for report in calls if report.gave_up)
        yield f"{client:<28}{row}  {', '.join(f'{count} {why}' for why, count in reasons.items()) or '0'}"
