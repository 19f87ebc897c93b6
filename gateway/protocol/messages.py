"""JSON-RPC messages as the gateway needs them: kind, id, method, the name that is called, `_meta`. Nothing else is read.

Two readers of the same bytes must not understand two different messages: a policy checked here on one `name` while the
backend acts on another would be no policy. So a body whose deciding keys stand twice, or in a variant that some parser
takes for the key (Go's folds case), is refused. The fast path proves the opposite with byte counts: each deciding key
occurs as often as it was found, and no key can hide in an escape. Where it can't prove that, the slow path reads every key.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, cast

import msgspec
from mcp.shared.inbound import NAME_BEARING_METHODS
from mcp_types import CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

from gateway.protocol.objects import ENVELOPE_KEYS, META_KEYS, PARAMS_KEYS, Pairs, load_pairs, plain, take_unique
from gateway.protocol.outcomes import Outcome, Rejected

RequestId = int | str

MAX_BATCH: Final = 100
"""Messages in one batch. No client is known to send more than a handful; beyond it: 400."""


class Kind(StrEnum):
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


class Message(msgspec.Struct, frozen=True, gc=False):
    """One JSON-RPC message, understood as far as routing needs it."""

    kind: Kind
    id: RequestId | None = None
    method: str = ""
    name: str | None = None  # `params.name` or `params.uri`, whichever the method is about
    meta: dict[str, Any] | None = None  # `params._meta`; None where it isn't an object
    is_error: bool = False  # of a response

    @property
    def is_request(self) -> bool:
        return self.kind is Kind.REQUEST

    @property
    def client_name(self) -> str:
        """What the client calls itself, "" where it doesn't say."""
        info = self.meta.get(CLIENT_INFO_META_KEY) if self.meta else None
        name = info.get("name") if isinstance(info, dict) else None
        return name if isinstance(name, str) else ""


_UNSET: Final = msgspec.UNSET
_ABSENT: Final = msgspec.Raw(b"")


class _Params(msgspec.Struct, gc=False):
    name: Any = _UNSET
    uri: Any = _UNSET
    meta: msgspec.Raw = msgspec.field(default=_ABSENT, name="_meta")
    arguments: msgspec.Raw = _ABSENT


class _Envelope(msgspec.Struct, gc=False):
    jsonrpc: Any = _UNSET
    id: Any = _UNSET
    method: Any = _UNSET
    params: _Params | msgspec.UnsetType = _UNSET
    result: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_decode_any: Final = msgspec.json.Decoder().decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode

_VERSION_KEY: Final = f'"{PROTOCOL_VERSION_META_KEY}"'.encode()
_ANY_VERSION_KEY: Final = _VERSION_KEY.lower()

# An escape that can spell a letter of a deciding key, or one of the two letters that fold to one (ſ to s, the Kelvin sign to k).
_HIDING_ESCAPE: Final = re.compile(rb"\\u(?:00[4-7]|017[fF]|212[aA])")
_FOLDING_LETTERS: Final = ("\u017f".encode(), "\u212a".encode())


def parse_messages(body: bytes) -> tuple[tuple[Message, ...], bool]:
    """The messages of a POST body, and whether they came as a batch.

    Raises `Rejected`: PARSE_ERROR (not JSON, not UTF-8), INVALID_REQUEST (JSON, but no message), AMBIGUOUS.
    """
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return (parse_message(body),), False
    _check_encoding(body)
    try:
        members = _decode_list(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Rejected(Outcome.PARSE_ERROR, "the body is not valid JSON") from error
    if not members:
        raise Rejected(Outcome.INVALID_REQUEST, "the batch is empty")
    if len(members) > MAX_BATCH:
        raise Rejected(Outcome.INVALID_REQUEST, f"the batch has {len(members)} messages; at most {MAX_BATCH} are taken")
    return tuple(parse_message(bytes(member)) for member in members), True


def parse_message(body: bytes) -> Message:
    """One JSON-RPC message. Raises `Rejected` as `parse_messages` does."""
    is_ascii = _check_encoding(body)
    try:
        envelope = _decode_envelope(body)
        params = envelope.params
        meta = b"" if params is _UNSET or params.meta is _ABSENT else bytes(memoryview(params.meta))
        if not _is_unambiguous(body, envelope, meta, is_ascii):
            return _parse_exactly(body)
        fields = None if params is _UNSET else {"name": params.name, "uri": params.uri}
        understood = _decode_any(meta) if meta else None
    except (msgspec.MsgspecError, RecursionError):
        return _parse_exactly(body)
    has_result, has_error = envelope.result is not _ABSENT, envelope.error is not _ABSENT
    return _build(envelope.jsonrpc, envelope.id, envelope.method, has_result, has_error, fields, understood)


def _check_encoding(body: bytes) -> bool:
    """Whether the body is ASCII. Raises `Rejected` where it isn't even UTF-8."""
    if body.isascii():
        return True
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected(Outcome.PARSE_ERROR, "the body is not UTF-8") from error
    return False


def _is_unambiguous(body: bytes, envelope: _Envelope, meta: bytes, is_ascii: bool) -> bool:
    """Whether byte counts alone prove that every deciding key stands once, spelt exactly."""
    if b"\\" in body and _HIDING_ESCAPE.search(body):
        return False
    if not is_ascii and any(letter in body for letter in _FOLDING_LETTERS):
        return False
    rest, params, result, error = body, envelope.params, envelope.result, envelope.error
    found = (envelope.jsonrpc is not _UNSET) + (envelope.id is not _UNSET) + (envelope.method is not _UNSET)
    if params is not _UNSET:
        found += 1 + (params.name is not _UNSET) + (params.uri is not _UNSET)
        if params.arguments is not _ABSENT:
            rest = _cut(rest, params.arguments)
        if meta:
            found += 1
            # Its one deciding key has a slash and dots, which can be escaped too: no backslash at all, then.
            if b"\\" in meta or meta.count(_VERSION_KEY) != meta.lower().count(_ANY_VERSION_KEY):
                return False
            if meta.count(_VERSION_KEY) > 1:
                return False
            rest = _cut(rest, params.meta)
    if result is not _ABSENT:
        found, rest = found + 1, _cut(rest, result)
    if error is not _ABSENT:
        found, rest = found + 1, _cut(rest, error)
    return _count_keys(rest.lower()) == found


def _count_keys(rest: bytes) -> int:
    """How often all deciding keys stand here. Each that was found stands at least once: an equal sum says once each."""
    count = rest.count
    return (
        count(b'"jsonrpc"')
        + count(b'"id"')
        + count(b'"method"')
        + count(b'"params"')
        + count(b'"name"')
        + count(b'"uri"')
        + count(b'"_meta"')
        + count(b'"result"')
        + count(b'"error"')
    )


_NEEDLE_BYTES: Final = 64  # enough to find the place; a needle of a megabyte costs a millisecond to prepare


def _cut(body: bytes, value: msgspec.Raw) -> bytes:
    """`body` without one occurrence of the JSON object `value`; unchanged where that can't be told cheaply.

    Any occurrence of the same bytes will do, since only counts are taken afterwards. A comma stays in its place, so that
    no key can come about at the seam; an object begins and ends with a brace, so none is cut in two.
    """
    view = memoryview(value)
    needle = bytes(view[:_NEEDLE_BYTES])
    if needle[:1] != b"{":
        return body
    start = body.find(needle)
    if start < 0 or not body.startswith(view, start):
        return body
    return body[:start] + b"," + body[start + len(view) :]


def _parse_exactly(body: bytes) -> Message:
    value = load_pairs(body)
    if not isinstance(value, Pairs):
        raise Rejected(Outcome.INVALID_REQUEST, "the body is not a JSON-RPC message: an object is expected")
    envelope = take_unique(value, ENVELOPE_KEYS, "")
    params = envelope.get("params")
    fields: dict[str, Any] = {}
    meta = None
    if isinstance(params, Pairs):
        fields = take_unique(params, PARAMS_KEYS, "params.")
        if isinstance(meta := fields.get("_meta"), Pairs):
            meta = plain(take_unique(meta, META_KEYS, "params._meta."))
    elif params is not None:
        raise Rejected(Outcome.INVALID_REQUEST, "`params` must be an object")
    message = _build(
        envelope.get("jsonrpc"),
        envelope.get("id", _UNSET),
        envelope.get("method", _UNSET),
        "result" in envelope,
        "error" in envelope,
        fields,
        meta,
    )
    _check_sayable(message)
    return message


def _check_sayable(message: Message) -> None:
    """Raises `Rejected` where a reply or a log line could not repeat the message: half a surrogate pair is no text."""
    try:
        _encode(message)
    except (UnicodeEncodeError, RecursionError) as error:
        raise Rejected(
            Outcome.PARSE_ERROR, "the body has text that is not valid Unicode, or is nested too deep"
        ) from error


def _is_id(value: Any) -> bool:
    return value is _UNSET or (isinstance(value, int | str) and not isinstance(value, bool))


def _build(
    jsonrpc: Any,
    message_id: Any,
    method: Any,
    has_result: bool,
    has_error: bool,
    params: Mapping[str, Any] | None = None,
    meta: Any = None,
) -> Message:
    """A message, if the parts make one (JSON-RPC 2.0 §4, §5; MCP forbids null and fractional ids)."""
    if jsonrpc != "2.0":
        raise Rejected(Outcome.INVALID_REQUEST, '`jsonrpc` must be "2.0"')
    if not _is_id(message_id) and not (message_id is None and has_error):
        # A null id is an error's only, about what couldn't be read (JSON-RPC 2.0 §5).
        raise Rejected(Outcome.INVALID_REQUEST, "`id` must be a string or an integer")
    if method is _UNSET:
        if has_result == has_error or message_id is _UNSET:
            raise Rejected(Outcome.INVALID_REQUEST, "the body is neither a request, nor a notification, nor a response")
        return Message(Kind.RESPONSE, message_id, is_error=has_error)
    if not isinstance(method, str) or has_result or has_error:
        raise Rejected(Outcome.INVALID_REQUEST, "`method` must be a string, and a request has no `result` or `error`")
    kind = Kind.NOTIFICATION if message_id is _UNSET else Kind.REQUEST
    name = params.get(NAME_BEARING_METHODS.get(method, "")) if params else None
    return Message(
        kind,
        None if message_id is _UNSET else message_id,
        method,
        name if isinstance(name, str) else None,
        cast("dict[str, Any]", meta) if isinstance(meta, dict) else None,
    )
