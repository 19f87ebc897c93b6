"""What this worker's callers do at once: places that it has reserved of the common ones, and fills without asking.

A place that is left is kept for the next call while most are free, and else given back at once, in the background. All are
said anew every few seconds: those of a worker that died are free again a little later.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.policy.reservations import RESERVED_SECONDS, may_keep
from gateway.policy.streams import LogAway, Owner
from gateway.ports import BucketName, Quotas

RENEW_SECONDS: Final = RESERVED_SECONDS / 3
"""Between two rounds in which each reservation in use is renewed, and what isn't used is given back."""

_AT_ONCE: Final = 100
"""Questions of one round that are under way at the same time."""

_SECOND_LOOK_SECONDS: Final = 0.05
"""A call that finds no place looks once more, so late: the place that its caller has just left elsewhere is on its way back."""


class Desk(msgspec.Struct, eq=False):
    """This worker's places of one limit of one caller's."""

    bucket: BucketName
    limit: int
    lock: asyncio.Lock  # one question at a time
    used: int = 0
    waiting: int = 0
    reserved: int = 0
    until: float = 0.0
    asked_at: float = 0.0
    free: int = 0  # that others might have, when it was last asked
    is_leaving: bool = False  # what isn't used is being given back


class Reservations:
    """Belongs to one event loop. `count_workers` says by how many a limit is shared while nobody can be asked."""

    def __init__(
        self, quotas: Quotas, me: Owner, clock: Callable[[], float], count_workers: Callable[[], int] = lambda: 1
    ) -> None:
        self._quotas = quotas
        self._me = me
        self._clock = clock
        self._count_workers = count_workers
        self._desks: dict[tuple[str, str, str, int], Desk] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def enter(self, kind: str, backend: str, caller: str, limit: int) -> Desk | None:
        """A place, to be left by `leave`; None where the caller has filled all."""
        desk = self._find(kind, backend, caller, limit)
        return desk if self._take(desk) or await self._ask(desk) else None

    def leave(self, desk: Desk) -> None:
        """The place is free."""
        desk.used -= 1
        if not desk.is_leaving and not may_keep(desk.free, desk.limit):
            desk.is_leaving = True
            task = asyncio.create_task(self._give_back(desk))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _find(self, kind: str, backend: str, caller: str, limit: int) -> Desk:
        key = (kind, backend, caller, limit)
        if (desk := self._desks.get(key)) is None:
            name = hashlib.blake2b(msgspec.json.encode(key), digest_size=16).hexdigest()
            desk = self._desks[key] = Desk(BucketName(name), limit, asyncio.Lock())
        return desk

    def _take(self, desk: Desk) -> bool:
        if desk.used >= desk.reserved or self._clock() >= desk.until:
            return False
        desk.used += 1
        return True

    async def _ask(self, desk: Desk) -> bool:
        desk.waiting += 1
        try:
            for pause_seconds in (0.0, _SECOND_LOOK_SECONDS):
                await asyncio.sleep(pause_seconds)
                came_at = self._clock()
                async with desk.lock:
                    if self._take(desk):
                        return True
                    if desk.asked_at <= came_at:  # else it was asked for us, too
                        await self._reserve(desk)
                    if self._take(desk):
                        return True
            return False
        finally:
            desk.waiting -= 1

    async def _give_back(self, desk: Desk) -> None:
        async with desk.lock:
            desk.is_leaving = False
            if desk.used < desk.reserved:
                await self._reserve(desk)

    async def _reserve(self, desk: Desk) -> None:
        """As many places as are used and waited for. What is given back isn't filled any more while that is asked."""
        wanted, asked_at = desk.used + desk.waiting, self._clock()
        desk.asked_at = asked_at
        desk.reserved = min(desk.reserved, wanted)
        try:
            told = await self._quotas.reserve(desk.bucket, self._me, wanted, desk.limit)
        except LogAway:
            share = max(1, desk.limit // self._count_workers())
            if asked_at >= desk.until or desk.reserved < share:
                desk.reserved, desk.until = min(wanted, share), asked_at + RESERVED_SECONDS
            desk.free = 0
        else:
            desk.reserved, desk.free, desk.until = told.granted, told.free, asked_at + RESERVED_SECONDS

    async def run(self) -> None:
        """Renews what is used, and gives back what isn't, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def renew(self) -> None:
        """One round."""
        self._desks = {key: desk for key, desk in self._desks.items() if desk.used or desk.waiting or desk.reserved}
        desks = list(self._desks.values())
        for first in range(0, len(desks), _AT_ONCE):
            await asyncio.gather(*map(self._renew, desks[first : first + _AT_ONCE]))

    async def _renew(self, desk: Desk) -> None:
        async with desk.lock:
            await self._reserve(desk)

    async def close(self) -> None:
        """Ends the questions under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
