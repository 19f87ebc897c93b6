"""One who is told by a hub: what waits for it, and when it has to go."""

from typing import Final, Protocol

from gateway.exchange.bells import Bell
from gateway.protocol import headers as h
from gateway.protocol.subscriptions import Filter, Note, make_note

MAX_PENDING_NOTES: Final = 256
MAX_PENDING_BYTES: Final = 64 * 1024
"""What waits for one listener. Beyond either it is ended: it listens anew, and looks at everything."""


class Hub(Protocol):
    """Who tells it."""

    headers: h.Headers

    def remove(self, listener: "Listener") -> None:
        """It isn't to be told any more. Harmless when repeated."""


class Listener:
    """One who wants to be told. `wanted`: what it asked for and the backend will tell. `is_over`: end its stream."""

    __slots__ = ("_hub", "_pending", "_size_bytes", "bell", "is_over", "wanted")

    def __init__(self, hub: Hub, wanted: Filter, bell: Bell) -> None:
        self._hub = hub
        self._pending: dict[str, Note] = {}
        self._size_bytes = 0
        self.bell = bell
        self.is_over = False
        self.wanted = wanted

    @property
    def headers(self) -> h.Headers:
        """Those of the backend's answer."""
        return self._hub.headers

    def offer(self, note: Note) -> None:
        """Tells it, if it wants to know; the newest of two that say the same."""
        if self.is_over or not note.is_for(self.wanted):
            return
        if (before := self._pending.get(note.key)) is not None:
            self._size_bytes -= len(before.before) + len(before.after)
        self._pending[note.key] = note
        self._size_bytes += len(note.before) + len(note.after)
        if len(self._pending) > MAX_PENDING_NOTES or self._size_bytes > MAX_PENDING_BYTES:
            self.end()
        self.bell.ring()

    def offer_all(self) -> None:
        """Something may have been missed: whatever it wants to know of may have changed."""
        for change in self.wanted.changes:
            self.offer(make_note(change))
        for uri in self.wanted.uris:
            self.offer(make_note(None, uri))

    def drain(self) -> list[Note]:
        """All that waits. The bell rings when there is more, or when it `is_over`."""
        notes = list(self._pending.values())
        self._pending.clear()
        self._size_bytes = 0
        return notes

    def end(self) -> None:
        """Nothing more comes."""
        self.is_over = True
        self._pending.clear()
        self.bell.ring()

    def leave(self) -> None:
        """Harmless when repeated."""
        self._hub.remove(self)
