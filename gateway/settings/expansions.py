"""`${NAME}` and `{file: PATH}` become what they stand for. Remembers which values came that way: they are secrets.

`${NAME:-default}` takes the default where the variable is unset or empty, as a shell does; `$${` is a literal `${`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.settings.nodes import Node
from gateway.settings.problems import Loc, Place, Problem, problem_at

MAX_SECRET_BYTES: Final = 64 * 1024
"""A secret is a key or a token. A larger file is refused: it is the wrong one."""

_REFERENCE: Final = re.compile(r"(\$\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\$\{)")


class Expander:
    """Expands trees; `problems`, `files` (read or missing) and `broken` (what couldn't be expanded) grow on the way."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []
        self.files: list[str] = []
        self.broken: list[Loc] = []

    def expand(self, node: Node, loc: Loc = ()) -> Node:
        """The same tree with every reference replaced; what can't be is reported, and left as it stands."""
        if isinstance(node.value, str):
            return self.expand_text(node, loc)
        if isinstance(node.value, list):
            children = [self.expand(child, (*loc, index)) for index, child in enumerate(node.value)]
            return Node(children, node.place)
        if isinstance(node.value, dict):
            path = node.value.get("file")
            if len(node.value) == 1 and path is not None and isinstance(path.value, str):
                return self.read_secret(self.expand_text(path, loc), node, loc)
            return Node({k: self.expand(child, (*loc, k)) for k, child in node.value.items()}, node.place, node.keys)
        return node

    def expand_text(self, node: Node, loc: Loc) -> Node:
        text = str(node.value)
        if "${" not in text:
            return node
        named = any(match[2] for match in _REFERENCE.finditer(text))
        expanded = _REFERENCE.sub(lambda match: self.expand_reference(match, node.place, loc), text)
        return Node(expanded, node.place, secret=named)

    def expand_reference(self, match: re.Match[str], place: Place, loc: Loc) -> str:
        escaped, name, default, broken = match.groups()
        if escaped:
            return "${"
        if broken:
            self.report(place, loc, "`${` needs a variable's name and `}`; write `$${` for a literal `${`")
            return "${"
        found = self.environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            self.report(place, loc, f"the variable {name} is not set: set it, or write ${{{name}:-default}}")
        return found or ""

    def read_secret(self, path: Node, node: Node, loc: Loc) -> Node:
        """The file's text, its trailing newline stripped."""
        target = beside(path.place, str(path.value))
        self.files.append(str(target))
        text = self.read_text(target, path.place, loc)
        return Node(text.rstrip("\r\n"), node.place, secret=True)

    def read_text(self, target: Path, place: Place, loc: Loc) -> str:
        """A small text file; "" and a problem where it can't be had."""
        try:
            with target.open("rb") as file:
                raw = file.read(MAX_SECRET_BYTES + 1)
            if len(raw) > MAX_SECRET_BYTES:
                self.report(place, loc, f"{target} is larger than {MAX_SECRET_BYTES} bytes: is it the right file?")
                return ""
            return raw.decode()
        except (OSError, ValueError) as error:
            self.report(place, loc, f"can't read {target}: {explain(error)}")
            return ""

    def report(self, place: Place, loc: Loc, message: str) -> None:
        self.problems.append(problem_at(place, loc, message))
        self.broken.append(loc)


def beside(place: Place, path: str) -> Path:
    """`path` relative to the file that names it; what a variable or a flag names is relative to where one stands."""
    return Path(place.file).parent / path if place.line else Path(path)


def explain(error: OSError | ValueError) -> str:
    """Why a file couldn't be read, in a few words, without its content."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "that is no path"
