"""The page of metrics, as a scraper reads it."""

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.ports import StreamTurn
from gateway.protocol.outcomes import Outcome
from gateway.telemetry.metrics import Metrics
from tests.telemetry.records import ENDED, STARTED, make_record


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def lines(metrics: Metrics, name: str) -> list[str]:
    page = metrics.render()[0].decode()
    return [line for line in page.splitlines() if line.startswith(name)]


def test_one_exchange_is_counted_in_every_metric_that_it_concerns(metrics: Metrics) -> None:
    record = make_record()
    metrics.begin(record)
    metrics.finish(record, ENDED)
    operation = 'era="modern",mcp_method_name="tools/call",mount="/echo",outcome="ok"'
    bucket = 'era="modern",le="{}",mcp_method_name="tools/call",mount="/echo",outcome="ok"'
    waited = lines(metrics, "mcp_server_operation_duration_seconds")
    assert f"mcp_server_operation_duration_seconds_bucket{{{bucket.format('0.0025')}}} 0.0" in waited
    assert f"mcp_server_operation_duration_seconds_bucket{{{bucket.format('0.005')}}} 1.0" in waited
    assert f"mcp_server_operation_duration_seconds_bucket{{{bucket.format('600.0')}}} 1.0" in waited
    assert f"mcp_server_operation_duration_seconds_bucket{{{bucket.format('+Inf')}}} 1.0" in waited
    assert f"mcp_server_operation_duration_seconds_count{{{operation}}} 1.0" in waited
    took = lines(metrics, "mcp_client_operation_duration_seconds_count")
    assert took == [f'mcp_client_operation_duration_seconds_count{{backend="echo",{operation}}} 1.0']
    assert lines(metrics, "mcp_gateway_tool_calls_total") == [
        'mcp_gateway_tool_calls_total{backend="echo",outcome="ok",tool="add"} 1.0'
    ]
    assert lines(metrics, "mcp_gateway_received_bytes_total") == [
        'mcp_gateway_received_bytes_total{mount="/echo"} 180.0'
    ]
    assert lines(metrics, "mcp_gateway_sent_bytes_total") == ['mcp_gateway_sent_bytes_total{mount="/echo"} 220.0']
    assert lines(metrics, "mcp_gateway_in_flight_exchanges") == ['mcp_gateway_in_flight_exchanges{mount="/echo"} 0.0']
    assert lines(metrics, "mcp_gateway_upstream_failures_total") == []


def test_the_backend_is_timed_apart_from_the_gateway(metrics: Metrics) -> None:
    metrics.finish(make_record(forwarded=STARTED + 1.0, upstream_ended=STARTED + 3.0), STARTED + 4.0)
    assert lines(metrics, "mcp_server_operation_duration_seconds_sum")[0].endswith(" 4.0")
    assert lines(metrics, "mcp_client_operation_duration_seconds_sum")[0].endswith(" 2.0")


def test_a_call_that_never_left_for_the_backend_has_no_backend_time(metrics: Metrics) -> None:
    metrics.finish(make_record(forwarded=0.0, outcome=Outcome.INVALID_PARAMS), ENDED)
    assert lines(metrics, "mcp_client_operation_duration_seconds_count") == []
    assert lines(metrics, "mcp_gateway_tool_calls_total") == []


def test_a_call_that_the_backend_never_ended_is_timed_until_the_end_of_the_exchange(metrics: Metrics) -> None:
    metrics.finish(make_record(forwarded=STARTED + 1.0, upstream_ended=0.0, outcome=Outcome.TIMED_OUT), STARTED + 301.0)
    assert lines(metrics, "mcp_client_operation_duration_seconds_sum")[0].endswith(" 300.0")
    assert lines(metrics, "mcp_gateway_upstream_failures_total") == [
        'mcp_gateway_upstream_failures_total{backend="echo",outcome="timed_out"} 1.0'
    ]


@pytest.mark.parametrize(
    ("http_method", "method", "label"),
    [
        ("POST", "tools/list", "tools/list"),
        ("POST", "server/discover", "server/discover"),
        ("POST", "notifications/initialized", "notifications/initialized"),
        ("POST", "tasks/get", "tasks/get"),
        ("POST", "made/up", "_other"),
        ("POST", "", "_none"),
        ("GET", "", "_listen"),
        ("DELETE", "", "_end"),
        ("BREW", "", "_none"),
    ],
)
def test_the_method_label_takes_only_values_of_the_specification(
    metrics: Metrics, http_method: str, method: str, label: str
) -> None:
    metrics.finish(make_record(http_method=http_method, method=method), ENDED)
    count = lines(metrics, "mcp_server_operation_duration_seconds_count")
    assert len(count) == 1
    assert f'mcp_method_name="{label}"' in count[0]


def test_an_exchange_leaves_the_gauge_that_it_entered(metrics: Metrics) -> None:
    record = make_record(mount="/echo")
    metrics.begin(record)
    assert lines(metrics, "mcp_gateway_in_flight_exchanges") == ['mcp_gateway_in_flight_exchanges{mount="/echo"} 1.0']
    metrics.finish(record, ENDED)
    assert lines(metrics, "mcp_gateway_in_flight_exchanges") == ['mcp_gateway_in_flight_exchanges{mount="/echo"} 0.0']


def tools(metrics: Metrics) -> set[str]:
    page = metrics.render()[0].decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return {sample.labels["tool"] for sample in families["mcp_gateway_tool_calls"].samples}


def test_the_201st_tool_of_a_backend_counts_as_other(metrics: Metrics) -> None:
    for number in range(202):
        metrics.finish(make_record(name=f"tool{number}"), ENDED)
    assert tools(metrics) == {f"tool{number}" for number in range(200)} | {"_other"}
    other = 'mcp_gateway_tool_calls_total{backend="echo",outcome="ok",tool="_other"} 2.0'
    assert other in lines(metrics, "mcp_gateway_tool_calls_total")


def test_invented_names_leave_room_for_the_real_ones(metrics: Metrics) -> None:
    for number in range(300):
        metrics.finish(make_record(name=f"invented{number}", outcome=Outcome.TOOL_ERROR), ENDED)
    metrics.finish(make_record(name="add"), ENDED)
    metrics.finish(make_record(name="add", outcome=Outcome.TOOL_ERROR), ENDED)
    assert tools(metrics) == {f"invented{number}" for number in range(100)} | {"_other", "add"}


def test_each_backend_has_names_of_its_own(metrics: Metrics) -> None:
    for number in range(200):
        metrics.finish(make_record(name=f"tool{number}"), ENDED)
    metrics.finish(make_record(name="sum", backend="math"), ENDED)
    assert "sum" in tools(metrics)


@pytest.mark.parametrize("name", ["", "x" * 129])
def test_a_name_that_no_tool_may_have_counts_as_other(metrics: Metrics, name: str) -> None:
    metrics.finish(make_record(name=name), ENDED)
    assert tools(metrics) == {"_other"}


def test_a_name_cannot_break_out_of_its_label(metrics: Metrics) -> None:
    metrics.finish(make_record(name='x"} 9\nmcp_gateway_forged 1'), ENDED)
    assert lines(metrics, "mcp_gateway_forged") == []
    assert tools(metrics) == {'x"} 9\nmcp_gateway_forged 1'}


def test_an_open_stream_is_taken_off_once_however_often_it_is_closed(metrics: Metrics) -> None:
    close_first = metrics.open_stream("get")
    metrics.open_stream("get")
    close_first()
    close_first()
    assert lines(metrics, "mcp_gateway_open_streams") == ['mcp_gateway_open_streams{kind="get"} 1.0']


def test_endpoints_and_ejections_are_shown_for_each_backend(metrics: Metrics) -> None:
    metrics.count_ejection("echo")
    metrics.show_endpoints("echo", healthy=2, ejected=1)
    assert lines(metrics, "mcp_gateway_ejections_total") == ['mcp_gateway_ejections_total{backend="echo"} 1.0']
    assert lines(metrics, "mcp_gateway_endpoints") == [
        'mcp_gateway_endpoints{backend="echo",state="healthy"} 2.0',
        'mcp_gateway_endpoints{backend="echo",state="ejected"} 1.0',
    ]


def test_only_the_configuration_that_runs_is_shown(metrics: Metrics) -> None:
    metrics.show_configuration("0123456789ab")
    metrics.show_configuration("ba9876543210")
    metrics.count_reload("applied")
    metrics.count_reload("refused")
    metrics.count_reload("refused")
    assert lines(metrics, "mcp_gateway_configuration_info") == [
        'mcp_gateway_configuration_info{digest="ba9876543210"} 1.0'
    ]
    assert lines(metrics, "mcp_gateway_configuration_reloads_total") == [
        'mcp_gateway_configuration_reloads_total{result="applied"} 1.0',
        'mcp_gateway_configuration_reloads_total{result="refused"} 2.0',
    ]


def test_a_single_worker_also_tells_of_its_process(metrics: Metrics) -> None:
    assert lines(metrics, "mcp_gateway_workers") == ["mcp_gateway_workers 1.0"]
    assert len(lines(metrics, "process_resident_memory_bytes")) == 1
    assert [line for line in lines(metrics, "mcp_gateway_build_info") if 'version="1.2.3"' in line]


@pytest.mark.parametrize(
    ("accept", "content_type", "last_line"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", ""),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", ""),
        (
            "application/openmetrics-text; version=1.0.0, text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            "# EOF",
        ),
        ("application/openmetrics-text; version=nonsense", "text/plain; version=0.0.4; charset=utf-8", ""),
    ],
)
def test_a_scraper_gets_the_format_that_it_asks_for(
    metrics: Metrics, accept: str, content_type: str, last_line: str
) -> None:
    metrics.show_configuration("0123456789ab")
    page, told = metrics.render(accept)
    assert told == content_type
    assert page.decode().split("\n")[-2:] == ([last_line, ""] if last_line else page.decode().split("\n")[-2:])


def test_calls_with_a_log_are_shown_by_whether_a_client_follows_them(metrics: Metrics) -> None:
    metrics.show_durable_calls(followed=2, orphans=1)
    metrics.show_durable_calls(followed=1, orphans=0)
    assert lines(metrics, "mcp_gateway_durable_calls") == [
        'mcp_gateway_durable_calls{state="followed"} 1.0',
        'mcp_gateway_durable_calls{state="orphan"} 0.0',
    ]


def test_every_turn_of_a_stream_is_there_before_it_was_ever_taken(metrics: Metrics) -> None:
    metrics.count_stream_turn(StreamTurn.TAKEN_OVER)
    counted = dict(line.rsplit(" ", 1) for line in lines(metrics, "mcp_gateway_stream_turns_total"))
    assert set(counted) == {f'mcp_gateway_stream_turns_total{{turn="{turn}"}}' for turn in StreamTurn}
    assert counted['mcp_gateway_stream_turns_total{turn="taken_over"}'] == "1.0"
    assert counted['mcp_gateway_stream_turns_total{turn="orphan_given_up"}'] == "0.0"


def test_a_degraded_redis_is_shown_while_it_is_and_timed_when_it_was(metrics: Metrics) -> None:
    labels = 'node="10.0.0.20:6379",trouble="away"'
    metrics.show_redis_degraded("10.0.0.20:6379", "away")
    assert lines(metrics, "mcp_gateway_redis_degraded{") == [f"mcp_gateway_redis_degraded{{{labels}}} 1.0"]
    metrics.add_redis_degraded("10.0.0.20:6379", "away", 2.5)
    assert lines(metrics, "mcp_gateway_redis_degraded{") == [f"mcp_gateway_redis_degraded{{{labels}}} 0.0"]
    assert lines(metrics, "mcp_gateway_redis_degraded_seconds_total") == [
        f"mcp_gateway_redis_degraded_seconds_total{{{labels}}} 2.5"
    ]


def test_redis_is_timed_by_command_and_its_failures_counted(metrics: Metrics) -> None:
    metrics.observe_redis("append", 0.002)
    metrics.count_redis_failure("append", "full")
    assert lines(metrics, "mcp_gateway_redis_duration_seconds_count") == [
        'mcp_gateway_redis_duration_seconds_count{command="append"} 1.0'
    ]
    assert lines(metrics, "mcp_gateway_redis_failures_total") == [
        'mcp_gateway_redis_failures_total{command="append",trouble="full"} 1.0'
    ]


def test_events_of_logged_streams_and_healed_sessions_are_counted(metrics: Metrics) -> None:
    metrics.count_stream_events("appended", 3)
    metrics.count_stream_events("replayed", 2)
    metrics.count_healing("echo")
    assert lines(metrics, "mcp_gateway_stream_events_total") == [
        'mcp_gateway_stream_events_total{done="appended"} 3.0',
        'mcp_gateway_stream_events_total{done="replayed"} 2.0',
    ]
    assert lines(metrics, "mcp_gateway_healed_sessions_total") == [
        'mcp_gateway_healed_sessions_total{backend="echo"} 1.0'
    ]


WORKER = """
import sys
from gateway.ports import StreamTurn
from gateway.telemetry.metrics import Metrics
from tests.telemetry.records import make_record, ENDED
metrics = Metrics("1.2.3")
metrics.show_configuration(sys.argv[1])
metrics.show_endpoints("echo", healthy=int(sys.argv[2]), ejected=0)
metrics.show_durable_calls(followed=3, orphans=2)
metrics.count_stream_turn(StreamTurn.RUN_AGAIN)
metrics.show_redis_degraded("10.0.0.20:6379", "away")
stuck = make_record(mount="/stuck")
metrics.begin(stuck)
metrics.finish(make_record(), ENDED)
print("told", flush=True)
sys.stdin.readline()
print(metrics.render()[0].decode(), flush=True)
"""


def test_any_worker_answers_for_all_and_the_dead_are_forgotten_where_they_should_be(tmp_path: Path) -> None:
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(digest: str, healthy: str) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, digest, healthy],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "told\n"
        return worker

    with start("aaaaaaaaaaaa", "1") as first, start("bbbbbbbbbbbb", "2") as second:
        page, _ = first.communicate("\n", timeout=60)
        assert 'mcp_gateway_tool_calls_total{backend="echo",outcome="ok",tool="add"} 2.0' in page
        assert 'mcp_gateway_in_flight_exchanges{mount="/stuck"} 2.0' in page
        assert 'mcp_gateway_configuration_info{digest="aaaaaaaaaaaa"} 1.0' in page
        assert 'mcp_gateway_configuration_info{digest="bbbbbbbbbbbb"} 1.0' in page
        assert 'mcp_gateway_endpoints{backend="echo",state="healthy"} 2.0' in page
        assert "mcp_gateway_workers 2.0" in page
        assert "process_resident_memory_bytes" not in page
        assert 'mcp_gateway_durable_calls{state="orphan"} 4.0' in page
        assert 'mcp_gateway_stream_turns_total{turn="run_again"} 2.0' in page
        assert 'mcp_gateway_redis_degraded{node="10.0.0.20:6379",trouble="away"} 1.0' in page

        code = f"from prometheus_client.multiprocess import mark_process_dead as m; m({first.pid})"
        subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)
        page, _ = second.communicate("\n", timeout=60)
        assert 'mcp_gateway_tool_calls_total{backend="echo",outcome="ok",tool="add"} 2.0' in page
        assert 'mcp_gateway_in_flight_exchanges{mount="/stuck"} 1.0' in page
        assert "aaaaaaaaaaaa" not in page
        assert "mcp_gateway_workers 1.0" in page
        assert 'mcp_gateway_durable_calls{state="orphan"} 2.0' in page
        assert 'mcp_gateway_stream_turns_total{turn="run_again"} 2.0' in page
