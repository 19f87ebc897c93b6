"""What an aggregate asks of the same cache: results, not replies; and how a change travels."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from gateway.exchange.caches import Caches
from gateway.policy.backends import Backend
from gateway.policy.caches import Asker, CacheOutcome
from gateway.policy.streams import LogAway, Trouble
from gateway.protocol.changes import Change
from gateway.protocol.outcomes import Failed, Outcome
from gateway.state.invalidations import MemoryInvalidations
from gateway.state.wakes import Bells
from tests.fakes import BOUND_SECONDS, ECHO, NOW, FakeTelemetry, World
from tests.flow.scenes import let_others_run
from tests.requirements import proves

ALICE, BOB = Asker("alice"), Asker("bob")
TRUSTED = msgspec.structs.replace(ECHO, trust_public=True)
PRIVATE = b'{"tools":[],"ttlMs":5000,"cacheScope":"private"}'
PUBLIC = b'{"tools":[],"ttlMs":5000,"cacheScope":"public"}'


def giving(result: bytes, count: list[bytes] | None = None) -> Callable[[], Awaitable[bytes]]:
    async def fetch() -> bytes:
        if count is not None:
            count.append(result)
        return result

    return fetch


async def failing() -> bytes:
    raise Failed(Outcome.BROKEN, "reset")


@proves("CACHE-3")
async def test_a_result_is_fetched_once_and_told_with_what_is_left_of_its_time() -> None:
    world = World()
    asked: list[bytes] = []
    first = await world.caches.ask(ECHO, ALICE, "tools/list", b"{}", giving(PRIVATE, asked))
    world.now = NOW + 1
    second = await world.caches.ask(ECHO, ALICE, "tools/list", b"{}", giving(PRIVATE, asked))
    assert (first.result, *first[1:]) == (PRIVATE, 5000, "private", CacheOutcome.MISS)
    assert (second.result, *second[1:]) == (PRIVATE.replace(b"5000", b"4000"), 4000, "private", CacheOutcome.HIT)
    assert len(asked) == 1
    assert world.telemetry.cached == [("echo", CacheOutcome.MISS), ("echo", CacheOutcome.HIT)]


async def test_what_is_not_to_be_kept_is_told_so() -> None:
    told = await World().caches.ask(ECHO, ALICE, "tools/list", b"{}", giving(b'{"tools":[]}'))
    assert (told.result, *told[1:]) == (b'{"tools":[]}', 0, "private", CacheOutcome.UNKEPT)


@proves("CACHE-4")
@pytest.mark.parametrize(
    ("backend", "result", "asker", "outcome"),
    [
        (TRUSTED, PUBLIC, BOB, CacheOutcome.HIT),
        (TRUSTED, PRIVATE, BOB, CacheOutcome.MISS),
        (ECHO, PUBLIC, BOB, CacheOutcome.MISS),
        (TRUSTED, PUBLIC, Asker("bob", credential="token"), CacheOutcome.MISS),
        (TRUSTED, PUBLIC, Asker("bob", is_filtered=True), CacheOutcome.MISS),
        (ECHO, PUBLIC, ALICE, CacheOutcome.HIT),
    ],
)
async def test_another_gets_it_only_where_it_is_everybodys(
    backend: Backend, result: bytes, asker: Asker, outcome: CacheOutcome
) -> None:
    caches = World().caches
    await caches.ask(backend, ALICE, "tools/list", b"{}", giving(result))
    assert (await caches.ask(backend, asker, "tools/list", b"{}", giving(result))).outcome is outcome


@proves("CACHE-4")
async def test_what_one_got_by_a_credential_of_its_own_is_nobody_elses() -> None:
    caches = World().caches
    await caches.ask(TRUSTED, Asker("alice", credential="token"), "tools/list", b"{}", giving(PUBLIC))
    assert (await caches.ask(TRUSTED, ALICE, "tools/list", b"{}", giving(PUBLIC))).outcome is CacheOutcome.MISS


@proves("CACHE-5")
async def test_a_failure_is_told_to_who_asked_and_to_nobody_else() -> None:
    caches = World().caches
    with pytest.raises(Failed, match="reset"):
        await caches.ask(ECHO, ALICE, "tools/list", b"{}", failing)
    assert (await caches.ask(ECHO, ALICE, "tools/list", b"{}", giving(PRIVATE))).outcome is CacheOutcome.MISS


@proves("CACHE-5")
async def test_who_waited_too_long_asks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.caches.PATIENCE_SECONDS", 0.0)
    caches, never = World().caches, asyncio.Event()

    async def hang() -> bytes:
        await never.wait()
        return PRIVATE

    leader = asyncio.create_task(caches.ask(ECHO, ALICE, "tools/list", b"{}", hang))
    await let_others_run()
    assert (await caches.ask(ECHO, ALICE, "tools/list", b"{}", giving(PRIVATE))).outcome is CacheOutcome.MISS
    never.set()
    await leader


class Workers:
    """Two of them, and what they tell each other by."""

    def __init__(self) -> None:
        invalidations = MemoryInvalidations(Bells())
        self.one, self.other = (Caches(FakeTelemetry(), lambda: NOW, invalidations) for _ in range(2))


@proves("CACHE-6")
async def test_a_change_that_one_worker_sees_drops_the_entry_of_the_other() -> None:
    workers = Workers()
    for method in ("tools/list", "prompts/list"):
        await workers.other.ask(ECHO, ALICE, method, b"{}", giving(PRIVATE))
    await workers.one.invalidate("echo", Change.TOOLS)
    assert len(workers.other) == 1
    assert (await workers.other.ask(ECHO, ALICE, "prompts/list", b"{}", failing)).outcome is CacheOutcome.HIT


@proves("CACHE-6")
async def test_a_change_elsewhere_spoils_what_is_on_its_way_here() -> None:
    workers, answer = Workers(), asyncio.Event()

    async def fetch() -> bytes:
        await answer.wait()
        return PRIVATE

    asking = asyncio.create_task(workers.other.ask(ECHO, ALICE, "tools/list", b"{}", fetch))
    await let_others_run()
    await workers.one.invalidate("echo", Change.TOOLS)
    answer.set()
    assert (await asking).outcome is CacheOutcome.UNKEPT
    assert len(workers.other) == 0


class Deaf:
    """`Invalidations` that are away for `failures` tellings; each waits to be let go."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.told: list[str] = []
        self.go_on = asyncio.Event()
        self.heard = asyncio.Event()

    async def tell(self, name: str) -> None:
        self.told.append(name)
        await self.go_on.wait()
        if self.failures:
            self.failures -= 1
            raise LogAway(Trouble.AWAY, "away")
        self.heard.set()

    def hear(self, name: str, take: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


@proves("CACHE-6")
async def test_many_changes_at_once_are_told_twice_at_most() -> None:
    deaf = Deaf()
    caches = Caches(FakeTelemetry(), lambda: NOW, deaf)
    for _ in range(100):
        caches.note_change("echo", Change.TOOLS)
    await let_others_run()
    caches.note_change("echo", Change.TOOLS)
    deaf.go_on.set()
    await caches.invalidate("echo", Change.PROMPTS)
    await let_others_run()
    assert sorted(deaf.told) == ["changed prompts echo", "changed tools echo", "changed tools echo"]


@proves("CACHE-6")
async def test_a_change_is_told_as_soon_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.tidings._REST_SECONDS", (0.0,))
    deaf = Deaf(failures=3)
    deaf.go_on.set()
    caches = Caches(FakeTelemetry(), lambda: NOW, deaf)
    caches.note_change("echo", Change.TOOLS)
    await asyncio.wait_for(deaf.heard.wait(), BOUND_SECONDS)
    assert deaf.told == ["changed tools echo"] * 4
    await caches.tidings.close()


async def test_who_closes_tells_nobody_any_more() -> None:
    deaf = Deaf()
    caches = Caches(FakeTelemetry(), lambda: NOW, deaf)
    caches.note_change("echo", Change.TOOLS)
    await let_others_run()
    await asyncio.wait_for(caches.tidings.close(), BOUND_SECONDS)
    assert not deaf.heard.is_set()
