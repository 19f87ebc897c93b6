"""Several backends as one server: who is measured at that, how each is started, and one window of it.

Beside the aggregate stands what it is to be compared with: the same calls through the backends' own mounts, and, of a list,
the mount of a single backend that has as long a one. The gateway keeps either for modern clients and answers from memory. nginx
forwards calls to each backend's own path, and sends a file with that list.
"""

import contextlib
import http.client
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.contenders import (
    Contender,
    Place,
    Target,
    fastmcp_command,
    gateway_command,
    nginx_command,
    running,
    told_if_broken,
)
from tests.bench.measurements import run_bench
from tests.bench.programs import run_folder
from tests.bench.rows import ERAS, MEMBER_TOOLS, Era, Merge, Merged

WARM_SECONDS = 0.2
SLOW_ROUNDS = 2
SLOW_CALLS = 3
"""What takes a second of CPU per request is asked one by one, and so often in each window."""


@dataclass(frozen=True)
class Asked:
    """Where requests go, and the tools' names there; `@` stands for the backend's number."""

    path: str
    tool: str
    is_file: bool = False


@dataclass(frozen=True)
class Way:
    """A way to several backends, through one contender of those that `--only` names."""

    name: str
    contender: str
    call: Asked
    list: Asked
    is_slow: bool = False

    def asked(self, merge: Merge) -> Asked:
        return self.list if merge.lists else self.call


_OURS, _FASTMCP = Asked("/mcp", "b@__echo_@"), Asked("/mcp", "b@_echo_@")

WAYS = (
    Way("nginx", "nginx", Asked("/b/box/@/mcp", "echo_@"), Asked("/lists/all", "b@__echo_@", is_file=True)),
    Way("mount", "gateway-1", Asked("/b@/mcp", "echo_@"), Asked("/whole/mcp", "b@__echo_@")),
    Way("aggregate", "gateway-1", _OURS, _OURS),
    Way("fastmcp", "fastmcp", _FASTMCP, _FASTMCP, is_slow=True),
    Way("fastmcp-shared", "fastmcp-shared", _FASTMCP, _FASTMCP, is_slow=True),
)


@dataclass(frozen=True)
class Lane:
    """One way to so many backends, and what runs there."""

    way: Way
    members: int
    target: Target


def measure_all(
    merges: Sequence[Merge], names: Sequence[str], backend_port: int, rounds: int, seconds: float
) -> Iterator[Merged]:
    """All requests by all ways through the contenders of those names, interleaved."""
    with contextlib.ExitStack() as stack:
        counts = dict.fromkeys(merge.members for merge in merges)
        lanes = [lane for members in counts for lane in _start(stack, names, members, backend_port)]
        for lane in lanes:
            _warm(lane, merges)
        for turn in range(rounds):
            for merge in merges:
                for era in ERAS:
                    for lane in lanes:
                        if _is_wanted(lane, merge, era, turn):
                            yield measure_merged(lane, merge, era, turn, seconds)


def _is_wanted(lane: Lane, merge: Merge, era: Era, turn: int) -> bool:
    """A file knows no handshake: it stands beside what is answered from memory, and that is modern."""
    fits = lane.members == merge.members and not (lane.way.asked(merge).is_file and era == "legacy")
    return fits and not (lane.way.is_slow and turn >= SLOW_ROUNDS)


def _start(stack: contextlib.ExitStack, names: Sequence[str], members: int, backend_port: int) -> Iterator[Lane]:
    """One process for all ways through the same contender."""
    for name in dict.fromkeys(way.contender for way in WAYS if way.contender in names):
        contender = Contender(f"{name}-aggregate-{members}", "/mcp", _command(name, members))
        with told_if_broken():
            target = stack.enter_context(running(contender, backend_port))
            yield from [Lane(way, members, target) for way in WAYS if way.contender == name]


def _command(name: str, members: int) -> Callable[[Place], list[str]]:
    match name:
        case "nginx":
            return lambda place: _nginx(place, members)
        case "gateway-1":
            return lambda place: gateway_command(place, write_gateway_config(place, members))
        case _:
            mode = "shared" if name == "fastmcp-shared" else "default"
            return lambda place: fastmcp_command(place, mode, list(_urls(place, members).values()))


def _urls(place: Place, members: int) -> dict[str, str]:
    return {
        f"b{number:02d}": f"http://127.0.0.1:{place.backend_port}/box/{number:02d}/mcp"
        for number in range(1, members + 1)
    }


def write_gateway_config(place: Place, members: int) -> Path:
    """`/mcp` is the aggregate, and `whole` one backend that lists as much. All else is the default."""
    config = run_folder() / f"gateway-{place.port}.yaml"
    urls = _urls(place, members)
    whole = {"whole": f"http://127.0.0.1:{place.backend_port}/boxes/{members:02d}/mcp"}
    backends = "".join(f"  {name}: {{endpoints: [{url}]}}\n" for name, url in {**urls, **whole}.items())
    config.write_text(
        f"redis: none\ndrain: {{delay: 0s}}\nbackends:\n{backends}"
        f"aggregates:\n  all: {{mount: /, backends: [{', '.join(urls)}]}}\n"
    )
    return config


def _nginx(place: Place, members: int) -> list[str]:
    folder = run_folder() / f"nginx-{place.port}"
    (folder / "lists").mkdir(parents=True)
    (folder / "lists" / "all").write_bytes(_fetch_list(place.backend_port, members))
    run_folder().chmod(0o711)  # its workers aren't root
    return nginx_command(place, folder)


def _fetch_list(backend_port: int, members: int) -> bytes:
    """What the backend answers that lists all, as a modern server."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/list",
    }
    connection = http.client.HTTPConnection("127.0.0.1", backend_port, timeout=10)
    connection.request("POST", f"/boxes/{members:02d}/mcp", body, headers)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def _warm(lane: Lane, merges: Sequence[Merge]) -> None:
    """Workers boot, caches fill, also those of FastMCP, of whose calls the first lists all tools."""
    for merge in merges:
        for era in ERAS:
            if _is_wanted(lane, merge, era, 0):
                _ask(lane, merge, era, ["-c", "1", "-w", "0", "-q", "1"])


def measure_merged(lane: Lane, merge: Merge, era: Era, turn: int, seconds: float) -> Merged:
    """One window; the load's errors are in the row, nothing is raised for them."""
    warmed = ["-c", str(merge.connections), "-d", str(seconds), "-w", str(WARM_SECONDS)]
    # From the first request's beginning to the last one's end: half a request would be a large part of so few.
    one_by_one = ["-c", "1", "-d", "0.1", "-w", "0", "-k", str(SLOW_CALLS)]
    found = _ask(lane, merge, era, one_by_one if lane.way.is_slow else warmed)
    lane.target.trim_log()
    return Merged(
        contender=lane.way.name,
        merge=merge.name,
        era=era,
        round=turn,
        calls=found["calls"],
        rps=found["rps"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=found["cpu_ms_per_1k"],
        answer_bytes=found["answer_bytes"],
        errors=found["errors"],
        error=found["error"],
        load=round(os.getloadavg()[0], 2),
    )


def _ask(lane: Lane, merge: Merge, era: Era, options: list[str]) -> dict[str, Any]:
    asked = lane.way.asked(merge)
    target = replace(lane.target, path=asked.path)
    return run_bench(target, era, [*merge_options(merge, asked), *options])


def merge_options(merge: Merge, asked: Asked) -> list[str]:
    """What tells the load generator whom to ask, and for what."""
    tool = ("file" if asked.is_file else "list") if merge.lists else "echo"
    return ["-t", tool, "-T", asked.tool, "-M", str(merge.members), "-K", str(merge.members * MEMBER_TOOLS)]
