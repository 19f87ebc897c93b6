"""A room's other doors: TLS, what it finds at the start, and that nothing is left behind when it closes."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from gateway.policy.streams import Appended, AppendResult, Bounds, Refusal
from gateway.protocol.cursors import START
from gateway.state.rooms import RedisRoom
from gateway.state.seals import Keyring
from gateway.state.targets import parse_target
from tests.contract.worlds import ALICE, FACTS, new_hold, new_session
from tests.redis.proxies import Proxy
from tests.redis.rooms import Witness, open_room, repeat
from tests.redis.servers import Cluster, RedisServer
from tests.redis.waiting import until
from tests.requirements import proves


@proves("REDIS-3")
async def test_a_redis_behind_tls_is_verified(redis_server: RedisServer, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Proxy(redis_server.address, context) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}?ca_file={tmp_path}"
        async with open_room(f"{url}/ca.pem") as room:
            hold = new_hold()
            assert await repeat(lambda: room.log.create(hold, FACTS, [b"1"])) == AppendResult(Appended.OK, 1)
        async with open_room(f"{url}/other.pem") as room:
            assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.AWAY)


@proves("REDIS-4")
@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
async def test_a_redis_tells_whether_it_evicts(own_redis: RedisServer, policy: str) -> None:
    own_redis.tell("CONFIG", "SET", "maxmemory-policy", policy)
    async with open_room(own_redis.url) as room:
        (report,) = await room.inspect()
        assert (report.policy, report.troubles) == (policy, ())
        assert report.name == f"127.0.0.1:{own_redis.port}"


@proves("REDIS-4")
async def test_a_redis_that_does_not_tell_is_no_failure(own_redis: RedisServer) -> None:
    own_redis.tell("ACL", "SETUSER", "managed", "on", ">pw", "~*", "&*", "+@all", "-config", "-info")
    async with open_room(f"redis://managed:pw@127.0.0.1:{own_redis.port}") as room:
        (report,) = await room.inspect()
        assert (report.policy, report.share) == ("", 0.0)
        assert (await room.heartbeats.look([ALICE])).absent == {ALICE}
        assert await room.log.create(new_hold(), FACTS, [b"1"]) == AppendResult(Appended.OK, 1)


@proves("REDIS-4")
async def test_every_primary_of_a_cluster_is_inspected(redis_cluster: Cluster) -> None:
    async with open_room(redis_cluster.url) as room:
        await room.log.create(new_hold(), FACTS, [b"1"])
        reports = await room.inspect()
        assert sorted(report.name for report in reports) == sorted(
            f"127.0.0.1:{node.port}" for node in redis_cluster.nodes
        )
        assert {report.policy for report in reports} == {"noeviction"}


@proves("LOG-9")
async def test_redis_holds_no_secret_in_plain(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"the-result"], upstream_cursor=b"the-cursor", request=b"the-request")
        stored = b"".join(own_redis.tell("DUMP", f"mcpgw:1:{kind}:{{{hold.stream}}}") for kind in ("log", "facts"))
        for secret in (b"the-result", b"the-cursor", b"the-request", b"upstream-secret", b"alice", b"echo", b"req-1"):
            assert (secret in stored) is (secret == b"alice")  # the owner's name, a random one, is no person's


@proves("LOG-9")
async def test_keys_are_rotated_under_a_stream_and_what_a_dropped_one_sealed_is_lost(own_redis: RedisServer) -> None:
    old, new = b"old-" * 8, b"new-" * 8
    ring = Keyring([old, new])
    async with RedisRoom(parse_target(own_redis.url), ring) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        ring.change([new, old])
        await room.log.append(hold, 2, [b"2"])
        reading = await room.log.read(hold.stream, START)
        assert reading is not None
        assert [entry.payload for entry in reading.entries] == [b"1", b"2"]
        ring.change([new])
        assert await room.log.read(hold.stream, START) is None
        assert await room.log.take_over(hold.stream, 1, ALICE) is Refusal.LOST


@proves("LOG-9")
async def test_entries_that_were_swapped_are_a_lost_log(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        one, other = new_hold(), new_hold()
        for hold in (one, other):
            await room.log.create(hold, FACTS, [b"1", b"2"])
        log = f"mcpgw:1:log:{{{one.stream}}}"
        entries = own_redis.tell("XRANGE", f"mcpgw:1:log:{{{other.stream}}}", "-", "+")
        own_redis.tell("DEL", log)
        for entry_id, fields in entries:
            own_redis.tell("XADD", log, entry_id, "p", fields[b"p"])
        own_redis.tell("EXPIRE", log, 100)
        assert await room.log.read(one.stream, START) is None


@proves("LOG-7")
async def test_every_key_expires_and_carries_its_format(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold, session = new_hold(), new_session()
        await room.log.create(hold, FACTS, [b"1"], request=b"r")
        await room.marks.mark_ended(session, b"1")
        await room.marks.mark_ended(session, None)
        await room.marks.join(session, hold.stream)
        await room.heartbeats.beat(ALICE)
    keys = sorted(own_redis.tell("KEYS", "*"))
    assert len(keys) == 6
    assert {key.split(b":")[0:2] == [b"mcpgw", b"1"] for key in keys} == {True}
    assert all(own_redis.tell("PTTL", key) > 0 for key in keys)
    own_redis.pass_time(1000)
    assert own_redis.tell("DBSIZE") == 0


@proves("LOG-1")
async def test_an_append_is_one_command_and_one_round_trip_however_many_events(own_redis: RedisServer) -> None:
    witness = Witness()
    async with open_room(own_redis.url, witness) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        await room.log.append(hold, 2, [b"2"])  # from now on Redis knows the script
        before = own_redis.tell("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
        for batch in range(10):
            await room.log.append(hold, 3 + 10 * batch, [b"x"] * 10)
        stats = own_redis.tell("INFO", "commandstats")
        assert stats["cmdstat_evalsha"]["calls"] - before == 10
        assert stats["cmdstat_eval"]["calls"] == 2
    assert witness.commands == ["create", *["append"] * 11]


@proves("REDIS-2")
async def test_a_room_leaves_no_connection_and_no_task(own_redis: RedisServer) -> None:
    tasks = asyncio.all_tasks()
    for _ in range(3):
        async with open_room(own_redis.url) as room:
            leave = room.log.wake(new_hold().stream, lambda: None)
            await room.log.create(new_hold(), FACTS, [b"1"])
            leave()
        assert asyncio.all_tasks() == tasks
    await asyncio.to_thread(until, lambda: b"name=mcp-gateway" not in own_redis.tell("CLIENT", "LIST"))


@proves("LOG-3")
async def test_a_log_whose_events_are_gone_is_lost_though_its_facts_are_there(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url) as room:
        hold = new_hold()
        await room.log.create(hold, FACTS, [b"1"])
        own_redis.tell("DEL", f"mcpgw:1:log:{{{hold.stream}}}")
        assert await room.log.read(hold.stream, START) is None
        assert await room.log.append(hold, 2, [b"2"]) == AppendResult(Appended.LOST, 0)
        assert await room.log.take_over(hold.stream, 1, ALICE) is Refusal.LOST
        assert own_redis.tell("EXISTS", f"mcpgw:1:log:{{{hold.stream}}}") == 0


@proves("LOG-6")
async def test_nothing_is_kept_that_nobody_can_ask_for(own_redis: RedisServer) -> None:
    async with open_room(own_redis.url, bounds=Bounds(events=32)) as room:
        hold = new_hold()
        log, facts = f"mcpgw:1:log:{{{hold.stream}}}", f"mcpgw:1:facts:{{{hold.stream}}}"
        await room.log.create(hold, FACTS, [b"1", b"2"], request=b"request")
        await room.log.append(hold, 10, [b"10"], is_across_hole=True)
        assert own_redis.tell("XLEN", log) == 1
        await room.log.append(hold, 11, [b"x"] * 40)
        assert own_redis.tell("XLEN", log) == 30
        assert own_redis.tell("HEXISTS", facts, "q") == 1
        await room.log.append(hold, 51, [b"51"], is_final=True)
        assert own_redis.tell("HEXISTS", facts, "q") == 0
        other = new_hold()
        await room.log.create(other, FACTS, [b"1"], request=b"request")
        await room.log.finish(other)
        assert own_redis.tell("HEXISTS", f"mcpgw:1:facts:{{{other.stream}}}", "q") == 0
