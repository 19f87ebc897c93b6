"""Through three replicas behind a round-robin balancer, at a mount prefix, the suite finds exactly what it finds directly."""

from collections.abc import Iterator

import pytest

from tests.conformance.conftest import Inspect
from tests.conformance.suite import LEGS, Leg, list_differences
from tests.fleet.fleet import Fleet, running_fleet


@pytest.fixture(scope="module")
def fleet(reference_url: str) -> Iterator[Fleet]:
    with running_fleet(f"backends: {{reference: {{endpoints: ['{reference_url}']}}}}") as fleet:
        yield fleet


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
def test_no_check_differs_through_the_gateway(leg: Leg, reference_url: str, fleet: Fleet, inspect: Inspect) -> None:
    before = fleet.shares()
    through = inspect(leg, "through the gateway", f"{fleet.url}/reference/mcp")
    differences = list_differences(inspect(leg, "direct", reference_url), through)
    assert differences == [], "\n".join([*differences, fleet.describe()])
    took = [after - earlier for earlier, after in zip(before, fleet.shares(), strict=True)]
    assert min(took) >= 10, f"all replicas must have had their part, and they took {took}"
