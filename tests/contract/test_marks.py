"""`Marks`: what all replicas know of a session beside its streams."""

import asyncio

import msgspec
import pytest

from gateway.policy.streams import NOBODY, Bounds, Standing
from gateway.protocol.cursors import START, Cursor
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import ALICE, BOB, new_name, new_session
from tests.requirements import proves

BOUNDS = Bounds(live_seconds=100, mark_seconds=200)


@proves("MARK-1")
async def test_a_cancelled_request_is_ended_and_no_other(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, other = new_session(), new_session()
        await world.marks.mark_ended(session, b'"a"')
        assert await world.other.marks.is_ended(session, b'"a"')
        assert not await world.other.marks.is_ended(session, b'"b"')
        assert not await world.other.marks.is_ended(session, None)
        assert not await world.other.marks.is_ended(other, b'"a"')


@proves("MARK-1")
async def test_a_number_is_not_its_text(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session = new_session()
        await world.marks.mark_ended(session, b"1")
        assert not await world.marks.is_ended(session, b'"1"')


@proves("MARK-1")
async def test_a_deleted_session_ends_all_its_requests(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session = new_session()
        await world.marks.mark_ended(session, None)
        assert await world.other.marks.is_ended(session, b"1")
        assert await world.other.marks.is_ended(session, None)


@proves("MARK-1")
async def test_an_id_may_be_as_long_as_a_client_likes(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, long = new_session(), b'"%s"' % (b"x" * 1_000_000)
        await world.marks.mark_ended(session, long)
        assert await world.marks.is_ended(session, long)
        assert not await world.marks.is_ended(session, long[:-2] + b'"')


@proves("MARK-1")
async def test_a_mark_expires(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session = new_session()
        await world.marks.mark_ended(session, b"1")
        world.pass_time(190)
        assert await world.marks.is_ended(session, b"1")
        world.pass_time(20)
        assert not await world.marks.is_ended(session, b"1")


@proves("MARK-2")
async def test_the_first_get_registers_its_stream_and_the_next_finds_it(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, mine, yours = new_session(), new_name(), new_name()
        assert await world.marks.standing(session) is None
        assert await world.marks.join(session, mine) == Standing(mine, 1, START)
        assert await world.other.marks.join(session, yours) == Standing(mine, 2, START)
        assert await world.marks.standing(session) == Standing(mine, 2, START)


@proves("MARK-2")
async def test_of_many_gets_one_has_the_last_turn(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session = new_session()
        joined = await asyncio.gather(
            *(room.marks.join(session, new_name()) for room in (world.room, world.other) for _ in range(5))
        )
        assert sorted(standing.turn for standing in joined) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        assert len({standing.stream for standing in joined}) == 1


@proves("MARK-2")
async def test_what_was_delivered_is_known_to_the_next_and_only_the_newest_may_say(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, stream = new_session(), new_name()
        first = await world.marks.join(session, stream)
        assert await world.marks.deliver(session, msgspec.structs.replace(first, delivered=Cursor(7, 3)))
        second = await world.other.marks.join(session, new_name())
        assert second == Standing(stream, 2, Cursor(7, 3))
        assert not await world.marks.deliver(session, msgspec.structs.replace(first, delivered=Cursor(9, 3)))
        assert await world.other.marks.deliver(session, msgspec.structs.replace(second, delivered=Cursor(8, 3)))
        assert await world.marks.standing(session) == Standing(stream, 2, Cursor(8, 3))


@proves("MARK-2")
async def test_a_stream_that_is_gone_is_replaced_once(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, gone, new, late = new_session(), new_name(), new_name(), new_name()
        first = await world.marks.join(session, gone)
        await world.marks.deliver(session, msgspec.structs.replace(first, delivered=Cursor(7, 1)))
        assert await world.marks.join(session, new, replacing=gone) == Standing(new, 2, START)
        assert await world.marks.join(session, late, replacing=gone) == Standing(new, 3, START)


@proves("MARK-2")
async def test_a_standing_stream_is_left_by_name(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, stream = new_session(), new_name()
        await world.marks.join(session, stream)
        assert not await world.marks.leave(session, new_name())
        assert await world.marks.standing(session) == Standing(stream, 1, START)
        assert await world.marks.leave(session, stream)
        assert await world.marks.standing(session) is None


@proves("MARK-2")
async def test_a_standing_stream_is_not_left_once_another_turn_was_taken(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, stream = new_session(), new_name()
        await world.marks.join(session, stream)
        await world.other.marks.join(session, new_name())
        assert not await world.marks.leave(session, stream, 1)
        assert await world.marks.leave(session, stream, 2)
        assert not await world.marks.leave(session, stream, 2)


@proves("MARK-2")
async def test_who_feeds_a_sessions_client_is_known_to_all(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        session, other, stream = new_session(), new_session(), new_name()
        first = await world.marks.join(session, stream, follower=ALICE)
        assert first == Standing(stream, 1, START, ALICE)
        second = await world.other.marks.join(session, new_name(), follower=BOB)
        assert await world.marks.standing(session) == second == Standing(stream, 2, START, BOB)
        left = msgspec.structs.replace(second, follower=NOBODY)
        assert await world.other.marks.deliver(session, left)
        await world.marks.mark_ended(other, None)
        census = await world.marks.keep_standing([session, other])
        assert (census.standing, census.ended) == ({session: left}, {other})


@proves("MARK-2")
@pytest.mark.parametrize("do", ["join", "leave the client", "leave", "end"])
async def test_a_session_is_woken_when_its_standing_stream_changes(open_world: OpenWorld, do: str) -> None:
    async with open_world(BOUNDS) as world:
        session, stream, rung = new_session(), new_name(), asyncio.Event()
        standing = await world.marks.join(session, stream, follower=ALICE)
        take_down = world.log.wake(session, rung.set)
        if world.room is not world.other:
            await asyncio.wait_for(rung.wait(), 10)  # the subscription's own
        rung.clear()
        match do:
            case "join":
                await world.other.marks.join(session, stream)
            case "leave the client":
                await world.other.marks.deliver(session, msgspec.structs.replace(standing, follower=NOBODY))
            case "leave":
                await world.other.marks.leave(session, stream)
            case _:
                await world.other.marks.mark_ended(session, None)
        await asyncio.wait_for(rung.wait(), 10)
        take_down()


@proves("MARK-2")
async def test_a_standing_stream_expires_unless_it_is_kept(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        kept, left = new_session(), new_session()
        for session in (kept, left):
            await world.marks.join(session, new_name())
        world.pass_time(60)
        await world.marks.keep_standing([kept, new_session()])
        world.pass_time(60)
        assert await world.marks.standing(kept) is not None
        assert await world.marks.standing(left) is None


@proves("MARK-2")
@pytest.mark.parametrize("count", [0, 1, 300])
async def test_any_number_are_kept_at_once(open_world: OpenWorld, count: int) -> None:
    async with open_world(BOUNDS) as world:
        sessions = [new_session() for _ in range(count)]
        await asyncio.gather(*(world.marks.join(session, new_name()) for session in sessions))
        world.pass_time(60)
        assert len((await world.marks.keep_standing(sessions)).standing) == count
        world.pass_time(60)
        assert None not in await asyncio.gather(*(world.marks.standing(session) for session in sessions))
