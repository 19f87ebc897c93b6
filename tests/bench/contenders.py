"""Who is measured: how each is started in front of the same backend, and how it is stopped again."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import stores
from tests.bench.programs import (
    BIN,
    HERE,
    LOGS,
    ROOT,
    choose_cpus,
    clean_environment,
    find_fastmcp,
    find_nginx,
    free_port,
    pinned_to,
    raise_file_limit,
    run_folder,
)

START_SECONDS = 60.0
STOP_SECONDS = 3.0
LOG_BYTES = 4_000_000
"""Beyond it a log is emptied between two measurements: an access-log line per call fills a disk quickly."""


FILES_PER_STREAM = 2
SPARE_FILES = 300
"""For each process: what it has open beside its streams."""


@dataclass(frozen=True)
class Place:
    """Where a contender is to stand. `redis`: the URL of its Redis, empty where it has none."""

    backend_port: int
    port: int
    workers: int
    redis: str = ""


@dataclass(frozen=True)
class Contender:
    """`command` is what starts it; None: nothing stands between load and backend."""

    name: str
    path: str
    command: Callable[[Place], list[str]] | None
    workers: int = 1
    needs_redis: bool = False
    has_log: bool = False  # whether it is to keep the events of long calls
    calls: bool = (
        True  # whether it is measured at calls, at flows of events, and with idle streams, when it isn't named
    )
    flows: bool = False
    idle: bool = True
    quick: bool = True


@dataclass(frozen=True)
class Target:
    """A contender that runs. `pid` is the root of its processes, None for the backend itself."""

    name: str
    port: int
    path: str
    pid: int | None
    log: Path | None = None
    store: stores.Store | None = None
    workers: int = 1
    has_log: bool = False

    def trim_log(self) -> None:
        if self.log is not None and self.log.stat().st_size > LOG_BYTES:
            os.truncate(self.log, 0)


def nginx_command(place: Place, folder: Path | None = None) -> list[str]:
    """`folder`: where its files are, and the lists that it is to send."""
    folder = folder or run_folder()
    text = (HERE / "nginx.conf.tmpl").read_text()
    values = {"PORT": place.port, "BACKEND_PORT": place.backend_port, "WORKERS": place.workers}
    for name, value in {"FOLDER": folder, **values}.items():
        text = text.replace(f"@{name}@", str(value))
    config = folder / f"nginx-{place.port}.conf"
    config.write_text(text)
    return [find_nginx(), "-c", str(config)]


def write_gateway_config(place: Place, log: str = "none") -> Path:
    """A file that says no more than it must: all else is the default, checks and access log included."""
    config = run_folder() / f"gateway-{place.port}.yaml"
    config.write_text(
        f"redis: {place.redis or log}\ndrain: {{delay: 0s}}\n"
        f"backends:\n  b: {{endpoints: [http://127.0.0.1:{place.backend_port}/mcp]}}\n"
    )
    return config


def gateway_command(place: Place, config: Path) -> list[str]:
    where = ["--config", str(config), "--port", str(place.port), "--workers", str(place.workers)]
    return [sys.executable, "-m", "gateway", "serve", *where]


def _gateway(log: str = "none") -> Callable[[Place], list[str]]:
    return lambda place: gateway_command(place, write_gateway_config(place, log))


def fastmcp_command(place: Place, mode: str, urls: list[str]) -> list[str]:
    return [find_fastmcp(), str(HERE / "fastmcp_proxy.py"), str(place.port), mode, *urls]


def _fastmcp(mode: str) -> Callable[[Place], list[str]]:
    return lambda place: fastmcp_command(place, mode, [f"http://127.0.0.1:{place.backend_port}/mcp"])


CONTENDERS = (
    Contender("direct", "/mcp", None, flows=True, idle=False),
    Contender("nginx", "/b/mcp", nginx_command, flows=True),
    Contender("gateway-1", "/b/mcp", _gateway(), flows=True),
    Contender("gateway-memory", "/b/mcp", _gateway("memory"), has_log=True, calls=False, flows=True, idle=False),
    Contender("gateway-redis", "/b/mcp", _gateway(), needs_redis=True, has_log=True, calls=False, flows=True),
    Contender("gateway-2", "/b/mcp", _gateway(), workers=2, idle=False),
    Contender("fastmcp", "/mcp", _fastmcp("default"), quick=False),
    Contender("fastmcp-shared", "/mcp", _fastmcp("shared"), idle=False, quick=False),
)


@contextlib.contextmanager
def running_backend(port: int = 0) -> Iterator[int]:
    """The fake backend, on the load's CPU; yields its port."""
    with pinned_to(choose_cpus()[1]):
        process = subprocess.Popen([BIN / "backend", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fake backend could not listen on port {port}")
        yield int(line)
    finally:
        process.terminate()
        process.communicate()


def _count_workers(contender: Contender, streams: int) -> int:
    """How many processes it takes to have so many streams open, where one may have so many files as here."""
    each = max(1, (raise_file_limit() - SPARE_FILES) // FILES_PER_STREAM)
    return max(contender.workers, -(-streams // each))


@contextlib.contextmanager
def running(contender: Contender, backend_port: int, streams: int = 0) -> Iterator[Target]:
    """The contender, started and answering. Raises RuntimeError, with the end of its log, when it doesn't.

    `streams`: for so many open ones, by as many workers as it takes.
    """
    if contender.command is None:
        yield Target(contender.name, backend_port, contender.path, None)
        return
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(stores.running_redis()) if contender.needs_redis else None
        workers = _count_workers(contender, streams)
        place = Place(backend_port, free_port(), workers, store.url if store else "")
        yield stack.enter_context(_running(contender, contender.command(place), place, store))


@contextlib.contextmanager
def told_if_broken() -> Iterator[None]:
    """A contender that doesn't start is left out, loudly; the others are measured all the same."""
    try:
        yield
    except RuntimeError as error:
        print(f"bench: {error}", file=sys.stderr)


@contextlib.contextmanager
def _running(contender: Contender, command: list[str], place: Place, store: stores.Store | None) -> Iterator[Target]:
    log = LOGS / f"{contender.name}.log"
    measured, load = choose_cpus()
    with pinned_to(measured if place.workers == 1 else measured | load), log.open("wb"), log.open("ab") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,  # opened for appending, so that it may be emptied while it is written
            stderr=file,
            start_new_session=True,
        )
    try:
        _await_answer(process, place.port, contender, log)
        yield Target(
            contender.name, place.port, contender.path, process.pid, log, store, place.workers, contender.has_log
        )
    finally:
        _stop(process)


def _await_answer(process: subprocess.Popen[bytes], port: int, contender: Contender, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if answers(port, contender.path):
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-1500:]
    raise RuntimeError(f"{contender.name} did not start (exit code {process.poll()}); its log ends:\n{tail}")


def answers(port: int, path: str) -> bool:
    """Whether somebody there speaks HTTP; without an Accept header, so any answer at all will do."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the contender to end, then ends what is left of its session: workers outlive a master that is killed."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
