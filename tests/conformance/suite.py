"""Runs the official conformance suite against a URL, and compares what two runs found.

Knows the suite's command line and the files that it writes; nothing of MCP, the reference server or the gateway.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.tools import install

SUITE_SECONDS = 110
"""A leg takes 2 to 6 s alone on two cores."""

RECORDS = "INFO"
"""Not a check's status, but a line of the suite's own diary, of what it sent and received."""


class Leg(NamedTuple):
    """One version of the suite at one version of the specification, and what a complete server passes there."""

    name: str
    package: str  # in tests/tools/package.json
    spec_version: str | None
    scenarios: int
    passed: int
    warnings: tuple[str, ...] = ()


LEGS = (
    Leg(
        "0.1.16",
        "conformance-0.1",
        None,
        scenarios=32,
        passed=44,
        # This version asks for resumable streams in a request that says it is of 2025-03-26, which knows none: the SDK
        # rightly sends no priming event there.
        warnings=("server-sse-priming-event", "server-sse-retry-field"),
    ),
    Leg("0.2.0-alpha.12 at 2025-11-25", "conformance-0.2", "2025-11-25", scenarios=33, passed=84),
    Leg("0.2.0-alpha.12 at 2026-07-28", "conformance-0.2", "2026-07-28", scenarios=40, passed=152),
)


class Check(NamedTuple):
    """One check's outcome. `status` is SUCCESS, WARNING, SKIPPED or FAILURE; `reason` says why it isn't a success.

    The suite counts a scenario as passed when none of its checks is a FAILURE; so do we.
    """

    id: str
    name: str
    status: str
    reason: str


Findings = dict[str, list[Check]]
"""What a run found: the checks of each scenario, in the suite's order."""


def run_leg(leg: Leg, url: str, folder: Path) -> Findings:
    """What the suite finds at `url`, which must be a localhost URL; `folder` is where its files may stay.

    Raises AssertionError, with the suite's own output, where it leaves out a scenario or says nothing.
    """
    program = install.MODULES / leg.package / "dist" / "index.js"
    command = [str(install.node()), str(program), "server", "--url", url, "--suite", "all", "-o", str(folder)]
    if leg.spec_version is not None:
        command += ["--spec-version", leg.spec_version]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SUITE_SECONDS, check=False)
    findings = read_findings(folder)
    assert len(findings) == leg.scenarios, f"{len(findings)} scenarios of {leg.scenarios}\n{ended.stdout}{ended.stderr}"
    return findings


def read_findings(folder: Path) -> Findings:
    """The checks in the files that a run has left: one `server-SCENARIO-TIME/checks.json` for each scenario."""
    findings: Findings = {}
    for file in sorted(folder.glob("*/checks.json")):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name)
        findings[scenario] = [
            Check(check["id"], check["name"], check["status"], check.get("errorMessage") or "")
            for check in json.loads(file.read_text())
            if check["status"] != RECORDS
        ]
    return findings


def list_failures(findings: Findings, warnings: Iterable[str] = ()) -> list[str]:
    """A line for each check that is no success, but for those that `warnings` names, if warnings they are."""
    return [
        f"{scenario}: {check.id} ({check.name}): {check.status}: {check.reason}"
        for scenario, checks in findings.items()
        for check in checks
        if check.status != "SUCCESS" and (check.status != "WARNING" or check.id not in warnings)
    ]


def list_differences(direct: Findings, other: Findings) -> list[str]:
    """A line for each check that one run has, or decides, otherwise than the other."""
    return [
        f"{scenario}: direct {before} but then {after}"
        for scenario in sorted(direct.keys() | other.keys())
        for before, after in _pair(direct.get(scenario, []), other.get(scenario, []))
        if before != after
    ]


def _pair(before: list[Check], after: list[Check]) -> Iterable[tuple[str, str]]:
    """The same check of both runs side by side: the n-th of its id and name, where the suite asks one several times."""
    left, right = _number(before), _number(after)
    return [(left.get(key, f"{key[0]} missing"), right.get(key, f"{key[0]} missing")) for key in {**left, **right}]


def _number(checks: list[Check]) -> dict[tuple[str, str, int], str]:
    numbered: dict[tuple[str, str, int], str] = {}
    for check in checks:
        n = sum(key[:2] == (check.id, check.name) for key in numbered)
        reason = "" if check.status == "SUCCESS" else f": {check.reason}"
        numbered[check.id, check.name, n] = f"{check.id} {check.status}{reason}"
    return numbered


def summarise(label: str, leg: Leg, findings: Findings) -> str:
    """One line of the printed table: scenarios without a failure, and how many checks ended how."""
    statuses = Counter(check.status for checks in findings.values() for check in checks)
    whole = sum(all(check.status != "FAILURE" for check in checks) for checks in findings.values())
    checks = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return f"{leg.name:<30} {label:<20} scenarios {whole}/{len(findings)}, checks: {checks}"
