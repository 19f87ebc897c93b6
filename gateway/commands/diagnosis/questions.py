"""One HTTP request to the server and what came back, with the time each part took. Judges nothing."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

import httpx2
import msgspec

from gateway.commands.diagnosis.targets import Target
from gateway.protocol.events import EventSplitter, EventTooLarge, parse_event
from gateway.protocol.probes import is_answer

MAX_BYTES: Final = 1024 * 1024
"""Of one answer. Handshakes are a few kilobytes; beyond it the rest isn't read."""


class Unanswered(Exception):
    """No HTTP answer came; the message says what happened instead."""


class TooSlow(Unanswered):
    """Nothing came within the time."""


class Reply(msgspec.Struct, frozen=True):
    """An answer's head and as much of its body as told something. `message` is the JSON-RPC response, b"" without one."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes
    message: bytes
    seconds: float

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def milliseconds(self) -> str:
        return f"{self.seconds * 1000:.0f} ms"


class Asker:
    """Asks one target. Redirects aren't followed, and no proxy of the environment's is used."""

    def __init__(self, target: Target, timeout_seconds: float, trust: ssl.SSLContext) -> None:
        self.target = target
        self.timeout_seconds = timeout_seconds
        self._client = httpx2.AsyncClient(
            headers=list(target.headers),
            verify=trust,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(None),  # each question has one limit for all of it
            limits=httpx2.Limits(
                max_keepalive_connections=0
            ),  # each on a connection of its own, as a fleet's clients are
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, method: str, headers: Mapping[str, str], body: bytes = b"", url: str = "") -> Reply:
        """The answer, read until it holds the JSON-RPC response or ends. Raises `Unanswered`."""
        started = time.perf_counter()
        async with self.opened(method, headers, body, url) as response:
            content, message = await self._read(response)
        seconds = time.perf_counter() - started
        return Reply(response.status_code, dict(response.headers), content, message, seconds)

    @asynccontextmanager
    async def opened(
        self, method: str, headers: Mapping[str, str], body: bytes = b"", url: str = ""
    ) -> AsyncIterator[httpx2.Response]:
        """The answer as far as its head; the limit is for that and for all that is done in the block."""
        seconds = self.timeout_seconds
        request = self._client.build_request(
            method, url or self.target.url, headers=dict(headers), content=body or None
        )
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
        except TimeoutError:
            raise TooSlow(f"no answer within {seconds:g} s") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Unanswered(f"the connection failed: {str(error) or type(error).__name__}") from error

    async def _read(self, response: httpx2.Response) -> tuple[bytes, bytes]:
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        splitter, content = EventSplitter(MAX_BYTES), b""
        async for piece in response.aiter_bytes():
            content += piece
            if is_stream:
                for data in _events(splitter, piece):
                    if is_answer(data):
                        return content, data
            if len(content) > MAX_BYTES:
                break
        is_json = response.headers.get("content-type", "").startswith("application/json")  # clients read no other
        return content, content if is_json and is_answer(content) else b""


def _events(splitter: EventSplitter, piece: bytes) -> list[bytes]:
    try:
        return [parse_event(event).data for event in splitter.feed(piece)]
    except EventTooLarge:
        return []
