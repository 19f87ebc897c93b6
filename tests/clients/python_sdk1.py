"""A real client: the Python SDK 1's `ClientSession`, in an environment of its own. See python_sdk2.py.

python python_sdk1.py BASE_URL
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent
from pydantic import AnyUrl

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "echo": ("echo", {"text": "hello"}),
    "math": ("add", {"a": 2, "b": 3}),
    "weather": ("get_weather", {"city": "Berlin", "month": 7}),
}
EVERYTHING = json.loads(Path(__file__).with_name("everything.json").read_text())
LAST = AnyUrl("echo://last")


async def answer(_context: object, _params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"answer": "yes"})


async def summarise(_context: object, _params: object) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", model="none", content=TextContent(type="text", text="in short"))


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
    found["everything"] = await use_everything(f"{base}/mcp")
    return found


async def use_everything(url: str) -> dict[str, Any]:
    is_streaming, is_told = asyncio.Event(), asyncio.Event()

    async def note(response: httpx.Response) -> None:
        if response.request.method == "GET" and response.status_code == 200:
            is_streaming.set()

    async def hear(message: Any) -> None:
        told = getattr(message, "root", None)
        if getattr(told, "method", "") == "notifications/resources/updated" and told.params.uri == LAST:
            is_told.set()

    async with (
        httpx.AsyncClient(timeout=60, event_hooks={"response": [note]}) as http,
        streamable_http_client(url, http_client=http) as (receive, send, _),
        ClientSession(
            receive, send, elicitation_callback=answer, sampling_callback=summarise, message_handler=hear
        ) as session,
    ):
        await session.initialize()
        found = await list_and_call(session)
        await is_streaming.wait()
        await session.subscribe_resource(LAST)
        await session.call_tool("echo__echo", {"text": "watched"})
        await is_told.wait()
        await session.unsubscribe_resource(LAST)
        found["read"] = (await session.read_resource(LAST)).contents[0].text
        return found


async def list_and_call(session: ClientSession) -> dict[str, Any]:
    steps: list[float] = []

    async def step(progress: float, _total: object, _message: object) -> None:
        steps.append(progress)

    called = {}
    for name, arguments in EVERYTHING.items():
        result = await session.call_tool(name, arguments, progress_callback=step)
        called[name] = result.structuredContent
    prompt = await session.get_prompt("echo__rephrase", {"text": "No!", "tone": "kind"})
    climate = await session.read_resource(AnyUrl("weather://Berlin/climate"))
    return {
        "tools": [tool.name for tool in (await session.list_tools()).tools],
        "prompts": [prompt.name for prompt in (await session.list_prompts()).prompts],
        "resources": [str(resource.uri) for resource in (await session.list_resources()).resources],
        "templates": [t.uriTemplate for t in (await session.list_resource_templates()).resourceTemplates],
        "called": called,
        "steps": steps,
        "prompt": prompt.messages[0].content.text,
        "climate": json.loads(climate.contents[0].text),
    }


print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
