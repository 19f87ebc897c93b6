"""A bell: one waiter, any number of ringers, and a time limit that costs no task."""

import asyncio


class Bell:
    """`ring` wakes the waiter, or the next one to come; rings don't add up."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[bool] | None = None

    def ring(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def wait(self, within_seconds: float | None = None) -> bool:
        """Whether the bell rang in time. Without a limit it waits as long as it takes."""
        if self._rung:
            self._rung = False
            return True
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if within_seconds is None else loop.call_later(within_seconds, _give_up, waiter)
        try:
            rang: bool = await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        if rang:
            self._rung = False
        return rang


def _give_up(waiter: "asyncio.Future[bool]") -> None:
    if not waiter.done():
        waiter.set_result(False)
