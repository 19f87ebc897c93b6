"""`python -m tests.bench.profile`: where the gateway's own CPU time goes while it answers calls.

The gateway runs in this process, on its main thread; the load and the backend are processes of their own. A timer of
the kernel interrupts each time this process has used so much CPU (a tick: 1 to 4 ms), and the Python function that runs
then is noted. A call costs the same with the sampler as without; under cProfile small functions look dear.

Time in C code (sockets, TLS, hashing, JSON) is the time of the Python function that called it. What the event loop does
between two callbacks is `(event loop)`.
"""

import argparse
import contextlib
import opcode
import os
import runpy
import signal
import sys
import sysconfig
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench import aggregates, contenders, measurements, programs, stores
from tests.bench.rows import ERAS, FLOWS, MERGES, Era

INTERVAL_SECONDS = 0.001  # the kernel rounds it up to its tick
STDLIB = sysconfig.get_path("stdlib") + "/"
LOOP = "(event loop)"
_RESUME = opcode.opmap["RESUME"]
_RUNNERS = ("asyncio/", "uvloop/", "uvicorn/server.py", "gateway/commands/")
"""Files whose frames wait for the loop: what starts right above them was started by the loop."""


@dataclass
class Samples:
    """How often each function ran (own), was somewhere on the stack (all), and each line and file ran."""

    own: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    count: int = 0

    def take(self, _signal: int, frame: FrameType | None) -> None:
        self.count += 1
        if frame is None or _is_between_callbacks(frame):
            for counter in (self.own, self.whole, self.files):
                counter[LOOP] += 1
            return
        self.own[_name(frame)] += 1
        self.files[_shorten(frame.f_code.co_filename)] += 1
        self.lines[f"{_shorten(frame.f_code.co_filename)}:{frame.f_lineno or frame.f_code.co_firstlineno}"] += 1
        seen = set()
        step: FrameType | None = frame
        while step is not None:
            seen.add(_name(step))
            step = step.f_back
        self.whole.update(seen)


def _is_between_callbacks(frame: FrameType) -> bool:
    """A signal that arrives in the loop's C code is seen at the first instruction of the next callback."""
    if _is_runner(frame):
        return True
    starts = frame.f_code.co_code[frame.f_lasti] == _RESUME if frame.f_lasti >= 0 else True
    return starts and (frame.f_back is None or _is_runner(frame.f_back))


def _is_runner(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return any(part in name for part in _RUNNERS) or name.startswith("<frozen runpy")


def _name(frame: FrameType) -> str:
    return f"{frame.f_code.co_qualname}  {_shorten(frame.f_code.co_filename)}:{frame.f_code.co_firstlineno}"


def _shorten(name: str) -> str:
    for mark in ("site-packages/", f"{programs.ROOT}/", STDLIB):
        if mark in name:
            return name.rpartition(mark)[2]
    return name


def main() -> None:
    arguments = _parse()
    programs.LOGS.mkdir(exist_ok=True)
    programs.build_programs()
    for name in programs.NOISE:
        os.environ.pop(name, None)
    samples = Samples()
    signal.signal(signal.SIGPROF, samples.take)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it has shut down
    measured, _ = programs.choose_cpus()
    with contextlib.ExitStack() as stack:
        backend_port = stack.enter_context(contenders.running_backend())
        redis = stack.enter_context(stores.running_redis()).url if arguments.log == "redis" else ""
        os.sched_setaffinity(0, measured)
        port = programs.free_port()
        place = contenders.Place(backend_port, port, workers=1, redis=redis)
        config = _configure(arguments, place)
        driver = threading.Thread(target=_drive, args=(arguments, place, samples), daemon=True)
        driver.start()
        log = (programs.LOGS / "profile.log").open("w")
        sys.argv = ["gateway", "serve", "--config", str(config), "--port", str(port), "--workers", "1"]
        with log, contextlib.redirect_stdout(log):
            runpy.run_module("gateway", run_name="__main__", alter_sys=True)


def _configure(arguments: argparse.Namespace, place: contenders.Place) -> Path:
    merge = next((merge for merge in MERGES if merge.name == arguments.merge), None)
    if merge is None:
        return contenders.write_gateway_config(place, arguments.log)
    return aggregates.write_gateway_config(place, merge.members)


def _drive(arguments: argparse.Namespace, place: contenders.Place, samples: Samples) -> None:
    """Loads the gateway from outside its event loop, reports, and ends the process with its SIGTERM."""
    merge = next((merge for merge in MERGES if merge.name == arguments.merge), None)
    way = next(way for way in aggregates.WAYS if way.name == arguments.way)
    path = "/b/mcp" if merge is None else way.asked(merge).path
    target = contenders.Target("profile", place.port, path, None)
    try:
        while not contenders.answers(place.port, target.path):
            time.sleep(0.05)
        options = ["-t", arguments.tool, "-s", str(arguments.size), "-c", "16", "-d", "100"]
        if flow := next((flow for flow in FLOWS if flow.name == arguments.flow), None):
            options, arguments.era, arguments.tool = (
                measurements.flow_options(flow, place.backend_port),
                "legacy",
                flow.title,
            )
            options += ["-d", "100"]
        if merge is not None:
            options, arguments.tool = (
                [*aggregates.merge_options(merge, way.asked(merge)), "-c", "16", "-d", "100"],
                merge.title,
            )
        measurements.run_bench(target, arguments.era, [*options, "-q", "500"])
        cpu = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)
        found = measurements.run_bench(target, arguments.era, [*options, "-w", "0", "-q", str(arguments.calls)])
        signal.setitimer(signal.ITIMER_PROF, 0)
        _report(arguments, samples, time.process_time() - cpu, found)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _report(arguments: argparse.Namespace, samples: Samples, cpu: float, found: dict[str, Any]) -> None:
    out = sys.__stderr__ or sys.stderr
    calls, what = max(found["calls"], 1), "events" if arguments.flow else "calls"
    wrong = f", {found['errors']} ERRORS: {found['error']}" if found["errors"] else ""
    print(
        f"{found['calls']:,} {what} ({arguments.era}, {arguments.tool}, {arguments.size} B) in {cpu:.2f} s of CPU: "
        f"{cpu / calls * 1e6:.0f} µs each, {samples.count:,} samples{wrong}",
        file=out,
    )
    scale = cpu / calls * 1e6 / max(samples.count, 1)
    print("\n  own µs     own     all  function", file=out)
    for name, count in samples.own.most_common(arguments.top):
        share, whole = count / samples.count, samples.whole[name] / samples.count
        print(f"{count * scale:8.2f}  {share:6.1%}  {whole:6.1%}  {name}", file=out)
    for title, counter in (("file", samples.files), ("line", samples.lines)):
        print(f"\n  own µs     own  {title}", file=out)
        for name, count in counter.most_common(arguments.top):
            print(f"{count * scale:8.2f}  {count / samples.count:6.1%}  {name}", file=out)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.profile", description=(__doc__ or "").partition("\n")[0]
    )
    eras: tuple[Era, ...] = ERAS
    parser.add_argument("--calls", type=int, default=60_000, help="how many calls (default %(default)s)")
    parser.add_argument("--era", choices=eras, default="modern")
    parser.add_argument("--tool", choices=("echo", "echo_sse", "progress"), default="echo")
    parser.add_argument("--flow", choices=[flow.name for flow in FLOWS], help="long calls instead, event by event")
    parser.add_argument("--merge", choices=[merge.name for merge in MERGES], help="requests to several backends as one")
    parser.add_argument("--way", choices=("aggregate", "mount"), default="aggregate", help="through which these go")
    parser.add_argument("--log", choices=("none", "memory", "redis"), default="none", help="what keeps their events")
    parser.add_argument("--size", type=int, default=200, help="bytes of text (default %(default)s)")
    parser.add_argument("--top", type=int, default=40, help="lines of each table (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
