"""A backend whose calls take long, resumable or not, and a client that resumes them as the specification says.

    python -m tests.fleet.resumable --port 0 [--store]

The backend stands on the mcp SDK and has one tool, `count`, which tells its progress in even steps. The client is the
tests' own, on sockets: it knows HTTP/1.1, SSE and `Last-Event-ID`, shares no line with the gateway, and keeps account of
what came twice, what didn't come, and how often it had to come back.
"""

import argparse
import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCResponse
from starlette.applications import Starlette
from starlette.routing import Route

from backends import serving
from tests.fleet.requests import legacy, legacy_headers

BACK_OFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0)
"""Between two attempts to come back; the last one again and again."""


# ---- the backend


class Events(EventStore):
    """Every event of every stream of one session, in memory and without a bound: a test's length of them.

    A replay goes on until the response has been replayed, and returns no stream. The SDK would otherwise hand over from the
    replay to the live stream by itself, and lose what is stored between the two.
    """

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []
        self._more: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        self._more.pop(stream_id, asyncio.Event()).set()
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        seen = int(last_event_id)
        if not 0 < seen <= len(self._events):
            return None
        stream_id = self._events[seen - 1][0]
        message: JSONRPCMessage | None = None
        while not isinstance(message, JSONRPCResponse | JSONRPCError):
            if seen == len(self._events):
                await self._more[stream_id].wait()
            stream, message = self._events[seen]
            seen += 1
            if stream != stream_id:
                message = None
            elif message is not None:
                await send_callback(EventMessage(message, str(seen)))
        return None


class Sessions(StreamableHTTPSessionManager):
    """Gives each session a store of its own: the SDK names a stream by its request's id alone, and all clients count alike."""

    event_store = property(lambda _: Events(), lambda _, __: None)  # asked for once a session


def build() -> MCPServer:
    server = MCPServer("resumable", title="Resumable", description="counts, and takes its time", log_level="ERROR")

    @server.tool()
    async def count(n: int, delay_ms: int, ctx: Context) -> str:
        """Counts to n, a step each so many milliseconds, and tells of each."""
        for step in range(1, n + 1):
            await asyncio.sleep(delay_ms / 1000)
            await ctx.report_progress(step, n)
        return f"counted to {n}"

    return server


def make_storing(server: MCPServer) -> Starlette:
    """The same server, whose streams can be resumed."""
    sessions = Sessions(server._lowlevel_server)
    return Starlette(routes=[Route("/mcp", StreamableHTTPASGIApp(sessions))], lifespan=lambda _: sessions.run())


def main() -> None:
    """Serves until it is ended. With `--store` what was sent can be asked for again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.resumable")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args()
    listener = serving.open_listener("127.0.0.1", options.port)
    app = make_storing(build()) if options.store else build().streamable_http_app()
    print(f"resumable listens at http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    asyncio.run(serving.serve(app, listener))


# ---- the client


class Cut(Exception):
    """The connection, or the stream, ended before the response."""


class Refused(Exception):
    """An HTTP status that ends the matter: whoever asks again gets the same."""


class Report(msgspec.Struct):
    """What a client has seen of one call."""

    steps: list[int] = []
    result: str = ""
    error: str = ""  # a JSON-RPC error on the request's id
    refusal: str = ""  # an HTTP status that no retry helps against, and what it said
    resumes: int = 0  # answered with a stream
    vain: int = 0  # attempts to come back that met nobody, or a 5xx
    doubled: int = 0  # events whose id had been seen

    def faults(self, n: int) -> list[str]:
        """What isn't as it should be of a count to `n`; nothing where each step came once, in order, and then the result."""
        found = []
        if self.steps != list(range(1, n + 1)):
            found.append(f"steps {self.steps}")
        if self.result != f"counted to {n}":
            found.append(f"result {self.result!r}")
        if self.error or self.refusal or self.doubled:
            found.append(f"error {self.error!r}, refusal {self.refusal!r}, {self.doubled} doubled")
        return found


class Event(msgspec.Struct):
    id: str = ""
    data: str = ""


class Caller:
    """One call of one session. `run` reports how it went; `begun` is set as soon as it could be resumed.

    `cut_at`: it drops its connection once, after that step. `patience_seconds`: it drops one on which no event comes for so long.
    """

    def __init__(
        self,
        url: str,
        session: str,
        request_id: int | str,
        *,
        tool: str = "count",
        cut_at: int | None = None,
        patience_seconds: float | None = None,
    ) -> None:
        self._tool = tool
        self._url = url
        self._session = session
        self._request_id = request_id
        self._cut_at = cut_at
        self._patience_seconds = patience_seconds
        self._last_id = ""
        self._ids: set[str] = set()
        self.report = Report()
        self.begun = asyncio.Event()

    async def run(self, n: int, delay_ms: int) -> Report:
        """Calls `count`, and comes back until there is a response, or a refusal."""
        request = legacy(
            "tools/call",
            {"name": self._tool, "arguments": {"n": n, "delay_ms": delay_ms}},
            request_id=self._request_id,
            session=self._session,
        )
        try:
            try:
                await self._follow("POST", request["headers"], json.dumps(request["json"]).encode())
            except (Cut, OSError) as cut:
                if not self._last_id:  # to send it again could mean that it is done twice
                    raise Refused(f"cut before it could be resumed: {cut}") from cut
                await self._come_back()
        except Refused as refused:
            self.report.refusal = str(refused)
        return self.report

    async def _come_back(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)])
            before = len(self._ids)
            try:
                headers = legacy_headers(self._session) | {"last-event-id": self._last_id}
                return await self._follow("GET", headers, b"")
            except (Cut, OSError):
                attempt = 0 if len(self._ids) > before else attempt + 1

    async def _follow(self, method: str, headers: dict[str, str], body: bytes) -> None:
        """Reads one reply up to the response. Raises `Cut`, `Refused`."""
        try:
            async with asyncio.timeout(self._patience_seconds) as limit:
                await self._read(limit, method, headers, body)
        except TimeoutError as silence:
            raise Cut("nothing came") from silence

    async def _read(self, limit: asyncio.Timeout, method: str, headers: dict[str, str], body: bytes) -> None:
        async with opened(self._url, method, headers, body) as (status, head, pieces):
            if status >= 500:
                self.report.vain += 1
                raise Cut(f"HTTP {status}")
            if status != 200:
                raise Refused(f"HTTP {status}: {b''.join([piece async for piece in pieces])!r}")
            if head.get("content-type", "").startswith("application/json"):
                self._take(Event(data=b"".join([piece async for piece in pieces]).decode()))
                return
            self.report.resumes += method == "GET"
            async for event in split_events(pieces):
                if self._take(event):
                    return
                if self._patience_seconds is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + self._patience_seconds)
                if self._cut_at is not None and len(self.report.steps) >= self._cut_at:
                    self._cut_at = None
                    raise Cut("dropped")
            raise Cut("the stream ended before the response")

    def _take(self, event: Event) -> bool:
        """Notes the event. Whether it is the response."""
        if event.id:
            self.report.doubled += bool(event.data) and event.id in self._ids
            self._last_id = event.id
            self._ids.add(event.id)
            self.begun.set()
        if not event.data:
            return False
        message: dict[str, Any] = json.loads(event.data)
        if message.get("method") == "notifications/progress":
            self.report.steps.append(int(message["params"]["progress"]))
        elif message.get("id") == self._request_id and "result" in message:
            self.report.result = message["result"]["content"][0]["text"]
            return True
        elif message.get("id") == self._request_id and "error" in message:
            self.report.error = message["error"]["message"]
            return True
        else:
            self.report.refusal = f"nobody asked for {event.data}"
        return False


class opened:  # noqa: N801  # used as `async with opened(...)`
    """One request on a connection of its own: status, headers, and the body's pieces as they come."""

    def __init__(self, url: str, method: str, headers: dict[str, str], body: bytes) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        lines = [f"{method} {parts.path} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"content-length: {len(body)}")
        self._request = "\r\n".join([*lines, "", ""]).encode() + body

    async def __aenter__(self) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        reader, self._writer = await asyncio.open_connection(self._host, self._port)
        try:
            self._writer.write(self._request)
            try:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            except asyncio.IncompleteReadError as cut:
                raise Cut("no answer") from cut
        except BaseException:
            await self.__aexit__()
            raise
        pairs = (line.partition(":") for line in lines[1:] if line)
        head = {name.lower(): value.strip() for name, _, value in pairs}
        return int(lines[0].split()[1]), head, read_body(reader, head)

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()
        with suppress(OSError):  # it was cut
            await self._writer.wait_closed()


async def read_body(reader: asyncio.StreamReader, head: dict[str, str]) -> AsyncIterator[bytes]:
    """The body by whichever of HTTP's three framings it has. Raises `Cut` where a framed one is cut short."""
    try:
        if head.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(size + 2))[:size]
        elif "content-length" in head:
            yield await reader.readexactly(int(head["content-length"]))
        else:
            while piece := await reader.read(65536):
                yield piece
    except asyncio.IncompleteReadError as cut:
        raise Cut("in the middle of the body") from cut


async def split_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Whole events; one that was cut off is none (WHATWG HTML §9.2.6)."""
    waiting, event = b"", Event()
    async for piece in pieces:
        *lines, waiting = (waiting + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            name, _, value = line.decode().partition(":")
            if name == "id":
                event.id = value.removeprefix(" ")
            elif name == "data":
                event.data += value.removeprefix(" ")
            elif not line:
                yield event
                event = Event()


def summarise(reports: list[Report]) -> str:
    """One line of figures over many calls."""
    counted: Counter[str] = Counter()
    for report in reports:
        counted["results"] += bool(report.result)
        counted["JSON-RPC errors"] += bool(report.error)
        counted["refusals"] += bool(report.refusal)
        counted["events"] += len(report.steps)
        counted["doubled"] += report.doubled
        counted["resumes"] += report.resumes
    most = max(report.resumes for report in reports)
    return ", ".join(f"{count} {what}" for what, count in counted.items()) + f" (at most {most} a call)"


if __name__ == "__main__":
    main()
