"""N ≡ 1: whatever befalls a fleet, its clients see through three replicas what they would see through one.

State machines over simulated fleets (`tests/simulated`), which check as they go that nothing comes twice, out of order or over a
gap; that one id is one event for ever; that a replay is the rest of the log; and that no client has an event that the log
hasn't, unless the log is known to be away. At the end all is well again, and no call may still hang.
"""

from typing import Any

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
