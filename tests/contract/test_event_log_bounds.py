"""`EventLog`: everything ends. What is kept, how long, and what a reader is told of what was not."""

from gateway.policy.streams import Appended, AppendResult, Bounds, Refusal, Takeover
from gateway.protocol.cursors import START, Cursor
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import BOB, FACTS, new_hold
from tests.requirements import proves


@proves("LOG-6")
async def test_beyond_its_bound_of_events_a_stream_loses_its_oldest(open_world: OpenWorld) -> None:
    async with open_world(Bounds(events=32)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"%d" % n for n in range(1, 33)])
        whole = await world.log.read(hold.stream, START)
        assert whole is not None
        assert len(whole.entries) == 32
        assert await world.log.append(hold, 33, [b"33"]) == AppendResult(Appended.OK, 33)
        lost = await world.log.read(hold.stream, START)
        assert lost is not None
        assert (lost.is_continuous, lost.head, lost.floor) == (False, Cursor(33, 1), Cursor(3, 1))
        for cursor in (Cursor(1, 1), Cursor(2, 1)):
            trimmed = await world.log.read(hold.stream, cursor)
            assert trimmed is not None
            assert not trimmed.is_continuous
        for last in (3, 4, 20):  # who had the last one that was trimmed missed nothing
            rest = await world.log.read(hold.stream, Cursor(last, 1))
            assert rest is not None
            assert [entry.payload for entry in rest.entries] == [b"%d" % n for n in range(last + 1, 34)]


@proves("LOG-6")
async def test_beyond_its_bound_of_bytes_a_stream_loses_its_oldest(open_world: OpenWorld) -> None:
    async with open_world(Bounds(bytes=16_000)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [])
        for seq in range(1, 101):
            assert await world.log.append(hold, seq, [b"x" * 1000]) == AppendResult(Appended.OK, seq)
            reading = await world.log.read(hold.stream, Cursor(seq, 1))
            assert reading is not None
            assert seq - reading.floor.seq <= 15
            assert seq < 14 or seq - reading.floor.seq >= 13


@proves("LOG-6")
async def test_the_newest_event_is_kept_however_large(open_world: OpenWorld) -> None:
    async with open_world(Bounds(bytes=1000)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1", b"2"])
        await world.log.append(hold, 3, [b"x" * 5000])
        reading = await world.log.read(hold.stream, Cursor(2, 1))
        assert reading is not None
        assert [len(entry.payload) for entry in reading.entries] == [5000]


@proves("LOG-6")
async def test_a_batch_beyond_the_bound_leaves_its_end(open_world: OpenWorld) -> None:
    async with open_world(Bounds(events=100)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"%d" % n for n in range(1, 501)])
        reading = await world.log.read(hold.stream, Cursor(450, 1))
        assert reading is not None
        assert (reading.floor, len(reading.entries)) == (Cursor(406, 1), 50)


@proves("LOG-6")
async def test_what_was_trimmed_is_the_epochs_that_wrote_it(open_world: OpenWorld) -> None:
    async with open_world(Bounds(events=16)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"x"] * 10)
        taken = await world.log.take_over(hold.stream, 1, BOB)
        assert isinstance(taken, Takeover)
        await world.log.append(taken.hold, 11, [b"y"] * 7)
        at_floor = await world.log.read(hold.stream, Cursor(2, 1))
        assert at_floor is not None
        assert (at_floor.floor, at_floor.is_continuous, len(at_floor.entries)) == (Cursor(2, 1), True, 15)
        of_another = await world.log.read(hold.stream, Cursor(2, taken.hold.epoch))
        assert of_another is not None
        assert not of_another.is_continuous


@proves("LOG-7")
async def test_an_unfinished_stream_lives_while_it_is_appended_to_or_kept(open_world: OpenWorld) -> None:
    async with open_world(Bounds(live_seconds=100)) as world:
        appended, kept, left = new_hold(), new_hold(), new_hold()
        for hold in (appended, kept, left):
            await world.log.create(hold, FACTS, [b"1"])
        world.pass_time(60)
        await world.log.append(appended, 2, [b"2"])
        assert await world.log.keep([kept.stream]) == frozenset()
        world.pass_time(60)
        assert await world.log.read(appended.stream, START) is not None
        assert await world.log.read(kept.stream, START) is not None
        assert await world.log.read(left.stream, START) is None
        assert await world.log.append(left, 2, [b"2"]) == AppendResult(Appended.LOST, 0)
        assert await world.log.take_over(left.stream, 1, BOB) is Refusal.LOST


@proves("LOG-7")
async def test_a_takeover_gives_a_stream_its_whole_life_again(open_world: OpenWorld) -> None:
    async with open_world(Bounds(live_seconds=100)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        world.pass_time(60)
        assert isinstance(await world.log.take_over(hold.stream, 1, BOB), Takeover)
        world.pass_time(60)
        assert await world.log.read(hold.stream, START) is not None


@proves("LOG-7")
async def test_a_finished_stream_lives_its_time_and_no_longer(open_world: OpenWorld) -> None:
    async with open_world(Bounds(live_seconds=100, finished_seconds=50)) as world:
        by_append, by_word = new_hold(), new_hold()
        for hold in (by_append, by_word):
            await world.log.create(hold, FACTS, [b"1"])
        await world.log.append(by_append, 2, [b"2"], is_final=True)
        await world.log.finish(by_word)
        world.pass_time(40)
        assert await world.log.keep([by_append.stream, by_word.stream]) == frozenset()  # which keeps only what is open
        assert await world.log.read(by_append.stream, START) is not None
        world.pass_time(20)
        assert await world.log.read(by_append.stream, START) is None
        assert await world.log.read(by_word.stream, START) is None


@proves("LOG-7")
async def test_a_log_across_a_hole_expires_too(open_world: OpenWorld) -> None:
    async with open_world(Bounds(live_seconds=100)) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        await world.log.append(hold, 10, [], is_across_hole=True)
        await world.log.append(hold, 10, [b"10"])
        world.pass_time(101)
        assert await world.log.read(hold.stream, Cursor(9, 1)) is None
