"""Hundreds of whole sessions of real SDK clients through three replicas that share nothing but their configuration.

The balancer deals requests out in turn, so every session is spread over all replicas: the answer to a question asked in the
middle of a call mostly arrives at another replica than the call's.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import ROOT, serving
from tests.tools.install import MODULES, node

COUNT = 200
AT_ONCE = 20
# What each session of an era sends; see sessions.py.
LEGACY = {"POST 200": 9 * COUNT, "POST 202": 3 * COUNT, "GET 200": COUNT, "DELETE 200": COUNT}
MODERN = {"POST 200": 9 * COUNT}


@pytest.mark.timeout(600)
def test_hundreds_of_sessions_of_each_client_are_clean_on_any_replica(table: list[str]) -> None:
    python, script = [sys.executable, "-m", "tests.fleet.sessions"], str(Path(__file__).with_name("sessions.mjs"))
    with (
        serving("backends.echo") as echo,
        running_fleet(f"backends: {{echo: {{endpoints: ['{echo}']}}}}") as fleet,
    ):
        url, numbers = f"{fleet.url}/echo/mcp", (str(COUNT), str(AT_ONCE))
        started = {
            "Python 2, legacy": start([*python, url, "legacy", *numbers]),
            "TypeScript 1, legacy": start([str(node()), script, str(MODULES), url, *numbers]),
            "Python 2, 2026-07-28": start([*python, url, "2026-07-28", *numbers]),
        }
        results = {client: finish(process) for client, process in started.items()}
        exchanges = read_exchanges(fleet)
        shares = fleet.shares()
    table += describe(results, exchanges, shares)
    for client, result in results.items():
        assert result["errors"] == [], client
        assert result["clean"] == COUNT, client
        assert result["statuses"] == (MODERN if "2026" in client else LEGACY), client
    # Nothing but its client ends a standing stream; all else was answered.
    assert {line["outcome"] for line in exchanges if not is_standing(line)} == {"ok"}
    assert {line["outcome"] for line in exchanges if is_standing(line)} <= {"ok", "client_left"}
    sessions = group_sessions(exchanges)
    assert len(sessions) == 2 * COUNT
    assert all(len({line["replica"] for line in lines}) > 1 for lines in sessions.values())
    # Of 800 questions, in turn over 3 replicas, most must have been answered elsewhere.
    assert sum(count_strays(lines) for lines in sessions.values()) > COUNT


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the program printed; it has to have ended well."""
    output, complaints = process.communicate(timeout=500)
    assert process.returncode == 0, complaints
    result: dict[str, Any] = json.loads(output)
    return result


def read_exchanges(fleet: Fleet) -> list[dict[str, Any]]:
    """The access-log lines of all replicas, each with its replica's number, in the order of time."""
    lines = [
        json.loads(line) | {"replica": replica.number}
        for replica in fleet.replicas
        for line in replica.output.splitlines()
        if line.startswith("{")
    ]
    return sorted((line for line in lines if line["event"] == "exchange"), key=lambda line: str(line["timestamp"]))


def is_standing(line: dict[str, Any]) -> bool:
    return line["http_method"] == "GET" or line.get("method") == "subscriptions/listen"


def group_sessions(exchanges: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The lines of each legacy session."""
    sessions: dict[str, list[dict[str, Any]]] = {}
    for line in exchanges:
        if line["era"] == "legacy":
            sessions.setdefault(line["session"], []).append(line)
    return sessions


def count_strays(lines: Sequence[dict[str, Any]]) -> int:
    """How many of a session's answers to the server came by another replica than the call that they answer."""
    # A session asks one thing after the other: its calls that ask, and its answers, are in one order.
    calls = [line["replica"] for line in lines if line.get("name") in ("ask", "summarise")]
    answers = [line["replica"] for line in lines if line["http_method"] == "POST" and not line.get("method")]
    assert len(calls) == len(answers) == 2
    return sum(call != answer for call, answer in zip(calls, answers, strict=True))


def describe(
    results: dict[str, dict[str, Any]], exchanges: Sequence[dict[str, Any]], shares: Sequence[int]
) -> Iterator[str]:
    """The table that a reader of the output looks for."""
    yield f"{'client':<24}{'sessions':>9}{'clean':>7}{'errors':>8}{'requests':>10}"
    for client, result in results.items():
        requests = sum(result["statuses"].values())
        yield f"{client:<24}{COUNT:>9}{result['clean']:>7}{len(result['errors']):>8}{requests:>10}"
    legacy = group_sessions(exchanges).values()
    spread = sum(len({line["replica"] for line in lines}) == 3 for lines in legacy)
    strays = sum(map(count_strays, legacy))
    yield f"requests by replica: {list(shares)}; legacy sessions served by all three: {spread} of {len(legacy)}"
    yield f"answers that came by another replica than their call's: {strays} of {2 * len(legacy)}"
