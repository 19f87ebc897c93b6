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
    parse_wait,
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
Wait = Annotated[
    float,
    BeforeValidator(parse_wait),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^({DURATION_PATTERN})$"}],
            "examples": ["0s", "5s", "30s"],
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
Flag = Annotated[bool, BeforeValidator(values.refuse_numbers)]


def duration_field(seconds: float, description: str) -> Any:
    """A duration's default, told in its description."""
    return Field(default=seconds, description=f"{description} Default: {encode_duration(seconds)}.")


def size_field(size_bytes: int, description: str) -> Any:
    """A size's default, told in its description."""
    return Field(default=size_bytes, description=f"{description} Default: {encode_size(size_bytes)}.")


class TlsShape(Shape):
    """How the gateway proves whom it calls, and itself to it. Paths are relative to the file."""

    ca_file: str | None = Field(default=None, description="PEM file of roots. Default: the system's.")
    client_cert: str | None = Field(default=None, description="PEM file; needs `client_key`.")
    client_key: str | None = Field(default=None, description="PEM file; needs `client_cert`.")
    server_name: str | None = Field(
        default=None, description="For SNI and verification, where it isn't the URL's host."
    )
