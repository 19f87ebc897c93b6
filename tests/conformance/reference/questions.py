"""What asks the client back in the middle of a call: elicitation and sampling, in the way of the client's own era."""

from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer, Resolve, Sample
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

CHOICES = ["option1", "option2", "option3"]
FIRST, SECOND = ({"const": f"value{n}", "title": f"{rank} Option"} for n, rank in ((1, "First"), (2, "Second")))

DEFAULTS: dict[str, Any] = {
    "name": {"type": "string", "description": "User name", "default": "John Doe"},
    "age": {"type": "integer", "description": "User age", "default": 30},
    "score": {"type": "number", "description": "User score", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "description": "Verification status", "default": True},
}
ENUMS: dict[str, Any] = {
    "untitledSingle": {"type": "string", "enum": CHOICES},
    "titledSingle": {"type": "string", "oneOf": [FIRST, SECOND, {"const": "value3", "title": "Third Option"}]},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": CHOICES}},
    "titledMulti": {"type": "array", "items": {"anyOf": [FIRST, SECOND, {"const": "value3", "title": "Third Choice"}]}},
}


def form(message: str, properties: dict[str, Any], required: list[str] | None = None) -> ElicitRequest:
    """A question to the client's user; `required` says which properties must be filled in, none by default."""
    schema = {"type": "object", "properties": properties, "required": required or []}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(words: str, max_tokens: int) -> CreateMessageRequest:
    """A question to the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=words))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


async def put(ctx: Context, key: str, question: InputRequest) -> InputResponse | InputRequiredResult:
    """The client's answer, or what the tool must return so that the client asks and comes back with it."""
    if ctx.protocol_version is not None and ctx.protocol_version >= "2026-07-28":
        answered = (ctx.input_responses or {}).get(key)
        return answered if answered is not None else InputRequiredResult(input_requests={key: question})
    kind = {ElicitRequest: ElicitResult, CreateMessageRequest: CreateMessageResult, ListRootsRequest: ListRootsResult}
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    return await ctx.session.send_request(question, kind[type(question)], metadata=related)


def furnish(server: MCPServer) -> None:
    """Adds everything of this room to the server."""
    tool = server.tool(description="A fixture of the conformance suite", structured_output=False)

    @tool
    async def test_sampling(prompt: str, ctx: Context) -> str | InputRequiredResult:
        answer = await put(ctx, "response", sample(prompt, 100))
        if isinstance(answer, CreateMessageResult) and isinstance(answer.content, TextContent):
            return f"LLM response: {answer.content.text}"
        return answer if isinstance(answer, InputRequiredResult) else "LLM response: not a text"

    @tool
    async def test_elicitation(message: str, ctx: Context) -> str | InputRequiredResult:
        properties = {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        }
        return show("User response", await put(ctx, "user", form(message, properties, ["username", "email"])))

    @tool
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str | InputRequiredResult:
        return show("Elicitation completed", await put(ctx, "defaults", form("Accept the defaults", DEFAULTS)))

    @tool
    async def test_elicitation_sep1330_enums(ctx: Context) -> str | InputRequiredResult:
        return show("Elicitation completed", await put(ctx, "enums", form("Choose", ENUMS)))

    @tool
    async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
        await ctx.report_progress(1, 2)
        name = form("What is your name?", {"name": {"type": "string"}}, ["name"])
        return show("Elicitation completed", await put(ctx, "name", name))

    @tool
    async def test_missing_capability(answer: Annotated[CreateMessageResult, Resolve(need_sampling)]) -> str:
        return f"The client can sample: {answer.model}"


async def need_sampling() -> Sample:
    """The SDK refuses the call with -32021 where the client didn't declare sampling."""
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text="Anything"))], max_tokens=10)


def show(label: str, answer: InputResponse | InputRequiredResult) -> str | InputRequiredResult:
    """The answer as the suite wants to read it; what isn't one yet is passed on."""
    if isinstance(answer, ElicitResult):
        return f"{label}: action={answer.action}, content={answer.content}"
    return answer if isinstance(answer, InputRequiredResult) else f"{label}: not an elicitation"
