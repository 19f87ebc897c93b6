"""`subscriptions/listen`: what a client asks to be told, and what a server tells on that stream.

Each message there carries the id of the request that opened the stream. So one that is told to many is cut where that id
stands, once, and gets each one's own put there: no other byte of it changes.

Pure. Spec: 2026-07-28, basic/patterns/subscriptions.
"""

import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import msgspec
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

from gateway.protocol.changes import Change
from gateway.protocol.events import Event, encode_event, message_event
from gateway.protocol.messages import RequestId
from gateway.protocol.splices import find

LISTEN: Final = "subscriptions/listen"
SHARED_ID: Final = "gateway-listen"
"""The id of the gateway's own requests."""

MAX_URIS: Final = 1000
"""In one filter. Whoever watches more has a stream to itself."""

_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_UPDATED: Final = "notifications/resources/updated"
_CHANGED: Final = {f"notifications/{change}/list_changed": change for change in Change}


class Filter(msgspec.Struct, frozen=True):
    """What a listener wants to be told, or what a server will tell."""

    changes: frozenset[Change] = frozenset()
    uris: tuple[str, ...] = ()

    def honoured_by(self, server: "Filter") -> "Filter":
        """What the server, asked for these very URIs, will tell of it. It may spell a URI in a way of its own."""
        return Filter(self.changes & server.changes, server.uris if self.uris else ())


class _Wanted(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    tools: bool | None = msgspec.field(default=None, name="toolsListChanged")
    prompts: bool | None = msgspec.field(default=None, name="promptsListChanged")
    resources: bool | None = msgspec.field(default=None, name="resourcesListChanged")
    uris: list[str] | None = msgspec.field(default=None, name="resourceSubscriptions")


class _Honoured(_Wanted, forbid_unknown_fields=False, gc=False):
    """The same as a server has it: what else it says is not for us."""


class _Meta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    version: Any = msgspec.field(default=None, name=PROTOCOL_VERSION_META_KEY)
    capabilities: Any = msgspec.field(default=None, name=CLIENT_CAPABILITIES_META_KEY)
    info: Any = msgspec.field(default=None, name=CLIENT_INFO_META_KEY)
    progress: Any = msgspec.field(default=None, name="progressToken")
    traceparent: Any = None
    tracestate: Any = None
    baggage: Any = None


class _Params(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    notifications: _Wanted
    meta: _Meta = msgspec.field(name="_meta")


class _Listen(msgspec.Struct, gc=False):
    params: _Params


_decode_listen: Final = msgspec.json.Decoder(_Listen).decode
_encode: Final = msgspec.json.Encoder().encode


def parse_listen(body: bytes) -> Filter | None:
    """What the request wants to be told; None where it says anything that isn't known here, such as an extension's."""
    try:
        wanted = _decode_listen(body).params.notifications
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found = _to_filter(wanted)
    return None if len(found.uris) > MAX_URIS else found


class _LenientParams(msgspec.Struct, gc=False):
    notifications: _Honoured


class _LenientListen(msgspec.Struct, gc=False):
    params: _LenientParams


_decode_leniently: Final = msgspec.json.Decoder(_LenientListen).decode


def read_filter(body: bytes) -> Filter | None:
    """What the request wants to be told of that is known here; None where it says nothing of the kind."""
    try:
        return _to_filter(_decode_leniently(body).params.notifications)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _to_filter(told: _Wanted) -> Filter:
    flags = ((Change.TOOLS, told.tools), (Change.PROMPTS, told.prompts), (Change.RESOURCES, told.resources))
    return Filter(frozenset(change for change, flag in flags if flag), tuple(dict.fromkeys(told.uris or ())))


def _to_fields(told: Filter) -> dict[str, Any]:
    """What isn't wanted is left out, as the SDK's server does."""
    fields: dict[str, Any] = {f"{change}ListChanged": True for change in Change if change in told.changes}
    if told.uris:
        fields["resourceSubscriptions"] = told.uris
    return fields


def encode_listen(uris: Collection[str], version: str) -> bytes:
    """The gateway's own request, on behalf of many: to be told of all lists, and of these resources."""
    meta = {
        PROTOCOL_VERSION_META_KEY: version,
        CLIENT_INFO_META_KEY: {"name": "mcp-stateless-gateway", "version": "1"},
        CLIENT_CAPABILITIES_META_KEY: {},
    }
    params = {"notifications": _to_fields(Filter(frozenset(Change), tuple(uris))), "_meta": meta}
    return _encode({"jsonrpc": "2.0", "id": SHARED_ID, "method": LISTEN, "params": params})


def acknowledge(request_id: RequestId, honoured: Filter) -> bytes:
    """The event that must come first on a listener's stream."""
    params = {"_meta": {SUBSCRIPTION_ID_META_KEY: request_id}, "notifications": _to_fields(honoured)}
    return message_event(_encode({"jsonrpc": "2.0", "method": _ACKNOWLEDGED, "params": params}))


class Note(NamedTuple):
    """What a server told, cut where the listener's id belongs. `change` says of which list; else it is of resource `uri`."""

    change: Change | None
    uri: str
    before: bytes
    after: bytes

    @property
    def key(self) -> str:
        """Two of one key say no more than one."""
        return self.change or f"uri {self.uri}"

    def is_for(self, wanted: Filter) -> bool:
        """Whether it was asked for. A URI may be that of a part of what is watched, so that anybody who watches gets it:
        they all watch the same."""
        return self.change in wanted.changes if self.change is not None else bool(wanted.uris)

    def message(self, request_id: RequestId) -> bytes:
        """The notification for the listener whose request had that id."""
        return self.before + _encode(request_id) + self.after

    def event(self, request_id: RequestId) -> bytes:
        message = self.message(request_id)
        is_one_line = b"\n" not in message and b"\r" not in message
        return message_event(message) if is_one_line else encode_event(Event(message, b"message"))


def make_note(change: Change | None, uri: str = "") -> Note:
    """One of the gateway's own: something may have been missed."""
    if change is None:
        told, more = _UPDATED, b',"uri":' + _encode(uri)
    else:
        told, more = f"notifications/{change}/list_changed", b""
    before = b'{"jsonrpc":"2.0","method":"%b","params":{"_meta":{%b:' % (told.encode(), _KEY)
    return Note(change, uri, before, b"}" + more + b"}}")


class Acknowledged(NamedTuple):
    """The server has taken the request, and will tell this."""

    honoured: Filter


class Over(NamedTuple):
    """The response: the stream is over, or was never to be."""

    is_error: bool


class _Spoken(msgspec.Struct, gc=False):
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Ack(msgspec.Struct, gc=False):
    notifications: _Honoured


class _Update(msgspec.Struct, gc=False):
    uri: str


_decode_spoken: Final = msgspec.json.Decoder(_Spoken).decode
_decode_ack: Final = msgspec.json.Decoder(_Ack).decode
_decode_update: Final = msgspec.json.Decoder(_Update).decode


def parse_told(data: bytes) -> Acknowledged | Note | Over | None:
    """What one event's data is; None for anything that nobody asked for. Raises ValueError where it is no message."""
    spoken = _decode_spoken(data)  # msgspec's errors are ValueErrors
    if spoken.error is not msgspec.UNSET or spoken.result is not msgspec.UNSET:
        return Over(spoken.error is not msgspec.UNSET)
    if spoken.method == _ACKNOWLEDGED:
        return Acknowledged(_to_filter(_decode_ack(spoken.params).notifications))
    if (change := _CHANGED.get(spoken.method)) is not None:
        return Note(change, "", *cut_id(data))
    if spoken.method == _UPDATED:
        return Note(None, _decode_update(spoken.params).uri, *cut_id(data))
    return None


_KEY: Final = _encode(SUBSCRIPTION_ID_META_KEY)
_EMPTY: Final = re.compile(rb"\{[ \t\r\n]*\}")


def cut_id(message: bytes) -> tuple[bytes, bytes]:
    """A notification's bytes before and behind the subscription's id; where it has none, room is made for it.

    Raises ValueError for anything but a JSON object, and where a key on the way stands twice.
    """
    if (span := find(message, "params", "_meta", SUBSCRIPTION_ID_META_KEY)) is not None:
        return message[: span.start], message[span.end :]
    missing, inner = [_KEY], message
    start = len(message) - len(message.lstrip())
    for path, key in ((("params", "_meta"), b'"_meta"'), (("params",), b'"params"')):
        if (span := find(message, *path)) is not None:
            start, inner = span.start, span.value
            break
        missing.insert(0, key)
    tail = b"}" * (len(missing) - 1) + (b"" if _EMPTY.fullmatch(inner.strip()) else b",")
    return message[: start + 1] + b":{".join(missing) + b":", tail + message[start + 1 :]
