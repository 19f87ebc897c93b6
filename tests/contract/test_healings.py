"""`Healings`: a forgotten session is healed by one of all workers, and the others are told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.policy.streams import Bounds
from gateway.ports import Healings, Remedy
from gateway.state.healings import MemoryHealings, RedisHealings
from gateway.state.rooms import RedisRoom
from tests.contract.conftest import OpenWorld
from tests.contract.worlds import new_session
from tests.requirements import proves


@asynccontextmanager
async def two_workers(open_world: OpenWorld) -> AsyncIterator[tuple[Healings, Healings]]:
    async with open_world(Bounds()) as world:
        if isinstance(world.room, RedisRoom) and isinstance(world.other, RedisRoom):
            yield RedisHealings(world.room.store), RedisHealings(world.other.store)
        else:
            shared = MemoryHealings()
            yield shared, shared


@proves("HEAL-2")
async def test_one_worker_heals_and_the_others_wait_for_it(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as (one, other):
        session = new_session()
        assert await one.begin(session, b"", "claim-1") == Remedy("mine")
        assert await other.begin(session, b"", "claim-2") == Remedy("busy")
        await one.end(session, "claim-1", b"up-8")
        assert await other.begin(session, b"", "claim-2") == Remedy("known", b"up-8")


@proves("HEAL-2")
async def test_what_has_failed_is_healed_anew(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as (one, other):
        session = new_session()
        await one.begin(session, b"", "claim-1")
        await one.end(session, "claim-1", b"up-8")
        assert await other.begin(session, b"up-8", "claim-2") == Remedy("mine")
        await other.end(session, "claim-2", b"up-9")
        assert await one.begin(session, b"up-8", "claim-3") == Remedy("known", b"up-9")


@proves("HEAL-2")
async def test_healing_in_vain_leaves_it_to_the_next(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as (one, other):
        session = new_session()
        await one.begin(session, b"", "claim-1")
        await one.end(session, "claim-1", b"")
        assert await other.begin(session, b"", "claim-2") == Remedy("mine")


@proves("HEAL-2")
@pytest.mark.parametrize("claim", ["claim-2", ""])
async def test_who_has_no_claim_changes_nothing(open_world: OpenWorld, claim: str) -> None:
    async with two_workers(open_world) as (one, other):
        session = new_session()
        await one.begin(session, b"", "claim-1")
        await other.end(session, claim, b"forged")
        assert await other.begin(session, b"", "claim-3") == Remedy("busy")


@proves("HEAL-2")
async def test_sessions_are_healed_apart(open_world: OpenWorld) -> None:
    async with two_workers(open_world) as (one, other):
        await one.begin(new_session(), b"", "claim-1")
        assert await other.begin(new_session(), b"", "claim-2") == Remedy("mine")
