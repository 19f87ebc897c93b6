"""`echo`: a sample MCP server that says things back, slowly if asked, and asks back.

    python -m backends.echo --port 9001

What to copy from it:
* `echo`: the least a tool can be.
* `count`: a slow tool that reports progress; each report is an event on the call's stream.
* `ask`, `summarise`: tools that need the client's user or the client's model in the middle of a call. `Resolve` names the
  function that says what to ask; the SDK asks in the client's own era (a request to the client before 2026-07-28, an
  `input_required` result since).
* `echo://last`: a resource that changes, and tells those who watch it, in both eras.
"""

from typing import Annotated

import anyio
from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
    MCPServer,
    Resolve,
    Sample,
)
from mcp.types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field

from backends import serving
from backends.watching import Watchers

LAST = "echo://last"

server = MCPServer(
    "echo",
    title="Echo",
    description="says back what it is told, counts slowly, asks the user, asks the model",
    instructions="Use `echo` to see whether the connection works and `count` to see whether progress arrives.",
    version="1.0.0",
    log_level="WARNING",
    request_state_security=serving.state_security(),
)
watchers = Watchers(server)


class Memory:
    """What was echoed last, by anyone: the state that a stateful server has."""

    last = ""


@server.tool()
async def echo(text: str, ctx: Context) -> str:
    """Says `text` back."""
    Memory.last = text
    await watchers.tell(LAST, ctx)
    return text


@server.tool()
async def count(
    n: Annotated[int, Field(ge=0, le=10_000)],
    ctx: Context,
    delay_ms: Annotated[int, Field(ge=0, le=60_000)] = 100,
) -> str:
    """Counts to `n`, with a progress report and a pause of `delay_ms` milliseconds after each step."""
    for step in range(1, n + 1):
        await ctx.report_progress(step, n, f"{step} of {n}")
        await anyio.sleep(delay_ms / 1000)
    return f"counted to {n}"


class Answer(BaseModel):
    """What the client's user is asked to fill in."""

    answer: str = Field(description="Your answer")


async def put_question(question: str) -> Elicit[Answer]:
    return Elicit(question, Answer)


@server.tool()
async def ask(question: str, outcome: Annotated[ElicitationResult[Answer], Resolve(put_question)]) -> str:
    """Puts `question` to the client's user and returns the answer."""
    if isinstance(outcome, AcceptedElicitation):
        return f"The answer is: {outcome.data.answer}"
    return f"There is no answer: the user chose to {outcome.action}."


async def request_summary(text: str) -> Sample:
    prompt = TextContent(type="text", text=f"Summarise in one sentence:\n\n{text}")
    return Sample([SamplingMessage(role="user", content=prompt)], max_tokens=200)


@server.tool()
async def summarise(text: str, sampled: Annotated[CreateMessageResult, Resolve(request_summary)]) -> str:
    """Has the client's model summarise `text`."""
    return (
        sampled.content.text if sampled.content.type == "text" else f"(the model answered with {sampled.content.type})"
    )


@server.resource(LAST, name="last", description="What was echoed last", mime_type="text/plain")
def last() -> str:
    return Memory.last


@server.prompt()
def rephrase(text: str, tone: str = "friendly") -> str:
    """Asks for `text` in another tone."""
    return f"Rephrase the following in a {tone} tone, and change nothing else:\n\n{text}"


if __name__ == "__main__":
    serving.run(server)
