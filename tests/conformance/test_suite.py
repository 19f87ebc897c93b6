"""The runner itself: a difference between two runs can't be overlooked."""

from tests.conformance.suite import Check, list_differences, list_failures

PASSED = Check("a", "A", "SUCCESS", "")
FAILED = Check("a", "A", "FAILURE", "broke")


def test_equal_runs_have_no_difference() -> None:
    assert list_differences({"s": [PASSED, FAILED]}, {"s": [PASSED, FAILED]}) == []


def test_a_check_that_fails_only_once_is_a_difference() -> None:
    differences = list_differences({"s": [PASSED]}, {"s": [FAILED]})
    assert differences == ["s: direct a SUCCESS but then a FAILURE: broke"]


def test_the_second_of_two_checks_with_one_name_is_compared_with_the_second() -> None:
    differences = list_differences({"s": [PASSED, PASSED]}, {"s": [PASSED, FAILED]})
    assert differences == ["s: direct a SUCCESS but then a FAILURE: broke"]


def test_a_missing_check_is_a_difference() -> None:
    assert list_differences({"s": [PASSED]}, {"s": []}) == ["s: direct a SUCCESS but then a missing"]


def test_a_missing_scenario_is_a_difference() -> None:
    assert list_differences({"s": [PASSED]}, {}) == ["s: direct a SUCCESS but then a missing"]


def test_whatever_is_no_success_is_listed_as_a_failure() -> None:
    skipped = Check("b", "B", "SKIPPED", "not told")
    assert list_failures({"s": [PASSED, skipped]}) == ["s: b (B): SKIPPED: not told"]


def test_a_warning_is_overlooked_only_where_it_is_expected_and_a_failure_never() -> None:
    warned = Check("w", "W", "WARNING", "should")
    assert list_failures({"s": [warned]}, ["w"]) == []
    assert list_failures({"s": [warned]}, ["v"]) == ["s: w (W): WARNING: should"]
    assert list_failures({"s": [FAILED]}, ["a"]) == ["s: a (A): FAILURE: broke"]
