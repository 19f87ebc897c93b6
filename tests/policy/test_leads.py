"""How long an event is waited for that a client has and the log lacks."""

import math

from gateway.policy.leads import Lead
from tests.requirements import proves


@proves("DUR-10")
def test_it_is_waited_for_twenty_seconds_and_no_longer() -> None:
    lead = Lead()
    assert lead.seconds_left(100.0) == math.inf
    assert lead.is_awaited(5, 100.0)
    assert lead.seconds_left(104.0) == 16.0
    assert lead.is_awaited(5, 119.9)
    assert not lead.is_awaited(5, 120.0)
    assert lead.seconds_left(121.0) == 0.0


@proves("DUR-10")
def test_a_log_that_grows_without_it_never_had_it() -> None:
    lead = Lead()
    assert lead.is_awaited(5, 100.0)
    assert lead.is_awaited(6, 101.0)
    assert lead.seconds_left(101.0) == 5.0
    assert lead.is_awaited(6, 105.9)
    assert not lead.is_awaited(6, 106.0)


def test_the_next_time_it_is_waited_for_as_long_again() -> None:
    lead = Lead()
    assert lead.is_awaited(5, 100.0)
    lead.end()
    assert lead.seconds_left(105.0) == math.inf
    assert lead.is_awaited(7, 130.0)
    assert lead.seconds_left(130.0) == 20.0


def test_a_log_that_grows_on_and_on_gives_no_more_time() -> None:
    lead = Lead()
    assert lead.is_awaited(5, 100.0)
    assert lead.is_awaited(6, 101.0)
    assert lead.is_awaited(7, 105.5)
    assert not lead.is_awaited(8, 106.0)
    late = Lead()
    assert late.is_awaited(5, 100.0)
    assert late.is_awaited(6, 119.0)
    assert not late.is_awaited(6, 120.0)
