"""The streams that would last for ever: legacy GET streams, and modern `subscriptions/listen`.

Nothing but their client ends them, so when a worker drains it must: the clients open them again, elsewhere.
"""

import asyncio
from typing import Any

import msgspec
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.protocol.events import message_event
from gateway.protocol.messages import RequestId


class Standing:
    """The tasks behind this worker's standing streams."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_draining = False

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


def listen_ended(request_id: RequestId) -> bytes:
    """The event by which a server ends a subscription in good order (2026-07-28, `SubscriptionsListenResult`)."""
    result = {"resultType": "complete", "_meta": {SUBSCRIPTION_ID_META_KEY: request_id}}
    return message_event(msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result}))
