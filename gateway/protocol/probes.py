"""How one finds out which eras a server speaks: two questions, and what their answers mean.

`server/discover` exists only in the modern era, `initialize` only in the legacy one; neither does anything a user would
notice. A verdict is True (spoken), False (not spoken) or None: the answer says nothing about it, as with an outage or a
demand for credentials, and must not be kept.

Spec: 2026-07-28 server/discover; basic/index "Error Codes"; 2025-11-25 basic/lifecycle.
"""

from typing import Any, Final

import msgspec
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
)

from gateway.protocol import headers as h
from gateway.protocol.versions import LATEST_HANDSHAKE, LATEST_MODERN, MODERN_VERSIONS

PROBE_ID: Final = "gateway-era-probe"

_CLIENT_INFO: Final = {"name": "mcp-stateless-gateway", "version": "1"}

DISCOVER: Final = msgspec.json.encode(
    {
        "jsonrpc": "2.0",
        "id": PROBE_ID,
        "method": "server/discover",
        "params": {
            "_meta": {
                PROTOCOL_VERSION_META_KEY: LATEST_MODERN,
                CLIENT_INFO_META_KEY: _CLIENT_INFO,
                CLIENT_CAPABILITIES_META_KEY: {},
            }
        },
    }
)
INITIALIZE: Final = msgspec.json.encode(
    {
        "jsonrpc": "2.0",
        "id": PROBE_ID,
        "method": "initialize",
        "params": {"protocolVersion": LATEST_HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT_INFO},
    }
)

INITIALIZE_HEADERS: Final[h.Headers] = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
    (b"accept-encoding", b"identity"),
]
DISCOVER_HEADERS: Final[h.Headers] = [
    *INITIALIZE_HEADERS,
    (h.VERSION, LATEST_MODERN.encode()),
    (h.METHOD, b"server/discover"),
]

_INCONCLUSIVE: Final = frozenset({401, 402, 403, 407, 408, 421, 423, 425, 429})
"""4xx of credentials, load and routing: they say who may ask or when, not what is spoken."""

_MODERN_ERRORS: Final = frozenset({HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY})
"""Codes that only a modern server has a reason to send."""

_REFUSALS: Final = frozenset({INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, UNSUPPORTED_PROTOCOL_VERSION})


class _Error(msgspec.Struct, gc=False):
    code: int
    data: Any = None


class _Response(msgspec.Struct, gc=False):
    id: Any = None
    result: dict[str, Any] | None = None
    error: _Error | None = None


_decode: Final = msgspec.json.Decoder(_Response).decode


def is_answer(message: bytes) -> bool:
    """Whether a message is the response to a probe, and not something the server says besides."""
    response = _parse(message)
    return response is not None and (response.id == PROBE_ID or (response.id is None and response.error is not None))


def judge_discover(status: int, message: bytes) -> bool | None:
    """Whether the modern era is spoken, by the answer to `server/discover`."""
    if not _is_conclusive(status):
        return None
    response = _parse(message)
    if response is not None and response.error is not None:
        if response.error.code == UNSUPPORTED_PROTOCOL_VERSION:
            return _names_modern(response.error.data, "supported")
        return response.error.code in _MODERN_ERRORS
    if response is not None and response.result is not None:
        # A server may answer discover and still offer handshake versions only: the SDKs take that for legacy.
        return _names_modern(response.result, "supportedVersions")
    return False if status >= 400 else None


def judge_initialize(status: int, message: bytes) -> bool | None:
    """Whether the legacy era is spoken, by the answer to `initialize`."""
    if not _is_conclusive(status):
        return None
    response = _parse(message)
    if response is not None and response.result is not None and status == 200:
        return isinstance(response.result.get("protocolVersion"), str)
    if status >= 400:
        return False
    return False if response is not None and response.error is not None and response.error.code in _REFUSALS else None


def _is_conclusive(status: int) -> bool:
    return status == 200 or (400 <= status < 500 and status not in _INCONCLUSIVE)


def _names_modern(holder: Any, key: str) -> bool:
    versions = holder.get(key) if isinstance(holder, dict) else None
    return isinstance(versions, list) and any(version in MODERN_VERSIONS for version in versions)


def _parse(message: bytes) -> _Response | None:
    try:
        response = _decode(message)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return None if response.result is None and response.error is None else response
