"""Who gets the next call, and who rests: tables, and one simulation that no run may break."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.backends import Ejection
from gateway.policy.balancing import WELL, Health, Standing, State, begin, check, choose, finish, is_available, state_of
from gateway.protocol.outcomes import COUNTS_AGAINST_ENDPOINT, Outcome

RULE = Ejection(failures=3, rest_seconds=1.0, max_rest_seconds=5.0)
RESTING = Health(failures=3, rests=1, rested_at=10.0)


def standings(*outstanding: int) -> list[Standing]:
    return [Standing(count) for count in outstanding]


@pytest.mark.parametrize(
    ("outstanding", "turn", "chosen"),
    [
        ([0], 0, 0),
        ([3, 1, 2], 0, 1),
        ([1, 0, 0], 0, 1),
        ([1, 0, 0], 1, 2),
        ([1, 0, 0], 2, 1),
        ([0, 0, 0], 7, 1),
    ],
)
def test_the_least_loaded_is_chosen_and_equals_take_turns(outstanding: list[int], turn: int, chosen: int) -> None:
    assert choose(standings(*outstanding), turn, 0.0) == chosen


def test_where_there_are_none_none_is_chosen() -> None:
    assert choose([], 0, 0.0) is None


@pytest.mark.parametrize(
    ("health", "now", "state", "available"),
    [
        (WELL, 0.0, State.HEALTHY, True),
        (Health(failures=2), 0.0, State.HEALTHY, True),
        (RESTING, 9.9, State.EJECTED, False),
        (RESTING, 10.0, State.PROBING, True),
        (msgspec.structs.replace(RESTING, trying_until=20.0), 10.5, State.PROBING, False),
        (msgspec.structs.replace(RESTING, trying_until=20.0), 20.0, State.PROBING, True),
        (Health(is_down=True), 0.0, State.EJECTED, False),
    ],
)
def test_an_endpoint_is_available_while_it_is_well_or_may_be_tried(
    health: Health, now: float, state: State, available: bool
) -> None:
    assert (state_of(health, now), is_available(health, now)) == (state, available)


def test_an_ejected_one_is_passed_over_however_idle() -> None:
    assert choose([Standing(0, RESTING), Standing(9)], 0, 5.0) == 1


def test_when_all_are_ejected_all_are_chosen_from() -> None:
    assert choose([Standing(1, RESTING), Standing(0, RESTING)], 0, 5.0) == 1


def test_failures_in_a_row_eject_and_each_rest_is_twice_as_long_up_to_the_longest() -> None:
    health, now, rests = WELL, 100.0, []
    for _ in range(2):
        health = finish(health, Outcome.BROKEN, RULE, True, now)
    assert health == Health(failures=2)
    for _ in range(5):
        health = finish(health, Outcome.TIMED_OUT, RULE, True, now)
        assert health.rested_at is not None
        rests.append(health.rested_at - now)
        now = health.rested_at
    assert rests == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_one_success_forgives_all() -> None:
    assert finish(Health(failures=2), Outcome.RPC_ERROR, RULE, True, 0.0) == WELL
    assert finish(RESTING, Outcome.OK, RULE, True, 12.0) == WELL


def test_failures_of_calls_begun_before_a_rest_do_not_prolong_it() -> None:
    assert finish(RESTING, Outcome.UNREACHABLE, RULE, True, 9.0).rested_at == 10.0


def test_the_last_one_is_not_ejected_and_still_is_when_another_is_back() -> None:
    health = WELL
    for _ in range(10):
        health = finish(health, Outcome.UNREACHABLE, RULE, False, 0.0)
    assert health == Health(failures=10)
    assert finish(health, Outcome.UNREACHABLE, RULE, True, 5.0) == Health(failures=11, rests=1, rested_at=6.0)


@pytest.mark.parametrize("outcome", [Outcome.CLIENT_LEFT, Outcome.OVERLOADED, Outcome.DRAINING, Outcome.INTERNAL])
def test_what_shows_nothing_changes_nothing_but_ends_a_trial(outcome: Outcome) -> None:
    assert finish(Health(failures=2), outcome, RULE, True, 0.0) == Health(failures=2)
    assert finish(begin(RESTING, 11.0), outcome, RULE, True, 12.0) == RESTING


def test_after_a_rest_one_call_at_a_time_tries() -> None:
    tried = begin(RESTING, 10.0)
    assert is_available(RESTING, 10.0)
    assert not is_available(tried, 10.0)
    assert begin(tried, 10.1) is tried
    assert begin(RESTING, 9.0) is RESTING
    assert begin(WELL, 0.0) is WELL


def test_a_check_takes_out_and_brings_back_and_calls_do_not_overrule_it() -> None:
    down = check(Health(failures=1), is_down=True)
    assert down.is_down
    assert finish(down, Outcome.OK, RULE, True, 0.0).is_down
    assert finish(down, Outcome.BROKEN, RULE, True, 0.0).is_down
    assert check(down, is_down=False) == WELL


def test_every_outcome_is_for_an_endpoint_against_it_or_neither() -> None:
    kinds = {outcome: finish(Health(failures=1), outcome, RULE, True, 0.0).failures for outcome in Outcome}
    assert {outcome for outcome, failures in kinds.items() if failures == 2} == COUNTS_AGAINST_ENDPOINT
    assert {outcome for outcome, failures in kinds.items() if failures == 0} == {
        Outcome.OK,
        Outcome.RPC_ERROR,
        Outcome.TOOL_ERROR,
        Outcome.BACKEND_REFUSED,
        Outcome.BACKEND_UNAUTHORIZED,
        Outcome.NONSENSE,
    }


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "finish"]), st.sampled_from(list(Outcome)), st.floats(0.0, 3.0)), max_size=80
)


@given(size=st.integers(1, 4), steps=STEPS)
def test_whatever_happens_an_endpoint_is_found_and_not_all_rest(
    size: int, steps: list[tuple[str, Outcome, float]]
) -> None:
    every, under_way, now = standings(*[0] * size), [], 0.0
    for turn, (step, outcome, later) in enumerate(steps):
        now += later
        if step == "begin":
            index = choose(every, turn, now)
            assert index is not None
            chosen = every[index]
            if any(is_available(standing.health, now) for standing in every):
                assert is_available(chosen.health, now)
            chosen.outstanding += 1
            chosen.health = begin(chosen.health, now)
            under_way.append(chosen)
        elif under_way:
            ended = under_way.pop(0)
            ended.outstanding -= 1
            others = any(is_available(s.health, now) for s in every if s is not ended)
            was_resting = state_of(ended.health, now) is not State.HEALTHY
            ended.health = finish(ended.health, outcome, RULE, others, now)
            if not was_resting and not others:
                assert state_of(ended.health, now) is State.HEALTHY
        assert all(s.health.rested_at is None or s.health.rested_at <= now + 5.0 for s in every)
    assert [s.outstanding for s in every] == [sum(u is s for u in under_way) for s in every]
