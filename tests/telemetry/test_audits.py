"""The audit log: lines come out whole, in order, into the file that is at the path; what can't be written is told."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.policy.audits import Auditing
from gateway.ports import AuditEntry
from gateway.state.seals import Keyring
from gateway.telemetry import audits
from gateway.telemetry.audits import AuditWriter


class Witness:
    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.told = asyncio.Condition()

    def audit_lines(self, result: str, lines: int) -> None:
        self.lines[result] += lines
        self._wake()

    def audit_troubled(self, detail: str) -> None:
        self.troubles.append(detail)
        self._wake()

    def _wake(self) -> None:
        asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self.told:
            self.told.notify_all()

    async def wait(self, result: str, lines: int) -> None:
        async with asyncio.timeout(30), self.told:
            await self.told.wait_for(lambda: self.lines[result] == lines)


def entry(number: int) -> AuditEntry:
    return AuditEntry(str(number), "anonymous", "192.0.2.7", "POST", "/echo", method="tools/call", name="add")


def make(file: Path, *, is_required: bool = False) -> tuple[AuditWriter, Witness]:
    witness = Witness()
    keyring = Keyring([b"k" * 32])
    return AuditWriter(Auditing(str(file), is_required), keyring.digest, witness, lambda: 1.5), witness


@asynccontextmanager
async def running(log: AuditWriter) -> AsyncIterator[None]:
    task = asyncio.create_task(log.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.close()


def numbers(file: Path) -> list[str]:
    return [json.loads(line)["request_id"] for line in file.read_text().splitlines()]


async def test_a_line_says_who_called_what_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    log, _ = make(tmp_path / "audit.log")
    async with running(log):
        log.tell(entry(1))
    assert json.loads((tmp_path / "audit.log").read_text()) == {
        "timestamp": "1970-01-01T00:00:01.500Z",
        "request_id": "1",
        "principal": "anonymous",
        "client": "192.0.2.7",
        "http_method": "POST",
        "mount": "/echo",
        "method": "tools/call",
        "name": "add",
    }
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


async def test_lines_that_wait_are_written_when_the_worker_ends_in_order_and_whole(tmp_path: Path) -> None:
    log, witness = make(tmp_path / "audit.log")
    async with running(log):
        for number in range(500):
            log.tell(entry(number))
    assert numbers(tmp_path / "audit.log") == [str(number) for number in range(500)]
    assert witness.lines == {"written": 500}
    assert witness.troubles == []


async def test_a_file_that_was_moved_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    log, witness = make(file)
    async with running(log):
        log.tell(entry(1))
        await witness.wait("written", 1)
        file.rename(tmp_path / "audit.log.1")
        log.tell(entry(2))
        await witness.wait("written", 2)
    assert numbers(tmp_path / "audit.log.1") == ["1"]
    assert numbers(file) == ["2"]


async def test_what_cannot_be_written_is_kept_told_once_and_written_when_it_can_be(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    log, witness = make(folder / "audit.log", is_required=True)
    log.tell(entry(1))
    assert log.is_accepting
    assert not await log.flush()
    assert not await log.flush()
    assert not log.is_accepting
    log.tell(entry(2))
    folder.mkdir()
    assert await log.flush()
    assert log.is_accepting
    assert numbers(folder / "audit.log") == ["1", "2"]
    assert witness.troubles == ["No such file or directory", ""]
    assert witness.lines == {"written": 2}


async def test_a_full_queue_loses_lines_and_counts_them_or_accepts_no_more_where_the_audit_is_required(
    tmp_path: Path,
) -> None:
    for is_required, lost in ((False, 3), (True, 0)):
        log, witness = make(tmp_path / "audit.log", is_required=is_required)
        for number in range(audits.QUEUE_LINES - 1):
            log.tell(entry(number))
        assert log.is_accepting
        for number in range(4):
            log.tell(entry(number))
        assert not log.is_accepting
        assert witness.lines["lost"] == lost


async def test_room_is_kept_for_calls_that_are_served_and_it_has_an_end_too(tmp_path: Path) -> None:
    log, witness = make(tmp_path / "audit.log", is_required=True)
    for number in range(20_001):
        log.tell(entry(number))
    assert witness.lines == {"lost": 1}
    await log.flush()
    assert witness.lines == {"lost": 1, "written": 20_000}


async def test_what_cannot_be_written_in_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    log, witness = make(tmp_path / "nowhere" / "audit.log")
    async with running(log):
        log.tell(entry(1))
    assert witness.lines == {"lost": 1}


def test_a_digest_is_keyed_and_names_its_key() -> None:
    one, other = Keyring([b"k" * 32]), Keyring([b"l" * 32, b"k" * 32])
    assert one.digest(b"x") == one.digest(b"x")
    assert one.digest(b"x") != one.digest(b"y")
    assert one.digest(b"x").partition(":")[0] == one.digest(b"y").partition(":")[0]
    assert other.digest(b"x").partition(":")[0] != one.digest(b"x").partition(":")[0]
    other.change([b"k" * 32])
    assert other.digest(b"x") == one.digest(b"x")
