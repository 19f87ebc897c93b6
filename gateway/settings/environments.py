"""`MCPGW_…` variables and command-line flags, which stand over the file. The only module that touches `os.environ`.

A variable's name is the key's path in capitals, `__` between the levels: `MCPGW_TIMEOUTS__IDLE` is `timeouts.idle`.
What a mapping of names holds (`backends`) is for the file only.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Final

from gateway.settings.fields import Shape
from gateway.settings.nodes import Node, node_of
from gateway.settings.problems import Loc, Place, Problem
from gateway.settings.sentences import is_shape, unwrap
from gateway.settings.session_keys import encode_key
from gateway.settings.shapes import FileShape

PREFIX: Final = "MCPGW_"
CONFIG: Final = "MCPGW_CONFIG"
SESSION_KEYS: Final = "MCPGW_SESSION_KEYS"
_FILE_ONLY: Final = frozenset({"include", "backends", "aggregates", "grants", "arguments"})
_WHOLE: Final = "auth"  # which a variable can set to `none` alone: issuers and keys are lists, told in the file
_SHORTER: Final = {
    "MCPGW_LOG_LEVEL": ("log", "level"),
    "MCPGW_LOG_FORMAT": ("log", "format"),
    "MCPGW_ADMIN_HOST": ("admin", "host"),
    "MCPGW_ADMIN_PORT": ("admin", "port"),
}
_SERVICE_LINKS: Final = (
    "this is what Kubernetes injects for a Service named `mcpgw`: "
    "set `enableServiceLinks: false` in the pod, or rename the Service"
)


def read_environ() -> dict[str, str]:
    """A copy of the process's environment."""
    return dict(os.environ)


def export_session_keys(keys: Iterable[bytes]) -> None:
    """Hands the ring to the processes that this one will start: a key made at start must be the same in all of them."""
    os.environ[SESSION_KEYS] = ",".join(map(encode_key, keys))


@cache
def variables() -> dict[str, Loc]:
    """Every variable that is understood, with the key that it sets."""
    return dict(_derive(FileShape, ())) | _SHORTER


def _derive(shape: type[Shape], loc: Loc) -> Iterator[tuple[str, Loc]]:
    for name, field in shape.model_fields.items():
        path = (*loc, name)
        inner = unwrap(field.annotation)
        if is_shape(inner) and name != _WHOLE:
            yield from _derive(inner, path)
        elif name not in _FILE_ONLY:
            yield PREFIX + "__".join(map(str, path)).upper(), path


def read_variables(environ: Mapping[str, str]) -> tuple[list[tuple[Loc, Node]], list[Problem]]:
    """What the environment sets, and the variables that nobody knows."""
    known = variables()
    branches: list[tuple[Loc, Node]] = []
    problems: list[Problem] = []
    for name in sorted(name for name in environ if name.startswith(PREFIX) and name != CONFIG):
        if name not in known or environ[name].startswith("tcp://"):
            problems.append(Problem(name, 0, 0, "", _describe(name, environ[name])))
        else:
            branches.append((known[name], node_of(environ[name], Place(name))))
    return branches, problems


def _describe(name: str, value: str) -> str:
    if value.startswith("tcp://") or name.startswith((f"{PREFIX}SERVICE_", f"{PREFIX}PORT_")):
        return _SERVICE_LINKS
    if name.startswith((f"{PREFIX}BACKENDS", f"{PREFIX}AGGREGATES", f"{PREFIX}GRANTS")):
        return (
            "unknown variable: backends, aggregates and grants are told in the file, "
            "where ${NAME} takes a value from the environment"
        )
    if near := difflib.get_close_matches(name, [*variables(), CONFIG], 1, 0.6):
        return f"unknown variable: did you mean {near[0]}?"
    return "unknown variable: remove it; names are the keys of the file, such as MCPGW_PUBLIC_URL"


def read_flags(overrides: Mapping[str, object]) -> list[tuple[Loc, Node]]:
    """What the command line sets: `{"port": 8081, "log.level": "debug"}`; None is a flag that wasn't given."""
    return [
        (tuple(key.split(".")), node_of(value, Place("--" + key.replace(".", "-").replace("_", "-"))))
        for key, value in overrides.items()
        if value is not None
    ]
