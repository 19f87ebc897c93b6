"""What a client of an aggregate sees of one member: its messages, with ids that can't be another member's.

Ids of a backend's requests, its progress tokens and its tasks' ids get the member's prefix; the client gives them back with
it. All else passes untouched, byte for byte.
"""

import msgspec

from gateway.exchange.calls import Call
from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.sites import Site
from gateway.ports import Answer, Headers
from gateway.protocol import headers as h
from gateway.protocol.events import EventSplitter, EventTooLarge, encode_event, parse_event
from gateway.protocol.namespaces import show_message
from gateway.protocol.outcomes import Failed, Outcome


class View(msgspec.Struct, frozen=True):
    """An aggregate, and the member of it that is looked at."""

    aggregate: Aggregate
    member: Member


def find_view(site: Site, mount: str, backend: str) -> View | None:
    """How the client of that mount sees the backend; None where it is the backend's own mount."""
    for aggregate in site.aggregates.values():
        if aggregate.mount == mount:
            return next((View(aggregate, member) for member in aggregate.members if member.backend == backend), None)
    return None


def view(through: View | None, call: Call, limit_bytes: int, *, marks_events: bool = False) -> Call:
    """The call with its answer as it is seen. `marks_events`: event ids, too, are to say whose they are."""
    if through is None:
        return call
    return call.pass_on(ShownAnswer(call.answer, through.member.prefix, limit_bytes, marks_events=marks_events))


class ShownAnswer:
    """`gateway.ports.Answer`: a member's, as the aggregate's client sees it."""

    def __init__(self, answer: Answer, prefix: str, limit_bytes: int, *, marks_events: bool = False) -> None:
        self._answer = answer
        self._prefix = prefix
        self._splitter = EventSplitter(limit_bytes) if h.media_type(answer.headers) == h.SSE else None
        self._marks_events = marks_events
        self.status = answer.status
        self.headers: Headers = answer.headers

    @property
    def body(self) -> bytes | None:
        body = self._answer.body
        return body if body is None or self._splitter is not None else show_message(body, self._prefix)

    async def read(self, limit_bytes: int) -> bytes:
        body = await self._answer.read(limit_bytes)
        return body if self._splitter is not None else show_message(body, self._prefix)

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        """Whole events at a time. Raises `Failed`."""
        while piece := await self._answer.next_chunk(within_seconds):
            if self._splitter is None:
                return piece
            try:
                events = self._splitter.feed(piece)
            except EventTooLarge:
                raise Failed(Outcome.NONSENSE, "the backend sent an event beyond the size limit") from None
            if events:
                return b"".join([self._show(event) for event in events])
        return piece

    def _show(self, block: bytes) -> bytes:
        event = parse_event(block)
        marked = event.id
        if self._marks_events and event.id:
            marked = f"{self._prefix}:".encode() + event.id
        data = show_message(event.data, self._prefix) if event.data else event.data
        if (data, marked) == (event.data, event.id):
            return block
        return encode_event(msgspec.structs.replace(event, data=data, id=marked))

    def close(self) -> None:
        self._answer.close()
