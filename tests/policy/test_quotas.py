"""Buckets and leases: never more than the bucket lets through, and never nobody."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.quotas import Lease, Rate, Stock, keep_seconds, lease, share_of
from tests.requirements import proves

TEN_A_MINUTE: Final = Rate(10, 60.0, 10)
HUNDRED: Final = Rate(100, 1.0, 200)


def test_a_bucket_that_nobody_knows_of_is_full() -> None:
    stock, got = lease(None, TEN_A_MINUTE, 1000.0, 10, 10)
    assert got == Lease(10, 0.0)
    assert stock == Stock(0.0, 1000.0, 1000, 10, 0)


def test_an_empty_one_says_when_the_next_token_is_there() -> None:
    stock, _ = lease(None, TEN_A_MINUTE, 1000.0, 10, 10)
    assert lease(stock, TEN_A_MINUTE, 1003.0, 1, 1)[1] == Lease(0, 3.0)


def test_less_than_is_needed_is_not_granted_and_nothing_is_taken() -> None:
    stock, _ = lease(None, TEN_A_MINUTE, 1000.0, 7, 7)
    after, got = lease(stock, TEN_A_MINUTE, 1000.0, 4, 4)
    assert got.granted == 0
    assert after.tokens == 3.0
    assert lease(after, TEN_A_MINUTE, 1000.0, 1, 4)[1] == Lease(3)


def test_what_may_still_be_spent_is_not_filled_up() -> None:
    stock, _ = lease(None, HUNDRED, 1000.0, 1, 50)  # a lease of half a second
    stock, got = lease(stock, HUNDRED, 1000.4, 1, 200)
    assert got == Lease(150)
    stock, got = lease(stock, HUNDRED, 1000.7, 1, 200)
    assert got.granted == 0


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(HUNDRED, 0.5), (TEN_A_MINUTE, 1.0), (Rate(100, 1.0, 10), 0.025), (Rate(100, 1.0, 100), 0.25)],
)
def test_a_lease_lasts_a_quarter_of_a_burst_and_at_most_a_second(rate: Rate, seconds: float) -> None:
    assert rate.lease_seconds == seconds


def test_a_clock_that_was_put_back_fills_nothing() -> None:
    stock, _ = lease(None, TEN_A_MINUTE, 1000.0, 10, 10)
    assert lease(stock, TEN_A_MINUTE, 400.0, 1, 1)[0].tokens == 0.0
    assert lease(stock, TEN_A_MINUTE, 400.0, 1, 1)[1].granted == 0


def test_after_a_while_a_bucket_is_as_if_nobody_knew_of_it() -> None:
    stock, _ = lease(None, HUNDRED, 1000.0, 200, 200)
    assert keep_seconds(HUNDRED) == 3.5
    assert lease(stock, HUNDRED, 1003.5, 200, 200)[1] == Lease(200)


def test_one_of_three_who_cannot_ask_has_a_third() -> None:
    assert share_of(Rate(90, 1.0, 180), 3) == Rate(90, 3.0, 60)
    assert share_of(TEN_A_MINUTE, 20) == Rate(10, 1200.0, 1)


rates = st.builds(
    lambda count, period_seconds, parts: Rate(count, period_seconds, max(1, round(count / period_seconds * parts))),
    st.integers(1, 500),
    st.sampled_from([1.0, 60.0]),
    st.sampled_from([0.25, 1.0, 2.0, 60.0]),
)
# A worker, how long after the step before, what it asks for, and how much it spends of what it has.
steps = st.tuples(st.integers(0, 3), st.floats(0, 2.0), st.integers(1, 50), st.integers(0, 200))


@proves("LIMIT-1")
@given(rates, st.lists(steps, min_size=1, max_size=60))
def test_no_window_lets_through_more_than_the_burst_and_what_flows_in(
    rate: Rate, schedule: list[tuple[int, float, int, int]]
) -> None:
    stock, now = None, 1000.0
    held: dict[int, list[tuple[float, int]]] = {worker: [] for worker in range(4)}
    admitted: list[tuple[float, int]] = []
    for worker, pause, wanted, appetite in schedule:
        now += pause
        stock, got = lease(stock, rate, now, 1, wanted)
        if got.granted:
            held[worker].append((now + rate.lease_seconds, got.granted))
        good = [(until, tokens) for until, tokens in held[worker] if now < until]
        spent = min(appetite, sum(tokens for _, tokens in good))
        admitted.append((now, spent))
        left = sum(tokens for _, tokens in good) - spent
        held[worker] = []
        for until, tokens in reversed(good):  # the oldest are spent first
            kept = min(tokens, left)
            left -= kept
            if kept:
                held[worker].insert(0, (until, kept))
    for first in range(len(admitted)):
        sum_ = 0
        for at, spent in admitted[first:]:
            sum_ += spent
            assert sum_ <= rate.burst + (at - admitted[first][0]) * rate.per_second + 1e-6


@proves("LIMIT-1")
@given(rates, st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2.0), st.integers(1, 50)), max_size=40))
def test_whoever_comes_back_when_told_is_served_though_others_have_taken_all(
    rate: Rate, schedule: list[tuple[int, float, int]]
) -> None:
    stock, now = None, 1000.0
    for _, pause, wanted in schedule:
        now += pause
        stock, _ = lease(stock, rate, now, 1, wanted)
    for _ in range(4):  # a wait for tokens, and for the leases of two slots
        stock, got = lease(stock, rate, now, 1, 1)
        if got.granted:
            return
        now += got.wait_seconds + 1e-6
    raise AssertionError("never served")
