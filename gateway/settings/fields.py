"""What the shapes of the configuration file are made of: their base, and the types of more than one of them."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.settings import values
from gateway.settings.quantities import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    encode_duration,
    encode_size,
    parse_duration,
    parse_size,
)


class Shape(BaseModel):
    """What all mappings of the file have in common: an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": f"^({DURATION_PATTERN})$"},
            ],
            "examples": ["250ms", "3s", "5m", "1h", 2.5],
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string", "pattern": f"^({SIZE_PATTERN})$"}],
            "examples": ["512KiB", "4MiB", "10MB", 65536],
        }
    ),
]
Texts = Annotated[list[str], BeforeValidator(values.split_commas)]


def duration_field(seconds: float, description: str) -> Any:
    """A duration's default, told in its description."""
    return Field(default=seconds, description=f"{description} Default: {encode_duration(seconds)}.")


def size_field(size_bytes: int, description: str) -> Any:
    """A size's default, told in its description."""
    return Field(default=size_bytes, description=f"{description} Default: {encode_size(size_bytes)}.")
