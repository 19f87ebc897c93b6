"""Ids that several backends may each have given, made one member's: `{prefix}:{the id as JSON}`, always a string.

What a backend names to its client (its own requests, its progress tokens, its tasks) gets the prefix on the way out, and
loses it on the way back. A prefix has no colon, so the first colon ends it; nothing needs to be remembered.
"""

from typing import Any, Final, NamedTuple

import msgspec

from gateway.protocol.messages import RequestId
from gateway.protocol.splices import Doubled, find, replace

CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"

_encode: Final = msgspec.json.Encoder().encode
_decode_id: Final = msgspec.json.Decoder(RequestId).decode


class Owned(NamedTuple):
    """Whose an id is, and what its owner calls it."""

    prefix: str
    id: RequestId


def mark_id(prefix: str, owned: RequestId) -> str:
    """The id as the client sees it."""
    return f"{prefix}:{_encode(owned).decode()}"


def read_id(shown: Any) -> Owned | None:
    """Whose it is; None for an id that was never marked."""
    if not isinstance(shown, str):
        return None
    prefix, colon, text = shown.partition(":")
    try:
        return Owned(prefix, _decode_id(text)) if colon else None
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None


class _Named(msgspec.Struct, gc=False):
    """What decides how a backend's message is shown."""

    method: str | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_named: Final = msgspec.json.Decoder(_Named).decode

_TASK_PATHS: Final = (
    ("result", "taskId"),
    ("result", "task", "taskId"),
    ("params", "taskId"),
    ("params", "_meta", "io.modelcontextprotocol/related-task", "taskId"),
    ("result", "_meta", "io.modelcontextprotocol/related-task", "taskId"),
)


def show_message(message: bytes, prefix: str) -> bytes:
    """A backend's message as the client of an aggregate sees it. What is none is left as it is: others refuse it."""
    if b'"method"' not in message and b'"taskId"' not in message:
        return message
    try:
        return _show(message, prefix)
    except (Doubled, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return message


def _show(message: bytes, prefix: str) -> bytes:
    named = _decode_named(message)
    paths: list[tuple[str, ...]] = []
    if named.method is not msgspec.UNSET:
        if named.id is not msgspec.UNSET:
            paths += (("id",), ("params", "_meta", "progressToken"))
        elif named.method == CANCELLED:
            paths.append(("params", "requestId"))
    if b'"taskId"' in message:
        paths += _TASK_PATHS
    for path in paths:
        message = _mark(message, path, prefix)
    return message


def _mark(message: bytes, path: tuple[str, ...], prefix: str) -> bytes:
    span = _find(message, path)
    if span is None:
        return message
    return replace(message, span, _encode(mark_id(prefix, _decode_id(span.value))))


def _find(message: bytes, path: tuple[str, ...]) -> Any:
    try:
        return find(message, *path)
    except msgspec.ValidationError:  # something on the way is no object
        return None


def find_owner(message: bytes, *path: str) -> Owned | None:
    """Whose the id at that place in a client's message is; None where there is none, or it was never marked."""
    span = _find(message, path)
    return None if span is None else read_id(msgspec.json.decode(span.value))


def give_back(message: bytes, owned: Owned, *path: str) -> bytes:
    """The client's message with the id as its owner knows it."""
    span = _find(message, path)
    return message if span is None else replace(message, span, _encode(owned.id))
