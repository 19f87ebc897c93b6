"""When a store that doesn't answer is asked again: a table of what happens to it."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.breakers import CLOSED, MAX_REST_SECONDS, Breaker, Circuit, fail, is_open, probe, succeed
from tests.requirements import proves


@proves("REDIS-1")
def test_one_failure_opens_it_and_nobody_asks() -> None:
    opened = fail(CLOSED, 10.0)
    assert opened == Breaker(Circuit.OPEN, 0.1, 10.1, 10.0)
    assert is_open(opened)
    assert not is_open(CLOSED)


@proves("REDIS-1")
def test_it_is_probed_when_its_rest_is_over_and_not_before() -> None:
    opened = fail(CLOSED, 10.0)
    assert probe(opened, 10.05) is opened
    probing = probe(opened, 10.1)
    assert probing.circuit is Circuit.PROBING
    assert is_open(probing)
    assert probe(probing, 11.0) is probing
    assert probe(CLOSED, 11.0) is CLOSED


@proves("REDIS-1")
def test_a_probe_that_fails_doubles_the_rest_up_to_a_second() -> None:
    breaker, rests = fail(CLOSED, 0.0), []
    for _ in range(6):
        rests.append(breaker.rest_seconds)
        breaker = fail(probe(breaker, breaker.probe_at), breaker.probe_at)
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert breaker.failed_at == 0.0


@proves("REDIS-1")
def test_an_answer_closes_it_also_a_late_one() -> None:
    opened = fail(CLOSED, 10.0)
    assert succeed(opened) is CLOSED
    assert succeed(probe(opened, 10.1)) is CLOSED


@proves("REDIS-1")
def test_a_failure_of_what_was_asked_before_it_opened_tells_nothing_new() -> None:
    opened = fail(CLOSED, 10.0)
    assert fail(opened, 10.2) is opened


@proves("REDIS-1")
@given(st.lists(st.tuples(st.sampled_from([fail, probe, lambda b, _: succeed(b)]), st.floats(0, 3)), max_size=50))
def test_it_always_comes_to_a_probe_within_the_longest_rest(steps: list[tuple[object, float]]) -> None:
    now, breaker = 0.0, CLOSED
    for step, seconds in steps:
        now += seconds
        breaker = step(breaker, now)  # type: ignore[operator]
        if breaker.circuit is Circuit.OPEN:
            assert breaker.probe_at <= now + MAX_REST_SECONDS
            assert probe(breaker, breaker.probe_at).circuit is Circuit.PROBING
