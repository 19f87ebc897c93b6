"""Several backends as one server: what the file says of it, and the policy that this becomes."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.policy.aggregates import EVERYTHING, NAME_LIMIT, PREFIX_PATTERN, Aggregate, Globs, Member
from gateway.settings import values
from gateway.settings.fields import Duration, Shape, Texts, duration_field

MIN_NAME_LIMIT: Final = 24
"""A prefix of a few characters, a digest, and some of the name between them."""

MAX_NAME_LIMIT: Final = 128
"""As long as the specification lets a tool's name be (2026-07-28, server/tools)."""

_PREFIX_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "string", "pattern": f"^{PREFIX_PATTERN}$"}, {"type": "boolean"}]
}

BARE: Final = ""
"""A member's `prefix` where it is off."""

_SWITCHES: Final = {"off": BARE, "on": None, False: BARE, True: None}


def read_prefix(value: object) -> object:
    """`off` is text in YAML 1.2 and false in YAML 1.1: both are meant alike."""
    if isinstance(value, bool | str) and value in _SWITCHES:
        return _SWITCHES[value]
    if isinstance(value, str) and re.fullmatch(PREFIX_PATTERN, value) is None:
        raise ValueError("must be letters, digits, `-`, and single `_` between them; or `off`")
    return value


def read_member(value: object) -> object:
    """A name alone is a member too."""
    return {"name": value} if isinstance(value, str) else value


def read_members(value: object) -> object:
    if value == "all":
        return None
    value = values.split_commas(value)
    if not isinstance(value, list):
        raise ValueError("must be a list of backends, such as [echo, {name: math, prefix: off}], or `all`")
    return value


def read_globs(value: object) -> object:
    """A list alone is meant for tools, prompts and resources alike."""
    value = values.split_commas(value)
    if not isinstance(value, list):
        return value
    if not all(isinstance(item, str) for item in value):
        raise ValueError(
            "must be a list of patterns, such as [echo__*], or such lists by `tools:`, `prompts:`, `resources:`"
        )
    return {"tools": value, "prompts": value, "resources": value}


class MemberShape(Shape):
    """One backend of an aggregate."""

    name: str = Field(default="", description="The backend's.")
    prefix: Annotated[str | None, BeforeValidator(read_prefix), WithJsonSchema(_PREFIX_SCHEMA)] = Field(
        default=None,
        description="What its names begin with, before `__`; `off`: they are shown as they are. Default: the backend's name.",
        examples=["d", "off"],
    )


class GlobsShape(Shape):
    """Patterns (`*`, `?`, `[a-z]`) over `{backend}__{name}`, of resources `{backend}__{URI}`, as spelt. A list is for all three."""

    tools: Texts | None = Field(default=None, description="Of tools.", examples=[["echo__*"]])
    prompts: Texts | None = Field(default=None, description="Of prompts.", examples=[["*"]])
    resources: Texts | None = Field(default=None, description="Of resources.", examples=[["docs__file:///public/*"]])


class AggregateShape(Shape):
    """Several backends as one MCP server. It only narrows: what may be called is decided at the backend."""

    mount: (
        Annotated[
            str,
            AfterValidator(values.check_aggregate_mount),
            WithJsonSchema({"type": "string", "pattern": "^(/|(/[a-z0-9._~-]+)+/?)$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="The path that selects it; / is served at /mcp. Default: / and its name.",
        examples=["/", "/support"],
    )
    backends: Annotated[
        list[Annotated[MemberShape, BeforeValidator(read_member)]] | None, BeforeValidator(read_members)
    ] = Field(
        default=None,
        description="In this order; each a name, or a mapping. Default: `all`, in the order in which they are configured.",
        examples=[["echo", {"name": "math", "prefix": "off"}, {"name": "docs", "prefix": "d"}]],
    )
    allow: Annotated[GlobsShape, BeforeValidator(read_globs)] = Field(
        default=GlobsShape(), description="What its clients may see; what isn't told: everything."
    )
    deny: Annotated[GlobsShape, BeforeValidator(read_globs)] = Field(
        default=GlobsShape(), description="What they may not; stands over `allow`."
    )
    name_limit: Annotated[int, Field(ge=MIN_NAME_LIMIT, le=MAX_NAME_LIMIT), BeforeValidator(values.refuse_flags)] = (
        Field(
            default=NAME_LIMIT,
            description="The longest name that clients see; a longer one is shortened, with a digest.",
        )
    )
    era: Literal["auto", "legacy", "modern"] = Field(
        default="auto", description="Which clients it serves; `auto`: those of every era that its backends speak."
    )
    deadline: Duration = duration_field(3.0, "For each backend to answer what all are asked; then it is left out.")


def list_members(shape: AggregateShape, backends: Iterable[str]) -> list[MemberShape]:
    """The members, `all` spelt out."""
    return [MemberShape(name=name) for name in backends] if shape.backends is None else shape.backends


def prefix_of(member: MemberShape) -> str:
    """What marks the member's names. One that is shown bare has one too, for names that two have; any will do there."""
    if member.prefix == BARE:
        return re.sub(r"[^A-Za-z0-9]+", "-", member.name).strip("-")
    return member.prefix or member.name


def compile_aggregates(shapes: Mapping[str, AggregateShape], backends: Iterable[str]) -> dict[str, Aggregate]:
    """The aggregates of a configuration without mistakes; those that have no member are left out."""
    names = tuple(backends)
    compiled = {name: compile_aggregate(name, shape, names) for name, shape in shapes.items()}
    return {name: aggregate for name, aggregate in compiled.items() if aggregate.members}


def compile_aggregate(name: str, shape: AggregateShape, backends: Iterable[str]) -> Aggregate:
    members = list_members(shape, backends)
    return Aggregate(
        name=name,
        mount=mount_of(name, shape),
        members=tuple(Member(member.name, prefix_of(member), member.prefix == BARE) for member in members),
        allow=compile_globs(shape.allow, EVERYTHING),
        deny=compile_globs(shape.deny, Globs()),
        name_limit=shape.name_limit,
        era=shape.era,
        deadline_seconds=shape.deadline,
    )


def mount_of(name: str, shape: AggregateShape) -> str:
    return shape.mount or f"/{name}"


def compile_globs(shape: GlobsShape, default: Globs) -> Globs:
    def choose(told: list[str] | None, otherwise: tuple[str, ...]) -> tuple[str, ...]:
        return otherwise if told is None else tuple(told)

    return Globs(
        choose(shape.tools, default.tools),
        choose(shape.prompts, default.prompts),
        choose(shape.resources, default.resources),
    )
