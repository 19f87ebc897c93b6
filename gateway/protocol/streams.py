"""One SSE stream of a backend, read with understanding: whole events, each a JSON-RPC message, and what is still owed.

Both eras read with this: what differs is only where the events go.
"""

from collections.abc import Callable, Iterable
from typing import Final

from gateway.protocol.answers import answers_request, inspect_messages
from gateway.protocol.changes import Change
from gateway.protocol.events import EventSplitter, EventTooLarge, parse_event
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Outcome

_BROKEN_OFF: Final = "the backend closed the stream before its final response"


class StreamReader:
    """Feed it what arrives; it gives back the events to pass on, and remembers how the stream stands.

    `awaited`: ids of requests that this stream has yet to answer. `fault`: why the stream is nonsense; once set, nothing
    more is read. `outcome` and `code`: of the last response. `is_resumable`: an event had an id, so that the client can
    ask for the rest. `last_response`: the data of the last event that answered. `cursor`: the last id that the backend
    gave; `retry_seconds`: how long it wants to be left alone before it is asked for more.
    """

    __slots__ = (
        "_limit_bytes",
        "_splitter",
        "awaited",
        "code",
        "cursor",
        "events",
        "fault",
        "is_open_ended",
        "is_resumable",
        "last_response",
        "on_change",
        "outcome",
        "retry_seconds",
    )

    def __init__(self, limit_bytes: int, awaited: Iterable[RequestId], *, is_open_ended: bool = False) -> None:
        """`is_open_ended`: a standalone or resumed stream, which may carry responses that we didn't see asked for."""
        self._limit_bytes = limit_bytes
        self._splitter = EventSplitter(limit_bytes)
        self.is_open_ended = is_open_ended
        self.awaited = set(awaited)
        self.code = 0
        self.cursor = b""
        self.events = 0
        self.fault = ""
        self.is_resumable = False
        self.last_response = b""
        self.on_change: Callable[[Change], object] | None = None
        self.outcome = Outcome.OK
        self.retry_seconds: float | None = None

    def reconnect(self) -> None:
        """What is fed from now on comes over another connection: an event that was cut off with the last one is forgotten."""
        self._splitter = EventSplitter(self._limit_bytes)

    def feed(self, data: bytes) -> list[bytes]:
        """The whole events that may be passed on, byte for byte."""
        if self.fault:
            return []
        try:
            blocks = self._splitter.feed(data)
        except EventTooLarge:
            self.fault = "the backend sent an event beyond the size limit"
            return []
        for position, block in enumerate(blocks):
            if not self._take(block):
                return blocks[:position]
        return blocks

    def _take(self, block: bytes) -> bool:
        event = parse_event(block)
        if event.id:
            self.is_resumable = True
            self.cursor = event.id
        if event.retry is not None:
            self.retry_seconds = event.retry / 1000
        if not event.data:  # a comment, a priming event, a `retry`
            return True
        findings = inspect_messages(event.data)
        if findings is None:
            self.fault = "the backend sent an event that is not a JSON-RPC message"
            return False
        for finding in findings:
            if finding.change is not None and self.on_change is not None:
                self.on_change(finding.change)
            if finding.is_response and not self.is_open_ended:
                if not answers_request(finding, self.awaited):
                    self.fault = "the backend answered with another id than the request's"
                    return False
                if finding.id is None:
                    self.awaited.clear()
                else:
                    self.awaited.discard(finding.id)
                self.outcome, self.code = finding.outcome, finding.code
                self.last_response = event.data
        self.events += 1
        return True

    @property
    def unfinished(self) -> str:
        """Why a stream that ended here is cut short; empty where it isn't."""
        return _BROKEN_OFF if self.awaited else ""
