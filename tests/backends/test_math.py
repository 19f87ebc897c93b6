"""`backends.math`, by the SDK's client over loopback, in both eras."""

import pytest
from mcp import Client
from mcp.types import TextContent


@pytest.mark.parametrize(
    ("tool", "a", "b", "result"), [("add", 2, 3.5, 5.5), ("multiply", -2, 3, -6.0), ("divide", 1, 4, 0.25)]
)
async def test_two_numbers_give_a_number(
    math_url: str, mode: str, tool: str, a: float, b: float, result: float
) -> None:
    async with Client(math_url, mode=mode) as client:
        answer = await client.call_tool(tool, {"a": a, "b": b})
    assert not answer.is_error
    assert answer.structured_content == {"result": result}


async def test_division_by_zero_is_a_sentence_for_the_model(math_url: str, mode: str) -> None:
    async with Client(math_url, mode=mode) as client:
        answer = await client.call_tool("divide", {"a": 1, "b": 0})
    assert answer.is_error
    text = "Error executing tool divide: Division by zero: `b` must be a number other than 0."
    assert answer.content == [TextContent(type="text", text=text)]


async def test_a_wrong_type_is_an_error_that_names_the_argument(math_url: str, mode: str) -> None:
    async with Client(math_url, mode=mode) as client:
        answer = await client.call_tool("add", {"a": "two", "b": 1})
    assert answer.is_error
    assert isinstance(answer.content[0], TextContent)
    assert "a\n  Input should be a valid number" in answer.content[0].text


async def test_statistics_describes_a_list(math_url: str, mode: str) -> None:
    async with Client(math_url, mode=mode) as client:
        answer = await client.call_tool("statistics", {"numbers": [2, 4, 4, 4, 5, 5, 7, 9]})
    assert answer.structured_content == {
        "count": 8,
        "minimum": 2.0,
        "maximum": 9.0,
        "mean": 5.0,
        "median": 4.5,
        "standard_deviation": 2.0,
    }


async def test_the_output_of_every_tool_has_a_schema(math_url: str, mode: str) -> None:
    async with Client(math_url, mode=mode) as client:
        tools = (await client.list_tools()).tools
    outputs = {tool.name: sorted(tool.output_schema["properties"]) for tool in tools if tool.output_schema}
    assert outputs == {
        "add": ["result"],
        "multiply": ["result"],
        "divide": ["result"],
        "statistics": ["count", "maximum", "mean", "median", "minimum", "standard_deviation"],
    }
