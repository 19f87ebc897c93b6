"""The pure parts: ratios within rounds, marks for errors, the Markdown."""

from pathlib import Path

import pytest

from tests.bench.cells import ratio_within_rounds
from tests.bench.rows import Calls, Era, Idle, Row, Run, encode_row, read_rows
from tests.bench.tables import render_comparison, render_report

RUN = Run(
    date="2026-11-22 10:00 UTC",
    machine="Some CPU, 2 CPUs, 8 GiB, Linux 6",
    versions={"Python": "3.11.7", "nginx": "1.22.1"},
    commit="abc",
    load_before=0.5,
    pinned=True,
    rounds=3,
    seconds=2.0,
)


def _calls(
    contender: str,
    turn: int,
    cpu: float,
    *,
    case: str = "small",
    era: Era = "legacy",
    errors: int = 0,
    first: float = 1.0,
) -> Calls:
    return Calls(
        contender=contender,
        case=case,
        era=era,
        round=turn,
        calls=1000,
        rps=500.0,
        p50_ms=220.0 if case == "live" else 2.0,
        p99_ms=4.0,
        first_byte_ms=first,
        cpu_ms_per_1k=cpu,
        reconnects=0,
        errors=errors,
        error="text (step 2, HTTP 502): `oops`" if errors else "",
        load=1.0 + turn,
    )


def _ratio(rows: list[Calls], base: list[Calls]) -> float | None:
    return ratio_within_rounds(rows, base, lambda row: row.cpu_ms_per_1k)


def _line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    base = [_calls("nginx", 0, 10), _calls("nginx", 1, 20), _calls("nginx", 2, 40)]
    rows = [_calls("gateway-1", 0, 50), _calls("gateway-1", 1, 40), _calls("gateway-1", 2, 120)]
    assert _ratio(rows, base) == 3.0  # of 5, 2 and 3; the ratio of the medians would be 2.5
    assert _ratio(rows[:2], base) == 3.5


def test_a_round_with_errors_on_either_side_gives_no_ratio() -> None:
    base = [_calls("nginx", 0, 10, errors=1), _calls("nginx", 1, 20)]
    rows = [_calls("gateway-1", 0, 90), _calls("gateway-1", 1, 60)]
    assert _ratio(rows, base) == 3.0
    assert _ratio([_calls("gateway-1", 1, 60, errors=2)], base) is None


def test_a_round_that_the_base_lacks_gives_no_ratio() -> None:
    assert _ratio([_calls("gateway-1", 7, 60)], [_calls("nginx", 0, 10)]) is None


def test_the_summary_has_a_column_for_each_contender_and_says_where_it_was_measured() -> None:
    rows: list[Row] = [RUN, _calls("direct", 0, 0), _calls("nginx", 0, 20), _calls("gateway-1", 0, 110)]
    report = render_report(rows)
    assert _line(report, "| CPU") == "| CPU µs per call (× nginx) | direct | nginx | gateway-1 |"
    assert _line(report, "| JSON, 200 B, legacy") == "| JSON, 200 B, legacy | – | 20.0 | 110 (× 5.50) |"
    assert report.startswith(
        "2026-11-22 10:00 UTC, commit abc. Some CPU, 2 CPUs, 8 GiB, Linux 6; Python 3.11.7, nginx 1.22.1. gateway on one CPU, "
        "load on another; 3 rounds of 2 s, interleaved, medians. Load average 0.5 before, 1.0–1.0 during the run."
    )


def test_a_contender_with_errors_gets_a_mark_and_no_figure() -> None:
    rows: list[Row] = [RUN, _calls("nginx", 0, 20), _calls("gateway-1", 0, 110), _calls("gateway-1", 1, 110, errors=3)]
    report = render_report(rows)
    assert _line(report, "| JSON, 200 B, legacy") == "| JSON, 200 B, legacy | 20.0 | **✗ 3 errors**, 2,000 right |"
    assert "gateway-1, legacy, first error: `text (step 2, HTTP 502): 'oops'`" in report


@pytest.mark.parametrize(
    ("first", "cell"), [(20.4, "20 ms"), (115.0, "115 ms"), (219.0, "**✗ 219 of 220 ms: buffers**")]
)
def test_a_proxy_that_holds_events_back_is_marked_and_one_that_is_only_late_is_not(first: float, cell: str) -> None:
    report = render_report([RUN, _calls("gateway-1", 0, 500, case="live", first=first)])
    label = "SSE, events 20 ms apart, legacy: first event after"
    assert _line(report, f"| {label}") == f"| {label} | {cell} |"


def test_two_runs_are_compared_by_median_by_least_and_by_their_own_nginx() -> None:
    before: list[Row] = [RUN, _calls("nginx", 0, 20), _calls("gateway-1", 0, 120), _calls("gateway-1", 1, 100)]
    after: list[Row] = [RUN, _calls("nginx", 0, 40), _calls("gateway-1", 0, 160), _calls("gateway-1", 1, 50)]
    assert _line(render_comparison(before, after), "| JSON, 200 B | legacy | gateway-1") == (
        "| JSON, 200 B | legacy | gateway-1 | 110 | 105 | 0.95 | 100 | 50.0 | 0.50 | × 6.00 | × 4.00 |"
    )


def test_rows_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    rows: list[Row] = [RUN, _calls("nginx", 0, 20), Idle("nginx", "legacy", 10, 10, 10, 1.5, 0, "")]
    path = tmp_path / "run.jsonl"
    path.write_text("".join(encode_row(row) for row in rows))
    assert read_rows(path) == rows


def test_a_file_that_is_none_of_ours_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(encode_row(RUN) + "{}\n")
    with pytest.raises(ValueError, match=r"other\.jsonl:2 is no line of a benchmark"):
        read_rows(path)
