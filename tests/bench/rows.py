"""What a run leaves behind: one JSON line for the run, one for each measurement. Times in the units of the names."""

from pathlib import Path
from typing import Literal

import msgspec

Era = Literal["legacy", "modern"]
ERAS: tuple[Era, ...] = ("legacy", "modern")


class Case(msgspec.Struct, frozen=True):
    """One kind of call. `live` asks whether events pass at once; its costs mean nothing, for it mostly waits."""

    name: str
    title: str
    tool: Literal["echo", "echo_sse", "progress"]
    size_bytes: int
    connections: int
    delay_ms: int = 0
    quick: bool = True

    @property
    def live(self) -> bool:
        return self.delay_ms > 0


CASES = (
    Case("small", "JSON, 200 B", "echo", 200, 16),
    Case("10kb", "JSON, 10 kB", "echo", 10_000, 16),
    Case("1mb", "JSON, 1 MB", "echo", 1_000_000, 4, quick=False),
    Case("sse", "SSE, 1 event", "echo_sse", 200, 16, quick=False),
    Case("progress", "SSE, 10 progress events and the result", "progress", 200, 16),
    Case("live", "SSE, events 20 ms apart", "progress", 200, 1, delay_ms=20),
)


class Flow(msgspec.Struct, frozen=True):
    """Long legacy calls, measured event by event. Without an interval a burst leaves when its client has the one before."""

    name: str
    case: Literal["durable", "latency"]
    title: str
    streams: int
    events: int  # of each call: enough that what a call costs is little beside them
    burst: int = 1  # events that leave in one write
    interval_ms: int = 0

    @property
    def events_per_s(self) -> float:
        """Where an interval says so; 0: as fast as they go."""
        return self.streams * self.burst * 1000 / self.interval_ms if self.interval_ms else 0.0


FLOWS = (
    Flow("single", "durable", "one event at a time", 16, 100),
    Flow("burst", "durable", "bursts of 20 events", 16, 1000, burst=20),
    Flow("paced", "latency", "20 streams, 50 events/s each", 20, 50, interval_ms=20),
)


class Merge(msgspec.Struct, frozen=True):
    """One kind of request to several backends as one server: a call of each in turn, or the list of all tools."""

    name: str
    case: Literal["aggregate-call", "aggregate-list"]
    title: str
    members: int
    connections: int
    quick: bool = True

    @property
    def lists(self) -> bool:
        return self.case == "aggregate-list"


MEMBER_TOOLS = 50
"""Of each backend (`boxes.h`): twenty of them have the thousand that go on one page."""

MERGES = (
    Merge("call-3", "aggregate-call", "tools/call, 3 backends", 3, 16, quick=False),
    Merge("call-20", "aggregate-call", "tools/call, 20 backends", 20, 16),
    Merge("list-3", "aggregate-list", "tools/list, 3 backends, 150 tools", 3, 16, quick=False),
    Merge("list-20", "aggregate-list", "tools/list, 20 backends, 1,000 tools", 20, 16),
)


class Run(msgspec.Struct, tag="run", tag_field="kind"):
    """Where, when and with what the rows after it were measured."""

    date: str
    machine: str
    versions: dict[str, str]
    commit: str
    load_before: float
    pinned: bool
    rounds: int
    seconds: float


class Calls(msgspec.Struct, tag="calls", tag_field="kind"):
    """One window of calls of one case through one contender. `cpu_ms_per_1k` is 0 where no gateway is between."""

    contender: str
    case: str
    era: Era
    round: int
    calls: int
    rps: float
    p50_ms: float
    p99_ms: float
    first_byte_ms: float
    cpu_ms_per_1k: float
    reconnects: int
    errors: int
    error: str
    load: float


class Merged(msgspec.Struct, tag="merged", tag_field="kind"):
    """One window of requests to several backends as one. `answer_bytes`: the size of the last answer."""

    contender: str
    merge: str
    era: Era
    round: int
    calls: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    answer_bytes: int
    errors: int
    error: str
    load: float


class Events(msgspec.Struct, tag="events", tag_field="kind"):
    """One window of one flow through one contender. `p50_ms` and `p99_ms` are an event's age when its client has it.

    `delivered`, `calls` and what stands behind them are of the whole measurement, which begins and ends with no stream
    open; `logged`: events that came into the log, responses too, primers not.
    """

    contender: str
    flow: str
    round: int
    events: int
    events_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # per event
    store_cpu_us: float
    delivered: int
    calls: int
    logged: int
    errors: int
    error: str
    load: float


class Commands(msgspec.Struct, tag="commands", tag_field="kind"):
    """What Redis was sent, and what it ran inside scripts, by name, while so many events of one flow came into the log.

    Overheard in a window of its own: overhearing takes time.
    """

    contender: str
    flow: str
    logged: int
    sent: dict[str, int]
    inside: dict[str, int]
    errors: int
    error: str


class Idle(msgspec.Struct, tag="idle", tag_field="kind"):
    """Idle streams through one contender; `delivered` of `open` got the one notification that the backend then sent.

    What Redis was sent, and ran inside scripts, was overheard for `watched_seconds` after all were open, before that
    notification.
    """

    contender: str
    era: Era
    wanted: int
    open: int
    delivered: int
    kb_per_stream: float
    errors: int
    error: str
    workers: int = 1
    store_kb_per_stream: float = 0.0
    watched_seconds: float = 0.0
    sent: dict[str, int] = {}
    inside: dict[str, int] = {}
    reads: int = 0  # from sockets: one for all that came in together
    traffic_bytes: int = 0  # both ways


Row = Run | Calls | Merged | Events | Commands | Idle


def encode_row(row: Row) -> str:
    """One JSON line, with its end."""
    return msgspec.json.encode(row).decode() + "\n"


def read_rows(path: Path) -> list[Row]:
    """The rows of a file. Raises ValueError, with the line, for what is none."""
    rows: list[Row] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            rows.append(msgspec.json.decode(line, type=Row))
        except msgspec.DecodeError as error:
            raise ValueError(f"{path}:{number} is no line of a benchmark: {error}") from error
    return rows
