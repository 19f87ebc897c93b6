"""A request that is run a second time: its new id and the way back from it, what its client has seen already, and whether
the tool is one that may be run twice.

Pure. Who runs what again, and when, is decided in `exchange/reexecutions`.
"""

from typing import Any, Final, NamedTuple

import msgspec

from gateway.protocol.events import Event, encode_event, parse_event
from gateway.protocol.messages import RequestId

PROGRESS: Final = "notifications/progress"

_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


def with_request_id(message: bytes, request_id: RequestId) -> bytes:
    """The message with another id; all else keeps its bytes. Raises `msgspec.MsgspecError` where it is no JSON object."""
    fields = _decode_fields(message)
    fields["id"] = msgspec.Raw(_encode(request_id))
    return _encode(fields)


class _Told(msgspec.Struct, gc=False):
    method: str | msgspec.UnsetType = msgspec.UNSET
    id: RequestId | msgspec.UnsetType | None = msgspec.UNSET
    params: msgspec.Raw = msgspec.Raw(b"{}")


class _Progress(msgspec.Struct, gc=False):
    token: RequestId = msgspec.field(name="progressToken")
    progress: int | float


_decode_told: Final = msgspec.json.Decoder(_Told).decode
_decode_progress: Final = msgspec.json.Decoder(_Progress).decode


def _split(data: bytes) -> tuple[list[bytes], bool]:
    """The messages of an event, and whether they came as a batch (2025-03-26)."""
    if data.lstrip(b" \t\r\n")[:1] != b"[":
        return [data], False
    return [bytes(member) for member in _decode_list(data)], True


class Seen:
    """What the client has seen of a call: how far its progress came, and whether it was asked something."""

    def __init__(self) -> None:
        self.has_questions = False
        self._progress: dict[RequestId, float] = {}

    def note(self, payload: bytes) -> None:
        """One event that it has seen. One that can't be read counts as a question: nothing is known of it."""
        event = parse_event(payload)
        if not event.data:
            return
        try:
            for message in _split(event.data)[0]:
                told = _decode_told(message)
                self.has_questions |= told.method is not msgspec.UNSET and told.id is not msgspec.UNSET
                self.is_news(told)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.has_questions = True

    def is_news(self, told: _Told) -> bool:
        """Whether the client lacks it: anything, but progress that doesn't go beyond what it has seen of the same token.

        Progress must increase (2025-11-25, basic/utilities/progress).
        """
        if told.method != PROGRESS:
            return True
        try:
            made = _decode_progress(told.params)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # none that could be compared
            return True
        if made.progress <= self._progress.get(made.token, float("-inf")):
            return False
        self._progress[made.token] = made.progress
        return True


class Repetition:
    """The second run's messages as its client gets them: on the id that it gave, and without what it has seen."""

    def __init__(self, sent_id: RequestId, asked_id: RequestId, seen: Seen) -> None:
        self._sent_id = sent_id
        self._asked_id = asked_id
        self._seen = seen

    def translate(self, block: bytes) -> bytes:
        """One event, without the backend's id of it; b"" where nothing is left. What is no message is left for others to judge."""
        event = parse_event(block)
        data = self.translate_data(event.data) if event.data else b""
        return encode_event(Event(data, event.event)) if data else b""

    def translate_data(self, data: bytes) -> bytes:
        """The same of an event's data, or of a body."""
        try:
            messages, is_batch = _split(data)
            kept = [kept for message in messages if (kept := self._translate(message))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return data
        if not is_batch:
            return kept[0] if kept else b""
        return b"[%b]" % b",".join(kept) if kept else b""

    def _translate(self, message: bytes) -> bytes:
        told = _decode_told(message)
        if told.method is not msgspec.UNSET:
            return message if self._seen.is_news(told) else b""
        # An error without an id (JSON-RPC 2.0 §5) is about the one request that was sent.
        return with_request_id(message, self._asked_id) if told.id in (self._sent_id, None) else message


class _Annotations(msgspec.Struct, gc=False):
    read_only: Any = msgspec.field(default=None, name="readOnlyHint")


class _Tool(msgspec.Struct, gc=False):
    name: str
    annotations: _Annotations | None = None


class _Tools(msgspec.Struct, gc=False):
    tools: list[_Tool]
    next_cursor: str | None = msgspec.field(default=None, name="nextCursor")


class _ToolsAnswer(msgspec.Struct, gc=False):
    result: _Tools


_decode_tools: Final = msgspec.json.Decoder(_ToolsAnswer).decode


class Hint(NamedTuple):
    """What a page of `tools/list` says of one tool. `is_read_only`: None where the tool isn't on it."""

    is_read_only: bool | None
    next_cursor: str | None = None


def read_hint(response: bytes, tool: str) -> Hint:
    """Whether the tool's annotations call it read-only. An answer that is no list calls nothing so."""
    try:
        page = _decode_tools(response).result
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Hint(is_read_only=False)
    for found in page.tools:
        if found.name == tool:
            return Hint(found.annotations is not None and found.annotations.read_only is True)
    return Hint(None, page.next_cursor)


class _CallParams(msgspec.Struct, gc=False):
    name: str


class _Call(msgspec.Struct, gc=False):
    params: _CallParams


_decode_call: Final = msgspec.json.Decoder(_Call).decode


def name_tool(request: bytes) -> str:
    """The tool that a `tools/call` names; empty where it names none."""
    try:
        return _decode_call(request).params.name
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
