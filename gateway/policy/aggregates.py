"""Several backends as one MCP server: what it is made of, and under which names it shows what they have.

A name that a client sees is `{prefix}__{name}`, at most `name_limit` characters; a longer one is shortened with a digest of
itself, so that every replica shortens it alike. Where a member has no prefix its names are shown as they are, unless two
would be alike. Reading is the reverse, and total: a prefix has no `__` in it and no `_` at its end, so the first `__` ends it.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import msgspec

SEPARATOR: Final = "__"
"""Model vendors allow only letters, digits, `_` and `-` in a tool's name."""

URI_SEPARATOR: Final = "+"
"""Between a backend's prefix and a resource's URI, where two backends have the same: `docs+file:///a` is a URI, too
(RFC 3986 §3.1)."""

NAME_LIMIT: Final = 48
"""Clients put `mcp__{server}__` before a name, and stop at 64 characters."""

_DIGEST_CHARACTERS: Final = 8
_SHORTENED: Final = re.compile(r"_[0-9a-f]{8}")


class Kind(StrEnum):
    """What a list lists."""

    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    TEMPLATE = "template"  # a resource's


class Member(msgspec.Struct, frozen=True):
    """One backend of an aggregate. `prefix` marks what is its own; `is_bare`: its names are shown without it."""

    backend: str
    prefix: str
    is_bare: bool = False


class Globs(msgspec.Struct, frozen=True):
    """Patterns as a shell has them, matched against `{backend}__{name}`, of resources `{backend}__{uri}`."""

    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def of(self, kind: Kind) -> tuple[str, ...]:
        match kind:
            case Kind.TOOL:
                return self.tools
            case Kind.PROMPT:
                return self.prompts
            case Kind.RESOURCE | Kind.TEMPLATE:
                return self.resources


EVERYTHING: Final = Globs(("*",), ("*",), ("*",))


class Aggregate(msgspec.Struct, frozen=True):
    """Several backends that are presented as one. It only narrows: what may be called is decided at the backend."""

    name: str
    mount: str  # "/" is served at /mcp, "/support" at /support/mcp and /support
    members: tuple[Member, ...]  # in the order in which they were configured
    allow: Globs = EVERYTHING
    deny: Globs = Globs()
    name_limit: int = NAME_LIMIT
    era: Literal["auto", "legacy", "modern"] = "auto"
    deadline_seconds: float = 3.0  # for each member to answer what all are asked


class Local(NamedTuple):
    """What a member calls it. `is_shortened`: the name is only the start of one, and has to be looked up."""

    member: Member
    name: str
    is_shortened: bool = False


def permits(aggregate: Aggregate, member: Member, kind: Kind, name: str) -> bool:
    """Whether clients of the aggregate may see it. Deny wins."""
    full = f"{member.backend}{SEPARATOR}{name}"
    return _matches(aggregate.allow.of(kind), full) and not _matches(aggregate.deny.of(kind), full)


def _matches(globs: tuple[str, ...], name: str) -> bool:
    return "*" in globs or (bool(globs) and _compile(globs).match(name) is not None)


@lru_cache(maxsize=1024)
def _compile(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)))


def expose(aggregate: Aggregate, member: Member, name: str) -> str:
    """The member's tool or prompt under its prefix, shortened where it would be too long."""
    full = f"{member.prefix}{SEPARATOR}{name}"
    if len(full) > aggregate.name_limit or _looks_shortened(aggregate, full):
        kept = aggregate.name_limit - _DIGEST_CHARACTERS - 1
        return f"{full[:kept]}_{blake2b(name.encode(), digest_size=_DIGEST_CHARACTERS // 2).hexdigest()}"
    return full


def _looks_shortened(aggregate: Aggregate, full: str) -> bool:
    """A name that looks so is shortened, too: then whatever looks shortened is."""
    return len(full) == aggregate.name_limit and _SHORTENED.fullmatch(full[-_DIGEST_CHARACTERS - 1 :]) is not None


def expose_uri(member: Member, uri: str) -> str:
    """The member's resource, told apart from another's of the same URI."""
    return f"{member.prefix}{URI_SEPARATOR}{uri}"


def expose_all(
    aggregate: Aggregate, kind: Kind, names: Iterable[tuple[Member, Iterable[str]]]
) -> tuple[dict[tuple[str, str], str], frozenset[str]]:
    """(backend, its name) → the name that clients see, for whole lists; and the names of which there were two.

    A tool or prompt of a bare member, or a resource of any, is shown as it is, unless another member has the same, or it could
    be read as another's under its prefix: then each gets its prefix.
    """
    listed = [(member, name) for member, own in names for name in own]
    bare = [(member, name) for member, name in listed if _is_shown_bare(kind, member)]
    owners: dict[str, set[str]] = {}
    for member, name in bare:
        owners.setdefault(name, set()).add(member.backend)
    doubled = frozenset(name for name, of in owners.items() if len(of) > 1)
    shown = {}
    for member, name in listed:
        prefixed = expose_uri(member, name) if _is_uri(kind) else expose(aggregate, member, name)
        is_plain = _is_shown_bare(kind, member) and name not in doubled and read_prefix(aggregate, kind, name) is None
        shown[member.backend, name] = name if is_plain else prefixed
    return shown, doubled


def _is_uri(kind: Kind) -> bool:
    return kind in (Kind.RESOURCE, Kind.TEMPLATE)


def _is_shown_bare(kind: Kind, member: Member) -> bool:
    return member.is_bare or _is_uri(kind)


def read_prefix(aggregate: Aggregate, kind: Kind, shown: str) -> Local | None:
    """The member whose prefix a name has, and what it calls it; None where it has no member's."""
    separator = URI_SEPARATOR if _is_uri(kind) else SEPARATOR
    prefix, found, name = shown.partition(separator)
    member = _by_prefix(aggregate).get(prefix) if found else None
    if member is None:
        return None
    return Local(member, name, not _is_uri(kind) and _looks_shortened(aggregate, shown))


@lru_cache(maxsize=64)
def _by_prefix(aggregate: Aggregate) -> Mapping[str, Member]:
    return {member.prefix: member for member in aggregate.members}
