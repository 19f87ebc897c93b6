"""Gateway replicas as real processes behind a balancer that sends each request to the next one.

    with running_fleet("backends: {echo: {endpoints: [http://127.0.0.1:9001/mcp]}}") as fleet:
        Client(f"{fleet.url}/echo/mcp")
        fleet.kill(1)
        fleet.restart(1)

Replicas share the configuration and the session keys, and nothing else. All is on loopback, on ports of the kernel's choice.
"""

import base64
import http.client
import json
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.fleet.processes import START_SECONDS, Child, running

LISTENING = r'"url": ?"(http://[^"]+)"'


class Replica:
    """One gateway process group and the port it keeps over restarts."""

    def __init__(
        self, number: int, config: Path, env: Mapping[str, str], workers: int, program: str = "gateway"
    ) -> None:
        self.number = number
        self._program = program
        self._config = config
        self._env = env
        self._workers = workers
        self._earlier: list[Child] = []
        self.port = 0
        self.child = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """All that it printed, over all its lives: a log line each, in JSON."""
        return "\n".join(child.output for child in [*self._earlier, self.child])

    def describe(self) -> str:
        """The state and the last output of each of its lives, for a failed test."""
        return "\n".join(child.describe() for child in [*self._earlier, self.child])

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Waits until it listens and `/readyz` says 200; fails, and shows its output, where it doesn't."""
        url = self.child.wait_for_line(LISTENING, seconds).group(1)
        self.port = urlsplit(url).port or 0
        # It answers late rather than refuse: its socket is open before the line is printed.
        status, body = fetch(f"{self.url}/readyz", seconds)
        assert status == 200, f"/readyz says {status}: {body!r}\n{self.describe()}"

    def end(self, how: signal.Signals) -> int:
        """Ends the process with a signal and waits for it. Returns the exit status."""
        return self.child.end(how, seconds=60)

    def restart(self) -> None:
        """Starts it again on its port, and waits until it is ready."""
        assert not self.child.running, f"replica {self.number} still runs"
        self._earlier.append(self.child)
        self.child = self._start()
        self.wait_until_ready()

    def _start(self) -> Child:
        command = [
            sys.executable,
            "-m",
            self._program,
            "serve",
            "--config",
            str(self._config),
            "--port",
            str(self.port),
        ]
        options = ["--host", "127.0.0.1", "--workers", str(self._workers), "--log-format", "json"]
        return Child([*command, *options], env=self._env, name=f"replica {self.number}")


class Fleet:
    """The replicas and their balancer. `url` is where clients go; it says `localhost`, as the conformance suite demands."""

    def __init__(self, replicas: list[Replica], balancer: Child, config: Path) -> None:
        self.replicas = replicas
        self._config = config
        self.balancer = balancer
        self.url = balancer.wait_for_line(r"listens at (http://\S+)").group(1)

    def kill(self, number: int) -> None:
        """Ends a replica as a crash would: at once, with connections cut."""
        self.replicas[number].end(signal.SIGKILL)

    def terminate(self, number: int) -> int:
        """Ends a replica as a deploy does, and waits until it has drained. Returns the exit status."""
        return self.replicas[number].end(signal.SIGTERM)

    def restart(self, number: int) -> None:
        """Starts a replica that has ended, on the port it had."""
        self.replicas[number].restart()

    def configure(self, config: str) -> None:
        """Replaces the configuration file that all replicas watch, in one step, as a deploy does."""
        changed = self._config.with_suffix(".new")
        changed.write_text(config)
        changed.replace(self._config)

    def shares(self) -> list[int]:
        """How many requests the balancer has sent to each replica."""
        _, body = fetch(f"{self.url}/.balancer", START_SECONDS)
        counts = json.loads(body)
        return [counts[str(replica.port)] for replica in self.replicas]

    def describe(self) -> str:
        """What all processes printed, for a failed test."""
        return "\n".join([*(replica.describe() for replica in self.replicas), self.balancer.describe()])


@contextmanager
def running_fleet(
    config: str,
    replicas: int = 3,
    *,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    program: str = "gateway",
) -> Iterator[Fleet]:
    """A fleet with that configuration (YAML), until the block is left; its output is shown if the block fails.

    `program`: the module to run, if it isn't the gateway by itself.
    """
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    # The balancer asks nobody whether they are ready: unless a test wants it, there is nothing to wait for.
    shared = {"MCPGW_SESSION_KEYS": key, "MCPGW_DRAIN__DELAY": "0s", **(env or {})}
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fleet-"))
        file = Path(folder) / "gateway.yaml"
        file.write_text(config)
        started = []
        for number in range(replicas):
            started.append(Replica(number, file, shared, workers, program))
            cleanup.callback(started[-1].end, signal.SIGTERM)
        for replica in started:  # only now: they start side by side
            replica.wait_until_ready()
        ports = [str(replica.port) for replica in started]
        balancer = cleanup.enter_context(
            running([sys.executable, "-m", "tests.fleet.balancer", *ports], name="balancer")
        )
        fleet = Fleet(started, balancer, file)
        try:
            yield fleet
        except BaseException:
            print(fleet.describe())
            raise


def fetch(url: str, seconds: float) -> tuple[int, bytes]:
    """Status and body of a GET."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
