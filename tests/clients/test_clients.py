"""Real clients of other people's making find every sample backend through three replicas, and can use it: each at its
mount, and all as one server at `/mcp`. Every request goes to another replica.

Each is a program of its own that prints what it found; `python_sdk2.py` says what that is.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.requirements import proves
from tests.tools.install import MODULES, node, python_of

HERE = Path(__file__).parent
CLI = MODULES / "@modelcontextprotocol" / "inspector" / "clients" / "cli" / "build" / "index.js"
CLIENT_SECONDS = 100
LEGACY, MODERN = "2025-11-25", "2026-07-28"

TOOLS = {
    "echo": ["ask", "count", "echo", "summarise"],
    "math": ["add", "divide", "multiply", "statistics"],
    "weather": ["get_weather", "list_cities"],
}
CALLED = {
    "echo": {"result": "hello"},
    "math": {"result": 5},
    "weather": {"city": "Berlin", "month": 7, "temperature": 19.2, "humidity": 76, "condition": "cloudy"},
}
ASKED = "The answer is: yes"
CITIES = [
    *("Berlin", "Cairo", "Lima", "Mumbai", "New York", "Nairobi", "Reykjavik", "Singapore", "Sydney", "Tokyo"),
]
ARGUMENTS = json.loads((HERE / "everything.json").read_text())
EVERYTHING: dict[str, Any] = {
    "tools": [
        *("echo__echo", "echo__count", "echo__ask", "echo__summarise"),
        *("math__add", "math__multiply", "math__divide", "math__statistics"),
        *("weather__get_weather", "weather__list_cities"),
    ],
    "prompts": ["echo__rephrase"],
    "resources": ["echo://last"],
    "templates": ["weather://{city}/climate"],
    "called": {
        "echo__echo": {"result": "through all"},
        "echo__count": {"result": "counted to 3"},
        "echo__ask": {"result": ASKED},
        "echo__summarise": {"result": "in short"},
        "math__add": {"result": 5},
        "math__divide": {"result": 1.5},
        "math__multiply": {"result": 6},
        "math__statistics": {
            "count": 3,
            "minimum": 1,
            "maximum": 3,
            "mean": 2,
            "median": 2,
            "standard_deviation": 0.816496580927726,
        },
        "weather__get_weather": CALLED["weather"],
        "weather__list_cities": {"result": CITIES},
    },
    "steps": [1, 2, 3],
    "prompt": "Rephrase the following in a kind tone, and change nothing else:\n\nNo!",
    "climate": {"january": 0.6, "july": 19.2, "humidity": 76, "rainy_days": 9},
    "read": "watched",
}

CLIENTS = {
    "Python SDK 2, auto": (["python_sdk2.py", "auto"], MODERN),
    "Python SDK 2, pinned to 2026-07-28": (["python_sdk2.py", MODERN], MODERN),
    "Python SDK 2, legacy": (["python_sdk2.py", "legacy"], LEGACY),
    "Python SDK 1": (["python_sdk1.py"], LEGACY),
    "FastMCP, auto": (["fastmcp_client.py", "auto"], MODERN),
    "FastMCP, legacy": (["fastmcp_client.py", "legacy"], LEGACY),
    "TypeScript SDK 1": (["typescript_sdk1.mjs"], LEGACY),
    "TypeScript SDK 2, auto": (["typescript_sdk2.mjs", "auto"], MODERN),
    "TypeScript SDK 2, pinned to 2026-07-28": (["typescript_sdk2.mjs", MODERN], MODERN),
    "TypeScript SDK 2, legacy": (["typescript_sdk2.mjs", "legacy"], LEGACY),
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ExitStack() as cleanup:
        urls = {name: cleanup.enter_context(serving(f"backends.{name}")) for name in TOOLS}
        lines = [f"  {name}: {{endpoints: ['{url}']}}" for name, url in urls.items()]
        lines += ["aggregates:", f"  all: {{mount: /, backends: [{', '.join(TOOLS)}], deadline: 20s}}"]
        yield cleanup.enter_context(running_fleet("\n".join(["backends:", *lines])))


def command(script: str, url: str, *modes: str) -> list[str]:
    """How the script is run: in the environment that has its client."""
    path = str(HERE / script)
    if script.endswith(".mjs"):
        return [str(node()), path, str(MODULES), url, *modes]
    pythons = {"python_sdk1.py": "mcp1", "fastmcp_client.py": "fastmcp"}
    python = str(python_of(pythons[script])) if script in pythons else sys.executable
    return [python, path, url, *modes]


def run(arguments: Sequence[str], home: Path) -> Any:
    """The JSON that the program prints. `home` keeps its hands off the files of whoever runs the tests."""
    env = {**os.environ, "HOME": str(home), "MCP_CATALOG_PATH": str(home / "catalog.json")}
    ended = subprocess.run(
        arguments, cwd=home, env=env, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout)


@proves("AGG-13")
@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_real_client_lists_and_calls_tools_and_is_asked(
    name: str, fleet: Fleet, tmp_path: Path, table: list[str]
) -> None:
    (script, *modes), version = CLIENTS[name]
    before = fleet.shares()
    row = [f"{name:<40}", version]
    table.append(f"{' '.join(row)}  failed")
    found = run(command(script, fleet.url, *modes), tmp_path)
    assert found.pop("everything") == EVERYTHING
    assert found == {"tools": TOOLS, "called": CALLED, "asked": ASKED, "version": version}
    spread = [after - earlier for earlier, after in zip(before, fleet.shares(), strict=True)]
    assert min(spread) > 0
    table[-1] = f"{' '.join(row)}  3 mounts, and all tools at /mcp, asked and told; requests by replica: {spread}"


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
def test_the_inspectors_command_line_lists_and_calls_tools(
    era: str, fleet: Fleet, tmp_path: Path, table: list[str]
) -> None:
    row = f"{f'MCP Inspector (command line), {era}':<51}"
    table.append(f"{row}  failed")

    def inspect(mount: str, method: str, *options: str) -> Any:
        target = ["--server-url", f"{fleet.url}{mount}/mcp", "--transport", "http", "--protocol-era", era]
        inspector = [str(node()), str(CLI.resolve()), *target, "--format", "json", "--quiet", "--method", method]
        return run([*inspector, *options], tmp_path)["result"]

    def call(mount: str, tool: str, arguments: Any) -> Any:
        named = ["--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        return inspect(mount, "tools/call", *named)["structuredContent"]

    assert sorted(tool["name"] for tool in inspect("/echo", "tools/list")["tools"]) == TOOLS["echo"]
    assert call("/echo", "echo", {"text": "hello"}) == CALLED["echo"]
    assert [tool["name"] for tool in inspect("", "tools/list")["tools"]] == EVERYTHING["tools"]
    # It has nobody who could be asked.
    calls = {name: arguments for name, arguments in ARGUMENTS.items() if name not in ("echo__ask", "echo__summarise")}
    with ThreadPoolExecutor(2) as threads:
        called = dict(zip(calls, threads.map(lambda name: call("", name, calls[name]), calls), strict=True))
    assert called == {name: EVERYTHING["called"][name] for name in calls}
    table[-1] = f"{row}  the tools of a mount, and {len(called)} of /mcp called"
