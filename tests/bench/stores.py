"""A real Redis for the gateway that is measured, and what Redis itself counts: commands, bytes, memory.

It is a process of its own, on the load's CPU, without persistence: what a disk costs is not the gateway's doing. What this
module asks of it is subtracted, so that the counts are the gateway's alone.
"""

import contextlib
import re
import socket
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Self

from tests.bench.programs import Missing, choose_cpus, pinned_to, run_folder
from tests.redis.servers import HOST, make_server, running
from tests.tools.install import redis_server


class Counts(NamedTuple):
    """What Redis has done since it started. Commands that ran inside scripts are counted, too."""

    commands: Counter[str]
    reads: int  # from a socket: one for all that came in together
    traffic_bytes: int  # both ways

    def since(self, before: Self) -> "Counts":
        """What was done between two counts."""
        grown = Counter({name: n - before.commands[name] for name, n in self.commands.items()})
        return Counts(+grown, self.reads - before.reads, self.traffic_bytes - before.traffic_bytes)

    @property
    def scripts(self) -> int:
        return self.commands["eval"] + self.commands["evalsha"]


NOTHING = Counts(Counter(), 0, 0)


class Store:
    """One running server, asked over one connection."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://{HOST}:{port}"
        self._socket = socket.create_connection((HOST, port), timeout=20)
        self._answers = self._socket.makefile("rb")
        self._asked = self._traffic_bytes = 0
        self.pid = int(self._ask("server")["process_id"])

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def count(self) -> Counts:
        """The counts so far, less what was asked through here."""
        mine = self._asked  # an INFO doesn't count itself
        commands = Counter(
            {name.removeprefix("cmdstat_"): _calls(it) for name, it in self._ask("commandstats").items()}
        )
        commands["info"] -= mine
        mine, sent = self._asked, self._traffic_bytes
        told = self._ask("stats")
        traffic_bytes = int(told["total_net_input_bytes"]) + int(told["total_net_output_bytes"])
        # Its own request has been read by then, and its own answer isn't written yet.
        return Counts(
            commands, int(told["total_reads_processed"]) - mine - 1, traffic_bytes - sent - len(_question("stats"))
        )

    def used_bytes(self) -> int:
        """The memory that Redis has allocated."""
        return int(self._ask("memory")["used_memory"])

    def _ask(self, section: str) -> dict[str, str]:
        self._socket.sendall(_question(section))
        head = self._answers.readline()
        text = self._answers.read(int(head[1:]) + 2)
        self._asked += 1
        self._traffic_bytes += len(_question(section)) + len(head) + len(text)
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def _question(section: str) -> bytes:
    return f"INFO {section}\r\n".encode()


def _calls(stats: str) -> int:
    found = re.match(r"calls=(\d+)", stats)
    return int(found[1]) if found else 0


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
