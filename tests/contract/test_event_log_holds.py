"""`EventLog`: one hold at a time may append, and who takes over knows where to go on."""

import asyncio

import msgspec

from gateway.policy.streams import NOBODY, Appended, AppendResult, Bounds, Entry, Owner, Refusal, State, Takeover
from gateway.protocol.cursors import START, Cursor
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import ALICE, BOB, FACTS, new_hold, new_name
from tests.requirements import proves

BOUNDS = Bounds()


@proves("HOLD-1")
async def test_whoever_takes_over_knows_where_to_go_on(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        await world.log.append(hold, 2, [b"2"], upstream_cursor=b"up-2")
        taken = await world.other.log.take_over(hold.stream, 1, BOB)
        assert isinstance(taken, Takeover)
        assert (taken.hold.stream, taken.hold.owner) == (hold.stream, BOB)
        assert taken.hold.epoch > 1
        assert (taken.head, taken.upstream_cursor) == (Cursor(2, 1), b"up-2")
        assert taken.facts == FACTS


@proves("HOLD-1")
async def test_from_the_takeover_on_the_old_hold_is_fenced(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        taken = await world.other.log.take_over(hold.stream, 1, BOB)
        assert isinstance(taken, Takeover)
        assert await world.log.append(hold, 2, [b"zombie"]) == AppendResult(Appended.FENCED, 1)
        assert await world.log.append(hold, 1, [b"1"]) == AppendResult(Appended.FENCED, 1)
        assert await world.log.append(hold, 9, [b"9"], is_across_hole=True) == AppendResult(Appended.FENCED, 1)
        assert await world.log.create(hold, FACTS, [b"1"]) == AppendResult(Appended.FENCED, 1)
        assert not await world.log.finish(hold)
        assert not await world.log.release(hold)
        assert await world.other.log.append(taken.hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)
        reading = await world.log.read(hold.stream, START)
        assert reading is not None
        assert reading.entries == (Entry(Cursor(1, 1), b"1"), Entry(Cursor(2, taken.hold.epoch), b"2"))
        assert reading.state is State.OPEN


@proves("HOLD-1")
async def test_of_two_who_take_over_at_once_one_does(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        claims = [
            room.log.take_over(hold.stream, 1, Owner(f"{name}-{n}"))
            for name, room in (("a", world.room), ("b", world.other))
            for n in range(10)
        ]
        results = await asyncio.gather(*claims)
        winners = [result for result in results if isinstance(result, Takeover)]
        assert len(winners) == 1
        assert [result for result in results if result is Refusal.FENCED] == [Refusal.FENCED] * 19
        reading = await world.log.read(hold.stream, START)
        assert reading is not None
        assert (reading.epoch, reading.owner) == (winners[0].hold.epoch, winners[0].hold.owner)


@proves("HOLD-1")
async def test_one_worker_claiming_twice_gets_it_once(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        results = [await world.log.take_over(hold.stream, 1, BOB) for _ in range(2)]
        assert isinstance(results[0], Takeover)
        assert results[1] is Refusal.FENCED


@proves("HOLD-1")
async def test_a_hold_is_good_for_its_owner_only(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold(ALICE)
        await world.log.create(hold, FACTS, [b"1"])
        stolen = msgspec.structs.replace(hold, owner=BOB)
        assert await world.log.append(stolen, 2, [b"2"]) == AppendResult(Appended.FENCED, 1)
        assert await world.log.create(stolen, FACTS, [b"1"]) == AppendResult(Appended.FENCED, 1)


@proves("HOLD-2")
async def test_what_is_finished_or_gone_is_not_taken_over(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"], is_final=True)
        assert await world.other.log.take_over(hold.stream, 1, BOB) is Refusal.ENDED
        assert await world.other.log.take_over(new_name(), 1, BOB) is Refusal.LOST


@proves("HOLD-2")
async def test_a_released_stream_is_anybodys(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        assert await world.log.release(hold)
        assert not await world.log.release(hold)
        reading = await world.other.log.read(hold.stream, START)
        assert reading is not None
        assert (reading.owner, reading.state) == (NOBODY, State.OPEN)
        assert await world.log.append(hold, 2, [b"2"]) == AppendResult(Appended.FENCED, 1)
        taken = await world.other.log.take_over(hold.stream, reading.epoch, BOB)
        assert isinstance(taken, Takeover)
        assert await world.other.log.append(taken.hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)


@proves("HOLD-2")
async def test_a_stream_that_has_ended_is_taken_over_by_nobody(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        taken = await world.log.take_over(hold.stream, 1, BOB)
        assert isinstance(taken, Takeover)
        again = await world.log.take_over(hold.stream, taken.hold.epoch, ALICE)
        assert isinstance(again, Takeover)
        await world.log.append(again.hold, 2, [b"2"], is_final=True)
        assert await world.log.take_over(hold.stream, again.hold.epoch, BOB) is Refusal.ENDED


@proves("AGAIN-4")
async def test_a_request_is_given_to_the_first_who_asks_and_the_backend_s_event_id_is_gone_with_it(
    open_world: OpenWorld,
) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"], upstream_cursor=b"up-1", request=b"body")
        taken = await world.other.log.take_over(hold.stream, 1, BOB)
        assert isinstance(taken, Takeover)
        assert taken.upstream_cursor == b"up-1"
        assert await world.log.take_request(hold) == b""
        claims = [world.other.log.take_request(taken.hold) for _ in range(5)]
        assert sorted(await asyncio.gather(*claims)) == [b"", b"", b"", b"", b"body"]
        await world.other.log.append(taken.hold, 2, [b"2"])
        again = await world.log.take_over(hold.stream, taken.hold.epoch, ALICE)
        assert isinstance(again, Takeover)
        assert (again.upstream_cursor, again.head.seq) == (b"", 2)
        assert await world.log.take_request(again.hold) == b""


@proves("AGAIN-4")
async def test_a_stream_that_is_over_or_never_had_a_request_gives_none(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        bare, released, finished = new_hold(), new_hold(), new_hold()
        await world.log.create(bare, FACTS, [b"1"])
        for hold in (released, finished):
            await world.log.create(hold, FACTS, [b"1"], request=b"body")
        await world.log.release(released)
        await world.log.finish(finished)
        for hold in (bare, released, finished, new_hold()):
            assert await world.log.take_request(hold) == b""


@proves("LOG-4")
async def test_a_cursor_is_of_the_epoch_that_wrote_it(open_world: OpenWorld) -> None:
    """Of two events with one number, the first lost with Redis, a client that holds the first is told of its loss."""
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        taken = await world.log.take_over(hold.stream, 1, BOB)
        assert isinstance(taken, Takeover)
        await world.log.append(taken.hold, 2, [b"2", b"3"])
        lost = await world.log.read(hold.stream, Cursor(2, 1))
        assert lost is not None
        assert (lost.is_continuous, lost.entries) == (False, ())
        rest = await world.log.read(hold.stream, Cursor(2, taken.hold.epoch))
        assert rest is not None
        assert [entry.payload for entry in rest.entries] == [b"3"]
