"""Notices that the configuration changed. Knows which files it came from, and reads it again when one of them differs.

What is watched are the files' directories: editors replace files instead of writing to them, and Kubernetes swaps the
symbolic link `..data` under a mounted ConfigMap (https://kubernetes.io/docs/concepts/storage/volumes/#configmap). An
event says only *look*: what counts is the content, so that touching a file yields nothing, and a file system that
sends no events (NFS, some container mounts) is looked at every few seconds all the same.
"""

import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec
import watchfiles

from gateway.settings.problems import ConfigurationInvalid, Problem
from gateway.settings.settings import Settings, with_digest

LOOK_SECONDS: Final = 5.0
"""How often to look without an event: a few small files read, for a change that is served within seconds anyway."""
_DEBOUNCE_MS: Final = 500  # a change is taken up at the latest this long after its first event
_STEP_MS: Final = 50  # and this long after its last


async def watch(
    current: Settings, reload: Callable[[], Settings], *, look_seconds: float = LOOK_SECONDS
) -> AsyncGenerator[Settings | ConfigurationInvalid]:
    """After each change of the watched files, the new settings, or why there are none.

    `reload` is `load` with its arguments; it runs in a thread. Settings that equal the ones in force are not yielded,
    except after a ConfigurationInvalid, to say that it is mended. Ends only when it is closed or cancelled.
    """
    looker = Looker(current, reload)
    while True:
        directories = await anyio.to_thread.run_sync(looker.directories)
        async with aclosing(_ticks(directories, look_seconds)) as ticks:
            async for _tick in ticks:
                if (found := await anyio.to_thread.run_sync(looker.look)) is not None:
                    yield found
                if await anyio.to_thread.run_sync(looker.directories) != directories:
                    break


class Looker:
    """What was last seen, and what is in force. Blocking; not for two threads at once."""

    def __init__(self, current: Settings, reload: Callable[[], Settings]) -> None:
        self.current = current
        self.reload = reload
        self.files = current.files
        self.seen = b""  # the first look reads again: what changed since `current` was read isn't missed
        self.problems: tuple[Problem, ...] = ()

    def directories(self) -> frozenset[str]:
        return watched_directories(self.files)

    def look(self) -> Settings | ConfigurationInvalid | None:
        """What the files say now, None where that is nothing new."""
        looked = fingerprint(self.files)  # before reading: what changes meanwhile makes the next look differ
        if looked == self.seen:
            return None
        try:
            found = keep_generated_keys(self.current, self.reload())
        except ConfigurationInvalid as invalid:
            return self.refuse(invalid, looked)
        self.see(found.files, looked)
        if found.site.digest == self.current.site.digest and not self.problems:
            return None
        self.current, self.problems = found, ()
        return found

    def refuse(self, invalid: ConfigurationInvalid, looked: bytes) -> ConfigurationInvalid | None:
        # a file that only the last good configuration named is watched on: it may be what is missing now
        self.see(tuple(dict.fromkeys([*invalid.files, *self.current.files])), looked)
        told, self.problems = self.problems, invalid.problems
        return None if told == invalid.problems else invalid

    def see(self, files: tuple[str, ...], looked: bytes) -> None:
        self.seen = looked if files == self.files else b""  # what wasn't looked at before it was read is read again
        self.files = files


def keep_generated_keys(old: Settings, new: Settings) -> Settings:
    """The new settings with the key that this process made at its start: another one would end all sessions."""
    if not (old.session_keys_generated and new.session_keys_generated):
        return new
    return with_digest(msgspec.structs.replace(new, session_keys=old.session_keys))


def fingerprint(files: Iterable[str]) -> bytes:
    """A digest of what the files hold and what the directories among them list; a missing one is a state too."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        try:
            path = Path(name)
            content = "\n".join(sorted(p.name for p in path.iterdir())).encode("utf-8", "surrogateescape")
        except NotADirectoryError:
            content = _read(path)
        except OSError as error:
            content = type(error).__name__.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        return type(error).__name__.encode()


def watched_directories(files: Iterable[str]) -> frozenset[str]:
    """The directories in which a change can show: of each file, and of what it is a symbolic link to."""
    found: set[Path] = set()
    for name in files:
        for path in (Path(name), Path(os.path.realpath(name))):
            found.add(_nearest(path))
    return frozenset(map(str, found))


def _nearest(path: Path) -> Path:
    """The path itself if it is a directory, or the closest one above it: where its making would show."""
    # os.path.isdir, unlike Path.is_dir, takes what may not be looked at for no directory
    return next((above for above in (path, *path.parents) if os.path.isdir(above)), Path(path.anchor))  # noqa: PTH112


async def _ticks(directories: frozenset[str], look_seconds: float) -> AsyncGenerator[None]:
    """A tick at once, then one after each change in the directories and one after each silence of `look_seconds`."""
    yield
    try:
        changes = watchfiles.awatch(
            *directories,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=int(look_seconds * 1000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        async with aclosing(changes):
            async for _change in changes:
                yield
    except (OSError, RuntimeError):  # a directory that just vanished, or no inotify watches left: look without events
        while True:
            await anyio.sleep(look_seconds)
            yield
