"""Starts real `redis-server` processes on loopback, on ports that the kernel chose, and makes them suffer.

The program is the one on the PATH, else the one that `tests/tools/install.py` installed.
"""

import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import redis

from gateway.state.targets import Address
from tests.tools.install import redis_server

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 20.0

BUS_OFFSET: Final = 10_000
"""Where a cluster's node listens for the others, above its port (redis.io, "Cluster TCP ports")."""


def free_port(*, with_bus: bool = False) -> int:
    """A port that nobody has; with room for a cluster's bus above it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind((HOST, 0))
            port: int = one.getsockname()[1]
            if not with_bus:
                return port
            try:
                other.bind((HOST, port + BUS_OFFSET))
            except (OSError, OverflowError):
                continue
            return port


class RedisServer:
    """One process. It keeps its port over restarts, and its data only where the options say so."""

    def __init__(
        self, folder: Path, *options: str, ready: str = "Ready to accept connections", with_bus: bool = False
    ) -> None:
        self.port = free_port(with_bus=with_bus)
        self.folder = folder / str(self.port)
        self.folder.mkdir(parents=True)
        self._options = options
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> Address:
        return HOST, self.port

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self) -> None:
        """Returns when it accepts connections."""
        command = [
            str(redis_server()),
            *self._leading(),
            "--port",
            str(self.port),
            "--bind",
            HOST,
            "--dir",
            str(self.folder),
        ]
        self._process = subprocess.Popen(
            [*command, *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert self._process.stdout is not None
        _read_until(self._process.stdout, self._ready)

    def _leading(self) -> list[str]:
        return []

    def stop(self) -> None:
        """Ends it, however it is."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_SECONDS)
            self._process = None

    kill = stop

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it accepts connections, as the kernel does that, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def tell(self, *command: str | int) -> Any:
        """What it answers to a command."""
        with redis.Redis(host=HOST, port=self.port, socket_timeout=START_SECONDS, protocol=2) as client:
            return client.execute_command(*command)

    def pass_time(self, seconds: float) -> None:
        """Makes every key as old as it would be then."""
        with redis.Redis(host=HOST, port=self.port, socket_timeout=START_SECONDS, protocol=2) as client:
            for key in list(client.scan_iter()):
                left_ms = client.pttl(key)
                assert left_ms > 0, f"{key!r} never expires"
                if left_ms <= seconds * 1000:
                    client.delete(key)
                else:
                    client.pexpire(key, round(left_ms - seconds * 1000))


class Sentinel(RedisServer):
    """One Sentinel: its configuration is a file, which it rewrites."""

    def __init__(self, folder: Path, primary: RedisServer, service: str) -> None:
        super().__init__(folder, ready="+monitor master")
        (self.folder / "sentinel.conf").write_text(
            f"sentinel monitor {service} {HOST} {primary.port} 2\n"
            f"sentinel down-after-milliseconds {service} 1000\n"
            f"sentinel failover-timeout {service} 3000\n"
        )

    def _leading(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel"]


def _read_until(output: IO[str], ready: str) -> None:
    """Reads until the line that says so, and from then on, so that the pipe never fills."""
    said = deque[str](maxlen=50)
    timer = threading.Timer(START_SECONDS, output.close)
    timer.start()
    try:
        for line in output:
            said.append(line)
            if ready in line:
                break
        else:
            output.close()
            raise RuntimeError("Redis didn't start:\n" + "".join(said))
    finally:
        timer.cancel()

    def drain() -> None:
        with output:
            deque(output, 0)

    threading.Thread(target=drain, daemon=True).start()


WITHOUT_DATA: Final = ("--save", "", "--appendonly", "no")
WITH_DATA: Final = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    """Starts them in their order, and ends them all."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()


def make_server(folder: Path, *options: str) -> RedisServer:
    return RedisServer(folder, *(options or WITHOUT_DATA))


class Cluster:
    """Three primaries, without replicas unless they are asked for."""

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        options = (*WITHOUT_DATA, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500")
        options += ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
        count = 3 + replicas
        self.nodes = [RedisServer(folder, *options, with_bus=True) for _ in range(count)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes[:3])

    def join(self, until: Callable[[Callable[[], bool]], None]) -> None:
        """Gives the primaries their slots, and waits until all nodes agree."""
        first, *others = self.nodes
        for index, node in enumerate(self.nodes[:3]):
            node.tell("CLUSTER", "ADDSLOTS", *range(index * 16384 // 3, (index + 1) * 16384 // 3))
            node.tell("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in others:
            node.tell("CLUSTER", "MEET", HOST, first.port)
        for node in self.nodes:
            until(lambda node=node: self._sees_all(node))  # type: ignore[misc]
        for replica, primary in zip(self.nodes[3:], self.nodes, strict=False):
            replica.tell("CLUSTER", "REPLICATE", primary.tell("CLUSTER", "MYID"))
        for node in self.nodes:
            until(lambda node=node: "cluster_state:ok" in _text(node.tell("CLUSTER", "INFO")))  # type: ignore[misc]
        for replica in self.nodes[3:]:
            until(lambda node=replica: "master_link_status:up" in _text(node.tell("INFO", "replication")))  # type: ignore[misc]

    def wait_replaced(self, until: Callable[[Callable[[], bool]], None]) -> None:
        """Returns when the replica of the first node, which is dead, has its place, and all others know."""
        until(lambda: _text(self.nodes[3].tell("ROLE")[0]) == "master")
        for node in self.nodes[1:]:
            until(lambda node=node: "cluster_state:ok" in _text(node.tell("CLUSTER", "INFO")))  # type: ignore[misc]

    def _sees_all(self, node: RedisServer) -> bool:
        return f"cluster_known_nodes:{len(self.nodes)}" in _text(node.tell("CLUSTER", "INFO"))


def _text(answer: Any) -> str:
    """What the library made of an INFO, as one text again."""
    if isinstance(answer, dict):
        return "\n".join(f"{key}:{value}" for key, value in answer.items())
    return answer.decode() if isinstance(answer, bytes) else str(answer)
