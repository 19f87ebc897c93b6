"""Histories of a simulated fleet worth telling one by one: that were found and mended, or that chance seldom makes.

What is checked all along and in the end is said in `tests/simulated`; here stands only what must be so besides.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.requirements import proves
from tests.simulated.fleets import Fleet
from tests.simulated.rooms import Mood

LARGE = 100_000


@contextmanager
def simulated(size: int) -> Iterator[Fleet]:
    """A fleet to which something happens in the block; then all is well, and every call must come to its end."""
    fleet = Fleet(size)
    try:
        yield fleet
        fleet.end()
    finally:
        fleet.close()


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


@proves("DUR-7", "HOLD-1")
@pytest.mark.parametrize("seat", [1, 2])
def test_of_two_followers_one_takes_a_stream_over_at_once_when_it_is_given_up(seat: int) -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.cut(0, quietly=False)
        fleet.double(0, seat)
        fleet.drain(0)
        fleet.loop.pass_time(1.0)
        assert fleet.callers[0].job.resumes == 1


@proves("DUR-7")
@pytest.mark.parametrize("seat", [1, 2])
def test_of_two_followers_one_takes_a_stream_over_when_its_replica_dies(seat: int) -> None:
    with simulated(3) as fleet:
        fleet.call(0)
        fleet.step(0)
        fleet.cut(0, quietly=False)
        fleet.double(0, seat)
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
