"""JSON-RPC messages as the gateway needs them: kind, id, method, the name that is called, `_meta`. Nothing else is read.

Two readers of the same bytes must not understand two different messages: a policy checked here on one `name` while the
backend acts on another would be no policy. So a body whose deciding keys stand twice, or in a variant that some parser
takes for the key (Go's folds case), is refused. The fast path proves the opposite with byte counts: each deciding key
occurs as often as it was found, and no key can hide in an escape. Where it can't prove that, the slow path reads every key.
"""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, cast

import msgspec
from mcp.shared.inbound import NAME_BEARING_METHODS
from mcp_types import CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

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


class _Params(msgspec.Struct, gc=False):
    name: Any = msgspec.UNSET
    uri: Any = msgspec.UNSET
    meta: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="_meta")
    arguments: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct, gc=False):
    jsonrpc: Any = msgspec.UNSET
    id: Any = msgspec.UNSET
    method: Any = msgspec.UNSET
    params: _Params | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_decode_any: Final = msgspec.json.Decoder().decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

_ENVELOPE_KEYS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS_KEYS: Final = frozenset({"name", "uri", "_meta"})
_META_KEYS: Final = frozenset({PROTOCOL_VERSION_META_KEY.casefold()})
_VERSION_KEY_BYTES: Final = f'"{PROTOCOL_VERSION_META_KEY}"'.lower().encode()

# An escape that can spell a letter of a deciding key, or one of the two letters that fold to one (ſ to s, the Kelvin sign to k).
_HIDDEN_KEY: Final = re.compile(rb"\\u00[4-7]|\\u017[fF]|\\u212[aA]|\xc5\xbf|\xe2\x84\xaa")


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
    _check_encoding(body)
    try:
        envelope = _decode_envelope(body)
    except (msgspec.MsgspecError, RecursionError):
        return _parse_exactly(body)
    if not _is_unambiguous(body, envelope):
        return _parse_exactly(body)
    params = envelope.params
    if params is msgspec.UNSET:
        return _build(
            envelope.jsonrpc, envelope.id, envelope.method, bool(_raw(envelope.result)), bool(_raw(envelope.error))
        )
    meta = _raw(params.meta)
    return _build(
        envelope.jsonrpc,
        envelope.id,
        envelope.method,
        bool(_raw(envelope.result)),
        bool(_raw(envelope.error)),
        {"name": params.name, "uri": params.uri},
        _decode_any(meta) if meta else None,
    )


def _raw(value: msgspec.Raw) -> memoryview:
    return memoryview(value)


def _check_encoding(body: bytes) -> None:
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Rejected(Outcome.PARSE_ERROR, "the body is not UTF-8") from error


def _is_unambiguous(body: bytes, envelope: _Envelope) -> bool:
    """Whether byte counts alone prove that every deciding key stands once, spelt exactly."""
    if ((b"\\" in body and b"\\u" in body) or not body.isascii()) and _HIDDEN_KEY.search(body):
        return False
    rest = body
    found_name = found_uri = found_meta = 0
    if (params := envelope.params) is not msgspec.UNSET:
        found_name, found_uri = params.name is not msgspec.UNSET, params.uri is not msgspec.UNSET
        if (meta := bytes(_raw(params.meta))) != b"":
            found_meta = 1
            if meta.lower().count(_VERSION_KEY_BYTES) > 1:
                return False
            rest = _cut(rest, meta)
        rest = _cut(rest, bytes(_raw(params.arguments)))
    rest = _cut(_cut(rest, bytes(_raw(envelope.result))), bytes(_raw(envelope.error)))
    rest = rest.lower()
    return (
        rest.count(b'"method"') == (envelope.method is not msgspec.UNSET)
        and rest.count(b'"name"') == found_name
        and rest.count(b'"params"') == (envelope.params is not msgspec.UNSET)
        and rest.count(b'"id"') == (envelope.id is not msgspec.UNSET)
        and rest.count(b'"uri"') == found_uri
        and rest.count(b'"_meta"') == found_meta
        and rest.count(b'"jsonrpc"') == 1
        and rest.count(b'"result"') == bool(_raw(envelope.result))
        and rest.count(b'"error"') == bool(_raw(envelope.error))
    )


_NEEDLE_BYTES: Final = 64  # enough to find the place; a needle of a megabyte costs a millisecond to prepare


def _cut(body: bytes, value: bytes) -> bytes:
    """`body` without one occurrence of the JSON object `value`; unchanged where that can't be told cheaply.

    Any occurrence of the same bytes will do, since only counts are taken afterwards. A comma stays in its place, so that
    no key can come about at the seam; an object begins and ends with a brace, so none is cut in two.
    """
    if value[:1] != b"{":
        return body
    start = body.find(value[:_NEEDLE_BYTES])
    end = start + len(value)
    return body[:start] + b"," + body[end:] if start >= 0 and body[start:end] == value else body


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every key it has, doubled ones too."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_exactly(body: bytes) -> Message:
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Rejected(Outcome.PARSE_ERROR, "the body is not valid JSON") from error
    if not isinstance(value, _Pairs):
        raise Rejected(Outcome.INVALID_REQUEST, "the body is not a JSON-RPC message: an object is expected")
    envelope = _unique(value, _ENVELOPE_KEYS, "")
    params = envelope.get("params")
    fields: dict[str, Any] = {}
    meta = None
    if isinstance(params, _Pairs):
        fields = _unique(params, _PARAMS_KEYS, "params.")
        if isinstance(meta := fields.get("_meta"), _Pairs):
            meta = _plain(_unique(meta, _META_KEYS, "params._meta."))
    elif params is not None:
        raise Rejected(Outcome.INVALID_REQUEST, "`params` must be an object")
    return _build(
        envelope.get("jsonrpc"),
        envelope.get("id", msgspec.UNSET),
        envelope.get("method", msgspec.UNSET),
        "result" in envelope,
        "error" in envelope,
        fields,
        meta,
    )


def _unique(pairs: _Pairs, deciding: frozenset[str], where: str) -> dict[str, Any]:
    """The object as a dict. Raises `Rejected` (AMBIGUOUS) where a deciding key is doubled or misspelt."""
    known: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in pairs:
        folded = key.casefold()
        if folded in deciding:
            if folded in seen:
                raise Rejected(Outcome.AMBIGUOUS, f"`{where}{key}` stands twice in the body: send each key once")
            if folded != key and key != PROTOCOL_VERSION_META_KEY:
                raise Rejected(
                    Outcome.AMBIGUOUS, f"`{where}{key}` must be spelt `{folded}`: some servers read it as that"
                )
            seen.add(folded)
        known[key] = value
    return known


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs | dict):
        items = value.items() if isinstance(value, dict) else value
        return {key: _plain(item) for key, item in items}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _is_id(value: Any) -> bool:
    return value is msgspec.UNSET or (isinstance(value, int | str) and not isinstance(value, bool))


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
    if method is msgspec.UNSET:
        if has_result == has_error or message_id is msgspec.UNSET:
            raise Rejected(Outcome.INVALID_REQUEST, "the body is neither a request, nor a notification, nor a response")
        return Message(Kind.RESPONSE, message_id, is_error=has_error)
    if not isinstance(method, str) or has_result or has_error:
        raise Rejected(Outcome.INVALID_REQUEST, "`method` must be a string, and a request has no `result` or `error`")
    kind = Kind.NOTIFICATION if message_id is msgspec.UNSET else Kind.REQUEST
    name = params.get(NAME_BEARING_METHODS.get(method, "")) if params else None
    return Message(
        kind,
        None if message_id is msgspec.UNSET else message_id,
        method,
        name if isinstance(name, str) else None,
        cast("dict[str, Any]", meta) if isinstance(meta, dict) else None,
    )
