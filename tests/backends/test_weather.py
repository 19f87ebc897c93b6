"""`backends.weather`, by the SDK's client over loopback, in both eras."""

import pytest
from mcp import Client, MCPError
from mcp.types import TextContent, TextResourceContents


async def test_the_weather_has_temperature_humidity_and_condition(weather_url: str, mode: str) -> None:
    async with Client(weather_url, mode=mode) as client:
        answer = await client.call_tool("get_weather", {"city": "reykjavik", "month": 1})
    assert answer.structured_content == {
        "city": "Reykjavik",
        "month": 1,
        "temperature": 0.4,
        "humidity": 79,
        "condition": "snow",
    }


@pytest.mark.parametrize(
    ("city", "month", "temperature", "condition"),
    [
        ("Berlin", 7, 19.2, "cloudy"),
        ("Cairo", 4, 21.0, "clear"),
        ("Sydney", 10, 18.4, "rain"),
        ("Nairobi", 4, 18.6, "partly cloudy"),
    ],
)
async def test_the_same_question_always_has_the_same_answer(
    weather_url: str, city: str, month: int, temperature: float, condition: str
) -> None:
    async with Client(weather_url) as client:
        first = await client.call_tool("get_weather", {"city": city, "month": month})
        second = await client.call_tool("get_weather", {"city": city, "month": month})
    assert first.structured_content == second.structured_content
    assert first.structured_content is not None
    assert first.structured_content["temperature"] == temperature
    assert first.structured_content["condition"] == condition


async def test_an_unknown_city_is_a_sentence_that_names_the_known_ones(weather_url: str, mode: str) -> None:
    async with Client(weather_url, mode=mode) as client:
        answer = await client.call_tool("get_weather", {"city": "Atlantis"})
    assert answer.is_error
    assert isinstance(answer.content[0], TextContent)
    assert "No climate is known of 'Atlantis'. Known cities: Berlin, Cairo, Lima," in answer.content[0].text


async def test_the_output_schema_closes_the_list_of_conditions(weather_url: str, mode: str) -> None:
    async with Client(weather_url, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    schema = tools["get_weather"].output_schema
    assert schema is not None
    assert schema["properties"]["condition"]["enum"] == ["clear", "partly cloudy", "cloudy", "rain", "snow"]


async def test_a_city_is_a_resource(weather_url: str, mode: str) -> None:
    async with Client(weather_url, mode=mode) as client:
        result = await client.read_resource("weather://Lima/climate")
    content = result.contents[0]
    assert isinstance(content, TextResourceContents)
    assert content.text == '{\n  "january": 22.1,\n  "july": 17.0,\n  "humidity": 83,\n  "rainy_days": 1\n}'


async def test_an_unknown_city_is_no_resource(weather_url: str, mode: str) -> None:
    async with Client(weather_url, mode=mode) as client:
        with pytest.raises(MCPError, match="No climate is known of 'Atlantis'"):
            await client.read_resource("weather://Atlantis/climate")
