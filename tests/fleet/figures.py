"""What a replica shows of itself: its metrics, and what the kernel says of its process. And waiting for them to be so."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.fleet.fleet import Fleet, Replica, fetch
from tests.fleet.scripted import WITHIN_SECONDS

POLL_SECONDS = 0.05


async def read_metric(replica: Replica, name: str, **labels: str) -> float:
    """The sum of all series of that name with these labels; 0 where there are none."""
    status, page = await asyncio.to_thread(fetch, f"{replica.url}/metrics", WITHIN_SECONDS)
    assert status == 200, page
    total = 0.0
    for series, shown, value in re.findall(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", page.decode(), re.MULTILINE):
        if series == name and all(f'{label}="{wanted}"' in shown for label, wanted in labels.items()):
            total += float(value)
    return total


async def sum_metric(fleet: Fleet, name: str, **labels: str) -> float:
    """The same over all replicas that run."""
    running = [replica for replica in fleet.replicas if replica.child.running]
    return sum([await read_metric(replica, name, **labels) for replica in running])


async def wait_for_metric(fleet: Fleet, wanted: float, name: str, **labels: str) -> None:
    """Until the fleet's sum is that; fails, saying what it was last, where it doesn't come to it."""
    found = -1.0
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            while (found := await sum_metric(fleet, name, **labels)) != wanted:  # noqa: ASYNC110  another process sets no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{name} {labels} is {found}, not {wanted}") from None


async def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Until that is so; fails, saying what was waited for, where it doesn't come to it."""
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not is_so():  # noqa: ASYNC110  another process sets no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"waited in vain until {what}") from None


def count_sockets(replica: Replica) -> int:
    """Open sockets of the replica, all its workers together."""
    parent = replica.child.process.pid
    workers = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sum(map(count_sockets_of, (parent, *workers)))


def count_sockets_of(pid: int | str) -> int:
    """Open sockets of one process."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def read_memory(replica: Replica) -> int:
    """Resident memory of the replica's process, in bytes."""
    status = Path(f"/proc/{replica.child.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
