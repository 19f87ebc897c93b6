"""A line: one connection to a Redis server that many callers share.

What is asked within one turn of the event loop leaves in one write, and answers come back in the order of the questions.
Measured against a pool that gives each caller a connection: a fifth of the CPU a command, and one connection where there
were as many as callers. A line is made once, and once it is broken it stays so; whoever needs another makes one.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import hiredis
from redis.asyncio.connection import Connection
from redis.exceptions import RedisError, ResponseError

from gateway.state.dials import DIAL_SECONDS

Command = tuple[str | bytes | int | float, ...]
Dial = Callable[[], Awaitable[Connection]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class LineBroken(Exception):
    """The connection is gone, or couldn't be made: whether what was asked has been done is not known."""


class Line:
    """Connects by itself; what is asked before is sent then."""

    __slots__ = ("_asked", "_filled", "_out", "_task", "has_connected", "is_broken")

    def __init__(self, dial: Dial, spawn: Spawn) -> None:
        self._asked: deque[asyncio.Future[Any] | None] = deque()
        self._out: list[bytes] = []
        self._filled = asyncio.Event()
        self.has_connected = False
        self.is_broken = False
        self._task = spawn(self._run(dial))

    def ask(self, command: Command, *, before: Command | None = None) -> "asyncio.Future[Any]":
        """The answer to come: a `ResponseError` where Redis refused, a `LineBroken` where there will be none.

        `before` is sent directly in front, and its answer thrown away. Cancelling the future throws the answer away.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_broken:
            answer.set_exception(LineBroken("the connection is gone"))
            return answer
        if before is not None:
            self._asked.append(None)
            self._out.append(_pack(before))
        self._asked.append(answer)
        self._out.append(_pack(command))
        self._filled.set()
        return answer

    def close(self) -> None:
        """Breaks the line: whoever still waits for an answer is told."""
        self._break("the connection was closed")
        self._task.cancel()

    async def _run(self, dial: Dial) -> None:
        reason = "the connection was closed"
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                connection = await dial()
            self.has_connected = True
            try:
                await self._talk(connection)
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._break(reason)

    async def _talk(self, connection: Connection) -> None:
        writing = asyncio.ensure_future(self._write(connection))
        try:
            await self._read(connection)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, connection: Connection) -> None:
        # An error here closes the connection, which is what the reader then meets.
        while True:
            await self._filled.wait()
            self._filled.clear()
            out, self._out = self._out, []
            await connection.send_packed_command(out, check_health=False)

    async def _read(self, connection: Connection) -> None:
        read, asked = connection.read_response, self._asked
        while True:
            refusal = None
            try:
                answer = await read(timeout=math.inf)
            except ResponseError as error:
                refusal = error
            waiting = asked.popleft()
            if waiting is None or waiting.done():
                continue
            if refusal is None:
                waiting.set_result(answer)
            else:
                waiting.set_exception(refusal)

    def _break(self, reason: str) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        for waiting in self._asked:
            if waiting is not None and not waiting.done():
                waiting.set_exception(LineBroken(reason))
        self._asked.clear()
        self._out.clear()


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one alone
    return packed
