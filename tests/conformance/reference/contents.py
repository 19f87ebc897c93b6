"""What simply is there: tools that answer by themselves, resources, prompts, completions, logging, list changes."""

import base64
from typing import Annotated, Any

import anyio
from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.types import (
    AudioContent,
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    ContentBlock,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    PromptReference,
    ResourceTemplateReference,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

from backends.watching import Watchers

PNG = base64.b64decode(  # one red pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
WAV = (
    b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x02\0\0\0\0\0"  # one sample
)

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")


def embedded(uri: str, words: str, mime_type: str = "text/plain") -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return EmbeddedResource(type="resource", resource=contents)


def schema_tool() -> Tool:
    """A tool whose input schema is written by hand: the SDK would make a simpler one of a function."""

    def contact(name: str = "") -> str:
        return f"contacted {name}"

    tool = Tool.from_function(contact, name="json_schema_2020_12_tool", description="Tool with JSON Schema 2020-12")
    return tool.model_copy(update={"parameters": SCHEMA})


def furnish(server: MCPServer) -> None:
    """Adds everything of this room to the server."""
    add_answers(server)
    add_reports(server)
    add_changes(server)
    add_resources(server)
    add_prompts(server)
    add_utilities(server)


def add_answers(server: MCPServer) -> None:
    tool = server.tool(description="A fixture of the conformance suite", structured_output=False)

    @tool
    def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @tool
    def test_image_content() -> ContentBlock:
        return image()

    @tool
    def test_audio_content() -> ContentBlock:
        return AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav")

    @tool
    def test_embedded_resource() -> ContentBlock:
        return embedded("test://embedded-resource", "This is an embedded resource content.")

    @tool
    def test_multiple_content_types() -> list[ContentBlock]:
        mixed = embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")
        return [text("Multiple content types test:"), image(), mixed]

    @tool
    def test_error_handling() -> CallToolResult:
        words = "This tool intentionally returns an error for testing"
        return CallToolResult(content=[text(words)], is_error=True)

    @tool
    def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        return f"region: {region}"


def add_reports(server: MCPServer) -> None:
    tool = server.tool(description="A fixture of the conformance suite", structured_output=False)

    @tool
    async def test_tool_with_logging(ctx: Context) -> str:
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(words)
            await anyio.sleep(0.05)
        return "logged three times"

    @tool
    async def test_logging_tool(ctx: Context) -> str:
        await ctx.info("only for a request that asked for log messages")
        return "logged, if asked to"

    @tool
    async def test_tool_with_progress(ctx: Context) -> str:
        for progress in (0, 50, 100):
            await ctx.report_progress(progress, 100)
            await anyio.sleep(0.05)
        return "reported three times"

    @tool
    async def test_reconnection(ctx: Context) -> str:
        await ctx.close_sse_stream()
        await anyio.sleep(0.1)
        return "answered after the stream was closed"


def add_changes(server: MCPServer) -> None:
    tool = server.tool(description="A fixture of the conformance suite", structured_output=False)
    dynamic = "test_dynamic_tool"

    @tool
    async def test_trigger_tool_change(ctx: Context) -> str:
        if dynamic in [known.name for known in await server.list_tools()]:
            server.remove_tool(dynamic)
        else:
            server.add_tool(lambda: "here for now", name=dynamic, description="Comes and goes")
        await ctx.notify_tools_changed()
        await ctx.session.send_tool_list_changed()
        return "the list of tools has changed"

    @tool
    async def test_trigger_prompt_change(ctx: Context) -> str:
        await ctx.notify_prompts_changed()
        await ctx.session.send_prompt_list_changed()
        return "the list of prompts may have changed"


def add_resources(server: MCPServer) -> None:
    watchers = Watchers(server)

    @server.resource("test://static-text", name="static-text", description="A text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static-binary", description="An image", mime_type="image/png")
    def static_binary() -> bytes:
        return PNG

    @server.resource("test://watched-resource", name="watched", description="Changes when touched")
    def watched() -> str:
        return "This is the content of the watched resource."

    @server.resource("test://template/{id}/data", description="Data by id", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002  the suite names the parameter
        return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'

    @server.tool(description="A fixture of the conformance suite", structured_output=False)
    async def test_touch_watched_resource(ctx: Context) -> str:
        await watchers.tell("test://watched-resource", ctx)
        return "touched"


def add_prompts(server: MCPServer) -> None:
    @server.prompt(description="Says a sentence")
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description="Says its arguments")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description="Embeds a resource")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803  the suite's name
        resource = embedded(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt(description="Shows an image")
    def test_prompt_with_image() -> list[UserMessage]:
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]


def add_utilities(server: MCPServer) -> None:
    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, _: CompletionContext | None
    ) -> Completion:
        values = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=values, total=len(values), has_more=False)

    async def set_level(ctx: ServerRequestContext[Any], params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    # MCPServer 2.3 has no public way to serve a method that 2026-07-28 removed.
    server._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
