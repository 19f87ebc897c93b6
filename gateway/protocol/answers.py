"""What a backend's answer says: whether it answers the request at all, and how that ended."""

from typing import Any, Final

import msgspec

from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Outcome


class Finding(msgspec.Struct, frozen=True, gc=False):
    """`is_message`: a JSON-RPC message. `is_final`: the response with the id that was asked for."""

    is_message: bool = False
    is_final: bool = False
    outcome: Outcome = Outcome.NONSENSE
    code: int = 0  # of the JSON-RPC error
    detail: str = ""


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

_NO_MESSAGE: Final = Finding(detail="the backend's answer is not a JSON-RPC message")
_OTHER: Final = Finding(is_message=True, detail="the backend's answer has another id than the request")
_OK: Final = Finding(is_message=True, is_final=True, outcome=Outcome.OK)
_TOOL_ERROR: Final = Finding(is_message=True, is_final=True, outcome=Outcome.TOOL_ERROR)


def inspect_message(body: bytes, request_id: RequestId | None) -> Finding:
    """What one JSON-RPC message from a backend is to the request with that id."""
    try:
        message = _decode_message(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _NO_MESSAGE
    if message.method is not msgspec.UNSET:
        return _OTHER
    if message.error is not msgspec.UNSET:
        # An error may come with a null id: the backend couldn't read the request (JSON-RPC 2.0 §5).
        is_ours = message.id == request_id or message.id is None or message.id is msgspec.UNSET
        return Finding(
            True,
            is_ours,
            Outcome.RPC_ERROR if is_ours else Outcome.NONSENSE,
            message.error.code,
            "" if is_ours else _OTHER.detail,
        )
    if message.result is msgspec.UNSET:
        return _NO_MESSAGE
    if message.id != request_id or type(message.id) is not type(request_id):
        return _OTHER
    return _TOOL_ERROR if message.result.is_error is True else _OK


def inspect_batch(body: bytes) -> Finding:
    """What the answer to a batch is: an array of messages, whose ids are the client's business."""
    try:
        members = _decode_list(body)
    except (msgspec.MsgspecError, RecursionError):
        return inspect_message(body, None)  # a whole batch can be refused by one error
    return _OK if members else _NO_MESSAGE


class _InitializeResult(msgspec.Struct, gc=False):
    version: str = msgspec.field(default="", name="protocolVersion")


class _InitializeAnswer(msgspec.Struct, gc=False):
    result: _InitializeResult | msgspec.UnsetType = msgspec.UNSET


_decode_initialize: Final = msgspec.json.Decoder(_InitializeAnswer).decode


def negotiated_version(body: bytes) -> str | None:
    """The protocol version that a response to `initialize` settled on; None where it is an error."""
    try:
        answer = _decode_initialize(body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return None if answer.result is msgspec.UNSET else answer.result.version
