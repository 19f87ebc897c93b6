"""`Heartbeats`: who lives, as one server has it."""

from gateway.policy.streams import Bounds, Owner
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import ALICE, BOB
from tests.requirements import proves


@proves("BEAT-1")
async def test_a_heartbeat_is_seen_until_it_has_been_absent_for_its_ttl(open_world: OpenWorld) -> None:
    async with open_world(Bounds()) as world:
        await world.heartbeats.beat(ALICE)
        await world.heartbeats.beat(BOB)
        assert (await world.other.heartbeats.look([ALICE, BOB])).absent == frozenset()
        world.pass_time(4)
        await world.heartbeats.beat(ALICE)
        world.pass_time(4)
        assert (await world.other.heartbeats.look([ALICE, BOB])).absent == {BOB}
        world.pass_time(4)
        assert (await world.other.heartbeats.look([ALICE, BOB])).absent == {ALICE, BOB}


@proves("BEAT-1")
async def test_every_worker_sees_the_same_server(open_world: OpenWorld) -> None:
    async with open_world(Bounds()) as world:
        seen = {
            (await room.heartbeats.look([Owner(name)])).server for room in (world.room, world.other) for name in "abc"
        }
        assert len(seen) == 1
        assert seen != {""}


@proves("BEAT-1")
async def test_nobody_looked_for_is_nobody_absent(open_world: OpenWorld) -> None:
    async with open_world(Bounds()) as world:
        assert (await world.heartbeats.look([])).absent == frozenset()
