"""Whole client sessions with the Python SDK, many side by side, against a server that serves `backends.echo`.

    python -m tests.fleet.sessions URL legacy|2026-07-28 COUNT AT_ONCE

Each session does what a lively client does, and checks every result. Prints one JSON object: how many sessions were clean,
what went wrong in the others, and how many HTTP requests got which status. `sessions.mjs` does the same in TypeScript's SDK.
"""

import asyncio
import json
import ssl
import sys
import traceback
import warnings
from collections import Counter
from typing import Any

import httpx2
from mcp import Client, MCPDeprecationWarning
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent

SESSION_SECONDS = 60.0
LAST = "echo://last"
# One for all: making it costs more than the rest of a session.
TLS = ssl.create_default_context()


class Session:
    """One client, its own connections, and what it was told besides results."""

    def __init__(self, url: str, mode: str, number: int, statuses: Counter[str]) -> None:
        self._mode = mode
        self._word = f"{mode} {number}"
        self._statuses = statuses
        self._url = url
        self._streaming = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.timeout(SESSION_SECONDS):
            timeout = httpx2.Timeout(SESSION_SECONDS)
            hooks: dict[str, Any] = {"response": [self._note]}
            async with httpx2.AsyncClient(timeout=timeout, verify=TLS, event_hooks=hooks) as http:
                client = Client(
                    streamable_http_client(self._url, http_client=http),
                    mode=self._mode,  # type: ignore[arg-type]
                    cache=None,
                    elicitation_callback=self._answer,
                    sampling_callback=self._summarise,
                    message_handler=self._hear,
                )
                async with client:
                    await self._use(client)

    async def _use(self, client: Client) -> None:
        names = sorted(tool.name for tool in (await client.list_tools()).tools)
        expect(names, ["ask", "count", "echo", "summarise"])
        await self._count(client)
        expect(await call(client, "ask", question=self._word), f"The answer is: {self._word}!")
        expect(await call(client, "summarise", text=self._word), f"{self._word}, in short")
        if self._mode == "legacy":
            await self._streaming.wait()
            await client.subscribe_resource(LAST)
            expect(await call(client, "echo", text=self._word), self._word)
            await self._changed.wait()
            await client.unsubscribe_resource(LAST)
        else:
            async with client.listen(resource_subscriptions=[LAST]) as subscription:
                expect(await call(client, "echo", text=self._word), self._word)
                expect((await anext(subscription)).uri, LAST)  # type: ignore[union-attr]
        # Others echo too: it is somebody's word, of this form.
        content = (await client.read_resource(LAST)).contents[0]
        expect(content.text.split()[0] in ("legacy", "2026-07-28", "typescript"), True)  # type: ignore[union-attr]

    async def _count(self, client: Client) -> None:
        seen: list[float] = []

        async def note(progress: float, _total: float | None, _message: str | None) -> None:
            seen.append(progress)

        result = await client.call_tool("count", {"n": 3, "delay_ms": 5}, progress_callback=note)
        expect(result.content[0].text, "counted to 3")  # type: ignore[union-attr]
        expect(seen, [1.0, 2.0, 3.0])

    async def _answer(self, _context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"answer": f"{params.message}!"})

    async def _summarise(self, _context: Any, params: Any) -> CreateMessageResult:
        text = params.messages[0].content.text.rpartition("\n")[2]
        return CreateMessageResult(
            role="assistant", model="none", content=TextContent(type="text", text=f"{text}, in short")
        )

    async def _hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if getattr(message, "method", "") == "notifications/resources/updated":
            self._changed.set()

    async def _note(self, response: httpx2.Response) -> None:
        method = response.request.method
        self._statuses[f"{method} {response.status_code}"] += 1
        if method == "GET" and response.status_code == 200:
            self._streaming.set()


async def call(client: Client, tool: str, **arguments: Any) -> str:
    """The text that the tool answers with."""
    result = await client.call_tool(tool, arguments)
    return result.content[0].text  # type: ignore[union-attr, no-any-return]


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


async def run_all(url: str, mode: str, count: int, at_once: int) -> dict[str, Any]:
    """All sessions, so many at once."""
    statuses: Counter[str] = Counter()
    errors: list[str] = []
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            try:
                await Session(url, mode, number, statuses).run()
            except Exception:
                errors.append(traceback.format_exc(limit=-4))

    await asyncio.gather(*(work() for _ in range(at_once)))
    return {"clean": count - len(errors), "statuses": statuses, "errors": errors}


def main() -> None:
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # what legacy clients need is deprecated
    url, mode, count, at_once = sys.argv[1:]
    print(json.dumps(asyncio.run(run_all(url, mode, int(count), int(at_once)))))


if __name__ == "__main__":
    main()
