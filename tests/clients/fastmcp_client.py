"""A real client: FastMCP's, in an environment of its own. See python_sdk2.py.

python fastmcp_client.py BASE_URL auto|legacy
"""

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "echo": ("echo", {"text": "hello"}),
    "math": ("add", {"a": 2, "b": 3}),
    "weather": ("get_weather", {"city": "Berlin", "month": 7}),
}


async def answer(_message: str, response_type: Any, _params: object, _context: object) -> Any:
    return response_type(answer="yes")


async def use(base: str, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tools": {}, "called": {}}
    for backend, (tool, arguments) in CALLS.items():
        async with Client(f"{base}/{backend}/mcp", mode=mode, elicitation_handler=answer) as client:
            found["version"] = client.session.protocol_version
            found["tools"][backend] = sorted(t.name for t in await client.list_tools())
            found["called"][backend] = (await client.call_tool(tool, arguments)).structured_content
            if backend == "echo":
                found["asked"] = (await client.call_tool("ask", {"question": "Really?"})).content[0].text
    return found


print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
