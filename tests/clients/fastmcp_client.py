"""A real client: FastMCP's, in an environment of its own. See python_sdk2.py.

python fastmcp_client.py BASE_URL auto|legacy
"""

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx2
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp import MCPDeprecationWarning
from mcp.client.subscriptions import listen

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "echo": ("echo", {"text": "hello"}),
    "math": ("add", {"a": 2, "b": 3}),
    "weather": ("get_weather", {"city": "Berlin", "month": 7}),
}
EVERYTHING = json.loads(Path(__file__).with_name("everything.json").read_text())
LAST = "echo://last"


async def answer(_message: str, response_type: Any, _params: object, _context: object) -> Any:
    return response_type(answer="yes")


async def summarise(_messages: object, _params: object, _context: object) -> str:
    return "in short"


async def use(base: str, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tools": {}, "called": {}}
    for backend, (tool, arguments) in CALLS.items():
        async with Client(f"{base}/{backend}/mcp", mode=mode, elicitation_handler=answer) as client:
            found["version"] = client.session.protocol_version
            found["tools"][backend] = sorted(t.name for t in await client.list_tools())
            found["called"][backend] = (await client.call_tool(tool, arguments)).structured_content
            if backend == "echo":
                found["asked"] = (await client.call_tool("ask", {"question": "Really?"})).content[0].text
    found["everything"] = await use_everything(f"{base}/mcp", mode)
    return found


async def use_everything(url: str, mode: str) -> dict[str, Any]:
    is_streaming, is_told = asyncio.Event(), asyncio.Event()

    async def note(response: httpx2.Response) -> None:
        if response.request.method == "GET" and response.status_code == 200:
            is_streaming.set()

    async def hear(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated" and str(message.params.uri) == LAST:
            is_told.set()

    def make_http(**options: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**{**options, "timeout": 60, "event_hooks": {"response": [note]}})

    async with Client(
        StreamableHttpTransport(url, httpx_client_factory=make_http),
        mode=mode,
        elicitation_handler=answer,
        sampling_handler=summarise,
        message_handler=hear,
    ) as client:
        found = await list_and_call(client)
        if client.session.protocol_version < "2026":
            await is_streaming.wait()
            await client.session.subscribe_resource(LAST)
            await client.call_tool("echo__echo", {"text": "watched"})
            await is_told.wait()
            await client.session.unsubscribe_resource(LAST)
        else:
            async with listen(client.session, resource_subscriptions=[LAST]) as subscription:
                await client.call_tool("echo__echo", {"text": "watched"})
                assert (await anext(subscription)).uri == LAST
        found["read"] = (await client.read_resource(LAST))[0].text
        return found


async def list_and_call(client: Client) -> dict[str, Any]:
    steps: list[float] = []

    async def step(progress: float, _total: object, _message: object) -> None:
        steps.append(progress)

    called = {}
    for name, arguments in EVERYTHING.items():
        called[name] = (await client.call_tool(name, arguments, progress_handler=step)).structured_content
    prompt = await client.get_prompt("echo__rephrase", {"text": "No!", "tone": "kind"})
    return {
        "tools": [tool.name for tool in await client.list_tools()],
        "prompts": [prompt.name for prompt in await client.list_prompts()],
        "resources": [str(resource.uri) for resource in await client.list_resources()],
        "templates": [template.uri_template for template in await client.list_resource_templates()],
        "called": called,
        "steps": steps,
        "prompt": prompt.messages[0].content.text,
        "climate": json.loads((await client.read_resource("weather://Berlin/climate"))[0].text),
    }


warnings.simplefilter("ignore", MCPDeprecationWarning)  # what legacy clients need is deprecated
print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
