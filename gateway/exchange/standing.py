"""The streams that would last for ever: legacy GET streams, and modern `subscriptions/listen`.

Nothing but their client ends them, so when a worker drains it must: the clients open them again, elsewhere.
"""

import asyncio
import random
from typing import Any, Final

import msgspec
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.protocol.events import message_event
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome

RETRY_MILLISECONDS: Final = (1000, 1999)
"""After how long clients of a drained worker come back, each after its own time, or all of them would at once. Not sooner than
SDKs do by themselves: they keep to what they were told last, and give up after two vain attempts."""


class Standing:
    """The tasks behind this worker's standing streams, and how far its end has come."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_draining = False  # no request comes any more
        self.is_over = False  # the grace, too: what is cancelled from now on failed
        self.lost = 0  # calls that failed so

    def add(self, task: asyncio.Task[Any]) -> None:
        """From now on the task is ended by `drain`; it leaves by itself when it is done.

        While the worker drains a stream is begun and ended: an error instead would make some clients give up.
        """
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_draining:
            task.get_loop().call_soon(task.cancel)

    def drain(self) -> None:
        """Ends them all, each in its own good order."""
        self.is_draining = True
        for task in self._tasks:
            task.cancel()

    def give_up(self) -> None:
        """The grace is over."""
        self.is_over = True

    def lose(self) -> Failed:
        """What a client is told whose call was cut at the end of the grace."""
        self.lost += 1
        message = (
            "the gateway is being replaced, and this call did not end in time: see what it has done, then call again"
        )
        return Failed(Outcome.DRAINING, message)


def come_back() -> bytes:
    """What a client is told whose stream ends here and goes on elsewhere (WHATWG HTML §9.2.6, `retry`)."""
    return b"retry: %d\n\n" % random.randint(*RETRY_MILLISECONDS)  # noqa: S311  # spreads clients, hides nothing


def listen_ended(request_id: RequestId) -> bytes:
    """The event by which a server ends a subscription in good order (2026-07-28, `SubscriptionsListenResult`)."""
    result = {"resultType": "complete", "_meta": {SUBSCRIPTION_ID_META_KEY: request_id}}
    return message_event(msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result}))
