"""One tree out of many places: the file, what it includes, the environment, the command line; the later wins.

An included file may hold `backends:`, `aggregates:` and `grants:` only (one file per team), and `x-…` keys for its anchors. What
two files both define is refused, not merged: nobody could say which one wins. Grants have no names, and their order decides
nothing: they are all taken, where the main file says that there are any.
"""

import difflib
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from gateway.settings.environments import read_flags, read_variables
from gateway.settings.expansions import Expander, beside, explain
from gateway.settings.nodes import MAX_FILE_BYTES, Node, graft, parse, prune
from gateway.settings.problems import Loc, Place, Problem, problem_at
from gateway.settings.sentences import describe
from gateway.settings.shapes import FileShape

_NAMED_KEYS: Final = ("backends", "aggregates")
_GRANTS: Final = "grants"
_INCLUDED_KEYS: Final = (*_NAMED_KEYS, _GRANTS)
_MAY_BE_EMPTY: Final = {(key,) for key in _NAMED_KEYS}
_RIVALS: Final[dict[Loc, Loc]] = {("session_keys",): ("session_keys_file",), ("session_keys_file",): ("session_keys",)}

_SECRET_KEYS: Final = ("proxy", "client_secret", "sha256")  # the last: a key may stand there by mistake


class Draft:
    """A configuration in the making. `problems` and `files` grow; `root` is what is known so far."""

    def __init__(self, environ: Mapping[str, str], root: Node) -> None:
        self.environ = environ
        self.root = root
        self.problems: list[Problem] = []
        self.files: list[str] = []
        self.cut: list[Loc] = []
        self.broken: list[Loc] = []

    def read(self, path: Path) -> None:
        """Takes the file and all that it includes."""
        self.root = self.read_file(path)
        include = self.root.mapping.get("include")
        if include is None or any(loc[0] == "include" for loc in self.broken if loc):
            return
        for pattern in include.value if isinstance(include.value, list) else [include]:
            if isinstance(pattern.value, str):
                self.include(pattern)

    def read_file(self, path: Path) -> Node:
        """The file's tree, references expanded; an empty mapping where it can't be had."""
        nothing = Node({}, Place(str(path), 1, 1))
        self.files.append(str(path.absolute()))
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            self.problems.append(Problem(str(path), 0, 0, "", f"can't be read: {explain(error)}"))
            return nothing
        node, problems = parse(raw, str(path))
        self.problems += problems
        if node is None or node.value is None:
            return nothing
        if not isinstance(node.value, dict):
            self.problems.append(problem_at(node.place, (), "the file must be a mapping (`key: value` lines)"))
            return nothing
        kept = {key: child for key, child in node.mapping.items() if not key.startswith("x-")}
        return self.expand(Node(kept, node.place, {key: node.keys[key] for key in kept}))

    def expand(self, node: Node) -> Node:
        expander = Expander(self.environ)
        expanded = expander.expand(node)
        self.problems += expander.problems
        self.broken += expander.broken
        self.files += [str(Path(file).absolute()) for file in expander.files]
        return expanded

    def include(self, pattern: Node) -> None:
        """The files that match, sorted by name. A pattern may match none, a plain name must exist."""
        full = str(beside(pattern.place, str(pattern.value)))
        self.files.append(str(Path(full).parent.absolute()))
        # Path.glob refuses absolute patterns
        found = sorted(glob.glob(full)) if glob.has_magic(full) else [full]  # noqa: PTH207
        for name in found:
            if str(Path(name).absolute()) not in self.files:
                self.merge(self.read_file(Path(name)))

    def merge(self, included: Node) -> None:
        for key, place in included.keys.items():
            if key == _GRANTS:
                self.add_grants(included.mapping[key])
            elif key in _NAMED_KEYS:
                self.add(key, included.mapping[key])
            else:
                near = difflib.get_close_matches(key, _INCLUDED_KEYS, 1)
                hint = f"did you mean `{near[0]}:`?" if near else "move it to the main file"
                said = f"an included file may hold only `backends:`, `aggregates:` and `grants:`; {hint}"
                self.problems.append(problem_at(place, (key,), said))

    def add(self, key: str, brought: Node) -> None:
        """The backends, or aggregates, of an included file beside those that are known."""
        mine = self.root.mapping.get(key) or Node({}, brought.place)
        if brought.value is None or not (mine.value is None or isinstance(mine.value, dict)):
            return
        if not isinstance(brought.value, dict):
            self.problems.append(problem_at(brought.place, (key,), "must be a mapping (`name:` lines)"))
        children, keys = dict(mine.mapping), dict(mine.keys)
        for name, child in brought.mapping.items():
            if name in children:
                said = f"this {key[:-1]} is defined in {keys[name]} already: rename or remove one"
                self.problems.append(problem_at(brought.keys[name], (key, name), said))
            else:
                children[name], keys[name] = child, brought.keys[name]
        self.root = graft(self.root, (key,), Node(children, mine.place, keys))

    def add_grants(self, brought: Node) -> None:
        """The grants of an included file behind those that are known: they may neither open nor close what isn't theirs."""
        mine = self.root.mapping.get(_GRANTS)
        if mine is None:
            why = "are of no effect where the main file has none, and everything is allowed"
            said = f"{why}: write `grants: []` there, and nothing is allowed any more that no grant allows"
            self.problems.append(problem_at(brought.place, (_GRANTS,), said))
        elif not isinstance(brought.value, list):
            self.problems.append(problem_at(brought.place, (_GRANTS,), "must be a list (`- to: ...` lines)"))
        elif isinstance(mine.value, list):
            self.root = graft(self.root, (_GRANTS,), Node([*mine.value, *brought.value], mine.place))

    def overlay(self, overrides: Mapping[str, object]) -> None:
        """What the environment says, and over it what the command line says."""
        variables, problems = read_variables(self.environ)
        self.problems += problems
        for layer in (variables, read_flags(overrides)):
            for loc, _ in layer:
                if loc in _RIVALS:
                    self.root, _cut = prune(self.root, _RIVALS[loc])
            for loc, branch in layer:
                self.root = graft(self.root, loc, branch)

    def settle(self) -> FileShape:
        """The tree as shapes. What is wrong is reported and cut off, so that the rest can still be checked."""
        for loc in self.broken:  # reported already; what it would have been can't be checked
            self.cut_off(loc)
        self.cut_nulls(self.root, ())
        while True:
            before = self.root
            try:
                return FileShape.model_validate(self.root.plain())
            except ValidationError as invalid:
                for error in invalid.errors(include_url=False):
                    self.refuse(error, FileShape)
            if self.root is before:  # every shape is valid when empty: this can't go on for ever
                self.root = Node({}, before.place)

    def cut_nulls(self, node: Node, loc: Loc) -> None:
        """A key without a value is a forgotten one; only `backends:` and `aggregates:` may have all they hold commented out."""
        for key, child in node.mapping.items():
            path = (*loc, key)
            if child.value is None and path not in _MAY_BE_EMPTY:
                place = node.keys.get(key, child.place)
                self.problems.append(problem_at(place, path, "has no value: give it one, or remove the key"))
                self.cut_off(path)
            self.cut_nulls(child, path)

    def refuse(self, error: Any, root: type[BaseModel]) -> None:
        loc: Loc = tuple(part for part in error["loc"] if part != "[key]")
        node = self.root.find(loc)
        parent = self.root.find(loc[:-1])
        about_key = error["type"] == "extra_forbidden" or len(loc) < len(error["loc"])
        place = parent.keys.get(str(loc[-1]), node.place) if about_key else node.place
        secret = about_key or node.secret or is_sensitive(loc)
        self.problems.append(problem_at(place, loc, describe(error, root, node.value, secret=secret)))
        self.cut_off(loc)

    def cut_off(self, loc: Loc) -> None:
        self.root, cut = prune(self.root, loc)
        self.cut.append(cut)


def is_sensitive(loc: Loc) -> bool:
    """Whether what stands there is, or may hold, a secret, however it was told."""
    return bool(loc) and (loc[0] in ("session_keys", "redis") or "headers" in loc[2:] or loc[-1] in _SECRET_KEYS)
