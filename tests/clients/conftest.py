"""The table of real clients that is printed at the end."""

import pytest

TABLE = pytest.StashKey[list[str]]()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[str]:
    """Lines to be shown whether or not the tests passed."""
    return request.config.stash.setdefault(TABLE, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints which clients found everything."""
    if table := config.stash.get(TABLE, []):
        terminalreporter.section("real clients through three replicas")
        for line in sorted(table):
            terminalreporter.line(line)
