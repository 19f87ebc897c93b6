"""YAML as a tree in which everything knows its place. Knows nothing of what the keys mean.

Read from the parser's events, so that depth and size are bounded before anything is built. Plain scalars follow the
core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `no` is text, and 010 is ten.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from gateway.settings.problems import Loc, Place, Problem, problem_at

MAX_FILE_BYTES: Final = 1024 * 1024
"""A configuration of 5,000 backends has half of that. A larger file is refused unread."""
MAX_DEPTH: Final = 32
"""The deepest key of the configuration stands at 5. Deeper nesting is refused."""
MAX_NODES: Final = 100_000
"""Values in one file, aliases counted as often as they are used: what makes an alias bomb harmless. Beyond: refused."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT: Final = re.compile(r"[-+]?[0-9]{1,100}|0x[0-9a-fA-F]{1,64}|0o[0-7]{1,64}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[dict[str, bool | None]] = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_YAML: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = frozenset({None, "!", f"{_YAML}str", f"{_YAML}map", f"{_YAML}seq"})

Scalar = str | int | float | bool | None


class Node(msgspec.Struct, frozen=True):
    """A value and its place. `keys` has the places of a mapping's keys; `secret` forbids to quote the value."""

    value: "Scalar | dict[str, Node] | list[Node]"
    place: Place
    keys: Mapping[str, Place] = {}
    secret: bool = False

    @property
    def mapping(self) -> "dict[str, Node]":
        """The children by key; empty for anything but a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    def child(self, part: str | int) -> "Node | None":
        if isinstance(part, int):
            return self.value[part] if isinstance(self.value, list) and part < len(self.value) else None
        return self.mapping.get(part)

    def find(self, loc: Loc) -> "Node":
        """The node at `loc`, or the deepest one on the way there."""
        node = self
        for part in loc:
            child = node.child(part)
            if child is None:
                return node
            node = child
        return node

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


def node_of(value: object, place: Place) -> Node:
    """The tree of a plain Python value, all of it at one place."""
    if isinstance(value, Mapping):
        children = {str(key): node_of(child, place) for key, child in value.items()}
        return Node(children, place, dict.fromkeys(children, place))
    if isinstance(value, list | tuple):
        return Node([node_of(child, place) for child in value], place)
    if value is None or isinstance(value, str | int | float):
        return Node(value, place)
    return Node(str(value), place)


def parse(raw: bytes, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree of a YAML file, None where there is none (empty, or no YAML), and what is wrong with its text."""
    reader = _Reader(file)
    try:
        return reader.read_file(raw), reader.problems
    except _Refused as refusal:
        return None, [*reader.problems, refusal.problem]
    except yaml.YAMLError as error:
        return None, [*reader.problems, _describe_syntax(error, file, raw.count(b"\n") + 1)]


def _describe_syntax(error: yaml.YAMLError, file: str, lines: int) -> Problem:
    mark, start = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    said = f"this is not YAML: {getattr(error, 'problem', None) or 'it can not be read'}"
    if start is not None and getattr(error, "context", None):
        said += f", {error.context} that begins in line {start.line + 1}"  # type: ignore[attr-defined]
    line = min(mark.line + 1, lines) if mark else 1  # an end that comes too soon is marked one line below the last
    column = mark.column + 1 if mark and line == mark.line + 1 else 1
    return Problem(file, line, column, "", said)


class _Refused(Exception):
    """Reading on would be pointless or unsafe."""

    def __init__(self, place: Place, loc: Loc, message: str) -> None:
        self.problem = problem_at(place, loc, message)


class _Reader:
    """Builds the tree of one file from the parser's events."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Node, int]] = {}  # the node, and how many nodes it counts for
        self.nodes = 0

    def read_file(self, raw: bytes) -> Node | None:
        self.events: Iterator[Any] = yaml.parse(self.decode(raw), Loader=_LOADER)
        documents = 0
        root = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Refused(self.place(event), (), "a second document (`---`): put everything into one")
                root = self.read(next(self.events), ())
        return root

    def decode(self, raw: bytes) -> str:
        if len(raw) > MAX_FILE_BYTES:
            raise _Refused(Place(self.file, 1, 1), (), f"the file is larger than {MAX_FILE_BYTES} bytes: split it")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise _Refused(Place(self.file, line, 1), (), "this is not UTF-8: save the file as UTF-8") from None
        if found := _UNPRINTABLE.search(text):
            line = text.count("\n", 0, found.start()) + 1
            column = found.start() - text.rfind("\n", 0, found.start())
            sort = f"U+{ord(found[0]):04X}"
            raise _Refused(
                Place(self.file, line, column), (), f"the character {sort} is not allowed in YAML: remove it"
            )
        return text

    def place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1)

    def read(self, event: Any, loc: Loc) -> Node:
        place = self.place(event)
        self.count(1, place, loc)
        if len(loc) > MAX_DEPTH:
            raise _Refused(place, (), f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self.read_alias(event.anchor or "", place, loc)
        tag = getattr(event, "tag", None)
        if tag not in _PLAIN_TAGS:
            self.problems.append(problem_at(place, loc, "YAML tags (`!…`) are not supported: remove it"))
        before = self.nodes
        node = self.read_value(event, place, loc)
        if anchor := getattr(event, "anchor", None):
            self.anchors[anchor] = node, self.nodes - before
        return node

    def read_value(self, event: Any, place: Place, loc: Loc) -> Node:
        if isinstance(event, yaml.MappingStartEvent):
            return self.read_mapping(place, loc)
        if isinstance(event, yaml.SequenceStartEvent):
            children: list[Node] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                children.append(self.read(event, (*loc, len(children))))
            return Node(children, place)
        plain = event.implicit[0] and not event.style  # a quoted or tagged scalar is text
        return Node(resolve(event.value) if plain else event.value, place)

    def read_alias(self, anchor: str, place: Place, loc: Loc) -> Node:
        # the name isn't shown: a password that begins with `*` and lost its quotes is read as an alias
        if anchor not in self.anchors:
            raise _Refused(place, loc, "an alias (`*…`) without an anchor before it: quote the text if none was meant")
        node, size = self.anchors[anchor]
        self.count(size, place, loc)
        return node

    def read_mapping(self, place: Place, loc: Loc) -> Node:
        children: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_place = self.place(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _Refused(key_place, loc, "a key must be plain text")
            key = event.value
            node = self.read(next(self.events), (*loc, key))
            if key == "<<" and not event.style:
                merged.append(node)
            elif key in keys:
                said = f"this key stands twice; it is also in line {keys[key].line}: remove one"
                self.problems.append(problem_at(key_place, (*loc, key), said))
            else:
                children[key], keys[key] = node, key_place
        for node in merged:
            self.merge(node, loc, children, keys)
        return Node(children, place, keys)

    def merge(self, node: Node, loc: Loc, children: dict[str, Node], keys: dict[str, Place]) -> None:
        """`<<: *defaults` (https://yaml.org/type/merge.html): what the mapping says itself, or an earlier one, wins."""
        for source in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(source.value, dict):
                self.problems.append(problem_at(source.place, (*loc, "<<"), "`<<` takes a mapping, or a list of them"))
            for key, child in source.mapping.items():
                if key not in children:
                    self.count(1, child.place, loc)
                    children[key], keys[key] = child, source.keys[key]

    def count(self, nodes: int, place: Place, loc: Loc) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _Refused(place, loc, f"more than {MAX_NODES} values, aliases counted: use fewer aliases")


def resolve(text: str) -> Scalar:
    """What a plain scalar means in YAML 1.2's core schema, infinities and NaN excepted: they stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def graft(node: Node, loc: Loc, branch: Node) -> Node:
    """The tree with `branch` at `loc`; mappings that lack on the way are made."""
    if not loc:
        return branch
    key = str(loc[0])
    child = node.mapping.get(key) or Node({}, branch.place)
    children = {**node.mapping, key: graft(child, loc[1:], branch)}
    return Node(children, node.place, {branch_key: node.keys.get(branch_key, branch.place) for branch_key in children})


def prune(node: Node, loc: Loc) -> tuple[Node, Loc]:
    """The tree without what stands at `loc`, and where it was cut: an item that is wrong takes its whole list along."""
    part = loc[0] if loc else None
    if not isinstance(part, str) or part not in node.mapping:
        return node, ()
    children = dict(node.mapping)
    child, cut = prune(children[part], loc[1:])
    if cut:
        children[part] = child
    else:
        del children[part]
    return Node(children, node.place, node.keys), (part, *cut)
