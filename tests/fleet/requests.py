"""Requests of both eras, ready to be sent by any HTTP client: `http.post(url, **modern("tools/list"))`."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

MODERN_VERSION = "2026-07-28"
LEGACY_VERSION = "2025-11-25"
ACCEPT = "application/json, text/event-stream"


def modern(method: str, params: dict[str, Any] | None = None, *, request_id: int | str = 1) -> dict[str, Any]:
    """A request of 2026-07-28, with the headers that repeat what its body says."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": "p",
    }
    params = {**(params or {}), "_meta": meta}
    headers = {"accept": ACCEPT, "mcp-protocol-version": MODERN_VERSION, "mcp-method": method}
    if (name := params.get("name", params.get("uri"))) is not None:
        headers["mcp-name"] = name
    return {"headers": headers, "json": {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}}


def legacy(
    method: str, params: dict[str, Any] | None = None, *, request_id: int | str | None = 1, session: str = ""
) -> dict[str, Any]:
    """A request of 2025-11-25, or a notification where `request_id` is None."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": {**(params or {})}}
    if request_id is not None:
        message["id"] = request_id
        message["params"]["_meta"] = {"progressToken": "p"}
    return {"headers": legacy_headers(session), "json": message}


def legacy_headers(session: str = "", version: str = LEGACY_VERSION) -> dict[str, str]:
    """Of a legacy POST or GET."""
    return {"accept": ACCEPT, "mcp-protocol-version": version} | ({"mcp-session-id": session} if session else {})


def initialize(version: str = LEGACY_VERSION, capabilities: dict[str, Any] | None = None) -> dict[str, Any]:
    """A legacy client's first request, which has no version header yet."""
    params = {
        "protocolVersion": version,
        "capabilities": capabilities or {},
        "clientInfo": {"name": "tests", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    return {"headers": {"accept": ACCEPT}, "json": message}


async def open_session(http: httpx2.AsyncClient, url: str, capabilities: dict[str, Any] | None = None) -> str:
    """A new legacy session's id, the handshake done."""
    answer = await http.post(url, **initialize(capabilities=capabilities))
    assert answer.status_code == 200, answer.text
    session = answer.headers["mcp-session-id"]
    done = await http.post(url, **legacy("notifications/initialized", request_id=None, session=session))
    assert done.status_code == 202, done.text
    return str(session)


async def read_events(response: httpx2.Response) -> AsyncIterator[Any]:
    """The messages of an SSE stream, as they come; comments and empty events left out."""
    data: list[str] = []
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            if text := "\n".join(data):
                yield json.loads(text)
            data.clear()


def open_http(**options: Any) -> httpx2.AsyncClient:
    """An HTTP client that waits long, since machines may be busy, and trusts no proxy variable."""
    return httpx2.AsyncClient(timeout=60, trust_env=False, verify=False, **options)
