"""One line for each exchange, and one for whatever else an operator should hear of; JSON, or prose on a terminal.

A line never breaks an exchange: when nobody reads the log any more, it is dropped. The same file takes what libraries
say through `logging`, and what other rooms say there (`logging.getLogger("gateway.…")`, facts as `extra`).
"""

import asyncio
import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, BinaryIO, Final, Literal, get_args

import msgspec
import structlog

from gateway.ports import Record
from gateway.protocol.outcomes import Outcome
from gateway.telemetry.blames import UPSTREAM_FAILURES
from gateway.telemetry.lines import encode_json, encode_line, encode_prose, format_time, to_fields
from gateway.telemetry.redactions import redact_fact, scrub, shorten, strip_query

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "json", "pretty"]

TRACE_CHARACTERS: Final = 16_000
"""The last part of a trace that is logged; what raised is at its end."""

WAIT_SECONDS: Final = 0.05
"""How long the line of an exchange may wait for others. A worker that is killed takes these with it."""

WHOLE_BYTES: Final = 4096
"""PIPE_BUF on Linux: what is longer may come out mixed with what other workers write to the same pipe (pipe(7))."""

_NOT_EXTRA: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}

_TALKATIVE: Final = ("uvicorn.error", "watchfiles")
"""Their `info` says what our own lines say better, or what nobody asks (every file event in a watched folder)."""

_TAKEN: Final = frozenset({"timestamp", "level", "event", "exception"})

_NUMBERS: Final = {name: getattr(logging, name.upper()) for name in get_args(Level)}


class Logs:
    """Where lines go, from which level on, and in which form."""

    def __init__(self, level: Level = "info", form: Format = "auto", stream: BinaryIO | None = None) -> None:
        stream = sys.stdout.buffer if stream is None else stream
        pretty = form == "pretty" or (form == "auto" and stream.isatty())
        self._is_json = not pretty
        self._encode = encode_prose if pretty else encode_json
        self._sink = _Sink(stream)
        self._is_routed = False
        self.change_level(level)

    def change_level(self, level: Level) -> None:
        """From now on lines below this level are left out."""
        self._threshold = _NUMBERS[level]
        self.debugging = self._threshold <= logging.DEBUG
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(self._sink),  # type: ignore[arg-type]  # it calls write and flush only
            processors=[_stamp, self._encode],
            wrapper_class=structlog.make_filtering_bound_logger(self._threshold),
        ).bind()
        if self._is_routed:
            _set_stdlib_levels(self._threshold)

    def tell_exchange(self, record: Record, ended: float) -> None:
        """The one line about an exchange that ended then: `info`, `warning` by a backend's fault, `error` by ours."""
        level = "info"
        if record.outcome in UPSTREAM_FAILURES:
            level = "warning"
        elif record.outcome is Outcome.INTERNAL:
            level = "error"
        if self._threshold <= _NUMBERS[level]:
            # Straight to the file: structlog's way there copies the fields three times, 4 of a line's 10 microseconds.
            described = _describe(record, ended, level)
            line = encode_line(described) if self._is_json else encode_prose(self._logger, level, to_fields(described))
            self._sink.wait(line + b"\n")
            if level == "error":
                self._sink.flush()

    def tell_step(self, record: Record, step: str, facts: Mapping[str, object]) -> None:
        """A step on the way of an exchange, with what was found out there, as far as it may be shown."""
        self._logger.debug("step", **({"request_id": record.request_id, "step": step} | _show(facts)))

    def tell_bug(self, record: Record, error: BaseException) -> None:
        """An exception that nobody expected, with its trace; never with the values of variables."""
        self.tell("error", "bug", error, request_id=record.request_id, mount=record.mount, method=record.method)

    def tell(self, level: Level, event: str, error: BaseException | None = None, /, **facts: object) -> None:
        """Something else worth a line; with the trace of an error where there is one."""
        shown = _show(facts)
        if error is not None:
            shown["exception"] = scrub("".join(traceback.format_exception(error)))[-TRACE_CHARACTERS:]
        getattr(self._logger, level)(event, **shown)

    def route_stdlib(self) -> Callable[[], None]:
        """From now on `logging` and warnings speak through these logs. The result puts back what was there."""
        root = logging.getLogger()
        handlers = root.handlers[:]
        levels = {name: logging.getLogger(name).level for name in ("", "gateway", *_TALKATIVE)}
        root.handlers[:] = [_Bridge(self.tell)]
        _set_stdlib_levels(self._threshold)
        self._is_routed = True
        logging.captureWarnings(True)

        def put_back() -> None:
            self._sink.flush()
            self._is_routed = False
            logging.captureWarnings(False)
            root.handlers[:] = handlers
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

        return put_back


def _set_stdlib_levels(threshold: int) -> None:
    logging.getLogger().setLevel(max(threshold, logging.INFO))  # libraries' debug lines are about themselves
    logging.getLogger("gateway").setLevel(threshold)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


class _Sink:
    """A file that nobody has to read: a broken pipe, a full disk or a closed file loses the line and nothing else.

    Lines that can `wait` are written together, at the latest `WAIT_SECONDS` after the first of them: a system call for
    each costs as much as the rest of the line. Whatever must not be lost, or isn't said on an event loop, goes at once,
    and takes along what waits.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: list[bytes] = []

    def wait(self, line: bytes) -> None:
        if not self._waiting:
            try:
                asyncio.get_running_loop().call_later(WAIT_SECONDS, self.flush)
            except RuntimeError:
                self.write(line)
                self.flush()
                return
        self._waiting.append(line)

    def write(self, data: bytes) -> None:
        self._waiting.append(data)

    def flush(self) -> None:
        lines, self._waiting = self._waiting, []
        for block in join_lines(lines):
            with contextlib.suppress(OSError, ValueError):
                self._file.write(block)
                self._file.flush()


def join_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in as few blocks as can be, none longer than `WHOLE_BYTES` unless one line is."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        if block and size + len(line) > WHOLE_BYTES:
            yield b"".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        yield b"".join(block)


class _Bridge(logging.Handler):
    """Turns a `logging` record into a line of ours."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: value for name, value in record.__dict__.items() if name not in _NOT_EXTRA}
        error = record.exc_info[1] if record.exc_info else None
        event = shorten(scrub(record.getMessage()))
        self._tell(_name_level(record.levelno), event, error, **(extra | {"logger": record.name}))


def _show(facts: Mapping[str, object]) -> dict[str, object]:
    """The facts as they may be logged. A name that every line has already gets an underscore."""
    return {f"{name}_" if name in _TAKEN else name: redact_fact(name, fact) for name, fact in facts.items()}


def _name_level(number: int) -> Level:
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of an exchange's line, in its order. Those that say nothing (empty, zero) are left out."""

    timestamp: str
    level: str
    event: str
    request_id: str
    mount: str = ""
    backend: str = ""
    endpoint: str = ""
    era: str = ""
    method: str = ""
    name: str = ""
    client: str = ""
    session: str = ""
    http_method: str = ""
    path: str = ""
    status: int = 0
    outcome: str = ""
    cache: str = ""
    rpc_code: int = 0
    detail: str = ""
    duration_ms: float = 0.0
    upstream_ms: float = 0.0
    gateway_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    events: int = 0


def _describe(record: Record, ended: float, level: str) -> _Line:
    duration = ended - record.started
    took = (record.upstream_ended or ended) - record.forwarded if record.forwarded else 0.0
    return _Line(
        format_time(time.time()),
        level,
        "exchange",
        record.request_id,
        record.mount,
        record.backend,
        strip_query(record.endpoint),
        record.era,
        shorten(record.method),
        shorten(record.name),
        shorten(record.client_name),
        record.session,
        record.http_method,
        shorten(record.path),
        record.status,
        record.outcome.value,
        record.cache,
        record.rpc_code,
        shorten(scrub(record.detail)) if record.detail else "",
        to_milliseconds(duration),
        to_milliseconds(took),
        to_milliseconds(duration - took),
        record.bytes_in,
        record.bytes_out,
        record.events,
    )


def to_milliseconds(seconds: float) -> float:
    """To the microsecond; nothing is shorter than nothing, though two clocks may say so."""
    return max(0.0, round(seconds * 1000, 3))


def _stamp(_logger: object, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Puts time, level and event first: that is what the eye looks for."""
    return {"timestamp": format_time(time.time()), "level": level, "event": fields.pop("event"), **fields}
