"""What a grant can get wrong: what it can't mean, and what nobody who wrote it meant.

Nothing is said about what is already known to be wrong: those keys were cut off, and stand in `cut`.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from gateway.policy.aggregates import SEPARATOR
from gateway.policy.globs import can_match, compile_globs, is_exact
from gateway.policy.grants import Grant
from gateway.policy.rules import KNOWN_METHODS, SUBJECTS, USES, Subject, is_of_life
from gateway.policy.sites import Site
from gateway.policy.uris import has_dots, normalize_glob
from gateway.protocol.catalogues import Kind
from gateway.settings.grants import GrantShape, RulesShape, can_be_uri
from gateway.settings.nodes import Node
from gateway.settings.problems import Loc

_SUBJECTS: Final[tuple[Subject, ...]] = ("tools", "prompts", "resources", "methods")

Found = Iterator[tuple[Loc, str]]
"""Keys below the grant's, and what is wrong there."""


class GrantChecks:
    """All checks over one grant. `root` is the whole configuration's, in which everything knows its file."""

    def __init__(self, number: int, shape: GrantShape, root: Node, cut: Collection[Loc]) -> None:
        self.shape = shape
        self.cut = cut
        self.backends: Mapping[str, Node] = root.find(("backends",)).mapping if "backends" in root.mapping else {}
        self.homes = root.mapping["backends"].keys if self.backends else {}
        self.place = root.find(("grants", number)).place
        self.is_included = self.place.file != root.place.file

    def run(self) -> Found:
        yield from self.check_audience()
        if not any(loc[:1] == ("backends",) and len(loc) <= 2 for loc in self.cut):
            yield from self.check_backends()
        for effect, rules in (("allow", self.shape.allow), ("deny", self.shape.deny)):
            yield from self.check_rules(effect, rules)
        yield from self.check_effect()

    def check_rules(self, effect: str, rules: RulesShape) -> Found:
        for subject in _SUBJECTS:
            for index, glob in enumerate(getattr(rules, subject)):
                if said := refuse_glob(subject, glob):
                    yield (effect, subject, index), f"{glob!r} {said}"

    def check_audience(self) -> Found:
        to = self.shape.to
        named = {key: getattr(to, key) for key in ("principals", "groups", "scopes")}
        if to.anybody and any(named.values()):
            yield ("to", "anybody"), "stands beside those who are named: remove one or the other"
        if not to.anybody and not any(named.values()):
            yield ("to",), "is to nobody: name `principals`, `groups` or `scopes`, or write `to: anybody`"
        for key, globs in named.items():
            for index, glob in enumerate(globs):
                if said := refuse_glob(key, glob):
                    yield ("to", key, index), f"{glob!r} {said}"

    def check_backends(self) -> Found:
        told = self.shape.backends
        if told is None and self.is_included:
            yield ("backends",), "is missing: in an included file a grant names backends of that file"
        if told is not None and not told:
            yield ("backends",), "is empty: name at least one backend, or write `all`"
        for index, glob in enumerate(told or ()):
            if said := self.refuse_backend(glob):
                yield ("backends", index), said

    def refuse_backend(self, glob: str) -> str:
        """Why it can't stand there, "" where it can."""
        if is_exact(glob) and glob not in self.backends:
            near = difflib.get_close_matches(glob, self.backends, 1, 0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self.backends) or 'none'}"
            return f"{glob!r} is no backend: {hint}"
        if not any(map(compile_globs((glob,)).fits, self.backends)):
            return f"{glob!r} fits no backend: known are {', '.join(self.backends) or 'none'}"
        if self.is_included and (not is_exact(glob) or self.homes[glob].file != self.place.file):
            what = "is no backend of this file" if is_exact(glob) else "is a pattern"
            return f"{glob!r} {what}: an included file grants what is its own; move the grant to the main file"
        return ""

    def check_effect(self) -> Found:
        allow, deny = self.shape.allow, self.shape.deny
        told = [subject for subject in _SUBJECTS if getattr(allow, subject)]
        denied = [subject for subject in _SUBJECTS if getattr(deny, subject)]
        if not told and not denied:
            yield (), "has no effect: say what it allows or denies, under `allow:` or `deny:`"
        for subject in told:
            if "*" in deny.methods or "*" in getattr(deny, subject):
                yield ("allow", subject), "has no effect: the same grant denies all of it"
        for kind, subject in SUBJECTS.items():
            if kind is not Kind.TEMPLATE and subject in told and compile_globs(tuple(allow.methods)).fits(USES[kind]):
                wider = next(glob for glob in allow.methods if compile_globs((glob,)).fits(USES[kind]))
                said = f"has no effect beside `methods`: {wider!r} allows all {subject}; remove one of the two"
                yield ("allow", subject), said


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_WORDS: Final = frozenset({"scopes", "methods"})  # RFC 6749 §3.3; method names have no white space either


def refuse_glob(key: str, glob: str) -> str:
    """Why nothing could ever fit it, "" where something can."""
    if not glob or glob != glob.strip() or _CONTROL.search(glob):
        return "can never match: it is empty, or has white space at an end or a control character in it"
    if not can_match(glob):
        return "can never match: a range in it is empty"
    if key in _WORDS and " " in glob:
        return f"can never match, {key} have no white space: write each as an item of its own"
    if key != "resources":
        return ""
    if not can_be_uri(glob):
        return "can never match: it is no URI, and no pattern"
    if has_dots(glob) or normalize_glob(glob) is None:
        return (
            "can never match: URIs are compared without `.` and `..` on their way, and none longer than 8192 characters"
        )
    return ""


def doubts_of_grants(site: Site) -> Iterator[str]:
    """What is allowed to say, and probably not meant: a sentence each."""
    grants = site.grants
    if grants is None:
        return
    if all(grant.allow.is_empty for grant in grants.grants):
        yield "grants: none allows anything, so that every request will be denied"
    for grant in grants.grants:
        if site.admission is None and not grant.to.is_anybody:
            yield f"{grant.key}: is to nobody as long as `auth` asks nobody who they are"
        if grant.to.scopes and not grant.deny.is_empty:
            yield f"{grant.key}: denies by `scopes`, which a client can leave out of its token: allow by scopes instead"
        yield from _doubt_names(grant, site)
        yield from _doubt_methods(grant)


def _doubt_names(grant: Grant, site: Site) -> Iterator[str]:
    """Names as an aggregate shows them."""
    for glob in (*grant.allow.tools, *grant.deny.tools, *grant.allow.prompts, *grant.deny.prompts):
        prefix, found, name = glob.partition(SEPARATOR)
        if found and name and prefix in site.backends:
            yield f"{grant.key}: {glob!r} looks like an aggregate's name: a grant has the backend's own, {name!r}"


def _doubt_methods(grant: Grant) -> Iterator[str]:
    for glob in (*grant.allow.methods, *grant.deny.methods):
        is_known = not is_exact(glob) or glob in KNOWN_METHODS or is_of_life(glob)
        for near in () if is_known else difflib.get_close_matches(glob, KNOWN_METHODS, 1, 0.8):
            yield f"{grant.key}: the method {glob!r} is unknown: did you mean {near!r}?"
