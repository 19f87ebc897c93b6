"""N ≡ 1: whatever befalls a fleet, its clients see through three replicas what they would see through one.

State machines over simulated fleets (`tests/simulated`), which check as they go that nothing comes twice, out of order or over a
gap; that one id is one event for ever; that a replay is the rest of the log; and that no client has an event that the log
hasn't, unless the log is known to be away. At the end all is well again, and no call may still hang.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.requirements import proves
from tests.simulated.fleets import Fleet
from tests.simulated.rooms import Mood

SIZES = (1, 3)
STEPS = 30
LARGE = 100_000

replicas = st.integers(0, 2)
calls = st.integers(0, 3)
troubles = st.sampled_from([Mood.AWAY, Mood.MUTE, Mood.FULL, Mood.READ_ONLY])
keeping = st.sampled_from([True, True, True, False])
versions = st.sampled_from(["2025-11-25", "2025-11-25", "2025-06-18"])
seconds = st.sampled_from([0.05, 0.5, 2.0, 7.0, 15.0])


class Crashes(RuleBasedStateMachine):
    """Clients whose connections break; replicas that are killed, stopped and woken, drained, restarted. The memory is well."""

    def __init__(self) -> None:
        super().__init__()
        self.fleets = [Fleet(size) for size in SIZES]

    def all(self, do: str, *args: Any, **options: Any) -> None:
        for fleet in self.fleets:
            getattr(fleet, do)(*args, **options)

    # ---- clients and the backend

    @initialize(keeps=keeping, version=versions)
    def begin(self, keeps: bool, version: str) -> None:
        self.all("call", 0, keeps=True, version="2025-11-25")
        self.all("call", 1, keeps=keeps, version=version)
        for number in (0, 1):
            self.all("step", number)

    @precondition(lambda self: len(self.fleets[0].callers) < 4)
    @rule(seat=replicas, keeps=keeping, version=versions)
    def call(self, seat: int, keeps: bool, version: str) -> None:
        self.all("call", seat, keeps=keeps, version=version)

    @rule(number=calls, times=st.integers(1, 4), size=st.sampled_from([0, 0, 0, LARGE]))
    def step(self, number: int, times: int, size: int) -> None:
        self.all("step", number, times, size)

    @rule(number=calls)
    def whisper(self, number: int) -> None:
        self.all("whisper", number)

    @rule(number=calls, seat=replicas)
    def double(self, number: int, seat: int) -> None:
        self.all("double", number, seat)

    @rule(number=calls)
    def finish(self, number: int) -> None:
        self.all("finish", number)

    @rule(number=calls, quietly=st.booleans())
    def cut(self, number: int, quietly: bool) -> None:
        self.all("cut", number, quietly=quietly)

    @rule(number=calls)
    def cut_upstream(self, number: int) -> None:
        self.all("cut_upstream", number)

    @rule(number=calls)
    def rest(self, number: int) -> None:
        self.all("rest", number)

    @rule(number=calls)
    def dawdle(self, number: int) -> None:
        self.all("dawdle", number)

    @rule(number=calls, seat=replicas, deletes=st.booleans())
    def cancel(self, number: int, seat: int, deletes: bool) -> None:
        self.all("cancel", number, seat, deletes=deletes)

    # ---- replicas

    @rule(number=replicas)
    def kill(self, number: int) -> None:
        self.all("kill", number)

    @rule(number=replicas)
    def stop(self, number: int) -> None:
        self.all("stop", number)

    @rule(number=replicas)
    def wake(self, number: int) -> None:
        self.all("wake", number)

    @rule(number=replicas, notices=st.booleans())
    def freeze(self, number: int, notices: bool) -> None:
        self.all("freeze", number, notices=notices)

    @rule(number=replicas)
    def drain(self, number: int) -> None:
        self.all("drain", number)

    @rule(number=replicas)
    def restart(self, number: int) -> None:
        self.all("restart", number)

    @rule(seconds=seconds)
    def pass_time(self, seconds: float) -> None:
        for fleet in self.fleets:
            fleet.loop.pass_time(seconds)

    # ---- what holds

    @invariant()
    def nothing_is_broken(self) -> None:
        self.all("check")

    def teardown(self) -> None:
        try:
            self.all("end")
            one, many = self.fleets
            for alone, among in zip(one.callers, many.callers, strict=True):
                if not (alone.report.is_loss or among.report.is_loss or alone.is_cancelled or among.is_cancelled):
                    assert alone.report == among.report
        finally:
            self.all("close")


class Outages(Crashes):
    """The memory is away, mute, full or read-only besides, for all or for one; it is set back, or emptied."""

    has_endured = False

    @rule(mood=troubles, number=st.none() | replicas)
    def suffer(self, mood: Mood, number: int | None) -> None:
        self.all("suffer", mood, number)

    @precondition(lambda self: not self.has_endured)
    @rule(mood=troubles, number=st.none() | replicas)
    def endure(self, mood: Mood, number: int | None) -> None:
        """Longer than anybody is held."""
        self.has_endured = True
        self.all("endure", mood, number)

    @rule()
    def recover(self) -> None:
        self.all("recover")

    @rule(number=calls, times=st.integers(1, 3), dying=st.none() | replicas)
    def lag(self, number: int, times: int, dying: int | None) -> None:
        self.all("lag", number, times, dying)

    @rule(empty=st.booleans())
    def fail_over(self, empty: bool) -> None:
        self.all("fail_over", empty=empty)


# ---- histories worth telling: that were found and mended, or that chance seldom makes


@proves("DUR-3")
def test_a_replica_that_wakes_says_nothing_to_a_client_that_stayed_with_it() -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.double(0, seat=1)
        fleet.freeze(0, notices=False)


@proves("DUR-6", "EVID-1")
def test_an_event_that_was_lost_is_not_taken_for_the_next_one_with_its_number() -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.cut(0, quietly=False)
        fleet.loop.pass_time(1.0)
        fleet.lag(0, times=1, dying=0)
        fleet.loop.pass_time(20.0)
        fleet.step(0, times=2)
        fleet.loop.pass_time(1.0)
        assert fleet.callers[0].report.error


@proves("DUR-6", "LOG-3")
def test_what_was_lost_while_a_client_was_away_is_told_to_it() -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.kill(1)  # where the client turns next: it is a while until it finds another
        fleet.cut(0, quietly=False)
        fleet.lag(0, times=2)
        fleet.step(0)
        fleet.loop.pass_time(1.0)
        assert fleet.callers[0].report.error


@proves("DUR-7")
def test_two_followers_on_one_replica_take_a_stream_over_once() -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.cut(0, quietly=False)
        fleet.double(0, seat=1)
        fleet.kill(0)
        fleet.loop.pass_time(20.0)
        fleet.step(0, times=2)
        assert fleet.callers[0].job.resumes == 1


@proves("DUR-4")
def test_a_burst_that_comes_before_a_client_has_its_first_event_leaves_it_an_id_to_resume_from() -> None:
    with simulated(1) as fleet:
        fleet.call(0, version="2025-06-18")
        fleet.cut_upstream(0)
        fleet.step(0, times=3, size=LARGE)


@proves("DUR-4")
def test_a_client_that_has_no_id_yet_is_not_let_go_to_poll() -> None:
    with simulated(1) as fleet:
        fleet.call(0, version="2025-06-18")
        fleet.rest(0)


@proves("MARK-9")
def test_a_call_that_is_cancelled_before_it_has_a_stream_is_not_asked_for_again() -> None:
    with simulated(1) as fleet:
        fleet.call(0, version="2025-06-18")
        fleet.cancel(0, 0, deletes=False)


@proves("DUR-2", "DUR-7")
@pytest.mark.parametrize("mood", [Mood.AWAY, Mood.FULL, Mood.READ_ONLY])
def test_who_follows_a_stream_that_ended_in_a_long_outage_does_not_wait_for_ever(mood: Mood) -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.cut(0, quietly=False)
        fleet.loop.pass_time(1.0)
        fleet.suffer(mood)
        fleet.finish(0)
        fleet.loop.pass_time(90.0)


@contextmanager
def simulated(size: int) -> Iterator[Fleet]:
    """A fleet to which something happens in the block; then all is well, and every call must come to its end."""
    fleet = Fleet(size)
    try:
        yield fleet
        fleet.end()
    finally:
        fleet.close()


# ---- and any history


def run(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(stateful_step_count=STEPS, report_multiple_bugs=False, phases=(Phase.generate, Phase.shrink)),
    )  # type: ignore[no-untyped-call]


@proves("DUR-3", "DUR-4", "DUR-7", "DUR-8", "MARK-9")
def test_whatever_befalls_replicas_nobody_loses_anything() -> None:
    run(Crashes)


@proves("DUR-1", "DUR-2", "DUR-6")
def test_whatever_befalls_the_memory_nothing_is_doubled_and_no_loss_is_silent() -> None:
    run(Outages)
