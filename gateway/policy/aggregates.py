"""Several backends as one MCP server: what it is made of, and under which names it shows what they have.

A name that a client sees is `{prefix}__{name}`, at most `name_limit` characters; a longer one is shortened with a digest of
itself, so that every replica shortens it alike. Where a member has no prefix its names are shown as they are, unless two
would be alike. Reading is the reverse, and total: a prefix has no `__` in it and no `_` at its end, so the first `__` ends it.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import msgspec

from gateway.policy.permits import Permit
from gateway.protocol.catalogues import Kind

SEPARATOR: Final = "__"
"""Model vendors allow only letters, digits, `_` and `-` in a tool's name."""

URI_SEPARATOR: Final = "+"
"""Between a backend's prefix and a resource's URI, where two backends have the same: `docs+file:///a` is a URI, too
(RFC 3986 §3.1)."""

NAME_LIMIT: Final = 48
"""Clients put `mcp__{server}__` before a name, and stop at 64 characters."""

PREFIX_PATTERN: Final = r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*"
"""What a prefix may be: never with `__` in it or `_` at an end, or reading a name would not be the reverse of making it."""

_DIGEST_CHARACTERS: Final = 8
_SHORTENED: Final = re.compile(r"_[0-9a-f]{8}")


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


class Aggregate(msgspec.Struct, frozen=True, dict=True):
    """Several backends that are presented as one. It only narrows: what may be called is decided at the backend."""

    name: str
    mount: str  # "/" is served at /mcp, "/support" at /support/mcp and /support
    members: tuple[Member, ...]  # in the order in which they were configured
    allow: Globs = EVERYTHING
    deny: Globs = Globs()
    name_limit: int = NAME_LIMIT
    era: Literal["auto", "legacy", "modern"] = "auto"
    deadline_seconds: float = 3.0  # for each member to answer what all are asked
    permits: Mapping[str, Permit] = {}  # by backend: what the one who calls may do there (`limit_to`)

    # Made when first asked for, and no part of what two aggregates are compared by.

    @cached_property
    def by_prefix(self) -> Mapping[str, Member]:
        return {member.prefix: member for member in self.members}

    @cached_property
    def by_scheme(self) -> Mapping[str, Member]:
        """The members by what marks their URIs."""
        return {spell_scheme(member.prefix): member for member in self.members}


class Local(NamedTuple):
    """What a member calls it. `is_shortened`: the name is only the start of one, and has to be looked up."""

    member: Member
    name: str
    is_shortened: bool = False


def limit_to(aggregate: Aggregate, permits: Mapping[str, Permit]) -> Aggregate:
    """The aggregate as somebody may use it: the members at which anything is granted, by backend, and of them what is."""
    members = tuple(member for member in aggregate.members if permits[member.backend].is_admitted)
    limits = {backend: permit for backend, permit in permits.items() if not permit.is_total}
    return msgspec.structs.replace(aggregate, members=members, permits=limits)


def permits(aggregate: Aggregate, member: Member, kind: Kind, name: str) -> bool:
    """Whether clients of the aggregate may see it. Deny wins."""
    permit = aggregate.permits.get(member.backend)
    if permit is not None and not permit.may_see(kind, name):
        return False
    full = f"{member.backend}{SEPARATOR}{name}"
    return _matches(aggregate.allow.of(kind), full) and not _matches(aggregate.deny.of(kind), full)


def _matches(globs: tuple[str, ...], name: str) -> bool:
    return "*" in globs or (bool(globs) and _compile(globs).match(name) is not None)


@lru_cache(maxsize=1024)
def _compile(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)))


def max_prefix_length(name_limit: int) -> int:
    """Behind a longer prefix the digest of a shortened name would have no separator before it."""
    return name_limit - len(SEPARATOR) - _DIGEST_CHARACTERS


def expose(aggregate: Aggregate, member: Member, name: str) -> str:
    """The member's tool or prompt under its prefix, shortened where it would be too long."""
    full = f"{member.prefix}{SEPARATOR}{name}"
    if len(full) > aggregate.name_limit or _looks_shortened(aggregate, full):
        kept = aggregate.name_limit - _DIGEST_CHARACTERS - 1
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_CHARACTERS // 2)
        return f"{full[:kept]}_{digest.hexdigest()}"
    return full


def _looks_shortened(aggregate: Aggregate, full: str) -> bool:
    """A name that looks so is shortened, too: then whatever looks shortened is."""
    return len(full) == aggregate.name_limit and _SHORTENED.fullmatch(full[-_DIGEST_CHARACTERS - 1 :]) is not None


def expose_uri(member: Member, uri: str) -> str:
    """The member's resource, told apart from another's of the same URI."""
    return f"{spell_scheme(member.prefix)}{URI_SEPARATOR}{uri}"


def spell_scheme(prefix: str) -> str:
    """The prefix as a scheme may begin: no `_`, no digit first, and nobody has to heed its case (RFC 3986 §3.1).

    Python clients refuse a whole list for one URI that they can't parse. Two prefixes that differ in more than case stay
    two: dots come from here alone, and `..` can't come from `_`.
    """
    spelt = prefix.lower().replace("_", ".")
    return spelt if spelt[:1].isalpha() else f"n..{spelt}"


def expose_all(
    aggregate: Aggregate, kind: Kind, names: Iterable[tuple[Member, Iterable[str]]]
) -> tuple[dict[tuple[str, str], str], frozenset[str]]:
    """(backend, its name) → the name that clients see, for whole lists; and the names of which there were two.

    A tool or prompt of a bare member, or a resource of any, is shown as it is, unless another member has the same, or it could
    be read as another's under its prefix: then each gets its prefix. So does a bare name that is too long.
    """
    listed = [(member, name) for member, own in names for name in own]
    owners: dict[str, str] = {}
    doubled: set[str] = set()
    for member, name in listed:
        if _is_shown_bare(kind, member) and owners.setdefault(name, member.backend) != member.backend:
            doubled.add(name)
    shown = {
        (member.backend, name): name
        if _is_shown_bare(kind, member) and name not in doubled and _is_plain(aggregate, kind, name)
        else expose_uri(member, name)
        if kind.is_uri
        else expose(aggregate, member, name)
        for member, name in listed
    }
    return shown, frozenset(doubled)


def _is_shown_bare(kind: Kind, member: Member) -> bool:
    return member.is_bare or kind.is_uri


def _is_plain(aggregate: Aggregate, kind: Kind, name: str) -> bool:
    """Whether a name can be shown as it is, if nobody else has it."""
    return (kind.is_uri or len(name) <= aggregate.name_limit) and read_prefix(aggregate, kind, name) is None


def read_prefix(aggregate: Aggregate, kind: Kind, shown: str) -> Local | None:
    """The member whose prefix a name has, and what it calls it; None where it has no member's."""
    if kind.is_uri:
        scheme, found, uri = shown.partition(URI_SEPARATOR)
        member = aggregate.by_scheme.get(scheme.lower()) if found else None
        return None if member is None else Local(member, uri)
    prefix, found, name = shown.partition(SEPARATOR)
    member = aggregate.by_prefix.get(prefix) if found else None
    return None if member is None else Local(member, name, _looks_shortened(aggregate, shown))
