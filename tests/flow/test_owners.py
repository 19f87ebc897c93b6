"""Who is gone: heartbeats as one worker sees them, also for followers that come and go."""

from collections.abc import Collection

from gateway.exchange.owners import LINGER_TTLS, Owners
from gateway.policy.streams import LogAway, Owner, Sighting, Trouble
from tests.requirements import proves

ME, DEAD = Owner("me"), Owner("dead")
TTL_SECONDS = 6.0


class Watch:
    """A worker that looks every two seconds, at a world where everybody else is dead."""

    def __init__(self) -> None:
        self.now = 100.0
        self.is_away = False
        self.looked: list[list[Owner]] = []
        self.owners = Owners(self, ME, TTL_SECONDS, lambda: self.now)

    async def beat(self, owner: Owner) -> None:
        assert owner == ME

    async def look(self, owners: Collection[Owner]) -> Sighting:
        self.looked.append(list(owners))
        if self.is_away:
            raise LogAway(Trouble.AWAY)
        return Sighting("server", frozenset(owners))

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 2)):
            await self.owners._turn()
            self.now += 2


@proves("BEAT-2")
async def test_a_follower_is_rung_when_its_owner_has_been_absent_for_a_ttl() -> None:
    watch, rings = Watch(), list[float]()
    watch.owners.follow(DEAD, lambda: rings.append(watch.now))
    await watch.pass_time(6)
    assert (rings, watch.owners.is_gone(DEAD)) == ([], False)
    await watch.pass_time(2)
    assert (rings, watch.owners.is_gone(DEAD)) == ([106.0], True)


@proves("BEAT-2")
async def test_an_outage_begins_the_wait_anew() -> None:
    watch = Watch()
    watch.owners.follow(DEAD, lambda: None)
    await watch.pass_time(6)
    watch.is_away = True
    await watch.pass_time(2)
    watch.is_away = False
    await watch.pass_time(6)
    assert not watch.owners.is_gone(DEAD)
    await watch.pass_time(2)
    assert watch.owners.is_gone(DEAD)


async def test_clients_without_patience_do_not_begin_the_wait_anew() -> None:
    watch = Watch()
    for _ in range(4):
        leave = watch.owners.follow(DEAD, lambda: None)
        await watch.pass_time(2)
        leave()
    assert watch.owners.is_gone(DEAD)


async def test_who_has_no_followers_is_looked_at_no_longer_in_the_end() -> None:
    watch = Watch()
    watch.owners.follow(DEAD, lambda: None)()
    await watch.pass_time(LINGER_TTLS * TTL_SECONDS)
    assert watch.looked[-1] == [DEAD]
    await watch.pass_time(4)
    assert watch.looked[-1] == []


async def test_nobody_doubts_himself() -> None:
    watch = Watch()
    watch.owners.follow(ME, lambda: None)
    await watch.pass_time(20)
    assert not watch.owners.is_gone(ME)
    assert watch.looked[-1] == []
