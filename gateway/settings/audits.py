"""The audit log: what the file says of it under `audit:`, and the policy that this becomes."""

from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.policy.audits import STDOUT, ArgumentRule, Auditing
from gateway.policy.globs import compile_globs
from gateway.settings.fields import Flag, Shape, Texts


class ShownArgumentsShape(Shape):
    """Arguments that the audit log shows as they are. All others are in it as a keyed digest only."""

    tools: Texts = Field(default=[], description="Patterns over tools' names.", examples=[["get_weather"]])
    keys: Texts = Field(default=[], description="Names of their arguments.", examples=[["city", "month"]])
    backends: Texts = Field(default=["*"], description="Patterns over the names of their backends. Default: all.")


def check_target(to: str) -> str:
    if to != STDOUT and not PurePath(to).is_absolute():
        raise ValueError("must be an absolute path, or `stdout`")
    return to


Target = Annotated[
    str, AfterValidator(check_target), WithJsonSchema({"type": "string", "pattern": f"^({STDOUT}|/.*)$"})
]


class AuditShape(Shape):
    """Who called what, with what outcome: a log of its own, one JSON object a line. Off where there is no `to`."""

    to: Target | None = Field(
        default=None,
        description="A file's path, or `stdout`. A file that was moved is begun anew, so that it can be rotated.",
        examples=["/var/log/mcp-gateway/audit.log", "stdout"],
    )
    required: Flag = Field(
        default=False,
        description="Whether calls are refused (503) while it can't be written. Else lines are lost then, and counted.",
    )
    arguments: list[ShownArgumentsShape] = Field(default=[], description="Arguments of tools that it may show.")


def compile_auditing(shape: AuditShape) -> Auditing | None:
    """The policy; None where there is no audit log."""
    rules = (
        ArgumentRule(compile_globs(tuple(r.tools)), frozenset(r.keys), compile_globs(tuple(r.backends)))
        for r in shape.arguments
    )
    return Auditing(shape.to, shape.required, tuple(rules)) if shape.to else None
