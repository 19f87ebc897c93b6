"""A real client: the Python SDK 2's `Client`.

    python python_sdk2.py BASE_URL auto|legacy|2026-07-28

Lists the tools of every sample backend, calls one of each, and lets a tool ask its user. Prints one JSON object.
"""

import asyncio
import json
import sys
from typing import Any

from mcp import Client
from mcp.types import ElicitResult

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "echo": ("echo", {"text": "hello"}),
    "math": ("add", {"a": 2, "b": 3}),
    "weather": ("get_weather", {"city": "Berlin", "month": 7}),
}


async def answer(_context: object, _params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"answer": "yes"})


async def use(base: str, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tools": {}, "called": {}}
    for backend, (tool, arguments) in CALLS.items():
        async with Client(f"{base}/{backend}/mcp", mode=mode, elicitation_callback=answer) as client:
            found["version"] = client.protocol_version
            found["tools"][backend] = sorted(t.name for t in (await client.list_tools()).tools)
            found["called"][backend] = (await client.call_tool(tool, arguments)).structured_content
            if backend == "echo":
                found["asked"] = (await client.call_tool("ask", {"question": "Really?"})).content[0].text
    return found


print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
