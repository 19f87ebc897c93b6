"""`EventLog.wake`: who waits for a stream or a session is rung, by any worker."""

import asyncio
from typing import Final

from gateway.policy.streams import Bounds
from gateway.protocol.cursors import START, Cursor
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import FACTS, new_hold, new_name, new_session
from tests.requirements import proves

BOUND_SECONDS: Final = 5.0
BOUNDS = Bounds()


async def hear(bell: asyncio.Event) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        await bell.wait()
    bell.clear()


@proves("WAKE-1")
async def test_who_hangs_a_bell_and_reads_then_misses_nothing(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold, bell, had = new_hold(), asyncio.Event(), 0
        await world.log.create(hold, FACTS, [b"1"])
        leave = world.other.log.wake(hold.stream, bell.set)

        async def follow() -> None:
            nonlocal had
            while True:
                reading = await world.other.log.read(hold.stream, (await read_cursor()))
                assert reading is not None
                had += len(reading.entries)
                if reading.is_at_end:
                    return
                await hear(bell)

        async def read_cursor() -> Cursor:
            return Cursor(had, 1) if had else START

        following = asyncio.ensure_future(follow())
        for seq in range(2, 52):
            await world.log.append(hold, seq, [b"x"], is_final=seq == 51)
        await following
        assert had == 51
        leave()


@proves("WAKE-1")
async def test_every_change_rings(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold, bell = new_hold(), asyncio.Event()
        leave = world.other.log.wake(hold.stream, bell.set)
        await world.log.create(hold, FACTS, [b"1"])
        await hear(bell)
        await world.log.append(hold, 2, [b"2"])
        await hear(bell)
        await world.log.release(hold)
        await hear(bell)
        leave()


@proves("WAKE-1")
async def test_a_session_is_woken_by_marks_and_newer_gets(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, bell = new_session(), asyncio.Event()
        leave = world.other.log.wake(session, bell.set)
        await world.marks.mark_ended(session, b"1")
        await hear(bell)
        await world.marks.join(session, new_name())
        await hear(bell)
        leave()


@proves("WAKE-1")
async def test_a_bell_that_was_taken_down_rings_no_more(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold, gone, stays = new_hold(), asyncio.Event(), asyncio.Event()
        leave = world.log.wake(hold.stream, gone.set)
        leave_other = world.log.wake(hold.stream, stays.set)
        await world.log.create(hold, FACTS, [b"1"])
        await hear(stays)
        leave()
        leave()
        gone.clear()
        await world.log.append(hold, 2, [b"2"])
        await hear(stays)
        assert not gone.is_set()
        leave_other()
