"""What a run needs of the machine: the compiled programs, CPUs to pin to, and the facts that stand above the tables."""

import atexit
import contextlib
import functools
import os
import platform
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.tools.install import redis_server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BIN, LOGS, RESULTS = (HERE / name for name in ("bin", "logs", "results"))
FASTMCP_PYTHON = ROOT / ".tools" / "py-fastmcp" / "bin" / "python"

_SOURCES = {
    "backend": ["backend.c", "answers.c", "boxes.c"],
    "bench": ["bench.c", "conns.c", "calls.c", "lists.c", "streams.c"],
}

NOISE = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NIX_SSL_CERT_FILE")
"""With these set, creating a TLS context reads a whole bundle: 19 to 49 ms that no contender is to blame for."""


FILES_ENOUGH = 1_000_000


class Missing(Exception):
    """Something isn't on this machine; the message says in one line how to get it."""


def build_programs() -> None:
    """Compiles backend and bench into bin/ where they are older than their sources. Raises `Missing`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing(
            "the benchmark needs a C compiler: apt-get install gcc libc6-dev (Debian), dnf install gcc (Fedora)"
        )
    BIN.mkdir(exist_ok=True)
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]"))
    for name, sources in _SOURCES.items():
        target = BIN / name
        if not target.exists() or target.stat().st_mtime < newest:
            paths = [str(HERE / source) for source in sources]
            subprocess.run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(target), *paths], check=True)


def find_nginx() -> str:
    """nginx's path; Debian puts it where only root looks. Raises `Missing`."""
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing("nginx is left out, and with it the × nginx figures: apt-get install nginx-light")
    return found


def find_fastmcp() -> str:
    """The Python of FastMCP's own environment. Raises `Missing`."""
    chosen = Path(os.environ.get("BENCH_FASTMCP_PYTHON", FASTMCP_PYTHON))
    if not chosen.exists():
        folder = chosen.parent.parent
        shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        raise Missing(
            f"FastMCP's proxy is left out: python3 -m venv {shown} && {shown}/bin/pip install 'fastmcp>=4,<5' uvloop httptools"
        )
    return str(chosen)


def choose_cpus() -> tuple[set[int], set[int]]:
    """One CPU for what is measured and another for load and backend; the same for both where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[min(1, len(allowed) - 1)]}


@contextlib.contextmanager
def pinned_to(cpus: set[int]) -> Iterator[None]:
    """Processes started inside run on these CPUs, with all their threads: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def clean_environment() -> dict[str, str]:
    """Our environment without what would distort."""
    return {name: value for name, value in os.environ.items() if name not in NOISE}


@functools.cache
def raise_file_limit() -> int:
    """How many files one process may have open: all that is allowed, from now on, for this one and those it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        most = FILES_ENOUGH
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return most


@functools.cache
def run_folder() -> Path:
    """Where this run's configuration files are; gone when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def free_port() -> int:
    """A port that the kernel has just given and taken back, for servers that can't tell which one they got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def describe_machine() -> str:
    """Model and number of CPUs, memory, kernel."""
    models = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((int(line.split()[1]) for line in _read("/proc/meminfo") if line.startswith("MemTotal")), 0)
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} CPUs, {memory / 2**20:.0f} GiB, {platform.system()} {platform.release()}"


def list_versions(*, nginx: bool, fastmcp: bool, redis: bool) -> dict[str, str]:
    """Of what is compared, and of what the gateway stands on."""
    versions = {"Python": platform.python_version()}
    versions |= {name: version(name) for name in ("uvicorn", "uvloop", "httptools")}
    if nginx:
        shown = subprocess.run([find_nginx(), "-v"], capture_output=True, text=True, check=True).stderr
        versions["nginx"] = shown.strip().rpartition("/")[2]
    if redis:
        shown = subprocess.run([redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
        versions["Redis"] = shown.partition("v=")[2].partition(" ")[0]
    if fastmcp:
        ask = "from importlib.metadata import version; print(version('fastmcp'))"
        shown = subprocess.run([find_fastmcp(), "-c", ask], capture_output=True, text=True, check=True).stdout
        versions["FastMCP"] = shown.strip()
    return versions


def describe_commit() -> str:
    """The gateway's commit, `+` where its files differ from it; "unknown" outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(ROOT), "describe", "--always", "--abbrev=10"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(
        [git, "-C", str(ROOT), "status", "--porcelain", "gateway"], capture_output=True, text=True, check=False
    )
    return f"{commit or 'unknown'}{'+' if changed.stdout.strip() else ''}"


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
