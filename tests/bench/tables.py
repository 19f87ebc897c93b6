"""Medians, ratios within a round, and the Markdown made of them. Pure: rows in, text out.

A contender that made one error in a case gets no figure there, only the count: the time of a failed call is no time.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from tests.bench.rows import CASES, ERAS, Calls, Case, Era, Idle, Row, Run

BASE = "nginx"
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
    parts = [render_summary(rows), LEGEND, "### In detail", *(_render_case(rows, case) for case in _cases_in(rows))]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_summary(rows: Sequence[Row]) -> str:
    """The table for the README: CPU for each kind of call, streams, memory; one column for each contender."""
    names = _names(rows)
    lines = [_row(["CPU µs per call (× nginx)", *names]), _rule(1 + len(names))]
    for case in _cases_in(rows):
        for era in ERAS:
            label = f"{case.title}, {era}" + (": first event after" if case.live else "")
            cells = [_cell(rows, case, era, name) for name in names]
            lines.append(_row([label, *cells]))
    idle = [row for row in rows if isinstance(row, Idle)]
    for era in ERAS:
        if any(row.era == era for row in idle):
            label = f"memory per idle {'GET stream' if era == 'legacy' else 'subscriptions/listen'}, {era}"
            lines.append(_row([label, *(_idle_cell(idle, era, name) for name in names)]))
    return "\n".join([_describe(rows), "", *lines])


def render_comparison(before: Sequence[Row], after: Sequence[Row]) -> str:
    """Two runs side by side: medians, the least of all rounds (other load only adds), and the ratios to nginx."""
    head = ["case", "era", "contender", "CPU µs, A", "B", "B / A", "least, A", "B", "B / A", "× nginx, A", "B"]
    lines = [_row(head), _rule(len(head))]
    for case in (case for case in CASES if not case.live):
        for era in ERAS:
            for name in _names([*before, *after]):
                pair = [_select(rows, case.name, era, name) for rows in (before, after)]
                if all(pair) and name != "direct":
                    bases = [_select(rows, case.name, era, BASE) for rows in (before, after)]
                    lines.append(_row([case.title, era, name, *_compare(pair, bases)]))
    return f"A: {_describe(before)}\n\nB: {_describe(after)}\n\n" + "\n".join(lines) + "\n"


def ratio_within_rounds(
    rows: Iterable[Calls], base: Iterable[Calls], figure: Callable[[Calls], float] = lambda row: row.cpu_ms_per_1k
) -> float | None:
    """The median, over the rounds that both have, of row / base: what else the machine did in a round cancels out."""
    bases = {row.round: figure(row) for row in base if not row.errors and figure(row) > 0}
    ratios = [figure(row) / bases[row.round] for row in rows if row.round in bases and not row.errors]
    return median(ratios) if ratios else None


def count_errors(rows: Iterable[Calls]) -> str:
    """Nothing where all went well, else a mark with how many calls failed and how many didn't."""
    rows = list(rows)
    errors = sum(row.errors for row in rows)
    if not errors:
        return ""
    return f"**✗ {errors:,} errors**, {sum(row.calls for row in rows):,} right"


def _compare(pair: Sequence[list[Calls]], bases: Sequence[list[Calls]]) -> list[str]:
    failed = [count_errors(rows) for rows in pair]
    ratios = [ratio_within_rounds(rows, base) for rows, base in zip(pair, bases, strict=True)]
    cells: list[str] = []
    for statistic in (median, min):
        cpu = [statistic(row.cpu_ms_per_1k for row in rows) for rows in pair]
        cells += [wrong or _number(figure) for wrong, figure in zip(failed, cpu, strict=True)]
        cells.append("–" if any(failed) or not cpu[0] else f"{cpu[1] / cpu[0]:.2f}")
    return [*cells, *(_times(ratio) for ratio in ratios)]


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
    lines = [f"#### {case.title} ({_plural(case.connections, 'connection')})", ""]
    lines += [_row(["era", "through", *figures]), _rule(2 + len(figures))]
    notes = []
    for era in ERAS:
        for name in _names(rows):
            chosen = _select(rows, case.name, era, name)
            if not chosen:
                continue
            free = case.live or name == "direct"
            lines.append(
                _row([era, name, *_detail(chosen, [] if free else _select(rows, case.name, era, BASE), free=free)])
            )
            first = next((row.error for row in chosen if row.errors), "")
            if first:
                notes.append(f"{name}, {era}, first error: `{first.replace('`', chr(39))}`")
    return "\n".join(lines + ([""] if notes else []) + notes)


def _detail(rows: list[Calls], base: list[Calls], *, free: bool) -> list[str]:
    """`free`: its CPU is not worth a figure."""
    middle = [
        median(figure)
        for figure in zip(*((r.rps, r.p50_ms, r.p99_ms, r.first_byte_ms, r.cpu_ms_per_1k) for r in rows), strict=True)
    ]
    cells = [_number(figure) if any(row.calls for row in rows) else "–" for figure in middle]
    cells.append(_number(min(row.cpu_ms_per_1k for row in rows)) if cells[-1] != "–" else "–")
    if free:
        cells[-2:] = ["–", "–"]
    return [*cells, _times(ratio_within_rounds(rows, base)), str(len(rows)), count_errors(rows) or "0"]


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
    cpu = _number(median(row.cpu_ms_per_1k for row in chosen))
    return (
        cpu if name == BASE else f"{cpu} ({_times(ratio_within_rounds(chosen, _select(rows, case.name, era, BASE)))})"
    )


def _idle_cell(rows: Sequence[Idle], era: Era, name: str) -> str:
    row = next((row for row in rows if row.contender == name and row.era == era), None)
    if row is None:
        return "–"
    if row.errors or row.open < row.wanted:
        return f"**✗ {row.open:,} of {row.wanted:,} opened**"
    lost = "" if row.delivered == row.open else f", **✗ {row.delivered:,} of {row.open:,} notified**"
    return f"{row.kb_per_stream:.1f} kB{lost}"


def _describe(rows: Sequence[Row]) -> str:
    run = next((row for row in rows if isinstance(row, Run)), None)
    if run is None:
        return "(a file without a line about its run)"
    loads = [row.load for row in rows if isinstance(row, Calls)] or [run.load_before]
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    pinned = "gateway on one CPU, load on another" if run.pinned else "not pinned: one CPU for all"
    during = f"{min(loads):.1f}–{max(loads):.1f}"
    return (
        f"{run.date}, commit {run.commit}. {run.machine}; {versions}. {pinned}; {_plural(run.rounds, 'round')} "
        f"of {run.seconds:g} s, interleaved, medians. Load average {run.load_before:.1f} before, {during} during the run."
    )


def _cases_in(rows: Sequence[Row]) -> list[Case]:
    seen = {row.case for row in rows if isinstance(row, Calls)}
    return [case for case in CASES if case.name in seen]


def _names(rows: Sequence[Row]) -> list[str]:
    """The contenders in the order of their first rows."""
    return list(dict.fromkeys(row.contender for row in rows if not isinstance(row, Run)))


def _select(rows: Sequence[Row], case: str, era: Era, name: str) -> list[Calls]:
    return [r for r in rows if isinstance(r, Calls) and (r.case, r.era, r.contender) == (case, era, name)]


def _number(figure: float) -> str:
    """Three significant digits are all that such a measurement has."""
    digits = 2 if figure < 10 else 1 if figure < 100 else 0
    return f"{figure:,.{digits}f}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"× {_number(ratio)}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|" + " --- |" + " ---: |" * (columns - 1)
