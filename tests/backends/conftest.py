"""The sample backends as real processes, and clients of each era."""

from collections.abc import Iterator

import pytest

from tests.fleet.processes import serving

MODES = ["auto", "2026-07-28", "legacy"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """How the SDK's client negotiates: it asks first, it insists on the modern era, or it shakes hands."""
    return str(request.param)


@pytest.fixture(scope="module")
def echo_url() -> Iterator[str]:
    with serving("backends.echo") as url:
        yield url


@pytest.fixture(scope="module")
def math_url() -> Iterator[str]:
    with serving("backends.math") as url:
        yield url


@pytest.fixture(scope="module")
def weather_url() -> Iterator[str]:
    with serving("backends.weather") as url:
        yield url
