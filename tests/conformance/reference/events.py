"""What was sent on each stream, so that a client that comes back gets what it missed. In memory, bounded."""

from collections import OrderedDict

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import JSONRPCMessage

MOST_EVENTS = 10_000
"""Events kept over all streams; the oldest go first, and a client that asks for more gets what is left."""


class RecentEvents(EventStore):
    """Event ids are numbers that grow over all streams, so what came later on a stream has the greater id."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, tuple[str, JSONRPCMessage | None]] = OrderedDict()
        self._count = 0

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keeps the message (None: a priming event, which carries nothing) and returns its id."""
        self._count += 1
        event_id = str(self._count)
        self._events[event_id] = (stream_id, message)
        if len(self._events) > MOST_EVENTS:
            self._events.popitem(last=False)
        return event_id

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Sends what came later on that event's stream; returns the stream, or None where the event is unknown."""
        if last_event_id not in self._events:
            return None
        stream_id, _ = self._events[last_event_id]
        for event_id, (stream, message) in list(self._events.items()):
            if stream == stream_id and int(event_id) > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream_id
