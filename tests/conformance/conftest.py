"""The reference server, what the suite finds there directly, and the table that is printed at the end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.suite import Findings, Leg, run_leg, summarise
from tests.fleet.processes import serving

TABLE = pytest.StashKey[list[str]]()

Inspect = Callable[[Leg, str, str], Findings]


@pytest.fixture(scope="package")
def reference_url() -> Iterator[str]:
    """The reference server's URL. It says `localhost`, as the suite demands."""
    with serving("tests.conformance.reference") as url:
        yield url.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="package")
def inspect(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Inspect:
    """Runs one leg at a URL, and puts a line into the table; each leg runs once for each label."""
    table = request.config.stash.setdefault(TABLE, [])
    known: dict[tuple[Leg, str], Findings] = {}

    def run(leg: Leg, label: str, url: str) -> Findings:
        if (leg, label) not in known:
            folder: Path = tmp_path_factory.mktemp("conformance")
            known[leg, label] = run_leg(leg, url, folder)
            table.append(summarise(label, leg, known[leg, label]))
        return known[leg, label]

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints what the suite found, whether or not the tests passed."""
    if table := config.stash.get(TABLE, []):
        terminalreporter.section("official conformance suite")
        for line in sorted(table):
            terminalreporter.line(line)
