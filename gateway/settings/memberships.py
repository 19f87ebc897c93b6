"""What an aggregate can get wrong together with the backends that it names.

Nothing is said about what is already known to be wrong: those keys were cut off, and stand in `cut`.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from gateway.policy.aggregates import PREFIX_PATTERN, max_prefix_length, spell_scheme
from gateway.settings.aggregates import AggregateShape, MemberShape, list_members, prefix_of
from gateway.settings.problems import Loc
from gateway.settings.shapes import BackendShape

MAX_LEGACY_MEMBERS: Final = 32
"""Backends that one legacy session can name: its token has some 140 bytes for each, and proxies take header lines of 8 KiB."""

Found = Iterator[tuple[Loc, str]]
"""Keys below the aggregate's, and what is wrong there."""


class Memberships:
    """All checks over one aggregate."""

    def __init__(
        self, loc: Loc, shape: AggregateShape, backends: Mapping[str, BackendShape], cut: Collection[Loc]
    ) -> None:
        self.loc = loc
        self.shape = shape
        self.backends = backends
        self.cut = cut
        self.members = list_members(shape, backends)

    def run(self) -> Found:
        if (*self.loc, "backends") in self.cut or ("backends",) in self.cut:
            return
        if not self.members and self.shape.backends is not None:
            yield ("backends",), "is empty: name at least one backend, or write `all`"
        for index, member in enumerate(self.members):
            yield from self.check_name(index, member)
            yield from self.check_prefix(index, member)
        yield from self.check_eras()

    def place(self, index: int, *key: str) -> Loc:
        """Where the member, or a key of it, stands; where all backends are meant, nothing of one is told."""
        return ("backends",) if self.shape.backends is None else ("backends", index, *key)

    def check_name(self, index: int, member: MemberShape) -> Found:
        if not member.name:
            yield self.place(index), "is missing: name one of the backends"
        elif any(member.name == other.name for other in self.members[:index]):
            yield self.place(index), f"{member.name!r} stands twice: remove one"
        elif member.name not in self.backends and ("backends", member.name) not in self.cut:
            near = difflib.get_close_matches(member.name, self.backends, 1, 0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self.backends) or 'none'}"
            yield self.place(index), f"{member.name!r} is no backend: {hint}"

    def check_prefix(self, index: int, member: MemberShape) -> Found:
        prefix, place, most = prefix_of(member), self.place(index, "prefix"), max_prefix_length(self.shape.name_limit)
        if re.fullmatch(PREFIX_PATTERN, prefix) is None:
            if member.name:
                yield place, f"the name {member.name!r} can't be a prefix: give it a `prefix:` {_ALLOWED}"
        elif len(prefix) > most:
            why = f"with `name_limit: {self.shape.name_limit}` it can have {most} characters"
            yield place, f"the prefix {prefix!r} is too long, {why}: give it a shorter `prefix:`"
        else:
            rivals = (m for m in self.members[:index] if spell_scheme(prefix_of(m)) == spell_scheme(prefix))
            if (rival := next(rivals, None)) is not None and rival.name != member.name:
                yield place, f"the prefix {prefix!r} is that of {rival.name!r} already: give it another `prefix:`"

    def check_eras(self) -> Found:
        """Where the file says which eras the members speak, they must have one in common with the aggregate."""
        if (*self.loc, "era") in self.cut:
            return
        eras = {m.name: self.backends[m.name].era for m in self.members if m.name in self.backends}
        only = {era: [name for name, spoken in eras.items() if spoken == era] for era in ("legacy", "modern")}
        era = self.shape.era
        if era == "auto" and only["legacy"] and only["modern"]:
            mixed = f"mixes backends that speak only legacy ({_some(only['legacy'])}) and only modern ({_some(only['modern'])})"
            yield ("backends",), f"{mixed} protocol versions: say which to serve with `era: legacy` or `era: modern`"
        if era != "auto" and eras and len(only["modern" if era == "legacy" else "legacy"]) == len(eras):
            yield ("era",), f"none of its backends speaks {era} protocol versions: remove it"
        is_modern = era == "modern" or len(only["modern"]) == len(eras)
        if len(self.members) > MAX_LEGACY_MEMBERS and not is_modern:
            why = f"has {len(self.members)} backends, and a legacy session can name {MAX_LEGACY_MEMBERS}"
            yield ("backends",), f"{why}: split it, or serve modern clients only with `era: modern`"


_ALLOWED: Final = "of letters, digits, `-`, and single `_` between them"


def _some(names: list[str]) -> str:
    """The first few of them."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
