"""What a replica runs on: it may be stopped and woken, or die, and whatever it was about to do waits or never happens."""

import asyncio


class HostDied(BaseException):
    """Nothing that runs on this host goes on. No `except Exception` sees it, as none sees `kill -9`."""


class Host:
    def __init__(self) -> None:
        self._runs = asyncio.Event()
        self._runs.set()
        self.is_dead = False

    @property
    def is_stopped(self) -> bool:
        return not self._runs.is_set()

    def stop(self) -> None:
        self._runs.clear()

    def wake(self) -> None:
        self._runs.set()

    def die(self) -> None:
        self.is_dead = True
        self._runs.set()

    async def wait(self) -> None:
        """Returns while the host runs. Every way out of a replica goes through here."""
        await self._runs.wait()
        if self.is_dead:
            raise HostDied
