"""A proxy on the way to Redis that withholds answers, and cuts: what a network does, where it is asked to."""

import asyncio
import ssl
from types import TracebackType
from typing import Final, Self

from gateway.state.targets import Address

HOST: Final = "127.0.0.1"


class Proxy:
    """Everything passes until `withhold`; what was withheld is dropped by `cut`, or passed on by `let_pass`."""

    def __init__(self, target: Address, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._passes = asyncio.Event()
        self._passes.set()
        self._withheld = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[object]] = set()
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        self._passes.set()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def withhold(self) -> None:
        """Questions reach Redis; from now on its answers stay here."""
        self._withheld.clear()
        self._passes.clear()

    async def wait_withheld(self) -> None:
        """Returns when an answer has been withheld: what was asked has been done."""
        await self._withheld.wait()

    def let_pass(self) -> None:
        self._passes.set()

    def cut(self) -> None:
        """Ends every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if (task := asyncio.current_task()) is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        asking = asyncio.ensure_future(self._pass_on(reader, far_writer, None))
        try:
            await self._pass_on(far_reader, writer, self._passes)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            for one in (writer, far_writer):
                self._writers.discard(one)
                one.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None
    ) -> None:
        try:
            while data := await reader.read(65536):
                if gate is not None and not gate.is_set():
                    self._withheld.set()
                    await gate.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()
