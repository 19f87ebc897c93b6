"""JSON-RPC messages as the gateway needs them: kind, id, method, the name that is called, `_meta`. Nothing else is read.

Two readers of the same bytes must not understand two different messages: a policy checked here on one `name` while the
backend acts on another would be no policy. So a body whose deciding keys stand twice, or in a variant that some parser
takes for the key (Go's folds case), is refused. `envelopes` proves the opposite by counting; where it can't, `objects`
reads every key.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, cast

import msgspec
from mcp.shared.inbound import NAME_BEARING_METHODS
from mcp_types import CLIENT_INFO_META_KEY

from gateway.protocol.envelopes import ABSENT, UNSET, decode_envelope, is_unambiguous
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


_decode_any: Final = msgspec.json.Decoder().decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


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
    folds = _check_encoding(body)
    try:
        envelope = decode_envelope(body)
        params = envelope.params
        meta = b"" if params is UNSET or params.meta is ABSENT else bytes(memoryview(params.meta))
        if folds or not is_unambiguous(body, envelope, meta):
            return _parse_exactly(body)
        fields = None if params is UNSET else {"name": params.name, "uri": params.uri}
        understood = _decode_any(meta) if meta else None
    except (msgspec.MsgspecError, RecursionError):
        return _parse_exactly(body)
    has_result, has_error = envelope.result is not ABSENT, envelope.error is not ABSENT
    return _build(envelope.jsonrpc, envelope.id, envelope.method, has_result, has_error, fields, understood)


def _check_encoding(body: bytes) -> bool:
    """Whether a letter in it folds to one of ASCII (ſ to s, the Kelvin sign to k). Raises `Rejected` where it isn't UTF-8."""
    if body.isascii():
        return False
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected(Outcome.PARSE_ERROR, "the body is not UTF-8") from error
    return "\u017f" in text or "\u212a" in text


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
        envelope.get("id", UNSET),
        envelope.get("method", UNSET),
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
    return value is UNSET or (isinstance(value, int | str) and not isinstance(value, bool))


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
    if method is UNSET:
        if has_result == has_error or message_id is UNSET:
            raise Rejected(Outcome.INVALID_REQUEST, "the body is neither a request, nor a notification, nor a response")
        return Message(Kind.RESPONSE, message_id, is_error=has_error)
    if not isinstance(method, str) or has_result or has_error:
        raise Rejected(Outcome.INVALID_REQUEST, "`method` must be a string, and a request has no `result` or `error`")
    kind = Kind.NOTIFICATION if message_id is UNSET else Kind.REQUEST
    name = params.get(NAME_BEARING_METHODS.get(method, "")) if params else None
    return Message(
        kind,
        None if message_id is UNSET else message_id,
        method,
        name if isinstance(name, str) else None,
        cast("dict[str, Any]", meta) if isinstance(meta, dict) else None,
    )
