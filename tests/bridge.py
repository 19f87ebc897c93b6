"""An ASGI conversation in process: what is sent is there at once, event by event. (The usual transports buffer SSE.)"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes import BOUND_SECONDS

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def http_scope(
    method: str = "POST", path: str = "/echo/mcp", headers: list[tuple[bytes, bytes]] | None = None
) -> Message:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost:8080"), *(headers or [])],
        "client": ("192.0.2.7", 4711),
        "scheme": "http",
    }


class Conversation:
    """One call of an app: `say` what the server would give it, `hear` what it sends."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.heard: list[Message] = []

    def say(self, **message: Any) -> None:
        self._inbox.put_nowait(message)

    def say_body(self, *parts: bytes) -> None:
        for part in parts[:-1]:
            self.say(type="http.request", body=part, more_body=True)
        self.say(type="http.request", body=parts[-1])

    def hang_up(self) -> None:
        self.say(type="http.disconnect")

    async def hear(self) -> Message:
        """The next message of the app."""
        message = await asyncio.wait_for(self._outbox.get(), BOUND_SECONDS)
        self.heard.append(message)
        return message

    def rest(self) -> list[Message]:
        """All that it sent since."""
        return [self._outbox.get_nowait() for _ in range(self._outbox.qsize())]

    async def receive(self) -> Message:
        return await self._inbox.get()

    async def send(self, message: Message) -> None:
        self._outbox.put_nowait(message)


@asynccontextmanager
async def calling(app: App, scope: Message) -> AsyncIterator[Conversation]:
    """The app at work; when the block is left it must come to its end."""
    conversation = Conversation()
    task = asyncio.ensure_future(app(scope, conversation.receive, conversation.send))
    try:
        yield conversation
    except BaseException:
        task.cancel()
        raise
    await asyncio.wait_for(task, BOUND_SECONDS)
