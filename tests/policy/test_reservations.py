"""Places: never more than there are, and those of the dead are free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.reservations import Reservation, may_keep, reserve
from gateway.policy.streams import Owner
from tests.requirements import proves

ALICE, BOB = Owner("alice"), Owner("bob")


def test_whoever_says_nothing_for_a_while_has_left() -> None:
    places, told = reserve({}, ALICE, 4, 4, 1000.0)
    assert (places, told) == ({ALICE: (4, 1015.0)}, Reservation(4, 0))
    assert reserve(places, BOB, 1, 4, 1014.9)[1] == Reservation(0, 0)
    assert reserve(places, BOB, 1, 4, 1015.0) == ({BOB: (1, 1030.0)}, Reservation(1, 3))


def test_who_has_more_than_there_are_by_now_keeps_what_there_is() -> None:
    assert reserve({ALICE: (4, 1015.0)}, ALICE, 4, 2, 1000.0)[1] == Reservation(2, 0)
    assert reserve({ALICE: (4, 1015.0)}, BOB, 1, 2, 1000.0)[1] == Reservation(0, 0)


@pytest.mark.parametrize(
    ("free", "limit", "may"), [(0, 1, False), (1, 2, False), (2, 3, True), (5, 10, False), (6, 10, True)]
)
def test_a_place_is_kept_for_the_next_call_while_most_are_free(free: int, limit: int, may: bool) -> None:
    assert may_keep(free, limit) is may


steps = st.tuples(st.integers(0, 3), st.floats(0, 10), st.integers(0, 12))


@proves("LIMIT-5")
@given(st.integers(1, 10), st.lists(steps, max_size=40))
def test_never_are_more_places_given_than_there_are(limit: int, schedule: list[tuple[int, float, int]]) -> None:
    places, now = {}, 1000.0
    for number, pause, wanted in schedule:
        now += pause
        places, told = reserve(places, Owner(str(number)), wanted, limit, now)
        taken = sum(count for count, until in places.values() if now < until)
        assert taken <= limit
        assert told == Reservation(places.get(Owner(str(number)), (0, 0.0))[0], limit - taken)
