"""Through three replicas behind a round-robin balancer, at a mount prefix, the suite finds exactly what it finds directly:
where streams are as the backend makes them, and where Redis keeps them."""

from collections.abc import Iterator

import pytest

from tests.conformance.conftest import Inspect
from tests.conformance.suite import LEGS, Leg, list_differences
from tests.fleet.fleet import Fleet, running_fleet
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name

WITHOUT, WITH = "through the gateway", "... and Redis"


@pytest.fixture(scope="module", params=[WITHOUT, WITH])
def label(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fleet(label: str, reference_url: str, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    redis = request.getfixturevalue("redis_server").url if label == WITH else "none"
    with running_fleet(f"{{redis: '{redis}', backends: {{reference: {{endpoints: ['{reference_url}']}}}}}}") as fleet:
        yield fleet


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
def test_no_check_differs_through_the_gateway(
    leg: Leg, label: str, reference_url: str, fleet: Fleet, inspect: Inspect
) -> None:
    before = fleet.shares()
    through = inspect(leg, label, f"{fleet.url}/reference/mcp")
    differences = list_differences(inspect(leg, "direct", reference_url), through)
    assert differences == [], "\n".join([*differences, fleet.describe()])
    took = [after - earlier for earlier, after in zip(before, fleet.shares(), strict=True)]
    assert min(took) >= 10, f"all replicas must have had their part, and they took {took}"
