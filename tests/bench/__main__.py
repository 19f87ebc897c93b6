"""`python -m tests.bench`: the gateway, nginx and FastMCP's proxy in front of one fast fake backend, in one run.

Rounds are interleaved: in each, every contender gets every case, so that what else the machine does hits all alike.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench import contenders, measurements, programs, selfcheck, tables
from tests.bench.rows import CASES, ERAS, Case, Row, Run, encode_row, read_rows

EXAMPLES = """examples:
  python -m tests.bench                              everything; FastMCP takes its time
  python -m tests.bench --quick                      small, 10 kB and progress calls, no FastMCP: a minute
  python -m tests.bench --only nginx,gateway-1,small one case, two contenders
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
        chosen = _choose(arguments.only, quick=arguments.quick)
    except programs.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    path = Path(arguments.out or programs.RESULTS / f"{programs.today().replace(' UTC', '').replace(' ', 'T')}.jsonl")
    rows = _run(arguments, *chosen, path)
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
    parser.add_argument("--only", help=f"contenders and cases, of: {', '.join([*_contender_names(), *_case_names()])}")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 2")
    parser.add_argument("--seconds", type=float, help="length of a window; default 2, with --quick 0.5")
    parser.add_argument("--streams", type=int, help="idle streams; default 1000, with --quick 200")
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


def _contender_names() -> list[str]:
    return [contender.name for contender in contenders.CONTENDERS]


def _case_names() -> list[str]:
    return [*(case.name for case in CASES), "idle"]


def _choose(only: str | None, *, quick: bool) -> tuple[list[contenders.Contender], list[str]]:
    """Who and what is measured: of each kind all, unless one of that kind is named."""
    words = [word for word in (only or "").split(",") if word]
    unknown = [word for word in words if word not in [*_contender_names(), *_case_names()]]
    if unknown:
        known = ", ".join([*_contender_names(), *_case_names()])
        raise programs.Missing(f"--only: {', '.join(unknown)} is neither contender nor case; known are {known}")
    named = [word for word in words if word in _contender_names()]
    cases = [word for word in words if word in _case_names()]
    wanted = [one for one in contenders.CONTENDERS if (one.name in named if named else one.quick or not quick)]
    return [one for one in wanted if _is_there(one)], cases


def _is_there(contender: contenders.Contender) -> bool:
    needs: dict[str, Callable[[], str]] = {"nginx": programs.find_nginx, "fastmcp": programs.find_fastmcp}
    try:
        needs.get(contender.name.partition("-")[0], str)()
    except programs.Missing as missing:
        print(f"{contender.name}: {missing}", file=sys.stderr)
        return False
    return True


def _run(
    arguments: argparse.Namespace, chosen: Sequence[contenders.Contender], named: list[str], path: Path
) -> list[Row]:
    quick = arguments.quick
    rounds = arguments.rounds or (2 if quick else 5)
    seconds = arguments.seconds or (0.5 if quick else 2.0)
    cases = [case for case in CASES if (case.name in named if named else case.quick or not quick)]
    rows: list[Row] = []
    with path.open("w") as file, contenders.running_backend(arguments.backend_port) as backend_port:
        if not quick and not named:
            selfcheck.check_all(backend_port)

        def keep(row: Row) -> None:
            rows.append(row)
            file.write(encode_row(row))
            file.flush()
            print(encode_row(row), end="", flush=True)

        keep(_describe_run(chosen, rounds, seconds))
        for row in _measure_calls(arguments.target, chosen, cases, rounds, seconds, backend_port):
            keep(row)
        if "idle" in named or not named:
            for row in _measure_idle(chosen, arguments.streams or (200 if quick else 1000), backend_port):
                keep(row)
    return rows


def _describe_run(chosen: Sequence[contenders.Contender], rounds: int, seconds: float) -> Run:
    names = {contender.name for contender in chosen}
    measured, load = programs.choose_cpus()
    return Run(
        date=programs.today(),
        machine=programs.describe_machine(),
        versions=programs.list_versions(nginx="nginx" in names, fastmcp=any("fastmcp" in name for name in names)),
        commit=programs.describe_commit(),
        load_before=round(os.getloadavg()[0], 2),
        pinned=measured != load,
        rounds=rounds,
        seconds=seconds,
    )


def _measure_calls(
    started: list[contenders.Target],
    chosen: Sequence[contenders.Contender],
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    backend_port: int,
) -> Iterator[Row]:
    """Every contender runs all the time; only one is under load at a time."""
    with contextlib.ExitStack() as stack:
        targets = []
        for contender in chosen if cases else ():
            with _told_if_broken():
                targets.append(stack.enter_context(contenders.running(contender, backend_port)))
        targets += started
        for target in targets:  # workers boot, caches fill
            measurements.measure_calls(target, CASES[0], "modern", 0, 0.3)
        for turn in range(rounds):
            for case in cases:
                if case.live and turn:
                    continue  # a yes or no needs no rounds
                for era in ERAS:
                    for target in targets:
                        yield measurements.measure_calls(target, case, era, turn, seconds)


def _measure_idle(chosen: Sequence[contenders.Contender], streams: int, backend_port: int) -> Iterator[Row]:
    """A fresh process for each: one that has held streams before has their memory still."""
    for contender in chosen:
        for era in ERAS if contender.idle else ():
            with _told_if_broken(), contenders.running(contender, backend_port) as target:
                yield measurements.measure_idle(target, era, streams, backend_port)


@contextlib.contextmanager
def _told_if_broken() -> Iterator[None]:
    """A contender that doesn't start is left out, loudly; the others are measured all the same."""
    try:
        yield
    except RuntimeError as error:
        print(f"bench: {error}", file=sys.stderr)


def _parse_target(text: str) -> contenders.Target:
    found = re.fullmatch(r"([\w-]+)=(\d+)(/\S*)@(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PORT/PATH@PID, such as mine=8080/b/mcp@1234")
    name, port, path, pid = found.groups()
    return contenders.Target(name, int(port), path, int(pid))


if __name__ == "__main__":
    sys.exit(main())
