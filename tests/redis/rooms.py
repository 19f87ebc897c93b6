"""A room on a Redis that suffers, and what became of what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from gateway.policy.streams import Appended, AppendResult, Bounds, LogAway, Trouble
from gateway.state.rooms import RedisRoom
from gateway.state.seals import Keyring
from gateway.state.targets import parse_target
from tests.contract.worlds import ALICE, KEY

BOUND_SECONDS: Final = 20.0
PACE_SECONDS: Final = 0.05


class Witness:
    """Remembers what it was told, and rings when how things are has changed."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        self.failures: list[tuple[str, Trouble]] = []
        self.commands: list[str] = []
        self._told = asyncio.Event()

    def asked(self, command: str, seconds: float) -> None:
        assert seconds >= 0
        self.commands.append(command)

    def failed(self, command: str, trouble: Trouble) -> None:
        self.failures.append((command, trouble))

    def degraded(self, node: str, trouble: Trouble, detail: str) -> None:
        assert detail
        self.troubles.append(f"{trouble}")
        self._told.set()

    def restored(self, node: str, trouble: Trouble, seconds: float) -> None:
        assert seconds >= 0
        self.troubles.append(f"no longer {trouble}")
        self._told.set()

    async def wait_for(self, trouble: str) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            while trouble not in self.troubles:
                self._told.clear()
                await self._told.wait()


@asynccontextmanager
async def open_room(url: str, witness: Witness | None = None, bounds: Bounds | None = None) -> AsyncIterator[RedisRoom]:
    async with RedisRoom(parse_target(url), Keyring([KEY]), bounds=bounds, witness=witness) as room:
        yield room


async def repeat(append: Callable[[], Awaitable[AppendResult]]) -> AppendResult:
    """What a pump does: the same append again until the log has answered."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            result = await append()
            if result.outcome not in (Appended.AWAY, Appended.FULL):
                return result
            await asyncio.sleep(PACE_SECONDS)


async def see_server(room: RedisRoom) -> str:
    """Which server answers, once one does."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            try:
                return (await room.heartbeats.look([ALICE])).server
            except LogAway:
                await asyncio.sleep(PACE_SECONDS)
