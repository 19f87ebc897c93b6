"""Who is gone: a simulation in which Redis and workers pause, restart and forget, and nobody who beats is ever gone."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.absences import Absence
from gateway.policy.streams import Owner, Sighting
from tests.requirements import proves

TTL = 6.0
ALICE, BOB = Owner("alice"), Owner("bob")


def look(absence: Absence, at: float, *absent: Owner, server: str = "one", took: float = 0.0) -> None:
    absence.see(Sighting(server, frozenset(absent)), at, at + took)


@proves("BEAT-2")
def test_an_owner_is_gone_after_a_whole_ttl_of_absence() -> None:
    absence = Absence(TTL)
    for at in (0.0, 2.0, 4.0):
        look(absence, at, ALICE)
        assert not absence.is_gone(ALICE)
    look(absence, 6.0, ALICE)
    assert absence.is_gone(ALICE)
    assert not absence.is_gone(BOB)
    assert absence.gone([ALICE, BOB]) == {ALICE}


@proves("BEAT-2")
def test_an_absence_counts_from_the_answer_to_the_asking() -> None:
    absence = Absence(TTL)
    for at in (0.0, 2.0, 4.0, 6.0):
        look(absence, at, ALICE, took=0.2)
    assert not absence.is_gone(ALICE)
    look(absence, 6.3, ALICE, took=0.2)
    assert absence.is_gone(ALICE)


@proves("BEAT-2")
def test_one_beat_ends_an_absence() -> None:
    absence = Absence(TTL)
    for at in (0.0, 2.0, 4.0):
        look(absence, at, ALICE)
    look(absence, 6.0)
    for at in (8.0, 10.0, 12.0):
        look(absence, at, ALICE)
    assert not absence.is_gone(ALICE)


@proves("BEAT-2")
def test_an_outage_restarts_the_wait() -> None:
    absence = Absence(TTL)
    for at in (0.0, 2.0, 4.0, 6.0):
        look(absence, at, ALICE)
    absence.fail()
    assert not absence.is_gone(ALICE)
    for at in (7.0, 9.0, 11.0):
        look(absence, at, ALICE)
        assert not absence.is_gone(ALICE)
    look(absence, 13.0, ALICE)
    assert absence.is_gone(ALICE)


@proves("BEAT-2")
def test_another_server_restarts_the_wait() -> None:
    absence = Absence(TTL)
    for at in (0.0, 2.0, 4.0):
        look(absence, at, ALICE)
    for at in (6.0, 8.0, 10.0):
        look(absence, at, ALICE, server="two")
        assert not absence.is_gone(ALICE)
    look(absence, 12.0, ALICE, server="two")
    assert absence.is_gone(ALICE)


@proves("BEAT-2")
def test_looks_far_apart_prove_nothing() -> None:
    absence = Absence(TTL)
    for at in (0.0, 30.0, 60.0, 90.0):  # we were stopped, and perhaps so was everything
        look(absence, at, ALICE)
        assert not absence.is_gone(ALICE)


class Fleet:
    """A Redis and some workers, each of which may be stopped. Time goes by in ticks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.run = 0
        self.redis_stopped = False
        self.stopped: set[Owner] = set()
        self.expires: dict[Owner, float] = {}
        self.beaten: dict[Owner, float] = {}  # when it last wanted to beat
        self.absence = Absence(TTL)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for owner in (ALICE, BOB):
            if owner not in self.stopped and not self.redis_stopped:
                self.expires[owner] = self.now + TTL
                self.beaten[owner] = self.now

    def look(self) -> None:
        if self.redis_stopped:
            self.absence.fail()
            return
        absent = frozenset(o for o in (ALICE, BOB) if self.expires.get(o, 0.0) <= self.now)
        self.absence.see(Sighting(str(self.run), absent), self.now, self.now)


actions = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from([0.5, 1.0, 2.0])),
    st.tuples(st.sampled_from(["stop redis", "start redis", "lose data", "stop alice", "start alice"]), st.just(0.0)),
    st.tuples(st.just("sleep"), st.sampled_from([5.0, 30.0])),
)


@proves("BEAT-2")
@given(st.lists(actions, max_size=60))
def test_whoever_could_beat_within_the_last_ttl_is_never_gone(script: list[tuple[str, float]]) -> None:
    fleet = Fleet()
    for action, seconds in script:
        match action:
            case "tick":
                fleet.tick(seconds)
                fleet.look()
            case "sleep":  # the watcher alone is stopped
                for _ in range(int(seconds)):
                    fleet.tick(1.0)
            case "stop redis":
                fleet.redis_stopped = True
            case "start redis":  # what had expired has, before anybody can beat: the worst order
                fleet.redis_stopped = False
                fleet.look()
            case "lose data":
                fleet.run += 1
                fleet.expires.clear()
            case "stop alice":
                fleet.stopped.add(ALICE)
            case "start alice":
                fleet.stopped.discard(ALICE)
        for owner in (ALICE, BOB):
            if fleet.absence.is_gone(owner):
                assert fleet.now - fleet.beaten.get(owner, 0.0) >= TTL
                assert owner in fleet.stopped


@proves("BEAT-2")
def test_a_dead_worker_is_gone_within_two_ttls() -> None:
    fleet = Fleet()
    fleet.tick(1.0)
    fleet.stopped.add(ALICE)
    died = fleet.now
    while not fleet.absence.is_gone(ALICE):
        fleet.tick(2.0)
        fleet.look()
    assert fleet.now - died <= 2 * TTL + 2.0
    assert not fleet.absence.is_gone(BOB)
