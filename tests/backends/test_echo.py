"""`backends.echo`, by the SDK's client over loopback, in both eras."""

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client import ClientRequestContext
from mcp.client.subscriptions import ResourceUpdated
from mcp.types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    EmptyResult,
    ResourceUpdatedNotification,
    SubscribeRequest,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
)

VERSIONS = {"auto": "2026-07-28", "2026-07-28": "2026-07-28", "legacy": "2025-11-25"}


async def test_it_speaks_the_version_that_the_client_prefers(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client:
        await client.list_tools()
        assert client.protocol_version == VERSIONS[mode]


async def test_its_tools_are_listed(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
    assert names == ["echo", "count", "ask", "summarise"]


async def test_echo_says_the_text_back(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client:
        result = await client.call_tool("echo", {"text": "héllo \u2028 🐙"})
    assert result.content == [TextContent(type="text", text="héllo \u2028 🐙")]
    assert result.structured_content == {"result": "héllo \u2028 🐙"}


async def test_count_reports_each_step_before_its_result(echo_url: str, mode: str) -> None:
    steps: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    async with Client(echo_url, mode=mode) as client:
        result = await client.call_tool("count", {"n": 3, "delay_ms": 0}, progress_callback=note)
    assert result.structured_content == {"result": "counted to 3"}
    assert steps == [(1, 3, "1 of 3"), (2, 3, "2 of 3"), (3, 3, "3 of 3")]


async def test_count_refuses_to_count_backwards(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client:
        result = await client.call_tool("count", {"n": -1})
    assert result.is_error


async def answer_blue(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    assert params.message == "Which colour?"
    return ElicitResult(action="accept", content={"answer": "blue"})


async def decline(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="decline")


async def test_ask_returns_what_the_user_answered(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode, elicitation_callback=answer_blue) as client:
        result = await client.call_tool("ask", {"question": "Which colour?"})
    assert result.structured_content == {"result": "The answer is: blue"}


async def test_ask_says_when_the_user_declined(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode, elicitation_callback=decline) as client:
        result = await client.call_tool("ask", {"question": "Which colour?"})
    assert result.structured_content == {"result": "There is no answer: the user chose to decline."}


async def test_ask_fails_clearly_where_the_client_has_no_user_to_ask(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client:
        with pytest.raises(MCPError, match="form elicitation") as caught:
            await client.call_tool("ask", {"question": "Which colour?"})
    assert caught.value.error.code == -32021


async def summarise(context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult:
    content = params.messages[0].content
    assert isinstance(content, TextContent)
    assert content.text == "Summarise in one sentence:\n\nAll of it."
    return CreateMessageResult(role="assistant", model="none", content=TextContent(type="text", text="In short."))


async def test_summarise_returns_what_the_model_said(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode, sampling_callback=summarise) as client:
        result = await client.call_tool("summarise", {"text": "All of it."})
    assert result.structured_content == {"result": "In short."}


async def test_the_last_echo_can_be_read_by_anyone(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client, Client(echo_url, mode=mode) as other:
        await other.call_tool("echo", {"text": f"read me, {mode}"})
        result = await client.read_resource("echo://last")
    assert result.contents == [TextResourceContents(uri="echo://last", mime_type="text/plain", text=f"read me, {mode}")]


async def test_a_modern_listener_hears_that_the_last_echo_changed(echo_url: str) -> None:
    async with (
        Client(echo_url, mode="2026-07-28") as client,
        Client(echo_url, mode="legacy") as other,
        client.listen(resource_subscriptions=["echo://last"]) as events,
    ):
        await other.call_tool("echo", {"text": "news"})
        with anyio.fail_after(10):
            event = await anext(aiter(events))
    assert event == ResourceUpdated(uri="echo://last")


async def test_a_legacy_subscriber_hears_that_the_last_echo_changed(echo_url: str) -> None:
    told = anyio.Event()
    subscribe = SubscribeRequest(params=SubscribeRequestParams(uri="echo://last"))

    async def note(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification) and str(message.params.uri) == "echo://last":
            told.set()

    async with Client(echo_url, mode="legacy", message_handler=note) as client, Client(echo_url) as other:
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.subscribe is True
        await client.session.send_request(subscribe, EmptyResult)
        await other.call_tool("echo", {"text": "news"})
        with anyio.fail_after(10):
            await told.wait()


async def test_the_prompt_takes_its_arguments(echo_url: str, mode: str) -> None:
    async with Client(echo_url, mode=mode) as client:
        result = await client.get_prompt("rephrase", {"text": "Go away.", "tone": "formal"})
    content = result.messages[0].content
    assert isinstance(content, TextContent)
    assert content.text == "Rephrase the following in a formal tone, and change nothing else:\n\nGo away."
