"""Whether a call's client has ended it: asked whenever something is new in its session, on whichever replica that came in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.exchange.exchanges import Gateway
from gateway.policy.streams import Facts, LogAway, SessionDigest

Wake = Callable[[SessionDigest, Callable[[], None]], Callable[[], None]]


class Watch:
    """Of one call. `has_ended`: it was cancelled for that."""

    def __init__(self, wake: Wake, session: SessionDigest, is_ended: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """`wake` says when to ask `is_ended`."""
        self._wake = wake
        self._session = session
        self._questions: set[asyncio.Task[None]] = set()
        self.is_ended = is_ended
        self.has_ended = False

    def begin(self, task: asyncio.Task[Any]) -> Callable[[], None]:
        """From now on the task is cancelled as soon as the call was ended. Undone by the result."""
        return self._wake(self._session, lambda: self._ring(task))

    def _ring(self, task: asyncio.Task[Any]) -> None:
        question = task.get_loop().create_task(self._ask(task))
        self._questions.add(question)
        question.add_done_callback(self._questions.discard)

    async def _ask(self, task: asyncio.Task[Any]) -> None:
        if await self.is_ended() and not self.has_ended:
            self.has_ended = True
            task.cancel()


async def is_ended(gateway: Gateway, facts: Facts) -> bool:
    """Whether the client has cancelled the call, or ended its session: then nobody waits for more."""
    if gateway.marks is None:
        return False
    try:
        return await gateway.marks.is_ended(facts.session, facts.request_id or None)
    except LogAway:
        return False
