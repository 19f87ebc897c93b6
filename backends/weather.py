"""`weather`: a sample MCP server that answers with a pydantic model.

    python -m backends.weather --port 9003

It asks no network: the weather is what the climate table below says of a city and a month, so the same question always
has the same answer. What to copy from it: a pydantic model with described fields becomes the tool's output schema, and
`weather://{city}/climate` is one resource for each city.
"""

from typing import Annotated, Literal, NamedTuple

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from backends import serving

server = MCPServer(
    "weather",
    title="Weather",
    description="tells the usual weather of a few cities, month by month, from a table",
    version="1.0.0",
    log_level="WARNING",
)
PURE = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Condition = Literal["clear", "partly cloudy", "cloudy", "rain", "snow"]


class Climate(NamedTuple):
    """One city: mean temperatures of January and July in °C, mean relative humidity in %, rainy days a month."""

    january: float
    july: float
    humidity: int
    rainy_days: int


CLIMATES = {
    "Berlin": Climate(0.6, 19.2, 76, 9),
    "Cairo": Climate(14.0, 28.0, 56, 1),
    "Lima": Climate(22.1, 17.0, 83, 1),
    "Mumbai": Climate(24.3, 27.6, 75, 10),
    "New York": Climate(0.9, 25.3, 63, 9),
    "Nairobi": Climate(20.0, 17.2, 70, 7),
    "Reykjavik": Climate(0.4, 11.6, 79, 13),
    "Singapore": Climate(26.8, 28.2, 82, 15),
    "Sydney": Climate(23.5, 13.4, 65, 11),
    "Tokyo": Climate(5.4, 25.7, 69, 10),
}


class Weather(BaseModel):
    """The usual weather of one city in one month."""

    city: str
    month: int = Field(description="1 is January")
    temperature: float = Field(description="mean, in °C")
    humidity: int = Field(description="mean relative humidity, in %")
    condition: Condition


@server.tool(annotations=PURE)
def get_weather(city: str, month: Annotated[int, Field(ge=1, le=12)] = 7) -> Weather:
    """The usual weather of `city` in `month` (1 to 12). `list_cities` says which cities are known."""
    name = next((known for known in CLIMATES if known.casefold() == city.strip().casefold()), None)
    if name is None:
        raise ToolError(f"No climate is known of {city!r}. Known cities: {', '.join(CLIMATES)}.")
    climate = CLIMATES[name]
    temperature = interpolate(climate, month)
    return Weather(
        city=name,
        month=month,
        temperature=temperature,
        humidity=climate.humidity,
        condition=describe(temperature, climate),
    )


def interpolate(climate: Climate, month: int) -> float:
    """The month's mean temperature, as if the year went straight from January to July and back."""
    way_to_july = 1 - abs(month - 7) / 6  # 0 in January, 1 in July
    return round(climate.january + (climate.july - climate.january) * way_to_july, 1)


def describe(temperature: float, climate: Climate) -> Condition:
    """What one would expect to see: rain or snow on a third of the days or more, else by the humidity."""
    if climate.rainy_days >= 10:
        return "snow" if temperature <= 1 else "rain"
    if climate.humidity >= 75:
        return "cloudy"
    return "partly cloudy" if climate.humidity >= 60 else "clear"


@server.tool(annotations=PURE)
def list_cities() -> list[str]:
    """The cities whose climate is known."""
    return list(CLIMATES)


@server.resource(
    "weather://{city}/climate", description="A city's row of the climate table", mime_type="application/json"
)
def climate_row(city: str) -> dict[str, float]:
    if city not in CLIMATES:
        raise ResourceNotFoundError(f"No climate is known of {city!r}")
    return CLIMATES[city]._asdict()


if __name__ == "__main__":
    serving.run(server)
