"""One Redis that suffers: what each fault is called, and that nothing is lost or doubled when it passes."""

import asyncio
from pathlib import Path

import pytest

from gateway.policy.streams import Appended, AppendResult, Bounds, LogAway, Takeover, Trouble
from gateway.protocol.cursors import START, Cursor
from gateway.state.rooms import RedisRoom
from tests.contract.worlds import ALICE, BOB, FACTS, new_hold, new_session
from tests.redis.proxies import Proxy
from tests.redis.rooms import Witness, open_room, repeat, see_server
from tests.redis.servers import WITH_DATA, RedisServer, free_port, make_server, running
from tests.requirements import proves


async def read_all(room: RedisRoom, stream: object) -> list[bytes]:
    reading = await room.log.read(stream, START)  # type: ignore[arg-type]
    assert reading is not None
    assert reading.is_continuous
    return [entry.payload for entry in reading.entries]


@proves("REDIS-2")
async def test_an_append_that_was_applied_while_its_answer_was_lost_is_repeated_without_harm(
    own_redis: RedisServer,
) -> None:
    async with Proxy(own_redis.address) as proxy, open_room(proxy.url) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        proxy.withhold()
        asked = asyncio.ensure_future(room.log.append(hold, 2, [b"2", b"3"], upstream_cursor=b"up-3"))
        await proxy.wait_withheld()
        assert await asked == AppendResult(Appended.AWAY)
        proxy.cut()
        proxy.let_pass()
        again = await repeat(lambda: room.log.append(hold, 2, [b"2", b"3"], upstream_cursor=b"up-3"))
        assert again == AppendResult(Appended.OK, 3)
        assert await read_all(room, hold.stream) == [b"1", b"2", b"3"]


@proves("REDIS-2")
async def test_a_connection_that_is_cut_costs_nothing_but_a_new_one(own_redis: RedisServer) -> None:
    witness = Witness()
    async with Proxy(own_redis.address) as proxy, open_room(proxy.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        for seq in range(2, 12):
            proxy.cut()
            assert await room.log.append(hold, seq, [b"x"]) == AppendResult(Appended.OK, seq)
        assert (witness.troubles, witness.failures) == ([], [])


@proves("REDIS-2")
async def test_a_takeover_whose_answer_was_lost_is_not_lost_itself(own_redis: RedisServer) -> None:
    async with Proxy(own_redis.address) as proxy, open_room(proxy.url) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        proxy.withhold()
        asked = asyncio.ensure_future(room.log.take_over(hold.stream, 1, BOB))
        await proxy.wait_withheld()
        proxy.cut()  # within the call's time: it is asked again, under the same epoch
        proxy.let_pass()
        taken = await asked
        assert isinstance(taken, Takeover)
        assert await room.log.append(taken.hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)


@proves("REDIS-1", "REDIS-2")
async def test_a_redis_that_is_stopped_is_away_and_comes_back(own_redis: RedisServer) -> None:
    witness = Witness()
    async with open_room(own_redis.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        own_redis.pause()
        assert room.ailments() == []
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.AWAY)
        assert witness.troubles == ["away"]
        (ailment,) = room.ailments()
        assert (ailment.trouble, ailment.detail) == (Trouble.AWAY, "no answer in time")
        sent = list(witness.commands)
        with pytest.raises(LogAway):
            await room.log.read(hold.stream, START)
        with pytest.raises(LogAway):
            await room.heartbeats.look([ALICE])
        with pytest.raises(LogAway):
            await room.marks.is_ended(new_session(), b"1")
        assert witness.commands == sent
        assert witness.failures == [(name, Trouble.AWAY) for name in ("append", "read", "look", "exists")]
        own_redis.resume()
        await witness.wait_for("no longer away")
        assert room.ailments() == []
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)
        assert await read_all(room, hold.stream) == [b"1", b"2"]


@proves("REDIS-1")
async def test_nobody_asks_a_redis_that_is_away_but_the_probe(own_redis: RedisServer) -> None:
    witness = Witness()
    async with Proxy(own_redis.address) as proxy, open_room(proxy.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        proxy.withhold()
        results = await asyncio.gather(*(room.log.append(hold, 2, [b"2"]) for _ in range(100)))
        assert set(results) == {AppendResult(Appended.AWAY)}
        for _ in range(100):
            assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.AWAY)
        assert witness.troubles == ["away"]
        proxy.let_pass()
        await witness.wait_for("no longer away")
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)
        assert proxy.connections < 20


@proves("REDIS-2")
async def test_a_redis_that_was_never_there_is_away_until_it_is(tmp_path: Path) -> None:
    server, witness = make_server(tmp_path), Witness()
    async with open_room(server.url, witness) as room:
        hold = new_hold()
        assert await room.log.create(hold, FACTS, [b"1"]) == AppendResult(Appended.AWAY)
        with running(server):
            assert await repeat(lambda: room.log.create(hold, FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
        assert "no longer away" in witness.troubles


@proves("REDIS-2")
async def test_a_redis_killed_in_the_middle_and_restarted_with_its_data_loses_nothing(tmp_path: Path) -> None:
    server = make_server(tmp_path, *WITH_DATA)
    with running(server):
        async with open_room(server.url) as room:
            hold, expected, went_on = new_hold(), [b"0"], asyncio.Event()
            await room.log.create(hold, FACTS, [b"0"])

            async def pump() -> None:
                for seq in range(2, 302):
                    expected.append(b"%d" % seq)
                    result = await repeat(lambda seq=seq: room.log.append(hold, seq, [b"%d" % seq]))  # type: ignore[misc]
                    assert result == AppendResult(Appended.OK, seq)
                    went_on.set()

            pumping = asyncio.ensure_future(pump())
            for _ in range(3):
                for _ in range(50):
                    went_on.clear()
                    await went_on.wait()
                server.kill()
                await asyncio.to_thread(server.start)
            await pumping
            assert await read_all(room, hold.stream) == expected


@proves("REDIS-2", "LOG-3")
async def test_a_redis_restarted_empty_has_lost_the_log_and_says_so(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold, session = new_hold(), new_session()
        await room.log.create(hold, FACTS, [b"1"])
        await room.marks.join(session, hold.stream)
        before = await see_server(room)
        own_redis.restart()
        assert await repeat(lambda: room.log.append(hold, 2, [b"2"])) == AppendResult(Appended.LOST, 0)
        assert await room.log.read(hold.stream, Cursor(1, 1)) is None
        assert await room.marks.standing(session) is None
        assert await see_server(room) != before
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.OK, 1)


@proves("REDIS-2")
async def test_a_read_only_redis_refuses_writes_answers_reads_and_is_itself_again(own_redis: RedisServer) -> None:
    witness = Witness()
    async with open_room(own_redis.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        own_redis.tell("CONFIG", "SET", "replica-serve-stale-data", "yes")
        own_redis.tell("REPLICAOF", "127.0.0.1", free_port())
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.AWAY)
        assert witness.troubles == ["read_only"]
        with pytest.raises(LogAway, match="read_only"):
            await room.log.release(hold)
        assert await read_all(room, hold.stream) == [b"1"]
        own_redis.tell("REPLICAOF", "NO", "ONE")
        assert await repeat(lambda: room.log.append(hold, 2, [b"2"])) == AppendResult(Appended.OK, 2)
        assert witness.troubles == ["read_only", "no longer read_only"]


@proves("REDIS-2", "LOG-8")
async def test_a_redis_out_of_memory_refuses_whole_appends_and_keeps_what_lives(own_redis: RedisServer) -> None:
    witness = Witness()
    async with open_room(own_redis.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        await room.heartbeats.beat(ALICE)
        await room.store.measure()
        own_redis.tell("CONFIG", "SET", "maxmemory", 1)
        assert await room.log.append(hold, 2, [b"2", b"3"], upstream_cursor=b"up") == AppendResult(Appended.FULL)
        assert await room.log.append(hold, 9, [b"9"], is_across_hole=True) == AppendResult(Appended.FULL)
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.FULL)
        assert witness.troubles == ["full"]
        await room.heartbeats.beat(ALICE)  # or a full Redis would make every worker look dead
        reading = await room.log.read(hold.stream, START)
        assert reading is not None
        assert (reading.head, reading.upstream_cursor, len(reading.entries)) == (Cursor(1, 1), b"", 1)
        own_redis.tell("CONFIG", "SET", "maxmemory", 0)
        assert await repeat(lambda: room.log.append(hold, 2, [b"2", b"3"])) == AppendResult(Appended.OK, 3)
        assert witness.troubles == ["full", "no longer full"]


@proves("LOG-8")
async def test_a_redis_nearly_full_begins_no_stream_and_lets_those_under_way_end(own_redis: RedisServer) -> None:
    own_redis.tell("SET", "ballast", "x" * 20_000_000, "EX", 1000)  # so that connections weigh little
    witness = Witness()
    async with open_room(own_redis.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        used = int(own_redis.tell("INFO", "memory")["used_memory"])
        own_redis.tell("CONFIG", "SET", "maxmemory", round(used / 0.86))  # 0.86 of it is 0.95 of what streams may have
        await room.store.measure()
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.FULL)
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)
        assert witness.troubles == ["full"]
        own_redis.tell("CONFIG", "SET", "maxmemory", 0)
        await room.store.measure()
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.OK, 1)


@proves("LOG-8")
async def test_a_fleet_over_its_budget_is_refused_more(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url, bounds=Bounds(budget_bytes=1_000_000)) as room:
        await room.store.measure()  # an empty Redis uses about that much
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.FULL)
    async with open_room(own_redis.url, bounds=Bounds(budget_bytes=100_000_000)) as room:
        await room.store.measure()
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.OK, 1)


@proves("REDIS-2")
async def test_a_redis_that_pauses_its_clients_is_away_and_does_what_it_was_asked_once(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        own_redis.tell("CLIENT", "PAUSE", 1500, "WRITE")
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.AWAY)
        assert await repeat(lambda: room.log.append(hold, 2, [b"2"])) == AppendResult(Appended.OK, 2)
        assert await room.log.append(hold, 3, [b"3"]) == AppendResult(Appended.OK, 3)
        assert await read_all(room, hold.stream) == [b"1", b"2", b"3"]


@proves("REDIS-2")
async def test_a_caller_that_gives_up_takes_nobody_elses_answer(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        holds = [new_hold() for _ in range(50)]
        await asyncio.gather(*(room.log.create(hold, FACTS, [hold.stream.encode()]) for hold in holds))
        for _ in range(20):
            given_up = [asyncio.ensure_future(room.log.read(hold.stream, START)) for hold in holds]
            await asyncio.sleep(0)
            for task in given_up[::2]:
                task.cancel()
            for hold, task in list(zip(holds, given_up, strict=True))[1::2]:
                reading = await task
                assert reading is not None
                assert reading.entries[0].payload == hold.stream.encode()


@proves("REDIS-2")
async def test_scripts_that_redis_forgot_are_told_again(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        for seq in range(2, 5):
            own_redis.tell("SCRIPT", "FLUSH")
            assert await room.log.append(hold, seq, [b"x"]) == AppendResult(Appended.OK, seq)


@proves("WAKE-1")
async def test_a_cut_of_the_wakes_rings_everybody_who_may_have_missed_something(own_redis: RedisServer) -> None:
    async with Proxy(own_redis.address) as proxy, open_room(proxy.url) as room:
        hold, bell = new_hold(), asyncio.Event()
        await room.log.create(hold, FACTS, [b"1"])
        leave = room.log.wake(hold.stream, bell.set)
        async with asyncio.timeout(20):
            await bell.wait()  # subscribed
            for _ in range(3):
                bell.clear()
                proxy.cut()
                await bell.wait()  # subscribed anew
        leave()


@proves("REDIS-1")
async def test_a_payload_of_megabytes_passes(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold, large = new_hold(), b"x" * 8_000_000
        await room.log.create(hold, FACTS, [b"1"])
        assert await room.log.append(hold, 2, [large]) == AppendResult(Appended.OK, 2)
        reading = await room.log.read(hold.stream, Cursor(1, 1))
        assert reading is not None
        assert reading.entries[0].payload == large


@proves("REDIS-2")
async def test_what_redis_refuses_for_another_reason_is_an_outage_with_its_reason(own_redis: RedisServer) -> None:
    own_redis.tell("ACL", "SETUSER", "limited", "on", ">pw", "~other:*", "+@all", "&*")
    witness = Witness()
    async with open_room(f"redis://limited:pw@127.0.0.1:{own_redis.port}", witness) as room:
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.AWAY)
        assert witness.failures == [("create", Trouble.REFUSED)]


@proves("REDIS-2")
async def test_wrong_credentials_are_an_outage(own_redis: RedisServer) -> None:
    witness = Witness()
    async with open_room(f"redis://nobody:wrong@127.0.0.1:{own_redis.port}", witness) as room:
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.AWAY)
        assert witness.troubles == ["away"]
