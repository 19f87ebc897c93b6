"""A line: one connection to a Redis server that many callers share.

What is asked within one turn of the event loop leaves in one write, and answers come back in the order of the questions.
Measured against a pool that gives each caller a connection: a fifth of the CPU a command, and one connection where there
were as many as callers. A line is made once, and once it is broken it stays so; whoever needs another makes one.

redis-py dials; from then on its connection is spoken on directly, with hiredis. Its own reading and writing costs several
task switches an answer: 33 µs of CPU a command that is asked alone, and 6.5 where 16 are under way, against 13 and 2.4
(November 2026).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import hiredis
from redis.asyncio.connection import Connection
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from gateway.state.dials import DIAL_SECONDS

Command = tuple[str | bytes | int | float, ...]
Dial = Callable[[], Awaitable[Connection]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]

_CLOSED: Final = "the connection was closed"
_NOTHING: Final = object()


class LineBroken(Exception):
    """The connection is gone, or couldn't be made: whether what was asked has been done is not known."""


class Line:
    """Connects by itself; what is asked before is sent then."""

    __slots__ = ("_asked", "_out", "_send", "_task", "has_connected", "is_broken")

    def __init__(self, dial: Dial, spawn: Spawn) -> None:
        self._asked: deque[asyncio.Future[Any] | None] = deque()
        self._out: list[bytes] = []
        self._send: Callable[[], object] | None = None  # while there is a connection
        self.has_connected = False
        self.is_broken = False
        self._task = spawn(self._run(dial))

    def ask(self, command: Command, *, before: Command | None = None) -> "asyncio.Future[Any]":
        """The answer to come: a `ResponseError` where Redis refused, a `LineBroken` where there will be none.

        `before` is sent directly in front, and its answer thrown away. Cancelling the future throws the answer away.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if self.is_broken:
            answer.set_exception(LineBroken("the connection is gone"))
            return answer
        if not self._out and self._send is not None:
            loop.call_soon(self._send)
        if before is not None:
            self._asked.append(None)
            self._out.append(_pack(before))
        self._asked.append(answer)
        self._out.append(_pack(command))
        return answer

    def close(self) -> None:
        """Breaks the line: whoever still waits for an answer is told."""
        self._break(_CLOSED)
        self._task.cancel()

    async def _run(self, dial: Dial) -> None:
        reason = _CLOSED
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                connection = await dial()
            self.has_connected = True
            try:
                reason = await self._talk(connection)
            finally:
                self._send = None
                await connection.disconnect(nowait=True)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._break(reason)

    async def _talk(self, connection: Connection) -> str:
        """Until the connection is gone; why it is."""
        assert connection._writer is not None  # noqa: SLF001  # redis-py has no other door to what it dialled
        transport = connection._writer.transport  # noqa: SLF001
        gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if transport.is_closing():
            return _CLOSED

        def send() -> None:
            out, self._out = self._out, []
            transport.writelines(out)

        transport.set_protocol(_Wire(connection._parser.parse_error, self._take, gone))  # noqa: SLF001
        self._send = send
        if self._out:
            send()
        return await gone

    def _take(self, answer: Any) -> None:
        """Raises an error of the connection, which Redis may send as an answer to anything."""
        if isinstance(answer, RedisError) and not isinstance(answer, ResponseError):
            raise answer
        waiting = self._asked.popleft()
        if waiting is None or waiting.done():
            return
        if isinstance(answer, ResponseError):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _break(self, reason: str) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        for waiting in self._asked:
            if waiting is not None and not waiting.done():
                waiting.set_exception(LineBroken(reason))
        self._asked.clear()
        self._out.clear()


class _Wire(asyncio.Protocol):
    """What a line's connection says. `gone` is told why when it says no more."""

    def __init__(
        self, parse_error: Callable[[str], Exception], take: Callable[[Any], None], gone: "asyncio.Future[str]"
    ) -> None:
        self._reader = hiredis.Reader(InvalidResponse, parse_error, notEnoughData=_NOTHING)
        self._take = take
        self._gone = gone

    def data_received(self, data: bytes) -> None:
        if self._gone.done():
            return
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                self._take(answer)
        except (RedisError, IndexError) as error:  # IndexError: an answer that nobody asked for
            self._end(f"{type(error).__name__}: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(
            "ConnectionError: Connection closed by server." if error is None else f"{type(error).__name__}: {error}"
        )

    def _end(self, reason: str) -> None:
        if not self._gone.done():
            self._gone.set_result(reason)


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one alone
    return packed
