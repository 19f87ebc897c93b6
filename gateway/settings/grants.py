"""Who may do what: what the file says of it under `grants:`, and the policy that this becomes."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from pydantic import BeforeValidator, Field

from gateway.policy.globs import is_exact
from gateway.policy.grants import Audience, Grant, Grants
from gateway.policy.rules import Rules
from gateway.settings import values
from gateway.settings.fields import Flag, Shape, Texts
from gateway.settings.nodes import Node

ANYBODY: Final = "anybody"
ALL: Final = "all"


def read_text_or_list(value: object) -> object:
    """One text is a list, too. Not so where it has a comma: that may be its own (`CN=a,O=b`), or part two of them."""
    if isinstance(value, str):
        if "," in value:
            raise ValueError("has a comma: write a list, such as [a, b]")
        return [value]
    return value


def read_audience(value: object) -> object:
    if isinstance(value, str):
        if value != ANYBODY:
            raise ValueError("must be `anybody`, or a mapping such as {groups: [support]}")
        return {ANYBODY: True}
    return value


def read_backends(value: object) -> object:
    return ["*"] if value == ALL else values.split_commas(value)


def read_rules(value: object) -> object:
    """`all` is everything; a list alone is meant for tools, prompts and resources alike."""
    if value == ALL:
        return {"methods": ["*"]}
    if isinstance(value, str):
        value = values.split_commas(value)
    if not isinstance(value, list):
        return value
    if not all(isinstance(item, str) for item in value):
        raise ValueError(
            "must be `all`, a list of patterns, or such lists by `tools:`, `prompts:`, `resources:`, `methods:`"
        )
    return {"tools": value, "prompts": value, "resources": [one for one in value if can_be_uri(one)]}


def can_be_uri(glob: str) -> bool:
    """Whether it has a scheme, or is a pattern and may stand for one."""
    return ":" in glob or not is_exact(glob)


Names = Annotated[list[str], BeforeValidator(read_text_or_list)]


class AudienceShape(Shape):
    """To whom: one of the principals or of a group, where any are named, who has all the scopes, where any are named."""

    principals: Names = Field(
        default=[],
        description="Patterns over who it is, as the log has it: an issuer and its subject, `key NAME`, `proxy USER`.",
        examples=[["https://login.example.com alice", "key nightly-report"]],
    )
    groups: Names = Field(default=[], description="Patterns over their groups.", examples=[["support"]])
    scopes: Names = Field(
        default=[], description="Patterns, each of which one of their scopes must fit.", examples=[["mcp:write"]]
    )
    anybody: Flag = Field(
        default=False, description="Whoever is let in, also without saying who it is. Short: `to: anybody`."
    )


class RulesShape(Shape):
    """Patterns (`*`, `?`, `[a-z]`) over the backend's own names, without an aggregate's prefix."""

    tools: Texts = Field(default=[], description="Of tools.", examples=[["get_*"]])
    prompts: Texts = Field(default=[], description="Of prompts.", examples=[["*"]])
    resources: Names = Field(
        default=[],
        description="Of resources, their URIs. However else a URI may be spelt, it is judged as what it means.",
        examples=[["docs://public/*"]],
    )
    methods: Texts = Field(
        default=[],
        description="Of methods, and then of all that they are for: `tools/call` is every tool, `*` everything. What the "
        "protocol itself needs (`initialize`, `ping`, lists, notifications, ...) is allowed with anything else.",
        examples=[["resources/*"]],
    )


_RulesOrList = Annotated[RulesShape, BeforeValidator(read_rules)]


class GrantShape(Shape):
    """What somebody may do at some backends, or may not. What none of the grants allows is denied; `deny` stands over all."""

    to: Annotated[AudienceShape, BeforeValidator(read_audience)] = Field(
        default=AudienceShape(), description="To whom: `anybody`, or a mapping."
    )
    backends: Annotated[list[str], BeforeValidator(read_backends)] | None = Field(
        default=None,
        description="Where: names of backends, or patterns over them. Default: `all`. A grant of an included file names backends "
        "of that file.",
        examples=[["math", "docs-*"]],
    )
    allow: _RulesOrList = Field(
        default=RulesShape(),
        description="What is allowed: `all`, a mapping, or one list for tools, prompts and resources.",
    )
    deny: _RulesOrList = Field(default=RulesShape(), description="What is denied, whatever allows it.")


def compile_grants(shapes: Sequence[GrantShape] | None, root: Node) -> Grants | None:
    """The policy of a configuration without mistakes; None where it has no `grants:`."""
    if shapes is None:
        return None
    return Grants(
        tuple(
            compile_grant(shape, number, str(root.find(("grants", number)).place))
            for number, shape in enumerate(shapes)
        )
    )


def compile_grant(shape: GrantShape, number: int, place: str) -> Grant:
    to = shape.to
    return Grant(
        to=Audience(_once(to.principals), _once(to.groups), _once(to.scopes), to.anybody),
        backends=("*",) if shape.backends is None else _once(shape.backends),
        allow=compile_rules(shape.allow),
        deny=compile_rules(shape.deny),
        key=f"grants[{number}]",
        place=place,
    )


def compile_rules(shape: RulesShape) -> Rules:
    return Rules(_once(shape.tools), _once(shape.prompts), _once(shape.resources), _once(shape.methods))


def _once(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def without_places(grants: Grants | None) -> Grants | None:
    """The same, wherever they are told: files have other names on other machines."""
    return (
        None if grants is None else Grants(tuple(msgspec.structs.replace(grant, place="") for grant in grants.grants))
    )
