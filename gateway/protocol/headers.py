"""HTTP headers: which are read, which may stand only once, which never travel on.

Knows names and rules, no connection. Header names are lower-case bytes throughout (ASGI, HTTP/2).
"""

import re
from collections.abc import Iterable
from typing import Final

from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER

Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
SSE: Final = b"text/event-stream"

VERSION: Final = MCP_PROTOCOL_VERSION_HEADER.encode()
METHOD: Final = MCP_METHOD_HEADER.encode()
NAME: Final = MCP_NAME_HEADER.encode()
SESSION: Final = b"mcp-session-id"
LAST_EVENT_ID: Final = b"last-event-id"
REQUEST_ID: Final = b"x-request-id"
TRACEPARENT: Final = b"traceparent"

SINGLE: Final = frozenset(
    {
        *(VERSION, METHOD, NAME, SESSION, LAST_EVENT_ID, REQUEST_ID, TRACEPARENT),
        *(b"host", b"origin", b"content-type", b"content-length", b"authorization"),
    }
)
"""Headers that decide something here. Twice on one request, gateway and backend might each read the other copy."""

HOP_BY_HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authorization", b"http2-settings"),
    }
)
"""RFC 9110 §7.6.1 and its predecessors."""

NOT_FORWARDED: Final = HOP_BY_HOP | {
    *(b"host", b"content-length", b"expect", b"accept-encoding"),  # ours to set
    *(b"origin", b"referer"),  # checked here; a backend that checks Origin would refuse the client's (facts.md)
    *(b"authorization", b"cookie"),  # credentials for the gateway are not the backend's to see
    *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port"),
    *(b"x-forwarded-prefix", b"x-forwarded-server", b"x-real-ip", b"x-original-url", b"x-rewrite-url"),
    *(SESSION, REQUEST_ID, TRACEPARENT),  # replaced
}

NOT_RELAYED: Final = HOP_BY_HOP | {
    *(b"server", b"date", b"content-length", b"alt-svc", b"strict-transport-security", b"set-cookie", b"location"),
    *(b"www-authenticate", b"via", SESSION, REQUEST_ID),
}
"""What a backend says of its own connection, host or credentials. `access-control-*` is dropped besides: CORS is ours."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,64}")


def index_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], bytes | None]:
    """The headers by name, the first of each, and the name of one in `SINGLE` that came twice, if any did."""
    index: dict[bytes, bytes] = {}
    doubled = None
    for name, value in headers:
        if name not in index:
            index[name] = value
        elif name in SINGLE:
            doubled = name
    return index, doubled


def request_id_of(index: dict[bytes, bytes]) -> str | None:
    """The client's own request id, where it is of a harmless form."""
    value = index.get(REQUEST_ID)
    return value.decode("ascii") if value is not None and _REQUEST_ID.fullmatch(value) else None


def traceparent_of(index: dict[bytes, bytes]) -> bytes | None:
    """The client's trace context (W3C Trace Context §3.2), where it is well-formed."""
    value = index.get(TRACEPARENT)
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def forwardable(headers: Headers, index: dict[bytes, bytes]) -> Headers:
    """The client's headers that go on to the backend: end-to-end, neither ours to set nor a credential of ours."""
    nominated = _nominated(headers) if b"connection" in index else ()
    return [h for h in headers if h[0] not in NOT_FORWARDED and h[0] not in nominated]


def relayable(headers: Headers) -> Headers:
    """The backend's headers that go back to the client."""
    nominated = _nominated(headers)
    return [
        h
        for h in headers
        if h[0] not in NOT_RELAYED and h[0] not in nominated and not h[0].startswith(b"access-control-")
    ]


def streamed(headers: Headers) -> Headers:
    """The same of an SSE stream. `x-accel-buffering` keeps an nginx in front of us from collecting events."""
    kept = [header for header in relayable(headers) if header[0] not in _REPLACED]
    return [*kept, (b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]


_REPLACED: Final = frozenset({b"cache-control", b"x-accel-buffering"})


def _nominated(headers: Headers) -> set[bytes]:
    """The headers that `Connection` says are for this hop alone (RFC 9110 §7.6.1), however many lines it has."""
    return {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}


def find_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name`."""
    for key, value in headers:
        if key == name:
            return value
    return None


def media_type(headers: Headers) -> bytes:
    """The content type without parameters, lower-case; empty where there is none."""
    value = find_header(headers, b"content-type")
    return b"" if value is None else value.partition(b";")[0].strip().lower()
