"""The port as a whole: what is told and counted together."""

import io
import json

from gateway import ports
from gateway.protocol.outcomes import Outcome
from gateway.telemetry.logs import Logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reports import Telemetry
from tests.telemetry.records import ENDED, make_record


def make_telemetry(level: str = "info") -> tuple[Telemetry, io.BytesIO]:
    stream = io.BytesIO()
    logs = Logs(level, "json", stream)  # type: ignore[arg-type]
    return Telemetry(logs, Metrics("1.2.3"), clock=lambda: ENDED), stream


def read(stream: io.BytesIO) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in lines:
        del line["timestamp"]
    return lines


def page(telemetry: Telemetry) -> list[str]:
    return telemetry.render_metrics("")[0].decode().splitlines()


def test_it_is_the_port_that_the_flow_asks_for() -> None:
    telemetry: ports.Telemetry = make_telemetry()[0]
    assert isinstance(telemetry, Telemetry)


def test_an_exchange_is_counted_while_it_lasts_and_told_when_it_ends() -> None:
    telemetry, stream = make_telemetry()
    record = make_record()
    telemetry.begin(record)
    assert 'mcp_gateway_in_flight_exchanges{mount="/echo"} 1.0' in page(telemetry)
    assert read(stream) == []
    telemetry.finish(record)
    assert 'mcp_gateway_in_flight_exchanges{mount="/echo"} 0.0' in page(telemetry)
    [line] = read(stream)
    assert (line["duration_ms"], line["gateway_ms"]) == (4.0, 1.0)


def test_steps_are_told_at_level_debug_only() -> None:
    quiet, nothing = make_telemetry("info")
    quiet.step(make_record(), "route", endpoint="http://10.0.0.7:9000/mcp")
    assert nothing.getvalue() == b""
    talkative, stream = make_telemetry("debug")
    talkative.step(make_record(), "route", endpoint="http://10.0.0.7:9000/mcp")
    assert read(stream) == [
        {
            "level": "debug",
            "event": "step",
            "request_id": "req-1",
            "step": "route",
            "endpoint": "http://10.0.0.7:9000/mcp",
        }
    ]


def test_streams_are_counted_while_they_are_open() -> None:
    telemetry, _ = make_telemetry()
    close = telemetry.stream_opened(make_record(), "listen")
    assert 'mcp_gateway_open_streams{kind="listen"} 1.0' in page(telemetry)
    close()
    assert 'mcp_gateway_open_streams{kind="listen"} 0.0' in page(telemetry)


def test_a_redis_that_is_degraded_is_shown_and_told_once_a_change() -> None:
    telemetry, stream = make_telemetry()
    telemetry.degraded("10.0.0.20:6379", "away", "no answer in time")
    assert 'mcp_gateway_redis_degraded{node="10.0.0.20:6379",trouble="away"} 1.0' in page(telemetry)
    telemetry.restored("10.0.0.20:6379", "away", 2.0)
    assert 'mcp_gateway_redis_degraded{node="10.0.0.20:6379",trouble="away"} 0.0' in page(telemetry)
    assert [line["event"] for line in read(stream)] == ["redis degraded", "redis restored"]


def test_calls_with_a_log_are_counted() -> None:
    telemetry, _ = make_telemetry()
    telemetry.calls_counted(followed=2, orphans=1)
    assert 'mcp_gateway_durable_calls{state="orphan"} 1.0' in page(telemetry)


def test_an_ejection_is_counted_and_told() -> None:
    telemetry, stream = make_telemetry()
    telemetry.endpoint_ejected("echo", "http://10.0.0.7:9000/mcp?key=hunter2")
    telemetry.endpoint_restored("echo", "http://10.0.0.7:9000/mcp?key=hunter2")
    telemetry.endpoints_counted("echo", healthy=1, ejected=0)
    assert 'mcp_gateway_ejections_total{backend="echo"} 1.0' in page(telemetry)
    assert 'mcp_gateway_endpoints{backend="echo",state="healthy"} 1.0' in page(telemetry)
    assert read(stream) == [
        {"level": "warning", "event": "endpoint ejected", "backend": "echo", "endpoint": "http://10.0.0.7:9000/mcp"},
        {"level": "info", "event": "endpoint restored", "backend": "echo", "endpoint": "http://10.0.0.7:9000/mcp"},
    ]


def test_the_first_configuration_is_no_reload() -> None:
    telemetry, _ = make_telemetry()
    telemetry.configuration_applied("aaaaaaaaaaaa", changed=False)
    assert 'mcp_gateway_configuration_reloads_total{result="applied"} 0.0' in page(telemetry)
    telemetry.configuration_applied("bbbbbbbbbbbb")
    assert 'mcp_gateway_configuration_reloads_total{result="applied"} 1.0' in page(telemetry)
    assert 'mcp_gateway_configuration_info{digest="bbbbbbbbbbbb"} 1.0' in page(telemetry)


def test_a_refused_configuration_is_counted_and_told_with_its_problems() -> None:
    telemetry, stream = make_telemetry()
    telemetry.configuration_refused(["gateway.yaml:3:5: port: must be a number"])
    assert 'mcp_gateway_configuration_reloads_total{result="refused"} 1.0' in page(telemetry)
    assert read(stream) == [
        {
            "level": "error",
            "event": "configuration refused, the one before goes on",
            "problems": ["gateway.yaml:3:5: port: must be a number"],
        }
    ]


def test_a_bug_is_told_with_its_trace() -> None:
    telemetry, stream = make_telemetry()
    telemetry.exception(make_record(outcome=Outcome.INTERNAL), RuntimeError("oops"))
    assert read(stream)[0]["exception"] == "RuntimeError: oops\n"


def test_what_else_happens_is_told() -> None:
    telemetry, stream = make_telemetry()
    telemetry.worker_started("w1")
    telemetry.era_found("echo", "modern", spoken=True)
    assert [line["event"] for line in read(stream)] == ["worker started", "era found"]
