"""A real client: the Python SDK 1's `ClientSession`, in an environment of its own. See python_sdk2.py.

python python_sdk1.py BASE_URL
"""

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "echo": ("echo", {"text": "hello"}),
    "math": ("add", {"a": 2, "b": 3}),
    "weather": ("get_weather", {"city": "Berlin", "month": 7}),
}


async def answer(_context: object, _params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"answer": "yes"})


async def use(base: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tools": {}, "called": {}}
    for backend, (tool, arguments) in CALLS.items():
        async with (
            streamable_http_client(f"{base}/{backend}/mcp") as (receive, send, _),
            ClientSession(receive, send, elicitation_callback=answer) as session,
        ):
            found["version"] = (await session.initialize()).protocolVersion
            found["tools"][backend] = sorted(t.name for t in (await session.list_tools()).tools)
            found["called"][backend] = (await session.call_tool(tool, arguments)).structuredContent
            if backend == "echo":
                found["asked"] = (await session.call_tool("ask", {"question": "Really?"})).content[0].text
    return found


print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
