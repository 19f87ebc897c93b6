"""One measurement at a time: a window of calls, or of events, or thousands of idle streams and what they take."""

import http.client
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.contenders import Target
from tests.bench.programs import BIN, choose_cpus, pinned_to
from tests.bench.rows import Calls, Case, Commands, Era, Events, Flow, Idle
from tests.bench.stores import Heard, Store

WARM_SECONDS = 0.3
IDLE_WARM_CALLS = 200
"""Before memory is read for the first time: what a process allocates once, at its first calls, is not per stream."""

OVERHEAR_SECONDS = 0.3
PATIENCE_SECONDS = 120.0
PUSH_SECONDS = 20.0


def measure_calls(target: Target, case: Case, era: Era, turn: int, seconds: float) -> Calls:
    """One window; the load's errors are in the row, nothing is raised for them."""
    options = ["-t", case.tool, "-s", str(case.size_bytes), "-c", str(case.connections), "-D", str(case.delay_ms)]
    options += ["-d", str(seconds), "-w", str(WARM_SECONDS)]
    found = run_bench(target, era, options)
    target.trim_log()
    return Calls(
        contender=target.name,
        case=case.name,
        era=era,
        round=turn,
        calls=found["calls"],
        rps=found["rps"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        first_byte_ms=found["first_byte_ms"],
        cpu_ms_per_1k=found["cpu_ms_per_1k"],
        reconnects=found["reconnects"],
        errors=found["errors"],
        error=found["error"],
        load=round(os.getloadavg()[0], 2),
    )


def measure_events(target: Target, flow: Flow, turn: int, seconds: float, backend_port: int) -> Events:
    """One window. Where there is a log, each event must be in it: a stream that went past it would cost less."""
    before = _count_logged(target)
    options = [*flow_options(flow, backend_port), "-d", str(seconds), "-w", str(WARM_SECONDS)]
    found = run_bench(target, "legacy", options)
    logged = _count_logged(target) - before
    target.trim_log()
    row = Events(
        contender=target.name,
        flow=flow.name,
        round=turn,
        events=found["calls"],
        events_per_s=found["rps"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=found["cpu_ms_per_1k"],
        store_cpu_us=found["store_cpu_ms_per_1k"],
        delivered=found["events"],
        calls=found["finished"],
        logged=logged - found["finished"] if target.store else logged,  # Redis counts the primers, too
        errors=found["errors"],
        error=found["error"],
        load=round(os.getloadavg()[0], 2),
    )
    return judge_log(row) if target.has_log else row


def flow_options(flow: Flow, backend_port: int) -> list[str]:
    """What tells the load generator to drive that flow."""
    options = ["-t", "progress", "-E", "-c", str(flow.streams), "-n", str(flow.events), "-b", str(flow.burst)]
    return [*options, *(["-D", str(flow.interval_ms)] if flow.interval_ms else ["-A", str(backend_port)])]


def judge_log(row: Events) -> Events:
    """The row, with an error where the log hasn't exactly what the clients got: each event, and each call's response."""
    wanted = row.delivered + row.calls
    if row.errors or row.logged == wanted:
        return row
    return msgspec.structs.replace(row, errors=1, error=f"{row.logged} events are in the log, {wanted} should be")


def overhear_events(target: Target, flow: Flow, backend_port: int) -> Commands:
    """All that its Redis is sent while calls of that flow begin, run and end."""
    assert target.store is not None
    with target.store.overhearing() as heard:
        row = measure_events(target, flow, 0, OVERHEAR_SECONDS, backend_port)
    return Commands(
        contender=target.name,
        flow=flow.name,
        logged=row.logged,
        sent=dict(heard.sent),
        inside=dict(heard.inside),
        errors=row.errors,
        error=row.error,
    )


def _count_logged(target: Target) -> int:
    """By Redis's own count, which has the primers, too; the embedded log has none: there it is what the gateway says."""
    if target.store is not None:
        return target.store.count_entries()
    return _count_appended(target.port) if target.has_log else 0


def _count_appended(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r'^mcp_gateway_stream_events_total\{done="appended"\} (\S+)$', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def run_bench(target: Target, era: Era, options: list[str]) -> dict[str, Any]:
    """What the load generator found; where it gave up, zeros and one error that says why."""
    command = [*_bench(target, era), *options]
    if target.pid is not None:
        command += ["-R", str(target.pid)]
    if target.store is not None:
        command += ["-S", str(target.store.pid)]
    with pinned_to(choose_cpus()[1]):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, complaint = process.communicate()[0], f"no result within {PATIENCE_SECONDS:g} s"
    if process.returncode == 0:
        found: dict[str, Any] = json.loads(output)
        return found
    figures = ("rps", "p50_ms", "p99_ms", "first_byte_ms", "cpu_ms_per_1k", "store_cpu_ms_per_1k")
    nothing = {**dict.fromkeys(figures, 0.0), **dict.fromkeys(("finished", "events", "answer_bytes"), 0)}
    why = complaint.strip() or f"the load generator ended with code {process.returncode}"
    return {**nothing, "calls": 0, "reconnects": 0, "errors": 1, "error": why}


def measure_idle(target: Target, era: Era, streams: int, backend_port: int, watch_seconds: float) -> Idle:
    """Opens the streams, reads the contender's memory before and after, and has the backend notify each once.

    Where there is a Redis, it is left alone with them before that, and what it does meanwhile is counted.
    """
    store = target.store
    run_bench(target, era, ["-q", str(IDLE_WARM_CALLS), "-w", "0"])
    before, kept_before, logged_before = (
        _memory_kb(target.pid),
        store.used_bytes() if store else 0,
        _count_logged(target),
    )
    command = [*_bench(target, era), "-N", str(streams)]
    with (
        pinned_to(choose_cpus()[1]),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        opened = json.loads(process.stdout.readline())
        after, kept, logged = _memory_kb(target.pid), store.used_bytes() if store else 0, _count_logged(target)
        watched, heard = _watch(store, watch_seconds)
        _push(backend_port)
        told = _ask_until_told(process, opened["open"])
        process.stdin.close()
    row = Idle(
        contender=target.name,
        era=era,
        wanted=streams,
        open=opened["open"],
        delivered=told["events"],
        kb_per_stream=round((after - before) / max(opened["open"], 1), 2),
        errors=told["errors"],
        error=told["error"],
        workers=target.workers,
        store_kb_per_stream=round((kept - kept_before) / 1024 / max(opened["open"], 1), 2),
        watched_seconds=round(watched, 1),
        sent=dict(heard.sent),
        inside=dict(heard.inside),
        reads=heard.reads,
        traffic_bytes=heard.traffic_bytes,
    )
    return judge_idle(row, logged - logged_before) if store else row


def judge_idle(row: Idle, primers: int) -> Idle:
    """The row, with an error where not every stream has begun in the log, with its primer: one that isn't there costs less."""
    if row.errors or primers >= row.open:
        return row
    return msgspec.structs.replace(row, errors=1, error=f"{primers} streams are in the log, {row.open} should be")


def _watch(store: Store | None, seconds: float) -> tuple[float, Heard]:
    """For how long it was watched, and what it did meanwhile."""
    if store is None:
        return 0.0, Heard()
    began = time.monotonic()
    with store.overhearing() as heard:
        time.sleep(seconds)
    return time.monotonic() - began, heard


def _ask_until_told(process: "subprocess.Popen[str]", wanted: int) -> dict[str, Any]:
    """What the load generator has received as soon as it is all, or `PUSH_SECONDS` after the push."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + PUSH_SECONDS
    while True:
        process.stdin.write("?\n")
        process.stdin.flush()
        told: dict[str, Any] = json.loads(process.stdout.readline())
        if told["events"] >= wanted or time.monotonic() > deadline:
            return told
        time.sleep(0.02)


def _bench(target: Target, era: Era) -> list[str]:
    return [str(BIN / "bench"), "-u", f"127.0.0.1:{target.port}", "-p", target.path, "-m", era]


def _push(backend_port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", backend_port, timeout=10)
    connection.request("POST", "/__push")
    connection.getresponse().read()
    connection.close()


def _memory_kb(pid: int | None) -> int:
    """What the process and its descendants occupy, shared pages divided among those who share them (PSS)."""
    if pid is None:
        return 0
    return sum(_pss_kb(one) for one in list_tree(pid))


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def list_tree(root: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            children.setdefault(_parent_of(folder), []).append(int(folder.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def _parent_of(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0
