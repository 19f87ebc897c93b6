"""The audit log: a file, or standard output, of its own, one JSON object a line.

Lines wait in a bounded queue and are written by a thread, so that a slow disk holds up no call. The file is opened anew
where its path leads to another one, as after logrotate's move. What can't be written is kept, and tried again each second.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec

from gateway.policy.audits import STDOUT, Auditing
from gateway.ports import AuditEntry
from gateway.telemetry.lines import encode_line, format_time
from gateway.telemetry.logs import join_lines

QUEUE_LINES: Final = 10_000
"""Of some 400 bytes. Beyond: refused calls where the audit is required, else lost lines."""

RESERVED_LINES: Final = 10_000
"""More, where the audit is required: for calls that were served when there was room, and end when there is none."""

WAIT_SECONDS: Final = 0.05
"""How long lines are collected for one write. A worker that is killed takes these with it."""

RETRY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0
"""For the last lines, when the worker ends."""


class Witness(Protocol):
    """Is told what becomes of lines."""

    def audit_lines(self, result: Literal["written", "lost"], lines: int) -> None: ...

    def audit_troubled(self, detail: str) -> None: ...


class _Line(AuditEntry, kw_only=True, omit_defaults=True):
    timestamp: str


class AuditWriter:
    """The port `AuditLog`. `run` writes what was told, until it is cancelled; then `close`."""

    def __init__(
        self,
        auditing: Auditing | None,
        digest: Callable[[bytes], str],
        witness: Witness,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.digest = digest
        self._auditing = auditing
        self._witness = witness
        self._clock = clock
        self._waiting: deque[bytes] = deque()
        self._blocks: deque[bytes] = deque()  # of the writing thread, while it writes
        self._writing = threading.Lock()
        self._is_failing = False
        self._unwritten = 0  # lines that were taken to be written, and aren't yet
        self._came = asyncio.Event()
        self._fd = -1

    def change(self, auditing: Auditing | None) -> None:
        """From now on so. Where it is off, what waits is still written."""
        self._auditing = auditing or self._auditing

    @property
    def is_accepting(self) -> bool:
        return not self._is_failing and len(self._waiting) + self._unwritten < QUEUE_LINES

    def tell(self, entry: AuditEntry) -> None:
        """One more line, unless there is no room."""
        is_required = self._auditing is not None and self._auditing.is_required
        if len(self._waiting) + self._unwritten >= QUEUE_LINES + (RESERVED_LINES if is_required else 0):
            self._witness.audit_lines("lost", 1)
            return
        line = _Line(timestamp=format_time(self._clock()), **msgspec.structs.asdict(entry))
        self._waiting.append(encode_line(line) + b"\n")
        self._came.set()

    async def run(self) -> None:
        """Writes, for ever."""
        while True:
            await self._came.wait()
            await asyncio.sleep(WAIT_SECONDS)
            if not await self.flush():
                await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> bool:
        """Writes all that waits. False where some of it can't be written now."""
        self._came.clear()
        lines, self._waiting = self._waiting, deque()
        self._unwritten += len(lines)
        self._blocks.extend(join_lines(lines))
        trouble = await asyncio.to_thread(self._write, self._auditing.file if self._auditing else STDOUT)
        if not trouble:
            self._witness.audit_lines("written", self._unwritten)
            self._unwritten = 0
        else:
            self._came.set()
        self._note(trouble)
        return not trouble

    def _note(self, trouble: str) -> None:
        if bool(trouble) is not self._is_failing:
            self._witness.audit_troubled(trouble)
        self._is_failing = bool(trouble)

    async def close(self) -> None:
        """The last lines; what can't be written within `CLOSE_SECONDS` is lost, and counted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
        if left := self._unwritten + len(self._waiting):
            self._witness.audit_lines("lost", left)
        self._release()

    # ---- on a thread

    def _write(self, file: str) -> str:
        """Why not all could be written; "" where it was."""
        with self._writing:
            try:
                fd = self._open(file)
                while self._blocks:
                    self._write_block(fd)
            except OSError as error:
                return error.strerror or "failed"
            return ""

    def _write_block(self, fd: int) -> None:
        block = self._blocks[0]
        written = os.write(fd, block)
        self._blocks.popleft()
        if written < len(block):  # the disk is full: a line that was cut is written whole, on a line of its own
            self._blocks.appendleft(b"\n" + block[block.rfind(b"\n", 0, written) + 1 :])

    def _open(self, file: str) -> int:
        """The descriptor of what is at that path now. Raises OSError."""
        if file == STDOUT:
            return sys.stdout.fileno()
        with contextlib.suppress(FileNotFoundError):
            if self._fd >= 0 and os.path.samestat(os.stat(file), os.fstat(self._fd)):  # noqa: PTH116
                return self._fd
        self._release()
        self._fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
        return self._fd

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
