"""What a backend's message says: whether it is one at all, which request it answers, and how that ended."""

from typing import Any, Final

import msgspec

from gateway.protocol.changes import Change
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Outcome


class Finding(msgspec.Struct, frozen=True, gc=False):
    """What one JSON-RPC message from a backend is."""

    is_response: bool  # False: a request or notification of the backend's
    id: RequestId | None = None
    outcome: Outcome = Outcome.OK
    code: int = 0  # of a JSON-RPC error
    change: Change | None = None  # what the backend says has changed


class _Result(msgspec.Struct, gc=False):
    is_error: Any = msgspec.field(default=False, name="isError")


class _Error(msgspec.Struct, gc=False):
    code: int


class _Message(msgspec.Struct, gc=False):
    jsonrpc: str
    id: RequestId | msgspec.UnsetType | None = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    result: _Result | msgspec.UnsetType = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OF_BACKEND: Final = Finding(is_response=False)
_CHANGES: Final = {
    f"notifications/{change}/list_changed": Finding(is_response=False, change=change) for change in Change
}


def inspect_message(body: bytes) -> Finding | None:
    """What one message is; None where it is no JSON-RPC message."""
    try:
        message = _decode_message(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if message.method is not msgspec.UNSET:
        return _CHANGES.get(message.method, _OF_BACKEND)
    message_id = None if message.id is msgspec.UNSET else message.id
    if message.error is not msgspec.UNSET:
        return Finding(True, message_id, Outcome.RPC_ERROR, message.error.code)
    if message.result is msgspec.UNSET or message_id is None:
        return None
    return Finding(True, message_id, Outcome.TOOL_ERROR if message.result.is_error is True else Outcome.OK)


def inspect_messages(body: bytes) -> list[Finding] | None:
    """What each message of a body is, be it one or a batch of them (2025-03-26); None where any is no message."""
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        finding = inspect_message(body)
        return None if finding is None else [finding]
    try:
        members = _decode_list(body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    findings = [found for member in members if (found := inspect_message(bytes(member))) is not None]
    return findings if len(findings) == len(members) > 0 else None


def answers_request(finding: Finding, awaited: set[RequestId]) -> bool:
    """Whether it is the response to an awaited request: same id, of the same type (`1` is not `"1"`).

    An error may come with a null id: the backend couldn't read the request (JSON-RPC 2.0 §5).
    """
    if finding.id is None:
        return finding.outcome is Outcome.RPC_ERROR
    return finding.id in awaited


class _InitializeResult(msgspec.Struct, gc=False):
    version: str = msgspec.field(default="", name="protocolVersion")


class _InitializeAnswer(msgspec.Struct, gc=False):
    result: _InitializeResult | msgspec.UnsetType = msgspec.UNSET


_decode_initialize: Final = msgspec.json.Decoder(_InitializeAnswer).decode


def negotiated_version(body: bytes) -> str | None:
    """The protocol version that a response to `initialize` settled on; None where it is an error."""
    try:
        answer = _decode_initialize(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return None if answer.result is msgspec.UNSET else answer.result.version
