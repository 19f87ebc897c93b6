"""The gateway's own JSON-RPC errors, as bytes."""

from typing import Any

import msgspec

from gateway.protocol.outcomes import Ended

_encode = msgspec.json.Encoder().encode


def encode_error(ended: Ended, exchange_id: str, request_id: int | str | None) -> bytes:
    """A JSON-RPC error response on `request_id` (null where it isn't known, JSON-RPC 2.0 §5).

    `data` says that the gateway made it (`source`), and on which exchange, so that its log line can be found. The keys
    that MCP itself defines for an error (`supported`, `requested`) stand beside those.
    """
    data: dict[str, Any] = {"source": "gateway", "requestId": exchange_id, **(ended.data or {})}
    error = {"code": ended.code, "message": ended.message, "data": data}
    return _encode({"jsonrpc": "2.0", "id": request_id, "error": error})
