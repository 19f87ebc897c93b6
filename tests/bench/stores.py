"""A real Redis for the gateway that is measured: what it is sent, what it runs inside scripts, its traffic, its memory.

It is a process of its own, on the load's CPU, without persistence: what a disk costs is not the gateway's doing. What this
module asks of it is left out of all counts.
"""

import contextlib
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.bench.programs import Missing, choose_cpus, pinned_to, run_folder
from tests.redis.servers import HOST, make_server, running
from tests.tools.install import redis_server

_MARK: Final = "enough"


@dataclass
class Heard:
    """What Redis was sent by others, what scripts then ran, by name; how often it read, and the bytes both ways."""

    sent: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    traffic_bytes: int = 0


class Line:
    """One connection, with a count of what went over it, in requests and in bytes."""

    def __init__(self, port: int, patience_seconds: float | None = 20.0) -> None:
        self._socket = socket.create_connection((HOST, port), patience_seconds)
        self._answers = self._socket.makefile("rb")
        self.name = "{}:{}".format(*self._socket.getsockname())
        self.asked = self.traffic_bytes = 0

    def send(self, question: str) -> None:
        data = question.encode() + b"\r\n"
        self._socket.sendall(data)
        self.asked += 1
        self.traffic_bytes += len(data)

    def read_line(self) -> bytes:
        line = self._answers.readline()
        self.traffic_bytes += len(line)
        return line

    def ask(self, section: str) -> dict[str, str]:
        """A section of INFO."""
        self.send(f"INFO {section}")
        size_bytes = int(self.read_line()[1:]) + 2
        text = self._answers.read(size_bytes)
        self.traffic_bytes += size_bytes
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


class Store:
    """One running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"redis://{HOST}:{port}"
        self._line = Line(port)
        self.pid = int(self._line.ask("server")["process_id"])

    def close(self) -> None:
        self._line.close()

    def used_bytes(self) -> int:
        """The memory that Redis has allocated."""
        return int(self._line.ask("memory")["used_memory"])

    def count_entries(self) -> int:
        """How many entries have been added to streams since the server started."""
        found = re.match(r"calls=(\d+)", self._line.ask("commandstats").get("cmdstat_xadd", ""))
        return int(found[1]) if found else 0

    @contextlib.contextmanager
    def overhearing(self) -> Iterator[Heard]:
        """What is filled with all that happens until the end of the block; complete behind it."""
        heard, monitor = Heard(), Line(self.port, None)
        monitor.send("MONITOR")
        monitor.read_line()
        listener = threading.Thread(target=self._listen, args=(monitor, heard))
        listener.start()
        reads, traffic_bytes = self._measure(monitor)
        try:
            yield heard
        finally:
            self._line.send(f"ECHO {_MARK}")
            self._line.read_line()
            self._line.read_line()
            listener.join()
            heard.reads, heard.traffic_bytes = (
                after - before for after, before in zip(self._measure(monitor), (reads, traffic_bytes), strict=True)
            )
            monitor.close()

    def _listen(self, monitor: Line, heard: Heard) -> None:
        while line := monitor.read_line():
            found = re.match(rb'\+[\d.]+ \[\d+ (\S+)\] "(\w+)"', line)
            if found is None:
                continue
            who, name = found[1].decode(), found[2].decode().upper()
            if who == self._line.name:
                if name == "ECHO":
                    return
            elif who == "lua":
                heard.inside[name] += 1
            else:
                heard.sent[name] += 1

    def _measure(self, monitor: Line) -> tuple[int, int]:
        """How often Redis has read and the bytes both ways, less our own.

        Its answer to this very question isn't in its count yet; the question is.
        """
        mine, had_bytes = self._line.asked + 1, self._line.traffic_bytes + len("INFO stats\r\n") + monitor.traffic_bytes
        told = self._line.ask("stats")
        return (
            int(told["total_reads_processed"]) - mine,
            int(told["total_net_input_bytes"]) + int(told["total_net_output_bytes"]) - had_bytes,
        )


def find_redis() -> str:
    """`redis-server`'s path. Raises `Missing`."""
    try:
        return str(redis_server())
    except FileNotFoundError:
        raise Missing(
            "without redis-server the gateway with Redis is left out: apt-get install redis-server, or "
            "python tests/tools/install.py redis"
        ) from None


@contextlib.contextmanager
def running_redis() -> Iterator[Store]:
    """A server of its own, empty."""
    server = make_server(run_folder())
    with contextlib.ExitStack() as stack:
        with pinned_to(choose_cpus()[1]):
            stack.enter_context(running(server))
        yield stack.enter_context(contextlib.closing(Store(server.port)))
