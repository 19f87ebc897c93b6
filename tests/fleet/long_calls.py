"""Long calls with the Python SDK's client as it comes, side by side, each in a session of its own.

    python tests/fleet/long_calls.py URL CALLS SPREAD_SECONDS STEPS STEP_MILLISECONDS PATIENCE_SECONDS

Runs in an environment with either generation of the SDK, and nothing else. Says `ready`, begins at the first line that it is
given, and says `begun` at the first step of any call. A handshake that fails is begun again, as an application would (to its end
belongs a list of the tools: applications ask for it first); a call never is. Prints a JSON array of what each call saw.
`long_calls.mjs` does the same in TypeScript.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import Any

BETWEEN_HANDSHAKES_SECONDS = 0.5
MOST_HANDSHAKES = 20

Note = Callable[[float, "float | None", "str | None"], Awaitable[None]]
Count = Callable[[dict[str, int], float, Note], Awaitable[Any]]

REPORT: ContextVar[dict[str, Any]] = ContextVar("report")

if version("mcp").startswith("1."):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    @asynccontextmanager
    async def open_session(url: str) -> AsyncIterator[Count]:
        """A session of the SDK's first generation."""

        async def count(arguments: dict[str, int], patience_seconds: float, note: Note) -> Any:
            patience = timedelta(seconds=patience_seconds)
            return await session.call_tool("count", arguments, patience, progress_callback=note)

        async with streamable_http_client(url) as (receive, send, _), ClientSession(receive, send) as session:
            await session.initialize()
            await session.list_tools()
            yield count
else:
    from mcp import Client

    @asynccontextmanager
    async def open_session(url: str) -> AsyncIterator[Count]:
        """A session of the SDK's second generation, in its legacy mode."""

        async def count(arguments: dict[str, int], patience_seconds: float, note: Note) -> Any:
            return await client.call_tool("count", arguments, patience_seconds, note)

        async with Client(url, mode="legacy") as client:
            await client.list_tools()
            yield count


class Ear(logging.Handler):
    """Notes what the SDK says of a broken stream with the call that it says it of: the first generation says it nowhere else."""

    def emit(self, record: logging.LogRecord) -> None:
        report, text = REPORT.get(), record.getMessage()
        if text == "Reconnected to SSE stream":
            report["resumes"] += 1
        elif text.startswith("Reconnection failed: "):
            report["vain_resumes"].append(text.removeprefix("Reconnection failed: "))
        elif text.startswith("Max reconnection attempts"):
            report["is_exhausted"] = True
        elif text.startswith("GET stream max reconnection attempts"):
            report["is_deaf"] = True


@cache
def say_begun() -> None:
    """Says it once."""
    print("begun", flush=True)


async def call(url: str, arguments: dict[str, int], patience_seconds: float) -> dict[str, Any]:
    """What one call saw: its steps, and its result or the exception by which the client gave up."""
    report: dict[str, Any] = {"steps": [], "result": "", "error": "", "vain_handshakes": 0, "resumes": 0}
    report |= {"vain_resumes": [], "is_exhausted": False, "is_deaf": False}
    REPORT.set(report)

    async def note(progress: float, _total: float | None, _message: str | None) -> None:
        report["steps"].append(int(progress))
        say_begun()

    is_open = False
    while not is_open:
        try:
            async with open_session(url) as count:
                is_open = True
                report["result"] = (await count(arguments, patience_seconds, note)).content[0].text
        except Exception as error:
            if not is_open and report["vain_handshakes"] < MOST_HANDSHAKES:
                report["vain_handshakes"] += 1
                await asyncio.sleep(BETWEEN_HANDSHAKES_SECONDS)
                continue
            report["error"] = describe(error)
            break
    return report


def describe(error: BaseException) -> str:
    """The exception, or those of a group, in one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(describe, error.exceptions))
    return f"{type(error).__name__}: {error}"


async def call_all(
    url: str, calls: int, spread_seconds: float, arguments: dict[str, int], patience_seconds: float
) -> list[dict[str, Any]]:
    """Side by side, one after the other begun within that time."""

    async def call_late(number: int) -> dict[str, Any]:
        await asyncio.sleep(number * spread_seconds / calls)
        return await call(url, arguments, patience_seconds)

    return await asyncio.gather(*map(call_late, range(calls)))


def main() -> None:
    logger = logging.getLogger("mcp.client.streamable_http")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(Ear())
    url, calls, spread_seconds, steps, step_milliseconds, patience_seconds = sys.argv[1:]
    arguments = {"n": int(steps), "delay_ms": int(step_milliseconds)}
    print("ready", flush=True)
    sys.stdin.readline()
    reports = asyncio.run(call_all(url, int(calls), float(spread_seconds), arguments, float(patience_seconds)))
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
