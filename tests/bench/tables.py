"""The tables of a run, those of calls above all: medians, ratios within a round. Pure: rows in, text out.

A contender that made one error in a case gets no figure there, only the count: the time of a failed call is no time.
"""

from collections.abc import Sequence
from statistics import median

from tests.bench.aggregate_tables import render_merge_details, render_merges
from tests.bench.cells import (
    BASE,
    count_errors,
    line,
    names_of,
    note_errors,
    number,
    plural,
    ratio_within_rounds,
    rule,
    times,
)
from tests.bench.rows import CASES, ERAS, Calls, Case, Era, Events, Merged, Row, Run
from tests.bench.stream_tables import render_events, render_idle

LIVE_MS = 100
"""Ten events 20 ms apart: 200 ms lie between the first and the end. Where less than this is left of them, somebody buffers.
The first event's own delay tells nothing: a slow proxy is late with it and streams all the same."""

LEGEND = (
    "CPU is that of all processes of the contender, load and backend not included; × nginx is the median of the ratios "
    "within a round, `least` the best round. ✗ marks answers that were wrong or missing. `gateway-2` has both CPUs, which it "
    "shares with load and backend: compare its CPU, not its requests per second. `gateway-1` and `-2` write an access-log "
    "line per call, nginx none."
)


def render_report(rows: Sequence[Row]) -> str:
    """All tables of one run, the one for the README first."""
    calls = [render_calls(rows), LEGEND] if _cases_in(rows) else []
    details = [*(_render_case(rows, case) for case in _cases_in(rows)), render_merge_details(rows)]
    parts = [
        describe(rows),
        *calls,
        render_merges(rows),
        render_events(rows),
        render_idle(rows),
        *(["### In detail"] if any(details) else []),
        *details,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_calls(rows: Sequence[Row]) -> str:
    """CPU for each kind of call; one column for each contender."""
    names = names_of(row for row in rows if isinstance(row, Calls))
    lines = [line(["CPU µs per call (× nginx)", *names]), rule(1 + len(names))]
    for case in _cases_in(rows):
        for era in ERAS:
            label = f"{case.title}, {era}" + (": first event after" if case.live else "")
            lines.append(line([label, *(_cell(rows, case, era, name) for name in names)]))
    return "\n".join(lines)


def render_comparison(before: Sequence[Row], after: Sequence[Row]) -> str:
    """Two runs side by side: medians, the least of all rounds (other load only adds), and the ratios to nginx."""
    head = ["case", "era", "contender", "CPU µs, A", "B", "B / A", "least, A", "B", "B / A", "× nginx, A", "B"]
    lines = [line(head), rule(len(head))]
    for case in (case for case in CASES if not case.live):
        for era in ERAS:
            for name in names_of([*before, *after]):
                pair = [_select(rows, case.name, era, name) for rows in (before, after)]
                if all(pair) and name != "direct":
                    bases = [_select(rows, case.name, era, BASE) for rows in (before, after)]
                    lines.append(line([case.title, era, name, *_compare(pair, bases)]))
    return f"A: {describe(before)}\n\nB: {describe(after)}\n\n" + "\n".join(lines) + "\n"


def _cpu_within_rounds(rows: Sequence[Calls], base: Sequence[Calls]) -> float | None:
    return ratio_within_rounds(rows, base, lambda row: row.cpu_ms_per_1k)


def _compare(pair: Sequence[list[Calls]], bases: Sequence[list[Calls]]) -> list[str]:
    failed = [count_errors(rows) for rows in pair]
    ratios = [_cpu_within_rounds(rows, base) for rows, base in zip(pair, bases, strict=True)]
    cells: list[str] = []
    for statistic in (median, min):
        cpu = [statistic(row.cpu_ms_per_1k for row in rows) for rows in pair]
        cells += [wrong or number(figure) for wrong, figure in zip(failed, cpu, strict=True)]
        cells.append("–" if any(failed) or not cpu[0] else f"{cpu[1] / cpu[0]:.2f}")
    return [*cells, *(times(ratio) for ratio in ratios)]


def _render_case(rows: Sequence[Row], case: Case) -> str:
    figures = [
        "requests/s",
        "p50 ms",
        "p99 ms",
        "first byte ms",
        "CPU ms per 1,000",
        "least",
        "× nginx",
        "rounds",
        "errors",
    ]
    lines = [f"#### {case.title} ({plural(case.connections, 'connection')})", ""]
    lines += [line(["era", "through", *figures]), rule(2 + len(figures))]
    notes = []
    for era in ERAS:
        for name in names_of(rows):
            chosen = _select(rows, case.name, era, name)
            if not chosen:
                continue
            free = case.live or name == "direct"
            lines.append(
                line([era, name, *_detail(chosen, [] if free else _select(rows, case.name, era, BASE), free=free)])
            )
            notes += note_errors(chosen, f"{name}, {era}")
    return "\n".join(lines + ([""] if notes else []) + notes)


def _detail(rows: list[Calls], base: list[Calls], *, free: bool) -> list[str]:
    """`free`: its CPU is not worth a figure."""
    middle = [
        median(figure)
        for figure in zip(*((r.rps, r.p50_ms, r.p99_ms, r.first_byte_ms, r.cpu_ms_per_1k) for r in rows), strict=True)
    ]
    cells = [number(figure) if any(row.calls for row in rows) else "–" for figure in middle]
    cells.append(number(min(row.cpu_ms_per_1k for row in rows)) if cells[-1] != "–" else "–")
    if free:
        cells[-2:] = ["–", "–"]
    return [*cells, times(_cpu_within_rounds(rows, base)), str(len(rows)), count_errors(rows) or "0"]


def _cell(rows: Sequence[Row], case: Case, era: Era, name: str) -> str:
    chosen = _select(rows, case.name, era, name)
    if not chosen:
        return "–"
    if wrong := count_errors(chosen):
        return wrong
    if case.live:
        first, last = median(row.first_byte_ms for row in chosen), median(row.p50_ms for row in chosen)
        return f"{first:.0f} ms" if last - first > LIVE_MS else f"**✗ {first:.0f} of {last:.0f} ms: buffers**"
    if name == "direct":
        return "–"
    cpu = number(median(row.cpu_ms_per_1k for row in chosen))
    return cpu if name == BASE else f"{cpu} ({times(_cpu_within_rounds(chosen, _select(rows, case.name, era, BASE)))})"


def describe(rows: Sequence[Row]) -> str:
    """Where, when and how it was measured."""
    run = next((row for row in rows if isinstance(row, Run)), None)
    if run is None:
        return "(a file without a line about its run)"
    loads = [row.load for row in rows if isinstance(row, Calls | Merged | Events)] or [run.load_before]
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    pinned = "gateway on one CPU, load on another" if run.pinned else "not pinned: one CPU for all"
    during = f"{min(loads):.1f}–{max(loads):.1f}"
    return (
        f"{run.date}, commit {run.commit}. {run.machine}; {versions}. {pinned}; {plural(run.rounds, 'round')} "
        f"of {run.seconds:g} s, interleaved, medians. Load average {run.load_before:.1f} before, {during} during the run."
    )


def _cases_in(rows: Sequence[Row]) -> list[Case]:
    seen = {row.case for row in rows if isinstance(row, Calls)}
    return [case for case in CASES if case.name in seen]


def _select(rows: Sequence[Row], case: str, era: Era, name: str) -> list[Calls]:
    return [r for r in rows if isinstance(r, Calls) and (r.case, r.era, r.contender) == (case, era, name)]
