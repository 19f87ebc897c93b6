"""Redis that moves: behind Sentinel, and within a cluster. What it acknowledged and lost is told, never passed over."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.policy.streams import Appended, AppendResult, LogAway, Trouble
from gateway.protocol.cursors import START, Cursor
from gateway.state.routers import SLOTS
from tests.contract.worlds import ALICE, FACTS, new_hold
from tests.redis.rooms import Witness, open_room, repeat, see_server
from tests.redis.sentinels import Watched
from tests.redis.servers import HOST, Cluster, RedisServer, running
from tests.redis.waiting import until
from tests.requirements import proves


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@proves("REDIS-1")
async def test_a_cluster_of_which_nobody_answers_is_away() -> None:
    witness = Witness()
    with socket.socket() as silent:  # it has the port, and doesn't listen
        silent.bind((HOST, 0))
        async with open_room(f"redis+cluster://{HOST}:{silent.getsockname()[1]}", witness) as room:
            with pytest.raises(LogAway):
                await room.heartbeats.beat(ALICE)
            await witness.wait_for("away")
            (ailment,) = room.ailments()
        assert (ailment.node, ailment.trouble) == ("cluster", Trouble.AWAY)


@proves("REDIS-2", "REDIS-3")
async def test_appends_go_on_at_the_primary_that_sentinel_names(watched: Watched) -> None:
    witness = Witness()
    async with open_room(watched.url, witness) as room:
        hold = new_hold()
        assert await repeat(lambda: room.log.create(hold, FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
        before = await see_server(room)
        await asyncio.to_thread(until, lambda: watched.replica.tell("DBSIZE") == 2)
        await asyncio.to_thread(watched.primary.kill)
        assert await repeat(lambda: room.log.append(hold, 2, [b"2"])) == AppendResult(Appended.OK, 2)
        assert await see_server(room) not in ("", before)
        assert watched.replica.tell("ROLE")[0] in (b"master", "master")
        reading = await room.log.read(hold.stream, START)
        assert reading is not None
        assert [entry.payload for entry in reading.entries] == [b"1", b"2"]
        assert "no longer away" in witness.troubles


@proves("REDIS-2", "LOG-3", "LOG-4")
async def test_writes_that_a_failover_lost_are_a_hole_and_their_cursors_are_told_so(watched: Watched) -> None:
    async with open_room(watched.url) as room:
        hold = new_hold()
        assert await repeat(lambda: room.log.create(hold, FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
        await asyncio.to_thread(until, lambda: watched.replica.tell("DBSIZE") == 2)
        watched.cut_off()
        assert await room.log.append(hold, 2, [b"2", b"3"]) == AppendResult(Appended.OK, 3)
        watched.primary.kill()
        assert await repeat(lambda: room.log.append(hold, 4, [b"4"])) == AppendResult(Appended.HOLE, 1)
        lost = await room.log.read(hold.stream, Cursor(3, 1))
        assert lost is not None
        assert not lost.is_continuous
        # The pump that still has them fills the hole; without them it would go on across it.
        assert await room.log.append(hold, 2, [b"2", b"3", b"4"]) == AppendResult(Appended.OK, 4)
        rest = await room.log.read(hold.stream, Cursor(3, 1))
        assert rest is not None
        assert (rest.is_continuous, [entry.payload for entry in rest.entries]) == (True, [b"4"])


@proves("REDIS-2")
async def test_a_sentinel_that_is_silent_is_passed_over(watched: Watched) -> None:
    async with open_room(watched.url) as room:
        watched.sentinels[0].pause()
        hold = new_hold()
        assert await repeat(lambda: room.log.create(hold, FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
        watched.sentinels[0].resume()


@proves("REDIS-2", "REDIS-3")
async def test_a_cluster_whose_node_dies_goes_on_at_its_replica_and_elsewhere_all_the_while(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, replicas=3)
    with running(*cluster.nodes):
        await asyncio.to_thread(cluster.join, until)
        witness = Witness()
        async with open_room(cluster.url, witness) as room:
            holds = [new_hold() for _ in range(30)]
            for hold in holds:
                assert await repeat(lambda hold=hold: room.log.create(hold, FACTS, [b"1"])) == AppendResult(
                    Appended.OK, 1
                )  # type: ignore[misc]
            written = sum(node.tell("DBSIZE") for node in cluster.nodes[:3])
            await asyncio.to_thread(until, lambda: sum(node.tell("DBSIZE") for node in cluster.nodes[3:]) == written)
            await asyncio.to_thread(cluster.nodes[0].kill)
            results = await asyncio.gather(*(room.log.append(hold, 2, [b"2"]) for hold in holds))
            assert {result.outcome for result in results} == {Appended.OK, Appended.AWAY}
            for hold in holds:
                assert await repeat(lambda hold=hold: room.log.append(hold, 2, [b"2"])) == AppendResult(Appended.OK, 2)  # type: ignore[misc]
                reading = await room.log.read(hold.stream, START)
                assert reading is not None
                assert [entry.payload for entry in reading.entries] == [b"1", b"2"]
            assert (room.ailments(), witness.troubles[-1]) == ([], "no longer away")


@proves("REDIS-2")
async def test_a_slot_that_moves_takes_its_streams_along(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with running(*cluster.nodes):
        await asyncio.to_thread(cluster.join, until)
        async with open_room(cluster.url) as room:
            hold = new_hold()
            assert await repeat(lambda: room.log.create(hold, FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
            slot = int(cluster.nodes[0].tell("CLUSTER", "KEYSLOT", f"{{{hold.stream}}}"))
            source = cluster.nodes[min(slot * 3 // SLOTS, 2)]
            if not source.tell("CLUSTER", "COUNTKEYSINSLOT", slot):
                source = next(node for node in cluster.nodes if node.tell("CLUSTER", "COUNTKEYSINSLOT", slot))
            target = next(node for node in cluster.nodes if node is not source)
            ids = [_text(node.tell("CLUSTER", "MYID")) for node in (source, target)]
            target.tell("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            source.tell("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            keys = [_text(key) for key in source.tell("CLUSTER", "GETKEYSINSLOT", slot, 10)]
            source.tell("MIGRATE", HOST, target.port, keys[0], 0, 5000)
            # Half of it is here, half there: nothing can be said now, and nothing is done.
            assert (await room.log.append(hold, 2, [b"2"])).outcome is Appended.AWAY
            source.tell("MIGRATE", HOST, target.port, keys[1], 0, 5000)
            assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.OK, 2)  # by an ASK
            for node in (target, source):
                node.tell("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            assert await room.log.append(hold, 3, [b"3"]) == AppendResult(Appended.OK, 3)  # by a MOVED
            reading = await room.log.read(hold.stream, START)
            assert reading is not None
            assert [entry.payload for entry in reading.entries] == [b"1", b"2", b"3"]


@proves("REDIS-3")
async def test_a_cluster_asked_as_a_single_server_says_what_to_write(redis_cluster: Cluster) -> None:
    async with open_room(redis_cluster.nodes[0].url) as room:
        refused = []
        for _ in range(30):
            try:
                await room.log.release(new_hold())
            except LogAway as away:
                refused.append(str(away))
        assert set(refused) == {"refused: this is a node of a cluster: use redis+cluster://"}


@proves("REDIS-2")
async def test_a_cluster_that_is_nowhere_is_away_and_found_when_it_comes(
    redis_cluster: Cluster, tmp_path: Path
) -> None:
    nowhere = RedisServer(tmp_path)
    async with open_room(f"redis+cluster://{HOST}:{nowhere.port}") as room:
        for _ in range(3):
            assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.AWAY)
    async with open_room(f"redis+cluster://{HOST}:{nowhere.port},{HOST}:{redis_cluster.nodes[1].port}") as room:
        assert await repeat(lambda: room.log.create(new_hold(), FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
