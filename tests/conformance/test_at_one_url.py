"""The suite finds at an aggregate what it finds directly, through three replicas: where the reference server is alone behind
`/mcp` with its prefix off, and where it is one of three that have theirs (the names given back by `renaming`)."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.conformance.conftest import Inspect
from tests.conformance.suite import LEGS, Leg, list_differences
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.requirements import proves

ALONE, OF_THREE = "/mcp, alone", "/mcp, of three"
REDIS = ", Redis"

CONFIG = """
redis: {redis}
backends:
  reference: {{endpoints: ['{reference}']}}
  echo: {{endpoints: ['{echo}']}}
  weather: {{endpoints: ['{weather}']}}
aggregates:
  alone: {{mount: /, backends: [{{name: reference, prefix: off}}], deadline: 20s}}
  three: {{mount: /three, backends: [echo, reference, weather], deadline: 20s}}
"""

UNASKED = {
    # It asks for several lists at once, and checks streams if it is answered with streams: what the gateway makes of several
    # answers is JSON, of which the suite says that streams are optional.
    "server-sse-multiple-streams: direct server-sse-streams-functional SUCCESS but then server-sse-streams-functional missing"
}


@pytest.fixture(scope="module", params=["", REDIS])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def places(
    suffix: str, reference_url: str, request: pytest.FixtureRequest
) -> Iterator[tuple[Fleet, Mapping[str, str]]]:
    """The fleet, and the suite's URLs."""
    redis = request.getfixturevalue("redis_server").url if suffix == REDIS else "none"
    with ExitStack() as cleanup:
        others = {name: cleanup.enter_context(serving(f"backends.{name}")) for name in ("echo", "weather")}
        fleet = cleanup.enter_context(running_fleet(CONFIG.format(redis=redis, reference=reference_url, **others)))
        renaming = serving("tests.conformance.renaming", f"{fleet.url}/three/mcp", "reference")
        yield fleet, {ALONE: f"{fleet.url}/mcp", OF_THREE: cleanup.enter_context(renaming)}


@proves("AGG-13")
@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
@pytest.mark.parametrize("place", [ALONE, OF_THREE])
def test_no_check_fails_at_an_aggregate_that_passes_directly(
    place: str,
    leg: Leg,
    suffix: str,
    reference_url: str,
    places: tuple[Fleet, Mapping[str, str]],
    inspect: Inspect,
) -> None:
    fleet, urls = places
    before = fleet.shares()
    found = inspect(leg, place + suffix, urls[place])
    differences = set(list_differences(inspect(leg, "direct", reference_url), found)) - UNASKED
    assert differences == set(), "\n".join([*differences, fleet.describe()])
    took = [after - earlier for earlier, after in zip(before, fleet.shares(), strict=True)]
    assert min(took) >= 10, f"all replicas must have had their part, and they took {took}"
