"""`EventLog`: what is appended is what is read, densely, once, in order, whatever is repeated."""

import msgspec

from gateway.policy.streams import Appended, AppendResult, Bounds, Entry, State
from gateway.protocol.cursors import START, Cursor
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import BOB, FACTS, World, new_hold, new_name
from tests.requirements import proves

BOUNDS = Bounds()


async def read_payloads(world: World, stream: object, after: Cursor = START) -> list[bytes]:
    reading = await world.other.log.read(stream, after)  # type: ignore[arg-type]
    assert reading is not None
    return [entry.payload for entry in reading.entries]


@proves("LOG-1")
async def test_a_stream_begins_with_its_facts_and_first_events(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        begun = await world.log.create(hold, FACTS, [b"primer", b"one"], upstream_cursor=b"up-1")
        assert begun == AppendResult(Appended.OK, 2)
        reading = await world.other.log.read(hold.stream, START)
        assert reading is not None
        assert reading.entries == (Entry(Cursor(1, 1), b"primer"), Entry(Cursor(2, 1), b"one"))
        assert reading.facts == FACTS
        assert (reading.head, reading.floor) == (Cursor(2, 1), START)
        assert (reading.state, reading.epoch, reading.owner) == (State.OPEN, 1, "alice")
        assert reading.upstream_cursor == b"up-1"
        assert reading.is_continuous
        assert not reading.is_at_end


@proves("LOG-1")
async def test_a_stream_may_begin_without_events(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        assert await world.log.create(hold, FACTS, []) == AppendResult(Appended.OK, 0)
        assert await read_payloads(world, hold.stream) == []
        assert await world.log.append(hold, 1, [b"one"]) == AppendResult(Appended.OK, 1)
        assert await read_payloads(world, hold.stream) == [b"one"]


@proves("LOG-1")
async def test_what_is_appended_follows_in_order(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        assert await world.log.append(hold, 2, [b"2", b"3"]) == AppendResult(Appended.OK, 3)
        assert await world.log.append(hold, 4, [b"4"]) == AppendResult(Appended.OK, 4)
        assert await read_payloads(world, hold.stream) == [b"1", b"2", b"3", b"4"]
        assert await read_payloads(world, hold.stream, Cursor(2, 1)) == [b"3", b"4"]
        assert await read_payloads(world, hold.stream, Cursor(4, 1)) == []


@proves("LOG-1")
async def test_payloads_are_any_bytes(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold, events = new_hold(), [b"", b"\x00\xff\r\n", bytes(range(256)) * 1000]
        await world.log.create(hold, FACTS, events)
        assert await read_payloads(world, hold.stream) == events


@proves("LOG-2")
async def test_an_append_may_be_repeated(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        for _ in range(2):
            assert await world.log.create(hold, FACTS, [b"1"]) == AppendResult(Appended.OK, 1)
        for _ in range(2):
            assert await world.log.append(hold, 2, [b"2", b"3"]) == AppendResult(Appended.OK, 3)
        assert await world.log.append(hold, 3, [b"3", b"4"]) == AppendResult(Appended.OK, 4)
        assert await read_payloads(world, hold.stream) == [b"1", b"2", b"3", b"4"]


@proves("LOG-2")
async def test_a_repetition_that_comes_late_takes_no_cursor_back(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        await world.log.append(hold, 2, [b"2"], upstream_cursor=b"up-2")
        await world.log.append(hold, 3, [b"3"], upstream_cursor=b"up-3")
        assert await world.log.append(hold, 2, [b"2"], upstream_cursor=b"up-2") == AppendResult(Appended.OK, 3)
        reading = await world.log.read(hold.stream, START)
        assert reading is not None
        assert reading.upstream_cursor == b"up-3"


@proves("LOG-2")
async def test_a_cursor_may_be_noted_without_an_event_and_stays_when_none_is_given(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        assert await world.log.append(hold, 2, [], upstream_cursor=b"up-9") == AppendResult(Appended.OK, 1)
        await world.log.append(hold, 2, [b"2"])
        reading = await world.log.read(hold.stream, START)
        assert reading is not None
        assert (reading.upstream_cursor, reading.head) == (b"up-9", Cursor(2, 1))


@proves("LOG-3")
async def test_an_append_that_would_leave_a_hole_is_refused_whole(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        assert await world.log.append(hold, 3, [b"3"], upstream_cursor=b"up-3") == AppendResult(Appended.HOLE, 1)
        reading = await world.log.read(hold.stream, START)
        assert reading is not None
        assert (reading.head, reading.upstream_cursor) == (Cursor(1, 1), b"")


@proves("LOG-3")
async def test_nobody_is_led_across_a_hole(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1", b"2"])
        assert await world.log.append(hold, 5, [b"5", b"6"], is_across_hole=True) == AppendResult(Appended.OK, 6)
        for lost in (START, Cursor(1, 1), Cursor(2, 1), Cursor(3, 1)):
            before = await world.log.read(hold.stream, lost)
            assert before is not None
            assert (before.is_continuous, before.entries) == (False, ())
        assert await read_payloads(world, hold.stream, Cursor(4, 1)) == [
            b"5",
            b"6",
        ]  # who had 4 directly missed nothing
        assert await read_payloads(world, hold.stream, Cursor(5, 1)) == [b"6"]
        assert await world.log.append(hold, 7, [b"7"]) == AppendResult(Appended.OK, 7)


@proves("LOG-3")
async def test_a_log_that_is_gone_is_told_so(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        assert await world.log.append(hold, 1, [b"1"]) == AppendResult(Appended.LOST, 0)
        assert await world.log.read(hold.stream, START) is None
        assert not await world.log.finish(hold)
        assert not await world.log.release(hold)
        assert await world.log.keep([hold.stream]) == {hold.stream}


@proves("LOG-4")
async def test_a_cursor_that_is_no_event_of_the_log_is_told_so(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1", b"2"])
        for strange in (Cursor(3, 1), Cursor(99, 1), Cursor(2, 7), Cursor(0, 1)):
            reading = await world.log.read(hold.stream, strange)
            assert reading is not None
            assert (reading.is_continuous, reading.entries, reading.head) == (False, (), Cursor(2, 1))


@proves("LOG-1")
async def test_a_reading_is_bounded_in_events_and_bytes_and_never_empty_where_there_is_more(
    open_world: OpenWorld,
) -> None:
    async with open_world(BOUNDS) as world:
        hold, events = new_hold(), [b"%04d" % n * 100 for n in range(100)]
        await world.log.create(hold, FACTS, events)
        some = await world.log.read(hold.stream, START, limit_events=7)
        assert some is not None
        assert [entry.payload for entry in some.entries] == events[:7]
        tiny = await world.log.read(hold.stream, Cursor(7, 1), limit_bytes=1)
        assert tiny is not None
        assert [entry.payload for entry in tiny.entries] == events[7:8]
        larger = await world.log.read(hold.stream, Cursor(8, 1), limit_bytes=2000)
        assert larger is not None
        assert [entry.payload for entry in larger.entries] in (events[8:13], events[8:14])
        assert await read_payloads(world, hold.stream, Cursor(8, 1)) == events[8:]


@proves("LOG-5")
async def test_a_final_append_finishes_the_stream(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        await world.log.create(hold, FACTS, [b"1"])
        for _ in range(2):
            assert await world.log.append(hold, 2, [b"2"], is_final=True) == AppendResult(Appended.OK, 2)
        reading = await world.log.read(hold.stream, START, limit_events=1)
        assert reading is not None
        assert (reading.state, reading.is_at_end) == (State.FINISHED, False)
        rest = await world.log.read(hold.stream, Cursor(1, 1))
        assert rest is not None
        assert rest.is_at_end
        end = await world.log.read(hold.stream, Cursor(2, 1))
        assert end is not None
        assert end.is_at_end
        assert await world.log.append(hold, 3, [b"3"]) == AppendResult(Appended.FENCED, 2)
        assert await world.log.append(hold, 3, [], upstream_cursor=b"x") == AppendResult(Appended.FENCED, 2)


@proves("LOG-5")
async def test_a_stream_may_end_without_an_event_and_says_how(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        for state in (State.FINISHED, State.LOST):
            hold = new_hold()
            await world.log.create(hold, FACTS, [b"1"])
            assert await world.log.finish(hold, state)
            assert not await world.log.finish(hold, state)
            reading = await world.log.read(hold.stream, Cursor(1, 1))
            assert reading is not None
            assert (reading.state, reading.is_at_end) == (state, True)


@proves("LOG-5")
async def test_a_stream_may_begin_finished(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        hold = new_hold()
        assert await world.log.create(hold, FACTS, [b"1"], is_final=True) == AppendResult(Appended.OK, 1)
        reading = await world.log.read(hold.stream, START)
        assert reading is not None
        assert reading.state is State.FINISHED


@proves("LOG-1")
async def test_two_streams_know_nothing_of_each_other(open_world: OpenWorld) -> None:
    async with open_world(BOUNDS) as world:
        one, other = new_hold(), new_hold(BOB)
        await world.log.create(one, FACTS, [b"one"])
        await world.other.log.create(other, msgspec.structs.replace(FACTS, backend="math"), [b"other"])
        await world.log.append(one, 2, [b"one"], is_final=True)
        reading = await world.log.read(other.stream, START)
        assert reading is not None
        assert (reading.state, reading.facts.backend) == (State.OPEN, "math")
        assert await read_payloads(world, other.stream) == [b"other"]
        assert await world.log.keep([one.stream, other.stream, (gone := new_name())]) == {gone}
