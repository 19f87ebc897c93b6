"""Tries an MCP server with the official SDK's client, as its users' clients would: connect, list the tools, call one."""

import time
from collections.abc import Mapping
from typing import Any, Final

import anyio
import httpx2
import msgspec
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from gateway.protocol.versions import LATEST_MODERN, Era

TRIAL_SECONDS: Final = 20.0
"""For one whole trial; on an idle machine it takes some tens of milliseconds."""


class Sample(msgspec.Struct, frozen=True):
    """A tool to call, and a piece of the text that it must answer."""

    tool: str
    arguments: Mapping[str, Any]
    expected: str


class Trial(msgspec.Struct, frozen=True):
    """How one went. `fault` says why it failed, and is empty where it didn't."""

    tools: int = 0
    milliseconds: float = 0.0
    fault: str = ""


async def try_server(url: str, era: Era, sample: Sample) -> Trial:
    """Connects in the given era, lists the tools and calls the sample's; never raises for what the server does."""
    started = time.perf_counter()
    try:
        with anyio.fail_after(TRIAL_SECONDS):
            tools, result = await _call(url, era, sample)
    except TimeoutError:
        return Trial(fault=f"no answer within {TRIAL_SECONDS:g} s")
    except Exception as error:  # whatever a client raises is what its user would see
        return Trial(fault=_explain(error))
    text = " ".join(block.text for block in result.content if isinstance(block, TextContent))
    if result.is_error or sample.expected not in text:
        return Trial(tools, fault=f"{sample.tool} answered {text[:200]!r}, and {sample.expected!r} was expected")
    return Trial(tools, (time.perf_counter() - started) * 1000)


async def _call(url: str, era: Era, sample: Sample) -> tuple[int, CallToolResult]:
    # No proxy of the environment's: what is tried listens on this machine.
    async with httpx2.AsyncClient(trust_env=False, timeout=TRIAL_SECONDS) as http_client:
        transport = streamable_http_client(url, http_client=http_client)
        async with Client(transport, mode="legacy" if era is Era.LEGACY else LATEST_MODERN) as client:
            tools = (await client.list_tools()).tools
            return len(tools), await client.call_tool(sample.tool, dict(sample.arguments))


def _explain(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
