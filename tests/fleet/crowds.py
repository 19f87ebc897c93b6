"""Clients with long calls under way, in every state in which a fault can meet them, and what they saw of it.

async with gathering(url, http) as crowd:
    ... the fault begins ...
    await crowd.wait_until_cut()
    ... it ends ...
crowd.reports
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.fleet.requests import open_session
from tests.fleet.resumable import Caller, Report

STEPS = 50
STEP_MILLISECONDS = 80
CUT_EARLY, CUT_LATE = 2, 20
ENOUGH = 26
WITHIN_SECONDS = 80.0
"""For all calls together, each of which takes 4 s where nothing happens. Beyond it they hang."""


class Sleeper(Caller):
    """Comes back only when it may."""

    def __init__(self, *args: Any, may_return: asyncio.Event, **options: Any) -> None:
        super().__init__(*args, **options)
        self._may_return = may_return

    async def _come_back(self) -> None:
        await self._may_return.wait()
        await super()._come_back()


class Crowd:
    """So many clients of each kind; `await open()` gives them their sessions.

    attached    keep the connection on which they called
    following   have come back to the log, on another replica, before the fault
    held        lose their connection while the fault lasts, and come back at once
    sleeping    have lost theirs before the fault, and come back when they may
    late        call only when they are told to, while the fault lasts
    """

    def __init__(self, url: str, http: httpx2.AsyncClient, count: int, step_milliseconds: int) -> None:
        self._url = url
        self._http = http
        self._count = count
        self._step_milliseconds = step_milliseconds
        self._tasks = asyncio.TaskGroup()
        self._calls: list[asyncio.Task[Report]] = []
        self.may_return = asyncio.Event()

    async def open(self) -> None:
        self.attached = await self._make(Caller)
        self.following = await self._make(Caller, cut_at=CUT_EARLY)
        self.held = await self._make(Caller, cut_at=CUT_LATE)
        self.sleeping = await self._make(Sleeper, cut_at=CUT_EARLY, may_return=self.may_return)
        self.late = await self._make(Caller)

    async def _make(self, kind: type[Caller], **options: Any) -> list[Caller]:
        sessions = [await open_session(self._http, self._url) for _ in range(self._count)]
        return [kind(self._url, session, os.urandom(8).hex(), **options) for session in sessions]

    @property
    def reports(self) -> list[Report]:
        return [call.result() for call in self._calls]

    async def wait_until_cut(self) -> None:
        """Until those that are cut late have been, and whoever is attached has had more since: the fault has met all."""
        await wait_for(lambda: all(caller.report.steps[-1:] >= [CUT_LATE] for caller in self.held))
        await wait_for(lambda: all(caller.report.steps[-1:] >= [ENOUGH] for caller in self.attached))

    async def call_late(self) -> None:
        """The late ones call, and have their first steps."""
        self._start(self.late)
        await wait_for(lambda: all(caller.report.steps for caller in self.late))

    def _start(self, callers: list[Caller]) -> None:
        self._calls += [self._tasks.create_task(caller.run(STEPS, self._step_milliseconds)) for caller in callers]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """From when the calls can be resumed, and some of them have been, to when all have come to an end."""
        async with asyncio.timeout(WITHIN_SECONDS), self._tasks:
            callers = [*self.attached, *self.following, *self.held, *self.sleeping]
            self._start(callers)
            for caller in callers:
                await caller.begun.wait()
            await wait_for(lambda: all(caller.report.resumes for caller in self.following))
            yield


@asynccontextmanager
async def gathering(
    url: str, http: httpx2.AsyncClient, count: int = 6, step_milliseconds: int = STEP_MILLISECONDS
) -> AsyncIterator[Crowd]:
    """So many clients of each kind at that mount, their calls under way; on leaving the block all have come to an end."""
    crowd = Crowd(url, http, count, step_milliseconds)
    await crowd.open()
    async with crowd.run():
        yield crowd
        crowd.may_return.set()


async def wait_for(is_so: Callable[[], bool]) -> None:
    """The reports set no event; whoever waits too long is cancelled with the calls."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def find_silence(report: Report) -> list[str]:
    """What a client wasn't told, though it should have been: nothing, where all came, or a beginning and then a loss."""
    found = []
    if report.steps != list(range(1, len(report.steps) + 1)) or report.doubled:
        found.append(f"not a beginning: steps {report.steps}, {report.doubled} doubled")
    if report.result:
        found += report.faults(STEPS)
    elif not ("call again" in report.error or report.refusal.startswith("HTTP 404")):
        found.append(f"no result, and no word of its loss: error {report.error!r}, refusal {report.refusal!r}")
    return found


def lossless(reports: list[Report]) -> list[list[str]]:
    """The faults of each report that has any: a step that didn't come, came twice or out of order, or no result."""
    return [faults for report in reports if (faults := report.faults(STEPS))]


def silent(reports: list[Report]) -> list[list[str]]:
    return [faults for report in reports if (faults := find_silence(report))]
