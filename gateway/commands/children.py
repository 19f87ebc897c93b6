"""Child processes: started, listened to, ended. Knows nothing of what they do.

Each is tethered, so that none outlives this process, and in a process group of its own, so that Ctrl-C on a terminal
reaches this process alone, which then ends them in good order.
"""

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.commands import tethers

END_SECONDS: Final = 5.0
"""For a child to end after SIGTERM; then it is killed."""

_MOMENT_SECONDS: Final = 0.2
_MOST_MOMENTS: Final = 10
_TAIL_LINES: Final = 30
_LINE_BYTES: Final = 1024 * 1024

Tell = Callable[[str, str], None]
"""What to do with a line of a child: (the child's name, the line)."""


class ChildEnded(Exception):
    """A child ended that should have gone on. The message ends with the last that it printed."""


class Child:
    """One running program, and the last lines that it printed."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, tell: Tell) -> None:
        self.name = name
        self._process = process
        self._tell = tell
        self._lines = 0
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._printed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def find(self, pattern: str) -> re.Match[str]:
        """The first match in what it prints; no more than the last lines are kept. Raises `ChildEnded`."""
        async with self._printed:
            while True:
                if match := next(filter(None, (re.search(pattern, line) for line in self._tail)), None):
                    return match
                if self._reader.done():
                    raise self.explain_end()
                await self._printed.wait()

    async def fall_silent(self) -> None:
        """Returns when nothing was printed for a moment, at the latest after a few: for what is still on its way."""
        for _ in range(_MOST_MOMENTS):
            before = self._lines
            await asyncio.sleep(_MOMENT_SECONDS)
            if self._lines == before:
                return

    async def wait(self) -> None:
        """Returns when it has ended and all that it printed was told."""
        await self._process.wait()
        await self._reader

    async def end(self) -> None:
        """Ends it, by force where it doesn't obey. Harmless when it has ended."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
        self.kill()
        await self.wait()

    def kill(self) -> None:
        """Ends it at once. Harmless when it has ended."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def explain_end(self) -> ChildEnded:
        code = self._process.returncode
        how = (
            "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        )
        return ChildEnded("\n".join([f"{self.name} {how}. The last that it printed:", *self._tail]))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # a line longer than the bound: nobody would read it
                continue
            async with self._printed:
                if line:
                    self._lines += 1
                    self._tail.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                    self._tell(self.name, self._tail[-1])
                self._printed.notify_all()
            if not line:
                return


class Children:
    """All children of one command; leaving the block ends them, the last started first."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            await child.end()

    async def start(
        self, name: str, module: str, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Child:
        """Starts `python -m module arguments`, in this process's environment where no other is given."""
        # The packages are the parent's own, whatever folders of the same name lie where it was started.
        home = str(Path(tethers.__file__).parents[2])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", tethers.__name__, module, *arguments),
            env={**(os.environ if env is None else env), "PYTHONPATH": home, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
            limit=_LINE_BYTES,
        )
        child = Child(name, process, self._tell)
        self._children.append(child)
        return child

    async def run_until_one_ends(self) -> None:
        """Waits for the first that ends, and raises `ChildEnded`."""
        waiting = {asyncio.create_task(child.wait()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        raise waiting[done.pop()].explain_end()

    def kill(self) -> None:
        """Ends them all at once."""
        for child in self._children:
            child.kill()


@contextmanager
def signals(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Has the running loop call `act` upon Ctrl-C, SIGTERM, and the end of the terminal."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, act, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
