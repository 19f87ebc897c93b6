"""What the file says of how much each caller may ask for."""

from pathlib import Path

import pytest

from gateway.policy.quotas import NO_RATES, Rate, Rates
from gateway.settings.limits import parse_rate
from gateway.settings.settings import doubts
from tests.requirements import proves
from tests.settings.files import ECHO, read


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s burst 200", Rate(100, 1.0, 200)),
        ("1000/m", Rate(1000, 60.0, 1000)),
        ("5/h  burst 1", Rate(5, 3600.0, 1)),
    ],
)
def test_a_rate_is_so_many_in_a_period_and_so_many_at_once(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


def test_nobody_is_held_to_a_limit_unless_one_is_told(tmp_path: Path) -> None:
    site = read(tmp_path, ECHO).site
    assert site.limits.rates == NO_RATES
    assert site.backends["echo"].rates == NO_RATES


@proves("LIMIT-1")
def test_limits_are_the_files_or_a_backends_own(tmp_path: Path) -> None:
    text = """
limits: {requests: {per_principal: 100/s burst 200}, initialize: 10/m, concurrent_calls: 50}
backends: {echo: {endpoints: http://127.0.0.1:9001/mcp, limits: {initialize: 5/m, concurrent_streams: 3}}}
"""
    site = read(tmp_path, text).site
    assert site.limits.rates == Rates(requests=Rate(100, 1.0, 200), initialize=Rate(10, 60.0, 10), concurrent_calls=50)
    assert site.backends["echo"].rates == Rates(initialize=Rate(5, 60.0, 5), concurrent_streams=3)


@proves("LIMIT-1")
def test_limits_that_nobody_shares_are_doubted(tmp_path: Path) -> None:
    alone = read(tmp_path, f"{ECHO}limits: {{initialize: 10/m}}\n")
    assert [doubt for doubt in doubts(alone) if doubt.startswith("limits:")] == [
        "limits: without `redis` each worker counts for itself, and lets through as much as all should together"
    ]
    shared = read(tmp_path, f"{ECHO}redis: redis://127.0.0.1:6379\nlimits: {{initialize: 10/m}}\n")
    assert not [doubt for doubt in doubts(shared) if doubt.startswith("limits:")]
