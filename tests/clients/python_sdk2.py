"""A real client: the Python SDK 2's `Client`.

    python python_sdk2.py BASE_URL auto|legacy|2026-07-28

Lists the tools of every sample backend, calls one of each, and lets a tool ask its user. Then does all that there is to do at
`/mcp`, where they are one server: calls every tool (`everything.json`), is asked and told by them, gets a prompt, reads a
resource and watches it. Prints one JSON object.
"""

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, MCPDeprecationWarning
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "echo": ("echo", {"text": "hello"}),
    "math": ("add", {"a": 2, "b": 3}),
    "weather": ("get_weather", {"city": "Berlin", "month": 7}),
}
EVERYTHING = json.loads(Path(__file__).with_name("everything.json").read_text())
LAST = "echo://last"


async def answer(_context: object, _params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"answer": "yes"})


async def summarise(_context: object, _params: object) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", model="none", content=TextContent(type="text", text="in short"))


async def use(base: str, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tools": {}, "called": {}}
    for backend, (tool, arguments) in CALLS.items():
        async with Client(f"{base}/{backend}/mcp", mode=mode, elicitation_callback=answer) as client:
            found["version"] = client.protocol_version
            found["tools"][backend] = sorted(t.name for t in (await client.list_tools()).tools)
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

    async with httpx2.AsyncClient(timeout=60, event_hooks={"response": [note]}) as http:
        client = Client(
            streamable_http_client(url, http_client=http),
            mode=mode,
            elicitation_callback=answer,
            sampling_callback=summarise,
            message_handler=hear,
        )
        async with client:
            found = await list_and_call(client)
            if client.protocol_version < "2026":
                await is_streaming.wait()
                await client.subscribe_resource(LAST)
                await client.call_tool("echo__echo", {"text": "watched"})
                await is_told.wait()
                await client.unsubscribe_resource(LAST)
            else:
                async with client.listen(resource_subscriptions=[LAST]) as subscription:
                    await client.call_tool("echo__echo", {"text": "watched"})
                    assert (await anext(subscription)).uri == LAST
            found["read"] = (await client.read_resource(LAST)).contents[0].text
            return found


async def list_and_call(client: Client) -> dict[str, Any]:
    steps: list[float] = []

    async def step(progress: float, _total: object, _message: object) -> None:
        steps.append(progress)

    called = {}
    for name, arguments in EVERYTHING.items():
        result = await client.call_tool(name, arguments, progress_callback=step)
        called[name] = result.structured_content
    prompt = await client.get_prompt("echo__rephrase", {"text": "No!", "tone": "kind"})
    return {
        "tools": [tool.name for tool in (await client.list_tools()).tools],
        "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
        "resources": [str(resource.uri) for resource in (await client.list_resources()).resources],
        "templates": [t.uri_template for t in (await client.list_resource_templates()).resource_templates],
        "called": called,
        "steps": steps,
        "prompt": prompt.messages[0].content.text,
        "climate": json.loads((await client.read_resource("weather://Berlin/climate")).contents[0].text),
    }


warnings.simplefilter("ignore", MCPDeprecationWarning)  # what legacy clients need is deprecated
print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
