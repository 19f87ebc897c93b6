"""Lines, as an operator reads them."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.intents import Send
from gateway.protocol.outcomes import Outcome
from gateway.protocol.versions import Era
from gateway.telemetry.logs import Logs, join_lines
from gateway.telemetry.redactions import SHOWN_HEADERS
from tests.telemetry.records import ENDED, STARTED, make_record


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def read(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_exchange_is_one_json_line_with_all_that_is_known() -> None:
    stream = io.BytesIO()
    Logs("info", "json", stream).tell_exchange(make_record(session="1a2b3c4d", events=3), ENDED)
    [line] = read(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "level": "info",
        "event": "exchange",
        "request_id": "req-1",
        "mount": "/echo",
        "backend": "echo",
        "endpoint": "http://10.0.0.7:9000/mcp",
        "era": "modern",
        "method": "tools/call",
        "name": "add",
        "client": "claude-code",
        "session": "1a2b3c4d",
        "http_method": "POST",
        "path": "/echo/mcp",
        "status": 200,
        "outcome": "ok",
        "duration_ms": 4.0,
        "upstream_ms": 3.0,
        "gateway_ms": 1.0,
        "bytes_in": 180,
        "bytes_out": 220,
        "events": 3,
    }


def test_what_says_nothing_is_left_out() -> None:
    stream = io.BytesIO()
    record = make_record(
        mount="", backend="", endpoint="", era="", method="", name="", client_name="", bytes_in=0, forwarded=0.0
    )
    record.status, record.outcome, record.detail, record.rpc_code = 404, Outcome.NOT_FOUND, "no such mount", -32600
    Logs("info", "json", stream).tell_exchange(record, ENDED)
    [line] = read(stream)
    del line["timestamp"]
    assert line == {
        "level": "info",
        "event": "exchange",
        "request_id": "req-1",
        "http_method": "POST",
        "path": "/echo/mcp",
        "status": 404,
        "outcome": "not_found",
        "rpc_code": -32600,
        "detail": "no such mount",
        "duration_ms": 4.0,
        "gateway_ms": 4.0,
        "bytes_out": 220,
    }


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Outcome.OK, "info"),
        (Outcome.TOOL_ERROR, "info"),
        (Outcome.CLIENT_LEFT, "info"),
        (Outcome.UNKNOWN_SESSION, "info"),
        (Outcome.UNREACHABLE, "warning"),
        (Outcome.TIMED_OUT, "warning"),
        (Outcome.BACKEND_UNAUTHORIZED, "warning"),
        (Outcome.INTERNAL, "error"),
    ],
)
def test_the_level_says_whose_fault_it_was(outcome: Outcome, level: str) -> None:
    stream = io.BytesIO()
    Logs("info", "json", stream).tell_exchange(make_record(outcome=outcome), ENDED)
    assert read(stream)[0]["level"] == level


def test_at_level_warning_only_failures_are_told() -> None:
    stream = io.BytesIO()
    logs = Logs("warning", "json", stream)
    logs.tell_exchange(make_record(), ENDED)
    logs.tell("info", "worker started")
    logs.tell_exchange(make_record(outcome=Outcome.BROKEN), ENDED)
    assert [line["outcome"] for line in read(stream)] == ["broken"]


def test_clocks_that_disagree_never_give_less_than_nothing() -> None:
    stream = io.BytesIO()
    Logs("info", "json", stream).tell_exchange(make_record(upstream_ended=STARTED + 9), ENDED)
    assert "gateway_ms" not in read(stream)[0]


def test_a_terminal_gets_prose_and_a_pipe_gets_json() -> None:
    terminal, pipe = Terminal(), io.BytesIO()
    Logs("info", "auto", terminal).tell_exchange(make_record(), ENDED)
    Logs("info", "auto", pipe).tell_exchange(make_record(), ENDED)
    assert "tools/call add → 200 ok in 4.0 ms (gateway 1.0)" in terminal.getvalue().decode()
    assert read(pipe)[0]["event"] == "exchange"


def test_the_format_that_was_asked_for_wins_over_the_terminal() -> None:
    terminal, pipe = Terminal(), io.BytesIO()
    Logs("info", "json", terminal).tell_exchange(make_record(), ENDED)
    Logs("info", "pretty", pipe).tell_exchange(make_record(), ENDED)
    assert read(terminal)[0]["event"] == "exchange"
    assert "tools/call add → 200 ok" in pipe.getvalue().decode()


def test_prose_names_the_path_where_there_is_no_method() -> None:
    stream = io.BytesIO()
    record = make_record(http_method="GET", path="/nowhere", method="", name="", status=404, outcome=Outcome.NOT_FOUND)
    Logs("info", "pretty", stream).tell_exchange(record, ENDED)
    assert "GET /nowhere → 404 not_found in 4.0 ms" in stream.getvalue().decode()


HOSTILE = 'x\x1b[2J\r\n{"level":"error"}\u202e\x07'


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_hostile_name_stays_on_its_line_and_off_the_terminal(form: str) -> None:
    stream = io.BytesIO()
    logs = Logs("debug", form, stream)  # type: ignore[arg-type]
    record = make_record(name=HOSTILE, client_name=HOSTILE, method=HOSTILE, detail=HOSTILE)
    logs.tell_exchange(record, ENDED)
    logs.tell_step(record, HOSTILE, {"name": HOSTILE})
    written = stream.getvalue()
    assert written.count(b"\n") == 2
    assert b"\x1b[2J" not in written
    assert b"\x07" not in written
    assert b"\r" not in written


def test_a_long_name_is_cut_so_that_lines_of_several_workers_do_not_mix() -> None:
    stream = io.BytesIO()
    long = "x" * 100_000
    Logs("info", "json", stream).tell_exchange(make_record(name=long, method=long, client_name=long, path=long), ENDED)
    assert len(stream.getvalue()) < 4096


def test_a_name_that_is_no_unicode_is_told_all_the_same() -> None:
    stream = io.BytesIO()
    Logs("info", "json", stream).tell_exchange(make_record(name="\udcff"), ENDED)
    Logs("info", "pretty", stream).tell_exchange(make_record(name="\udcff"), ENDED)
    assert stream.getvalue().count(b"\\udcff") == 2


@pytest.mark.parametrize("error", [BrokenPipeError(), BlockingIOError(), ValueError("closed file")])
def test_a_log_that_nobody_reads_breaks_nothing(error: Exception) -> None:
    class Broken(io.BytesIO):
        def write(self, _data: object) -> int:
            raise error

    stream = Broken()
    Logs("info", "json", stream).tell_exchange(make_record(), ENDED)
    assert stream.getvalue() == b""


def test_a_step_shows_headers_redacted_and_bodies_counted() -> None:
    stream = io.BytesIO()
    headers = [
        (b"authorization", b"Bearer 0123456789abcdef"),
        (b"cookie", b"a=b"),
        (b"mcp-session-id", b"0123456789abcdef0123456789abcdef"),
        (b"X-Api-Key", b"sk-0123456789abcdef"),
        (b"mcp-method", b"tools/call"),
        (b"accept", b"application/json"),
        (b"accept", b"text/event-stream"),
    ]
    facts = {"headers": headers, "body": b"secret", "query": b"key=secret", "session": "0123456789abcdef", "tries": 2}
    Logs("debug", "json", stream).tell_step(make_record(), "receive", facts)
    [line] = read(stream)
    del line["timestamp"]
    assert line == {
        "level": "debug",
        "event": "step",
        "request_id": "req-1",
        "step": "receive",
        "headers": {
            "authorization": "Bear… (23 characters)",
            "cookie": "… (3 characters)",
            "mcp-session-id": "0123… (32 characters)",
            "x-api-key": "sk-0… (19 characters)",
            "mcp-method": "tools/call",
            "accept": "application/json, text/event-stream",
        },
        "body": "(6 bytes)",
        "query": "(10 bytes)",
        "session": "0123… (16 characters)",
        "tries": 2,
    }


def test_prose_shows_each_header_of_a_step_on_a_line() -> None:
    stream = io.BytesIO()
    facts = {"headers": [(b"host", b"localhost"), (b"authorization", b"Bearer 0123456789abcdef")], "mount": "/echo"}
    Logs("debug", "pretty", stream).tell_step(make_record(), "receive", facts)
    first, host, authorization = stream.getvalue().decode().splitlines()
    assert "step=receive mount=/echo" in first
    assert host == "             host: localhost"
    assert authorization == "             authorization: Bear… (23 characters)"


token = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=", min_size=5, max_size=200)
header_name = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_-]{0,30}", fullmatch=True).filter(
    lambda name: name.lower() not in SHOWN_HEADERS
)


@given(name=header_name, secret=token, form=st.sampled_from(["json", "pretty"]))
def test_no_header_value_gets_out_unless_its_header_is_known_to_be_harmless(name: str, secret: str, form: str) -> None:
    stream = io.BytesIO()
    logs = Logs("debug", form, stream)  # type: ignore[arg-type]
    marked = f"\u00a7{secret}\u00a7".encode("latin-1")  # a mark that no line has of its own
    logs.tell_step(make_record(), "forward", {"headers": [(name.encode(), marked)], "answered": [(b"via", b"1.1 x")]})
    written = stream.getvalue().decode()
    shown = written.count("\u00a7")
    assert marked.decode("latin-1")[:5] not in written
    assert shown <= 1


@pytest.mark.parametrize("name", ["token", "api_key", "session", "Authorization", "client_secret", "password"])
def test_a_fact_with_a_secret_name_is_redacted(name: str) -> None:
    stream = io.BytesIO()
    Logs("info", "json", stream).tell("info", "something", **{name: "abcdefghijklmnop"}, nested={name: "abcdefghij"})
    assert read(stream)[0][name] == "abcd… (16 characters)"
    assert read(stream)[0]["nested"] == {name: "… (10 characters)"}


class Inner(msgspec.Struct):
    method: str
    params: bytes


class Outer(msgspec.Struct):
    era: Era
    messages: tuple[Inner, ...]
    token: str | None
    last_event_id: bytes


class Opaque:
    def __repr__(self) -> str:
        return "hunter2"


def test_what_a_fact_is_made_of_is_redacted_too() -> None:
    stream = io.BytesIO()
    intent = Outer(Era.LEGACY, (Inner("tools/call", b"hunter2"),), "abcdefghijklmnopqrstuvwxyz", b"hunter2")
    Logs("debug", "json", stream).tell_step(make_record(), "classify", {"intent": intent, "opaque": Opaque()})
    [line] = read(stream)
    assert line["intent"] == {
        "is": "Outer",
        "era": "legacy",
        "messages": [{"is": "Inner", "method": "tools/call", "params": "(7 bytes)"}],
        "token": "abcd… (26 characters)",
        "last_event_id": "(7 bytes)",
    }
    assert line["opaque"] == "(Opaque)"


def test_the_real_intent_of_a_request_shows_no_session_token() -> None:
    stream = io.BytesIO()
    intent = Send(Era.LEGACY, (), False, "2025-11-25", "hunter2hunter2hunter2hunter2")
    Logs("debug", "json", stream).tell_step(make_record(), "classify", {"intent": intent})
    assert b"hunter2" not in stream.getvalue()


def test_of_a_long_list_the_start_and_the_length_are_told() -> None:
    stream = io.BytesIO()
    Logs("debug", "json", stream).tell_step(make_record(), "classify", {"ids": list(range(1000))})
    assert read(stream)[0]["ids"] == [*range(16), "… (1000 in all)"]


def test_an_address_is_told_without_what_may_be_a_key() -> None:
    stream = io.BytesIO()
    logs = Logs("info", "json", stream)
    logs.tell("info", "dialled", to="https://user:hunter2@example.com:8443/mcp?api_key=hunter2#hunter2")
    logs.tell_exchange(make_record(endpoint="https://example.com/mcp?api_key=hunter2"), ENDED)
    assert read(stream)[0]["to"] == "https://…@example.com:8443/mcp"
    assert read(stream)[1]["endpoint"] == "https://example.com/mcp"
    assert b"hunter2" not in stream.getvalue()


def test_a_fact_cannot_take_the_place_of_a_field_that_every_line_has() -> None:
    stream = io.BytesIO()
    Logs("info", "json", stream).tell("info", "something", event="other", level="x", timestamp=0)
    [line] = read(stream)
    assert line["event"] == "something"
    assert line["level"] == "info"
    assert (line["event_"], line["level_"], line["timestamp_"]) == ("other", "x", 0)


def raise_with_secret() -> None:
    password = "hunter2"
    raise ValueError(f"cannot dial redis://user:{password}@10.0.0.1\x1b[2J with Bearer 0123456789")


def test_a_bug_is_told_with_its_trace_and_without_secrets() -> None:
    json_stream, prose_stream = io.BytesIO(), io.BytesIO()
    with pytest.raises(ValueError, match="cannot dial") as caught:
        raise_with_secret()
    Logs("info", "json", json_stream).tell_bug(make_record(), caught.value)
    Logs("info", "pretty", prose_stream).tell_bug(make_record(), caught.value)
    [line] = read(json_stream)
    assert (line["level"], line["event"], line["request_id"]) == ("error", "bug", "req-1")
    assert "raise_with_secret" in str(line["exception"])
    assert "ValueError: cannot dial redis://…@10.0.0.1\x1b[2J with Bearer …" in str(line["exception"])
    assert b"ValueError: cannot dial redis://\xe2\x80\xa6@10.0.0.1\\x1b[2J" in prose_stream.getvalue()


@pytest.fixture
def routed() -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    put_back = Logs("debug", "json", stream).route_stdlib()
    yield stream
    put_back()


def test_what_libraries_log_comes_out_as_lines_of_ours(routed: io.BytesIO) -> None:
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request from %s", "127.0.0.1")
    logging.getLogger("redis").debug("about itself")
    logging.getLogger("gateway.settings").debug("watching", extra={"files": ["a.yaml"], "token": "abcdefghijklmnop"})
    told = read(routed)
    for line in told:
        del line["timestamp"]
    assert told == [
        {
            "level": "warning",
            "event": "Invalid HTTP request from 127.0.0.1",
            "logger": "uvicorn.error",
        },
        {
            "level": "debug",
            "event": "watching",
            "files": ["a.yaml"],
            "token": "abcd… (16 characters)",
            "logger": "gateway.settings",
        },
    ]


def test_what_a_library_raises_comes_with_its_trace(routed: io.BytesIO) -> None:
    try:
        raise_with_secret()
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    [line] = read(routed)
    assert "raise_with_secret" in str(line["exception"])


def test_the_level_can_change_while_the_gateway_runs() -> None:
    stream = io.BytesIO()
    logs = Logs("info", "json", stream)
    put_back = logs.route_stdlib()
    logger = logging.getLogger("gateway.settings")
    logs.tell_step(make_record(), "before", {})
    logger.debug("before")
    logs.change_level("debug")
    assert logs.debugging
    logs.tell_step(make_record(), "meanwhile", {})
    logger.debug("meanwhile")
    logs.change_level("warning")
    logs.tell_exchange(make_record(), ENDED)
    logger.info("after")
    put_back()
    assert [line.get("step", line["event"]) for line in read(stream)] == ["meanwhile", "meanwhile"]


def test_warnings_are_lines_too() -> None:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        put_back = Logs("info", "json", stream).route_stdlib()
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        put_back()
    assert "DeprecationWarning: old" in str(read(stream)[0]["event"])


def test_routing_is_put_back_as_it_was() -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    put_back = Logs("debug", "json", io.BytesIO()).route_stdlib()
    assert len(root.handlers) == 1
    put_back()
    assert (root.handlers[:], root.level) == before


class Writes(io.BytesIO):
    """Remembers what came in one write."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[bytes] = []
        self.written = asyncio.Event()

    def write(self, data: Any) -> int:
        self.blocks.append(bytes(data))
        self.written.set()
        return len(data)


async def test_lines_of_exchanges_wait_for_each_other_and_come_out_whole() -> None:
    stream = Writes()
    logs = Logs("info", "json", stream)
    for number in range(30):
        logs.tell_exchange(make_record(request_id=f"req-{number}"), ENDED)
    assert stream.blocks == []
    await asyncio.wait_for(stream.written.wait(), 10)
    lines = [json.loads(line) for block in stream.blocks for line in block.splitlines()]
    assert [line["request_id"] for line in lines] == [f"req-{number}" for number in range(30)]
    assert len(stream.blocks) < 10
    assert all(len(block) <= 4096 and block.endswith(b"\n") for block in stream.blocks)


async def test_what_must_not_be_lost_goes_at_once_and_in_order() -> None:
    stream = Writes()
    logs = Logs("info", "json", stream)
    logs.tell_exchange(make_record(request_id="first"), ENDED)
    logs.tell_exchange(make_record(request_id="second", outcome=Outcome.INTERNAL), ENDED)
    assert [json.loads(line)["request_id"] for block in stream.blocks for line in block.splitlines()] == [
        "first",
        "second",
    ]


async def test_nothing_waits_any_more_when_routing_is_put_back() -> None:
    stream = Writes()
    logs = Logs("info", "json", stream)
    put_back = logs.route_stdlib()
    logs.tell_exchange(make_record(), ENDED)
    put_back()
    assert len(stream.blocks) == 1


@given(st.lists(st.integers(1, 6000), max_size=40))
def test_lines_are_joined_without_loss_and_no_more_than_a_pipe_takes_whole(sizes: list[int]) -> None:
    lines = [b"x" * size for size in sizes]
    blocks = list(join_lines(lines))
    assert b"".join(blocks) == b"".join(lines)
    assert all(len(block) <= 4096 or block in lines for block in blocks)
