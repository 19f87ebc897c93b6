"""How long a result holds that is made of several, and for whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.results import Freshness, Scope, merge_freshness, read_freshness


@pytest.mark.parametrize(
    ("ttl_ms", "scope", "read"),
    [
        (5, "public", (5, "public")),
        (0, "private", (0, "private")),
        (None, None, (0, "private")),
        (-1, "public", (0, "public")),
        (True, "Public", (0, "private")),
        ("5", 7, (0, "private")),
        (2.5, "public", (0, "public")),
        (10**30, "public", (86_400_000, "public")),
    ],
)
def test_what_a_result_does_not_say_of_itself_is_the_careful_value(
    ttl_ms: object, scope: object, read: tuple[int, Scope]
) -> None:
    assert read_freshness(ttl_ms, scope) == read


@pytest.mark.parametrize(
    ("each", "merged"),
    [
        ([], (0, "private")),
        ([(5, "public")], (5, "public")),
        ([(5, "public"), (3, "public"), (0, "public")], (3, "public")),
        ([(0, "public"), (0, "public")], (0, "public")),
        ([(5, "public"), (9, "private")], (5, "private")),
        ([(0, "private"), (7, "public")], (7, "private")),
    ],
)
def test_the_smallest_time_that_is_not_zero_holds_and_any_private_makes_it_private(
    each: list[tuple[int, Scope]], merged: tuple[int, Scope]
) -> None:
    assert merge_freshness(Freshness(*one) for one in each) == merged


FRESH = st.builds(Freshness, st.integers(0, 10), st.sampled_from(["public", "private"]))


@given(st.lists(FRESH, min_size=1), st.lists(FRESH, min_size=1))
def test_it_does_not_matter_in_which_order_or_groups_they_are_merged(a: list[Freshness], b: list[Freshness]) -> None:
    assert merge_freshness([merge_freshness(a), merge_freshness(b)]) == merge_freshness([*b, *a])
