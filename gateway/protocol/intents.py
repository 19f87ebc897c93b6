"""What a request to a mount is about: one of four intents, or a rejection. `classify` is total over any bytes.

    Send    POST            JSON-RPC messages for the backend
    Listen  GET             the standalone stream of a legacy session
    Resume  GET + Last-Event-ID   the rest of a stream
    End     DELETE          the end of a legacy session

The era of a Send is decided as the SDK's server decides it: by the version header, an unknown version being modern so that
it gets the structured refusal; and by the body where it names a modern version, so that a client that forgot the header
is told so (2026-07-28, basic/transports "Protocol Version Header").
"""

from typing import Any, ClassVar, Final

import msgspec
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_PROTOCOL_VERSION

from gateway.protocol import headers as h
from gateway.protocol.messages import Kind, Message, parse_messages
from gateway.protocol.outcomes import Outcome, Rejected
from gateway.protocol.versions import HANDSHAKE_VERSIONS, MODERN_VERSIONS, VERSION_WITH_BATCHES, Era


class Send(msgspec.Struct, frozen=True, gc=False):
    era: Era
    messages: tuple[Message, ...]
    is_batch: bool
    version: str  # of the header; "" where there is none
    token: str | None  # the session's

    @property
    def first(self) -> Message:
        """The message that gives the exchange its name: the first request, else the first of all."""
        messages = self.messages
        return messages[0] if len(messages) == 1 else next((m for m in messages if m.is_request), messages[0])

    @property
    def expects_answer(self) -> bool:
        return self.first.is_request

    @property
    def opens_era(self) -> bool:
        """Whether a backend that doesn't speak this era can be told by its answer: any modern request, `initialize`."""
        return self.era is Era.MODERN if self.messages[0].method != "initialize" else True

    @property
    def is_cut_with_client(self) -> bool:
        """Whether the client's leaving cancels the request (2026-07-28); a legacy client that leaves cancels nothing."""
        return self.era is Era.MODERN and self.expects_answer


class _Sessional(msgspec.Struct, frozen=True, gc=False):
    """What GET and DELETE have in common: they are legacy, and about a session."""

    token: str | None
    era: ClassVar[Era] = Era.LEGACY
    messages: ClassVar[tuple[Message, ...]] = ()
    opens_era: ClassVar[bool] = False
    is_cut_with_client: ClassVar[bool] = False


class Listen(_Sessional, frozen=True, gc=False):
    is_cut_with_client: ClassVar[bool] = True  # nobody else can have its events, and its head may take for ever


class Resume(_Sessional, frozen=True, gc=False, kw_only=True):
    last_event_id: bytes
    is_cut_with_client: ClassVar[bool] = True


class End(_Sessional, frozen=True, gc=False):
    pass


Intent = Send | Listen | Resume | End

ALLOWED_METHODS: Final = b"GET, POST, DELETE, OPTIONS"


MODERN_CODES: Final = frozenset({-32601, -32602, -32020, -32021, -32022})
"""JSON-RPC errors by which only a modern server refuses with a 4xx: whoever sends them speaks it (2026-07-28)."""


def classify(http_method: str, index: dict[bytes, bytes], doubled: bytes | None, body: bytes) -> Intent:
    """The intent of a request with these headers (`index_headers`) and this body. Raises `Rejected`."""
    if http_method == "POST":
        return _classify_post(index, doubled, body)
    if doubled is not None:
        raise _doubled(doubled, None)
    token = _text(index.get(h.SESSION))
    if (version := _text(index.get(h.VERSION))) is not None and version not in HANDSHAKE_VERSIONS:
        # Modern MCP has POST alone (2026-07-28, basic/transports "Streamable HTTP").
        raise method_not_allowed(http_method, b"POST, OPTIONS")
    match http_method:
        case "GET" if cursor := index.get(h.LAST_EVENT_ID):
            return Resume(token, last_event_id=cursor)
        case "GET":
            return Listen(token)
        case "DELETE":
            return End(token)
        case _:
            raise method_not_allowed(http_method, ALLOWED_METHODS)


def method_not_allowed(http_method: str, allowed: bytes) -> Rejected:
    return Rejected(
        Outcome.METHOD_NOT_ALLOWED,
        f"{http_method[:20]} is not allowed here: use {allowed.decode()}",
        headers=((b"allow", allowed),),
    )


def _classify_post(index: dict[bytes, bytes], doubled: bytes | None, body: bytes) -> Send:
    # 1. Only JSON is parsed. 415 before 400: the type is wrong whatever the bytes are.
    media_type = index.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise Rejected(Outcome.UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json")
    # 2. What it says, exactly once.
    messages, is_batch = parse_messages(body)
    first = messages[0]
    version = _text(index.get(h.VERSION))
    is_modern = version not in HANDSHAKE_VERSIONS if version is not None else _names_version(first)
    # 3. A doubled routing header: the copy that we read needn't be the one that the backend reads.
    if doubled is not None:
        raise with_request(_doubled(doubled, first if is_modern else None), first)
    if is_modern:
        _check_modern(first, is_batch, version, index)
        return Send(Era.MODERN, messages, False, version or "", None)
    if _names_version(first):
        raise with_request(Rejected(Outcome.HEADER_MISMATCH, _DISAGREES), first)
    if is_batch:
        _check_batch(messages, version)
    return Send(Era.LEGACY, messages, is_batch, version or "", _text(index.get(h.SESSION)))


_DISAGREES: Final = (
    "the mcp-protocol-version header names a version with a handshake, "
    "but params._meta names one without: send the same in both"
)


def _names_version(message: Message) -> bool:
    return message.meta is not None and PROTOCOL_VERSION_META_KEY in message.meta


def _check_batch(messages: tuple[Message, ...], version: str | None) -> None:
    if version is not None and version != VERSION_WITH_BATCHES:
        raise Rejected(
            Outcome.INVALID_REQUEST, f"protocol version {version} has no batches: send one message at a time"
        )
    if any(m.method == "initialize" for m in messages):
        # 2025-03-26, basic/lifecycle: "The initialize request MUST NOT be part of a JSON-RPC batch".
        raise Rejected(Outcome.INVALID_REQUEST, "`initialize` must not be part of a batch")


def _check_modern(message: Message, is_batch: bool, version: str | None, index: dict[bytes, bytes]) -> None:
    """Raises `Rejected` unless the message is one modern MCP takes, and agrees with its headers."""
    if is_batch or message.kind is Kind.RESPONSE:
        raise Rejected(Outcome.INVALID_REQUEST, "the body must be a single JSON-RPC request or notification")
    if message.kind is Kind.NOTIFICATION:
        # The specification asks no headers of these, and the TypeScript client sends `notifications/cancelled`
        # without Mcp-Method (facts.md). A header that is there must tell the truth.
        method = _text(index.get(h.METHOD))
        if method is not None and method != message.method:
            raise Rejected(Outcome.HEADER_MISMATCH, "mcp-method header does not match the request body's method")
        if version is not None and version not in MODERN_VERSIONS:
            raise _unsupported(version)
        return
    if _agrees(message, version, index):
        return
    # The SDK's own ladder, so that a client gets word for word what a server on the SDK would tell it.
    body: dict[str, Any] = {
        "method": message.method,
        "params": {"name": message.name, "uri": message.name, "_meta": message.meta},
    }
    named = {
        name: text
        for name, key in ((_VERSION, h.VERSION), (_METHOD, h.METHOD), (_NAME, h.NAME))
        if (text := _text(index.get(key))) is not None
    }
    verdict = classify_inbound_request(body, headers=named, supported_modern_versions=MODERN_VERSIONS)
    if isinstance(verdict, InboundLadderRejection):
        raise with_request(_from_ladder(verdict), message)


def _agrees(message: Message, version: str | None, index: dict[bytes, bytes]) -> bool:
    """Whether the message passes every rung at a glance. Where it doesn't, or a header is encoded, the ladder decides."""
    meta, name = message.meta, message.name
    return (
        meta is not None
        and version in MODERN_VERSIONS
        and meta.get(PROTOCOL_VERSION_META_KEY) == version
        and CLIENT_CAPABILITIES_META_KEY in meta
        and _text(index.get(h.METHOD)) == message.method
        and (name is None or (_text(index.get(h.NAME)) == name and name[:2] != "=?"))
    )


_VERSION: Final = h.VERSION.decode()
_METHOD: Final = h.METHOD.decode()
_NAME: Final = h.NAME.decode()

_LADDER_OUTCOMES: Final = {
    HEADER_MISMATCH: Outcome.HEADER_MISMATCH,
    INVALID_PARAMS: Outcome.INVALID_PARAMS,
    UNSUPPORTED_PROTOCOL_VERSION: Outcome.UNSUPPORTED_VERSION,
}


def _from_ladder(verdict: InboundLadderRejection) -> Rejected:
    outcome = _LADDER_OUTCOMES.get(verdict.code, Outcome.INVALID_REQUEST)
    return Rejected(outcome, verdict.message, code=verdict.code, data=verdict.data)


def _unsupported(version: str) -> Rejected:
    data = {"supported": list(MODERN_VERSIONS), "requested": version}
    return Rejected(Outcome.UNSUPPORTED_VERSION, "Unsupported protocol version", data=data)


def _doubled(name: bytes, modern: Message | None) -> Rejected:
    outcome = Outcome.AMBIGUOUS if modern is None else Outcome.HEADER_MISMATCH
    return Rejected(outcome, f"{name.decode()} header appears more than once")


def with_request(rejection: Rejected, message: Message) -> Rejected:
    """The rejection, told on the request's own id where there is one to tell it on."""
    if message.kind is Kind.REQUEST:
        rejection.request_id = message.id
    return rejection


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
