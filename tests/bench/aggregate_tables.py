"""The tables of several backends as one server: what a request costs beside the same one through a mount. Pure."""

from collections.abc import Sequence
from statistics import median

from tests.bench.cells import (
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
from tests.bench.rows import ERAS, MERGES, Era, Merge, Merged, Row

MOUNT = "mount"

LEGEND = (
    "`aggregate` is `/mcp` of the gateway, `mount` the same calls through the backends' own mounts: of a list, the mount of "
    "one backend that has as long a one. Modern clients get either list from the gateway's memory; legacy lists are asked for "
    "anew each time, of all backends. `nginx` forwards calls to each backend's own path, and sends the list as a file. "
    "`fastmcp` mounts one proxy for each backend. × is against `mount`, the median of the ratios within a round."
)


def render_merges(rows: Sequence[Row]) -> str:
    """CPU for each kind of request, and the legend; empty where none were measured."""
    merged = [row for row in rows if isinstance(row, Merged)]
    names = names_of(merged)
    lines = [line(["CPU µs per request (× mount)", *names]), rule(1 + len(names))]
    for merge, era in _kinds_in(merged):
        cells = (_cell(_select(merged, merge, era, name), _select(merged, merge, era, MOUNT)) for name in names)
        lines.append(line([f"{merge.title}, {era}{_kept(merge, era)}", *cells]))
    return "\n".join([*lines, "", LEGEND]) if merged else ""


def render_merge_details(rows: Sequence[Row]) -> str:
    """All figures of each kind of request; empty where none were measured."""
    merged = [row for row in rows if isinstance(row, Merged)]
    return "\n\n".join(_render_details(merged, merge, era) for merge, era in _kinds_in(merged))


def _kinds_in(merged: Sequence[Merged]) -> list[tuple[Merge, Era]]:
    seen = {(row.merge, row.era) for row in merged}
    return [(merge, era) for merge in MERGES for era in ERAS if (merge.name, era) in seen]


def _kept(merge: Merge, era: Era) -> str:
    return ", kept" if merge.lists and era == "modern" else ""


def _select(merged: Sequence[Merged], merge: Merge, era: Era, name: str) -> list[Merged]:
    return [row for row in merged if (row.merge, row.era, row.contender) == (merge.name, era, name)]


def _ratio(rows: Sequence[Merged], base: Sequence[Merged]) -> float | None:
    return ratio_within_rounds(rows, base, lambda row: row.cpu_us)


def _cell(rows: Sequence[Merged], base: Sequence[Merged]) -> str:
    if not rows:
        return "–"
    if wrong := count_errors(rows):
        return wrong
    cpu, ratio = number(median(row.cpu_us for row in rows)), _ratio(rows, base)
    return cpu if rows[0].contender == MOUNT or ratio is None else f"{cpu} ({times(ratio)})"


def _render_details(merged: Sequence[Merged], merge: Merge, era: Era) -> str:
    head = ["through", "requests/s", "p50 ms", "p99 ms", "CPU µs", "least", "× mount", "answer, B", "rounds", "errors"]
    lines = [f"#### {merge.title}, {era} ({plural(merge.connections, 'connection')}; FastMCP: 1)", ""]
    lines += [line(head), rule(len(head))]
    notes = []
    for name in names_of(merged):
        if chosen := _select(merged, merge, era, name):
            lines.append(line([name, *_detail(chosen, _select(merged, merge, era, MOUNT))]))
            notes += note_errors(chosen, name)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _detail(rows: Sequence[Merged], base: Sequence[Merged]) -> list[str]:
    figures = zip(*((row.rps, row.p50_ms, row.p99_ms, row.cpu_us) for row in rows), strict=True)
    cells = [number(median(figure)) for figure in figures] + [number(min(row.cpu_us for row in rows))]
    if not any(row.calls for row in rows):
        cells = ["–"] * len(cells)
    size = f"{rows[-1].answer_bytes:,}"
    return [*cells, times(_ratio(rows, base)), size, str(len(rows)), count_errors(rows) or "0"]
