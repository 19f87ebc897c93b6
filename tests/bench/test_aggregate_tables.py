"""What is shown of several backends as one: ratios to their mounts, marks for errors."""

from tests.bench.aggregate_tables import render_merge_details, render_merges
from tests.bench.rows import Era, Merged
from tests.bench.tables import render_report
from tests.bench.test_tables import RUN


def _merged(
    contender: str, turn: int, cpu_us: float, *, merge: str = "call-20", era: Era = "modern", errors: int = 0
) -> Merged:
    return Merged(
        contender=contender,
        merge=merge,
        era=era,
        round=turn,
        calls=100,
        rps=500.0,
        p50_ms=2.0,
        p99_ms=4.0,
        cpu_us=cpu_us,
        answer_bytes=301_123,
        errors=errors,
        error="names of tools" if errors else "",
        load=1.5,
    )


def _line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_request_to_an_aggregate_is_compared_with_the_mount_of_its_round() -> None:
    rows = [
        _merged("mount", 0, 50),
        _merged("aggregate", 0, 60),
        _merged("mount", 1, 100),
        _merged("aggregate", 1, 150),
    ]
    rows += [_merged("mount", 2, 80), _merged("aggregate", 2, 100), _merged("fastmcp", 0, 50_000)]
    table = render_merges(rows)
    assert _line(table, "| CPU") == "| CPU µs per request (× mount) | mount | aggregate | fastmcp |"
    assert _line(table, "| tools/call") == (
        "| tools/call, 20 backends, modern | 80.0 | 100 (× 1.25) | 50,000 (× 1,000) |"
    )


def test_who_was_not_asked_for_a_list_has_no_figure_and_a_kept_one_is_said_to_be_so() -> None:
    rows = [
        _merged(name, 0, 70, merge="list-3", era=era) for era in ("legacy", "modern") for name in ("mount", "aggregate")
    ]
    table = render_merges([*rows, _merged("nginx", 0, 35, merge="list-3")])
    assert "| tools/list, 3 backends, 150 tools, legacy | 70.0 | 70.0 (× 1.00) | – |" in table
    assert "| tools/list, 3 backends, 150 tools, modern, kept | 70.0 | 70.0 (× 1.00) | 35.0 (× 0.50) |" in table


def test_a_wrong_list_gives_a_mark_and_its_reason_and_no_figure() -> None:
    rows = [_merged("mount", 0, 50), _merged("aggregate", 0, 5, errors=7)]
    assert _line(render_merges(rows), "| tools/call").endswith("| 50.0 | **✗ 7 errors**, 100 right |")
    assert "aggregate, first error: `names of tools`" in render_merge_details(rows)


def test_details_have_the_size_of_an_answer_and_the_best_round() -> None:
    rows = [_merged("mount", 0, 50), _merged("mount", 1, 70)]
    assert _line(render_merge_details(rows), "| mount") == (
        "| mount | 500 | 2.00 | 4.00 | 60.0 | 50.0 | × 1.00 | 301,123 | 2 | 0 |"
    )


def test_a_report_has_aggregates_above_the_details_and_none_where_none_were_measured() -> None:
    report = render_report([RUN, _merged("mount", 0, 50), _merged("aggregate", 0, 60)])
    assert report.index("| CPU µs per request") < report.index("### In detail") < report.index("#### tools/call")
    assert "Load average 0.5 before, 1.5–1.5 during the run." in report
    assert render_merges([RUN]) == render_merge_details([RUN]) == ""
