"""`math`: a sample MCP server whose tools are typed, going in and coming out.

    python -m backends.math --port 9002

What to copy from it: the SDK makes a tool's input schema of its parameters and its output schema of its return type, checks
both, and sends the result as `structuredContent` beside the text. A number becomes `{"result": …}`, a model its fields.
A `ToolError` is an answer for the model to read (`isError`), not a fault of the server.
"""

import statistics as stats
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from backends import serving

server = MCPServer(
    "math",
    title="Math",
    description="adds, multiplies, divides and describes numbers",
    version="1.0.0",
    log_level="WARNING",
)
PURE = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
"""The same arguments always give the same result, and nothing changes: a client may call without asking its user."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class Description(BaseModel):
    """What `statistics` says of a list of numbers."""

    count: int
    minimum: float
    maximum: float
    mean: float
    median: float
    standard_deviation: float = Field(description="of the population: divided by n, not n - 1")


@server.tool(annotations=PURE)
def add(a: Number, b: Number) -> float:
    """a + b"""
    return a + b


@server.tool(annotations=PURE)
def multiply(a: Number, b: Number) -> float:
    """a × b"""
    return a * b


@server.tool(annotations=PURE)
def divide(a: Number, b: Number) -> float:
    """a ÷ b"""
    if b == 0:
        raise ToolError("Division by zero: `b` must be a number other than 0.")
    return a / b


@server.tool(annotations=PURE)
def statistics(numbers: Annotated[list[Number], Field(min_length=1, max_length=10_000)]) -> Description:
    """Count, range, mean, median and standard deviation of `numbers`."""
    return Description(
        count=len(numbers),
        minimum=min(numbers),
        maximum=max(numbers),
        mean=stats.fmean(numbers),
        median=stats.median(numbers),
        standard_deviation=stats.pstdev(numbers),
    )


if __name__ == "__main__":
    serving.run(server)
