"""`python -m tests.bench`: the gateway, nginx and FastMCP's proxy in front of one fast fake backend, in one run.

Rounds are interleaved: in each, every contender gets every case, so that what else the machine does hits all alike.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import aggregates, contenders, measurements, plans, programs, selfcheck, tables
from tests.bench.rows import CASES, ERAS, Row, Run, encode_row, read_rows

EXAMPLES = """examples:
  python -m tests.bench                              everything; FastMCP takes its time
  python -m tests.bench --quick                      fewer cases, short windows, no FastMCP: two minutes
  python -m tests.bench --only nginx,gateway-1,small one case, two contenders
  python -m tests.bench --only durable,latency       streams that survive, event by event
  python -m tests.bench --only aggregate-call,aggregate-list
                                                     several backends as one, beside their own mounts
  python -m tests.bench --only gateway-redis,idle --watch 130
                                                     what idle streams ask of Redis, a whole period of refreshing
  python -m tests.bench --compare A.jsonl B.jsonl    two runs side by side, nothing is measured
  python -m tests.bench --backend-port 9000 --target mine=8080/b/mcp@1234
                                                     also what runs already: port/path@pid, in front of port 9000
"""


def main() -> int:
    arguments = _parse()
    if arguments.compare:
        before, after = (read_rows(Path(name)) for name in arguments.compare)
        print(tables.render_comparison(before, after))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that contenders are stopped on the way out
    for folder in (programs.LOGS, programs.RESULTS):
        folder.mkdir(exist_ok=True)
    try:
        programs.build_programs()
        plan = plans.make_plan(
            arguments.only,
            quick=arguments.quick,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            streams=arguments.streams,
            watch_seconds=arguments.watch,
        )
    except programs.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    path = Path(arguments.out or programs.RESULTS / f"{programs.today().replace(' UTC', '').replace(' ', 'T')}.jsonl")
    rows = _run(arguments, plan, path)
    report = tables.render_report(rows)
    path.with_suffix(".md").write_text(report)
    print(f"\n{report}\nraw rows: {path}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures what a call through the gateway costs, beside other proxies.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer cases, short windows, 200 idle streams, FastMCP only if named"
    )
    parser.add_argument(
        "--only", help=f"contenders and cases, of: {', '.join([*plans.contender_names(), *plans.case_names()])}"
    )
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 2")
    parser.add_argument("--seconds", type=float, help="length of a window; default 2, with --quick 0.5")
    parser.add_argument("--streams", type=int, help="idle streams; default 1000 and 10000, with --quick 200")
    parser.add_argument(
        "--watch", type=float, help="seconds for which Redis is watched while they are idle; default 10"
    )
    parser.add_argument("--out", help="where the raw rows go (JSON lines; a .md beside it gets the tables)")
    parser.add_argument("--compare", nargs=2, metavar=("A.jsonl", "B.jsonl"), help="two runs side by side")
    parser.add_argument("--backend-port", type=int, default=0, help="a fixed port for the fake backend")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        type=_parse_target,
        metavar="NAME=PORT/PATH@PID",
        help="what runs already",
    )
    return parser.parse_args()


def _run(arguments: argparse.Namespace, plan: plans.Plan, path: Path) -> list[Row]:
    rows: list[Row] = []
    with path.open("w") as file, contenders.running_backend(arguments.backend_port) as backend_port:
        if plan.is_whole:
            selfcheck.check_all(backend_port)

        def keep(row: Row) -> None:
            rows.append(row)
            file.write(encode_row(row))
            file.flush()
            print(encode_row(row), end="", flush=True)

        keep(_describe_run(plan))
        for row in _measure_running(arguments.target, plan, backend_port):
            keep(row)
        for row in _measure_merges(plan, backend_port):
            keep(row)
        for row in _measure_idle(plan, backend_port):
            keep(row)
    return rows


def _describe_run(plan: plans.Plan) -> Run:
    names = {contender.name for contender in plan.contenders}
    measured, load = programs.choose_cpus()
    return Run(
        date=programs.today(),
        machine=programs.describe_machine(),
        versions=programs.list_versions(
            nginx="nginx" in names,
            fastmcp=any("fastmcp" in name for name in names),
            redis=any(contender.needs_redis for contender in plan.contenders),
        ),
        commit=programs.describe_commit(),
        load_before=round(os.getloadavg()[0], 2),
        pinned=measured != load,
        rounds=plan.rounds,
        seconds=plan.seconds,
    )


def _measure_running(started: list[contenders.Target], plan: plans.Plan, backend_port: int) -> Iterator[Row]:
    """Calls and flows. Every contender runs all the time; only one is under load at a time."""
    with contextlib.ExitStack() as stack:
        calls, flows = list(started), list(started)
        for contender in plan.contenders:
            if not plan.of_calls(contender) and not plan.of_flows(contender):
                continue
            with contenders.told_if_broken():
                target = stack.enter_context(contenders.running(contender, backend_port))
                calls += [target] if plan.of_calls(contender) else []
                flows += [target] if plan.of_flows(contender) else []
        for target in dict.fromkeys([*calls, *flows]):  # workers boot, caches fill
            measurements.measure_calls(target, CASES[0], "modern", 0, 0.3)
        yield from _measure_calls(calls, plan)
        yield from _measure_flows(flows, plan, backend_port)


def _measure_calls(targets: Sequence[contenders.Target], plan: plans.Plan) -> Iterator[Row]:
    for turn in range(plan.rounds):
        for case in plan.cases:
            if case.live and turn:
                continue  # a yes or no needs no rounds
            for era in ERAS:
                for target in targets:
                    yield measurements.measure_calls(target, case, era, turn, plan.seconds)


def _measure_flows(targets: Sequence[contenders.Target], plan: plans.Plan, backend_port: int) -> Iterator[Row]:
    for turn in range(plan.rounds):
        for flow in plan.flows:
            if turn >= plan.rounds_of(flow):
                continue
            for target in targets:
                yield measurements.measure_events(target, flow, turn, plan.seconds_of(flow), backend_port)
    for flow in plan.flows:  # a count needs no rounds
        for target in targets:
            if target.store is not None:
                yield measurements.overhear_events(target, flow, backend_port)


def _measure_merges(plan: plans.Plan, backend_port: int) -> Iterator[Row]:
    names = [contender.name for contender in plan.contenders]
    yield from aggregates.measure_all(plan.merges, names, backend_port, plan.merge_rounds, plan.merge_seconds)


def _measure_idle(plan: plans.Plan, backend_port: int) -> Iterator[Row]:
    """A fresh process for each: one that has held streams before has their memory still."""
    for streams, era in plan.idle:
        for contender in plan.contenders:
            if plan.of_idle(contender, streams, era):
                with contenders.told_if_broken(), contenders.running(contender, backend_port, streams) as target:
                    yield measurements.measure_idle(target, era, streams, backend_port, plan.watch_seconds)


def _parse_target(text: str) -> contenders.Target:
    found = re.fullmatch(r"([\w-]+)=(\d+)(/\S*)@(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PORT/PATH@PID, such as mine=8080/b/mcp@1234")
    name, port, path, pid = found.groups()
    return contenders.Target(name, int(port), path, int(pid))


if __name__ == "__main__":
    sys.exit(main())
