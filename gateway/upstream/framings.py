"""What the headers of an answer say of its length and of its connection (RFC 9112 §6, §9). Pure."""

from typing import Final

from gateway.ports import Headers

KEEP_SECONDS: Final = 4.0
"""An idle connection is closed after this. uvicorn, which runs most MCP servers, and Node close theirs after 5 s: we
go first, so that a request hardly ever meets a close on its way."""


def is_framed(headers: Headers) -> bool:
    """Whether the head says where the body ends; else it ends with the connection (RFC 9112 §6.3, rule 8)."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


def has_other_codings(headers: Headers) -> bool:
    """Whether the body is coded in any way but one plain `chunked`: we sent no TE, so that isn't for us to undo."""
    return [value.lower() for name, value in headers if name == b"transfer-encoding"] != [b"chunked"]


def size_of(headers: Headers) -> int:
    """Bytes that the header lines took on the wire."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def keep_seconds(value: bytes) -> float:
    """How long to keep a connection whose backend said `Keep-Alive: timeout=N`; a second less, so that we go first."""
    for parameter in value.split(b","):
        name, _, number = parameter.partition(b"=")
        if name.strip().lower() == b"timeout" and number.strip().isdigit():
            return min(KEEP_SECONDS, int(number[:9]) - 1.0)
    return KEEP_SECONDS
