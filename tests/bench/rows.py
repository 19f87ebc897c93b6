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


class Idle(msgspec.Struct, tag="idle", tag_field="kind"):
    """Idle streams through one contender; `delivered` of `open` got the one notification that the backend then sent."""

    contender: str
    era: Era
    wanted: int
    open: int
    delivered: int
    kb_per_stream: float
    errors: int
    error: str


Row = Run | Calls | Idle


def encode_row(row: Row) -> str:
    """One JSON line, with its end."""
    return msgspec.json.encode(row).decode() + "\n"


def read_rows(path: Path) -> list[Row]:
    """The rows of a file. Raises ValueError, with the line, for what is none."""
    rows: list[Row] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            rows.append(msgspec.json.decode(line, type=Run | Calls | Idle))
        except msgspec.DecodeError as error:
            raise ValueError(f"{path}:{number} is no line of a benchmark: {error}") from error
    return rows
