"""Child processes of the tests: started, listened to, ended, and their output shown when something goes wrong."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
"""Long, for a machine whose two cores start several programs at once. Nothing waits that long unless it fails."""
END_SECONDS = 15.0
SHOWN_LINES = 60


class Child:
    """One running program. Its output is read all the time, so it never blocks on a full pipe."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, name: str = "") -> None:
        self.name = name or " ".join(command)
        self._lines: list[str] = []
        self._heard = threading.Condition()
        self._closed = False
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self.name}", daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """All it printed so far, standard output and error together."""
        with self._heard:
            return "\n".join(self._lines)

    def wait_for_line(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """The first match of `pattern` in a line of the output; fails, and shows the output, when it ends without one."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self._heard:
            while True:
                for line in self._lines[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self._lines)
                if self._closed or not self._heard.wait(deadline - time.monotonic()):
                    break
        raise AssertionError(f"{self.name}: no line matched {pattern!r}\n{self.describe()}")

    def describe(self) -> str:
        """Its state and the last of its output, for a failed test."""
        state = "running" if self.running else f"ended with {self.process.returncode}"
        last = self.output.splitlines()[-SHOWN_LINES:]
        return "\n".join([f"--- {self.name}: {state}, its last {len(last)} lines ---", *last])

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = END_SECONDS) -> int:
        """Sends the signal, waits for the end, and kills what doesn't obey. Returns the exit status. Harmless when over."""
        if self.running:
            self.process.send_signal(how)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(END_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self._lines.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._closed = True
            self._heard.notify_all()


@contextmanager
def running(command: Sequence[str], *, env: Mapping[str, str] | None = None, name: str = "") -> Iterator[Child]:
    """The program, until the block is left."""
    child = Child(command, env=env, name=name)
    try:
        yield child
    finally:
        child.end()


@contextmanager
def serving(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A sample backend or the reference server on a port of the kernel's choice; yields its URL, which ends in `/mcp`."""
    command = [sys.executable, "-m", module, "--port", "0", *arguments]
    with running(command, env=env, name=module) as child:
        yield child.wait_for_line(r"listens at (http://\S+)").group(1)
