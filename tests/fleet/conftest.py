"""What the fleet's tests share: an HTTP client, and the table that is printed at the end."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fleet.requests import open_http

TABLE = pytest.StashKey[list[str]]()


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_http() as http:
        yield http


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[str]:
    """Lines to be shown whether or not the tests passed."""
    return request.config.stash.setdefault(TABLE, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints what the fleet was put to."""
    if table := config.stash.get(TABLE, []):
        terminalreporter.section("three replicas behind a round-robin balancer")
        for line in table:
            terminalreporter.line(line)
