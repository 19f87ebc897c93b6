"""What a backend sent back: the head at once, the body as it comes, with a bound on what is held.

Knows how a reader waits and what it may hold. Doesn't know HTTP's framing (`connections`) or pools.
"""

import asyncio
from typing import Final, Protocol

from gateway.ports import Headers
from gateway.protocol.outcomes import Failed, Outcome

HIGH_WATER_BYTES: Final = 256 * 1024
"""Above this much unread body a connection stops reading. What one read of the socket brings (≤ 256 KiB) comes on top."""


class Source(Protocol):
    """The connection an answer comes from, as far as its reader may touch it."""

    name: str

    def abort(self) -> None:
        """Drops the connection at once; whatever is missing of the answer will never come."""

    def resume(self) -> None:
        """The reader has room again."""


class PooledAnswer:
    """One answer; `gateway.ports.Answer` tells its contract."""

    __slots__ = ("_begun", "_source", "_waiter", "done", "error", "headers", "held_bytes", "parts", "status")

    def __init__(self, source: Source) -> None:
        self.status = 0  # until the head is here
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.held_bytes = 0
        self.done = False
        self.error: Failed | None = None
        self._begun = False
        self._source = source
        self._waiter: asyncio.Future[None] | None = None

    @property
    def body(self) -> bytes | None:
        if not self.done or self._begun:
            return None
        parts = self.parts
        if len(parts) > 1:
            parts[:] = (b"".join(parts),)
        return parts[0] if parts else b""

    async def read(self, limit_bytes: int) -> bytes:
        whole: list[bytes] = []
        size = 0
        while chunk := await self._next():
            size += len(chunk)
            if size > limit_bytes:
                self.close()
                message = f"Backend {self._source.name!r} sent more than the {limit_bytes} bytes allowed."
                raise Failed(Outcome.NONSENSE, message)
            whole.append(chunk)
        return whole[0] if len(whole) == 1 else b"".join(whole)

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        if self.parts or self.done or self.error is not None:
            return await self._next()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(within_seconds, self.wake)
        try:
            await self.wait()
        finally:
            timer.cancel()
        return await self._next() if self.parts or self.done or self.error is not None else None

    async def _next(self) -> bytes:
        """All that is here of the body, else what comes next; b"" at the end."""
        self._begun = True
        while not self.parts:
            if self.error is not None:
                raise self.error
            if self.done:
                return b""
            await self.wait()
        chunk = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        self.held_bytes = 0
        if not self.done and self.error is None:
            self._source.resume()
        return chunk

    def close(self) -> None:
        if self.done or self.error is not None:
            return
        self.fail(Failed(Outcome.BROKEN, f"The answer of backend {self._source.name!r} was abandoned."))

    async def wait(self) -> None:
        """Waits for the next change: the head, more of the body, the end, a failure. Cancelled, it drops the connection.

        Unbounded here: the pool's sweeper ends it when the call's idle or total time is over.
        """
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except BaseException:
            self.close()
            raise

    def wake(self) -> None:
        """Something changed."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def finish(self) -> None:
        """The last byte of the body is here; the connection is no longer this answer's."""
        self.done = True
        self.wake()

    def fail(self, error: Failed) -> None:
        """The rest will not come: the connection is dropped, and the reader told."""
        if self.done or self.error is not None:
            return
        self.error = error
        self._source.abort()
        self.wake()
