"""The tables of streams: long calls event by event, and streams that are idle. Pure: rows in, text out."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from tests.bench.cells import (
    BASE,
    count_errors,
    difference_within_rounds,
    line,
    names_of,
    note_errors,
    number,
    plural,
    ratio_within_rounds,
    rule,
    times,
)
from tests.bench.rows import ERAS, FLOWS, Commands, Events, Flow, Idle, Row

DIRECT = "direct"

EVENTS_LEGEND = (
    "Long legacy calls of one progress notification after the other; every event was checked as it came: the next one, once. "
    "`gateway-1` keeps no log; `gateway-memory` and `gateway-redis` have each event in theirs before a client sees it, which was "
    "counted. One event at a time: the next leaves when the client has the last, on 16 streams. Redis runs without persistence, on "
    "the CPU of load and backend. Commands are all that the gateway sends, from the first of a call to its end; in brackets what "
    "Redis runs besides, inside its scripts. "
    "Latency: from the backend's sending an event to the client's having it; in brackets what is added to `direct`."
)


def render_events(rows: Sequence[Row]) -> str:
    """Events per second, CPU, commands and latency, a column for each contender; empty where no flow was measured."""
    events = [row for row in rows if isinstance(row, Events)]
    names = names_of(events)
    lines, notes = [], []
    for flow in FLOWS:
        of = {name: [row for row in events if (row.flow, row.contender) == (flow.name, name)] for name in names}
        if any(of.values()):
            lines += [line([label, *cells]) for label, cells in _event_lines(flow, of)]
            heard = {row.contender: row for row in rows if isinstance(row, Commands) and row.flow == flow.name}
            if heard:
                lines.append(
                    line([f"{flow.title}: Redis commands per event", *(_commands(heard.get(name)) for name in of)])
                )
            notes += [note for name, its in of.items() for note in note_errors(its, f"{name}, {flow.title}")]
    if not lines:
        return ""
    head = [line(["long calls, event by event", *names]), rule(1 + len(names))]
    return "\n".join([*head, *lines, *([""] if notes else []), *notes]) + f"\n\n{EVENTS_LEGEND}"


Of = dict[str, list[Events]]


def _event_lines(flow: Flow, of: Of) -> Iterator[tuple[str, list[str]]]:
    if flow.interval_ms:
        yield f"{flow.title}: latency p50 ms", _cells(of, lambda its: _latency(its, of, lambda row: row.p50_ms))
        yield f"{flow.title}: latency p99 ms", _cells(of, lambda its: _latency(its, of, lambda row: row.p99_ms))
    else:
        yield f"{flow.title}: events/s", _cells(of, lambda its: number(median(row.events_per_s for row in its)))
    yield f"{flow.title}: CPU µs per event (× nginx)", _cells(of, lambda its: _cpu(its, of))
    if any(row.store_cpu_us for its in of.values() for row in its):
        yield f"{flow.title}: Redis CPU µs per event", _cells(of, _store_cpu)


def _cells(of: Of, cell: Callable[[list[Events]], str]) -> list[str]:
    return [(count_errors(its) or cell(its)) if its else "–" for its in of.values()]


def _cpu(its: list[Events], of: Of) -> str:
    name, cpu = its[0].contender, number(median(row.cpu_us for row in its))
    if name == DIRECT:
        return "–"
    ratio = ratio_within_rounds(its, of.get(BASE, []), lambda row: row.cpu_us)
    return cpu if name == BASE or ratio is None else f"{cpu} ({times(ratio)})"


def _store_cpu(its: list[Events]) -> str:
    return number(median(row.store_cpu_us for row in its)) if its[0].store_cpu_us else "–"


def _commands(row: Commands | None) -> str:
    if row is None or not row.logged:
        return "–"
    if row.errors:
        return f"**✗ {row.error}**"
    sent, inside = sum(row.sent.values()) / row.logged, sum(row.inside.values()) / row.logged
    return f"{sent:.2f} ({inside:.1f})"


def _latency(its: list[Events], of: Of, figure: Callable[[Events], float]) -> str:
    shown = number(median(figure(row) for row in its))
    added = None if its[0].contender == DIRECT else difference_within_rounds(its, of.get(DIRECT, []), figure)
    return shown if added is None else f"{shown} ({added:+.2f})"


# ---- idle streams


def render_idle(rows: Sequence[Row]) -> str:
    """Memory per idle stream, and what Redis has and does while they are; empty where none were opened."""
    idle = [row for row in rows if isinstance(row, Idle)]
    names = names_of(idle)
    lines = []
    for wanted, era in dict.fromkeys((row.wanted, row.era) for row in sorted(idle, key=_place)):
        of = {
            name: next((r for r in idle if (r.contender, r.wanted, r.era) == (name, wanted, era)), None)
            for name in names
        }
        stream = f"{'GET stream' if era == 'legacy' else 'subscriptions/listen'}, {era}, of {wanted:,}"
        lines.append(line([f"memory per idle {stream}", *(_memory(row) for row in of.values())]))
        if any(row is not None and row.watched_seconds for row in of.values()):
            lines.append(line([f"Redis memory per idle {stream}", *(_store_memory(row) for row in of.values())]))
            lines.append(line([f"Redis meanwhile, of {wanted:,}", *(_traffic(row) for row in of.values())]))
    notes = [
        f"{row.contender}, {row.wanted:,} idle, {row.era}, error: `{row.error.replace('`', chr(39))}`"
        for row in idle
        if row.error
    ]
    head = [line(["idle streams", *names]), rule(1 + len(names))]
    return "\n".join([*head, *lines, *([""] if notes else []), *notes]) if lines else ""


def _place(row: Idle) -> tuple[int, int]:
    return ERAS.index(row.era), row.wanted


def _memory(row: Idle | None) -> str:
    if row is None:
        return "–"
    if row.open < row.wanted:
        return f"**✗ {row.open:,} of {row.wanted:,} opened**"
    if row.errors:
        return f"**✗ {plural(row.errors, 'error')}**"
    lost = "" if row.delivered == row.open else f", **✗ {row.delivered:,} of {row.open:,} notified**"
    spread = f" ({plural(row.workers, 'worker')})" if row.workers > 1 else ""
    return f"{row.kb_per_stream:.1f} kB{spread}{lost}"


def _store_memory(row: Idle | None) -> str:
    return f"{row.store_kb_per_stream:.2f} kB" if row is not None and row.watched_seconds else "–"


def _traffic(row: Idle | None) -> str:
    if row is None or not row.watched_seconds:
        return "–"
    seconds = row.watched_seconds
    figures = (sum(row.sent.values()), row.reads, row.traffic_bytes)
    commands, reads, traffic_bytes = (number(figure / seconds) for figure in figures)
    return f"{commands} commands/s in {reads} reads/s, {traffic_bytes} B/s, over {seconds:.0f} s"
