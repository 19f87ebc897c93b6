"""The tables of streams: events, commands, latency, and what idle streams take."""

from tests.bench.measurements import judge_idle, judge_log
from tests.bench.rows import Commands, Era, Events, Idle, Row
from tests.bench.tables import render_report


def _events(
    contender: str, turn: int, *, flow: str = "single", cpu: float = 10.0, p50: float = 1.0, errors: int = 0
) -> Events:
    is_logged = contender == "gateway-redis"
    return Events(
        contender=contender,
        flow=flow,
        round=turn,
        events=500,
        events_per_s=4321.0,
        p50_ms=p50,
        p99_ms=p50 * 4,
        cpu_us=cpu,
        store_cpu_us=25.0 if is_logged else 0.0,
        delivered=990,
        calls=10,
        logged=1000 if is_logged else 0,
        errors=errors,
        error="an event that is not the next one" if errors else "",
        load=1.0,
    )


def _idle(
    name: str,
    opened: int = 1000,
    delivered: int = 1000,
    *,
    era: Era = "legacy",
    wanted: int = 1000,
    workers: int = 1,
    watched: float = 0.0,
) -> Idle:
    return Idle(
        name,
        era,
        wanted=wanted,
        open=opened,
        delivered=delivered,
        kb_per_stream=14.55,
        errors=0,
        error="",
        workers=workers,
        store_kb_per_stream=0.75 if watched else 0.0,
        watched_seconds=watched,
        sent={"EVALSHA": 10, "PEXPIRE": 5} if watched else {},
        inside={"PEXPIRE": 10} if watched else {},
        reads=5 if watched else 0,
        traffic_bytes=880 if watched else 0,
    )


def _line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_flow_shows_its_speed_its_cpu_and_what_redis_had_to_do() -> None:
    heard = Commands(
        "gateway-redis", "single", 1000, {"EVALSHA": 1000, "EXISTS": 20}, {"XADD": 1000, "HSET": 6000}, 0, ""
    )
    rows: list[Row] = [_events("direct", 0), _events("nginx", 0), _events("gateway-redis", 0, cpu=130), heard]
    report = render_report(rows)
    assert _line(report, "| long calls") == "| long calls, event by event | direct | nginx | gateway-redis |"
    assert _line(report, "| one event at a time: events/s") == (
        "| one event at a time: events/s | 4,321 | 4,321 | 4,321 |"
    )
    assert _line(report, "| one event at a time: CPU") == (
        "| one event at a time: CPU µs per event (× nginx) | – | 10.0 | 130 (× 13.0) |"
    )
    assert _line(report, "| one event at a time: Redis CPU") == (
        "| one event at a time: Redis CPU µs per event | – | – | 25.0 |"
    )
    assert _line(report, "| one event at a time: Redis commands") == (
        "| one event at a time: Redis commands per event | – | – | 1.02 (7.0) |"
    )


def test_latency_is_shown_with_what_is_added_to_a_direct_connection_in_the_same_round() -> None:
    rows: list[Row] = [
        *(_events("direct", turn, flow="paced", p50=p50) for turn, p50 in enumerate((0.1, 1.0, 2.0))),
        *(_events("gateway-1", turn, flow="paced", p50=p50) for turn, p50 in enumerate((0.4, 1.2, 9.0))),
    ]
    report = render_report(rows)
    assert _line(report, "| 20 streams, 50 events/s each: latency p50") == (
        "| 20 streams, 50 events/s each: latency p50 ms | 1.00 | 1.20 (+0.30) |"  # of +0.3, +0.2 and +7.0
    )
    assert _line(report, "| 20 streams, 50 events/s each: latency p99") == (
        "| 20 streams, 50 events/s each: latency p99 ms | 4.00 | 4.80 (+1.20) |"
    )


def test_a_flow_with_errors_gets_a_mark_and_no_figure() -> None:
    report = render_report([_events("nginx", 0), _events("gateway-redis", 0, errors=2)])
    assert _line(report, "| one event at a time: events/s") == (
        "| one event at a time: events/s | 4,321 | **✗ 2 errors**, 990 right |"
    )
    assert "gateway-redis, one event at a time, first error: `an event that is not the next one`" in report


def test_events_that_went_past_the_log_are_an_error() -> None:
    row = _events("gateway-redis", 0)
    assert judge_log(row) == row
    row.logged = 999
    judged = judge_log(row)
    assert (judged.errors, judged.error) == (1, "999 events are in the log, 1000 should be")


def test_idle_streams_that_are_not_in_the_log_are_an_error() -> None:
    row = _idle("gateway-redis", watched=10.0)
    assert judge_idle(row, 1000) == row
    report = render_report([judge_idle(row, 998)])
    assert _line(report, "| memory per idle") == "| memory per idle GET stream, legacy, of 1,000 | **✗ 1 error** |"
    assert "gateway-redis, 1,000 idle, legacy, error: `998 streams are in the log, 1000 should be`" in report


def test_idle_streams_show_their_memory_and_what_was_lost() -> None:
    report = render_report(
        [_idle("nginx", era="modern"), _idle("gateway-1", 1000, 0, era="modern"), _idle("fastmcp", 0, 0, era="modern")]
    )
    assert _line(report, "| memory per idle") == (
        "| memory per idle subscriptions/listen, modern, of 1,000 | 14.6 kB | 14.6 kB, **✗ 0 of 1,000 notified** "
        "| **✗ 0 of 1,000 opened** |"
    )


def test_idle_streams_show_what_redis_keeps_and_does_for_them() -> None:
    report = render_report(
        [_idle("gateway-1"), _idle("gateway-redis", 10000, 10000, wanted=10000, workers=2, watched=10.0)]
    )
    assert _line(report, "| memory per idle GET stream, legacy, of 10,000") == (
        "| memory per idle GET stream, legacy, of 10,000 | – | 14.6 kB (2 workers) |"
    )
    assert _line(report, "| Redis memory") == "| Redis memory per idle GET stream, legacy, of 10,000 | – | 0.75 kB |"
    assert _line(report, "| Redis meanwhile") == (
        "| Redis meanwhile, of 10,000 | – | 1.50 commands/s in 0.50 reads/s, 88.0 B/s, over 10 s |"
    )
