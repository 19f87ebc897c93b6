"""A changed configuration is taken up, a wrong one is told, and what changes nothing is not heard of.

Real files, real notifications. `look_seconds` only bounds how long a change made before the watch stood goes unseen.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from itertools import count
from pathlib import Path

import anyio
import pytest

from gateway.settings.configurations import load
from gateway.settings.problems import ConfigurationInvalid
from gateway.settings.settings import Settings
from gateway.settings.watches import Looker, _ticks, fingerprint, watch, watched_directories
from tests.settings.files import ECHO, KEY, OTHER_KEY, write

Found = Settings | ConfigurationInvalid


class Watch:
    """One watch over a file, and what it finds next."""

    def __init__(self, path: Path) -> None:
        self.first = load(path, {})
        self.found: AsyncGenerator[Found] = watch(self.first, partial(load, path, {}), look_seconds=0.05)

    async def next(self) -> Found:
        with anyio.fail_after(20):
            return await anext(self.found)

    async def next_settings(self) -> Settings:
        found = await self.next()
        assert isinstance(found, Settings), found
        return found


@pytest.fixture
async def watches() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def start(watches: AsyncExitStack, path: Path) -> Watch:
    started = Watch(path)
    await watches.enter_async_context(aclosing(started.found))
    return started


async def test_a_written_file_is_taken_up(watches: AsyncExitStack, tmp_path: Path) -> None:
    path = write(tmp_path, ECHO)
    started = await start(watches, path)
    write(tmp_path, ECHO.replace("9001", "9002"))
    assert (await started.next_settings()).site.backends["echo"].endpoints == ("http://127.0.0.1:9002/mcp",)
    write(tmp_path, ECHO.replace("9001", "9003"))
    assert (await started.next_settings()).site.backends["echo"].endpoints == ("http://127.0.0.1:9003/mcp",)


async def test_a_file_replaced_as_editors_do_is_taken_up(watches: AsyncExitStack, tmp_path: Path) -> None:
    path = write(tmp_path, ECHO)
    started = await start(watches, path)
    for port in ("9002", "9003"):
        write(tmp_path, ECHO.replace("9001", port), "gateway.yaml.new").replace(path)
        assert (await started.next_settings()).site.backends["echo"].endpoints == (f"http://127.0.0.1:{port}/mcp",)


def mount_config_map(volume: Path, version: str, text: str) -> Path:
    """A new version of a ConfigMap, as the kubelet brings it: a directory, and `..data` swapped to it in one step."""
    write(volume, text, f"..{version}/gateway.yaml")
    (volume / "..data_tmp").symlink_to(f"..{version}")
    (volume / "..data_tmp").replace(volume / "..data")
    path = volume / "gateway.yaml"
    if not path.is_symlink():
        path.symlink_to("..data/gateway.yaml")
    return path


async def test_a_config_map_swapped_in_one_step_is_taken_up(watches: AsyncExitStack, tmp_path: Path) -> None:
    started = await start(watches, mount_config_map(tmp_path, "2026_1", ECHO))
    for version, port in (("2026_2", "9002"), ("2026_3", "9003")):
        mount_config_map(tmp_path, version, ECHO.replace("9001", port))
        assert (await started.next_settings()).site.backends["echo"].endpoints == (f"http://127.0.0.1:{port}/mcp",)


async def test_a_wrong_file_is_told_once_and_its_mending_too(watches: AsyncExitStack, tmp_path: Path) -> None:
    path = write(tmp_path, ECHO)
    started = await start(watches, path)
    write(tmp_path, f"{ECHO}prot: 1\n")
    found = await started.next()
    assert isinstance(found, ConfigurationInvalid)
    assert [problem.key for problem in found.problems] == ["prot"]
    write(tmp_path, ECHO)  # nothing differs from what is in force, but the mistake is gone
    assert (await started.next_settings()).site.digest == started.first.site.digest


async def test_a_new_file_that_an_include_matches_is_taken_up(watches: AsyncExitStack, tmp_path: Path) -> None:
    started = await start(watches, write(tmp_path, f"include: conf.d/*.yaml\n{ECHO}"))
    write(tmp_path, "backends: {a: {endpoints: [http://localhost:1]}}\n", "conf.d/a.yaml")
    assert list((await started.next_settings()).site.backends) == ["echo", "a"]
    write(tmp_path, "backends: {b: {endpoints: [http://localhost:1]}}\n", "conf.d/a.yaml")
    assert list((await started.next_settings()).site.backends) == ["echo", "b"]
    (tmp_path / "conf.d/a.yaml").unlink()
    assert list((await started.next_settings()).site.backends) == ["echo"]


async def test_a_rotated_key_is_taken_up(watches: AsyncExitStack, tmp_path: Path) -> None:
    write(tmp_path, KEY, "secrets/ring")
    started = await start(watches, write(tmp_path, f"{ECHO}session_keys_file: secrets/ring\n"))
    write(tmp_path, f"{OTHER_KEY}\n{KEY}", "secrets/ring")
    assert (await started.next_settings()).session_keys == (bytes(range(32, 64)), bytes(range(32)))


async def test_a_key_made_at_start_outlives_a_reload(watches: AsyncExitStack, tmp_path: Path) -> None:
    started = await start(watches, write(tmp_path, ECHO))
    write(tmp_path, f"{ECHO}expose_mounts: true\n")
    assert (await started.next_settings()).session_keys == started.first.session_keys


async def test_a_deleted_file_is_a_mistake_until_it_is_back(watches: AsyncExitStack, tmp_path: Path) -> None:
    path = write(tmp_path, ECHO, "conf/gateway.yaml")
    started = await start(watches, path)
    path.unlink()
    path.parent.rmdir()
    found = await started.next()
    assert isinstance(found, ConfigurationInvalid)
    assert found.problems[0].message == "can't be read: no such file or directory"
    write(tmp_path, f"{ECHO}expose_mounts: true\n", "conf/gateway.yaml")
    assert (await started.next_settings()).site.expose_mounts


def test_what_changes_nothing_is_not_heard_of(tmp_path: Path) -> None:
    path = write(tmp_path, ECHO)
    reads = []

    def reload() -> Settings:
        reads.append(1)
        return load(path, {})

    looker = Looker(load(path, {}), reload)
    assert looker.look() is None
    os.utime(path, (1, 1))
    write(tmp_path, "anything", "beside.txt")
    assert looker.look() is None
    assert len(reads) == 1  # the first look reads, a touched file isn't even read again
    write(tmp_path, f"# a comment\n{ECHO}")
    assert looker.look() is None
    assert len(reads) == 2


def test_the_same_mistake_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, ECHO)
    looker = Looker(load(path, {}), partial(load, path, {}))
    write(tmp_path, f"{ECHO}prot: 1\n")
    assert isinstance(looker.look(), ConfigurationInvalid)
    write(tmp_path, f"{ECHO}prot: 2\n")
    assert looker.look() is None
    write(tmp_path, f"{ECHO}port: -1\n")
    assert isinstance(looker.look(), ConfigurationInvalid)


def test_a_link_that_leads_in_a_circle_is_a_state_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert watched_directories([str(tmp_path / "a")]) == {str(tmp_path)}
    assert fingerprint([str(tmp_path / "a")]) != fingerprint([str(tmp_path / "missing")])


async def test_a_change_is_noticed_by_its_event_long_before_the_next_look(tmp_path: Path) -> None:
    path = write(tmp_path, ECHO)
    ports = count(9100)
    async with aclosing(watch(load(path, {}), partial(load, path, {}), look_seconds=3600)) as changes:
        assert isinstance(await noticed_write(changes, tmp_path, ports), Settings)  # may be the look at the start
        assert isinstance(await noticed_write(changes, tmp_path, ports), Settings)  # can only be an event


async def noticed_write(changes: AsyncGenerator[Found], directory: Path, ports: Iterator[int]) -> Found:
    """Writes ever new versions until one is noticed: nobody can tell from outside when the watch stands."""
    found: list[Found] = []

    async def wait() -> None:
        found.append(await anext(changes))
        noticed.set()

    noticed = anyio.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not noticed.is_set():
                write(directory, ECHO.replace("9001", str(next(ports))))
                with anyio.move_on_after(0.3):
                    await noticed.wait()
    return found[0]


async def test_where_no_events_can_be_had_one_looks_without(tmp_path: Path) -> None:
    async with aclosing(_ticks(frozenset({str(tmp_path / "vanished")}), 0.001)) as ticks:
        with anyio.fail_after(20):
            for _ in range(3):
                await anext(ticks)
