"""What is wrong with a configuration, and where. Knows no YAML and no rule: those who find something wrong tell it here."""

from collections.abc import Iterable

import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where something was said: a file with line and column (from 1), or, with line 0, a variable or a flag."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(msgspec.Struct, frozen=True):
    """One mistake. `key` is the path of keys (`backends.echo.endpoints[0]`), "" for the file as a whole."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = Place(self.file, self.line, self.column)
        return ": ".join(part for part in (str(place), self.key, self.message) if part)


Loc = tuple[str | int, ...]
"""A path of keys and indexes through the configuration, as pydantic has it."""


def problem_at(place: Place, loc: Loc, message: str) -> Problem:
    """The problem with what stands at `place`."""
    return Problem(place.file, place.line, place.column, spell(loc), message)


def spell(loc: Loc) -> str:
    """`backends.echo.endpoints[0]`; long keys are cut, so that a message stays one line."""
    spelt = ""
    for part in loc:
        if isinstance(part, int):
            spelt += f"[{part}]"
        else:
            shown = part if part.isprintable() and part else repr(part)
            spelt += ("." if spelt else "") + (shown if len(shown) <= 64 else f"{shown[:61]}...")
    return spelt


class ConfigurationInvalid(Exception):
    """All that is wrong with a configuration. No message holds a secret.

    `files` are the paths that were read on the way: a change to one of them may mend it.
    """

    def __init__(self, problems: Iterable[Problem], files: Iterable[str] = ()) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.key, p.message)))
        self.files = tuple(files)
        super().__init__("\n".join(map(str, self.problems)))
