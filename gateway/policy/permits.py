"""What one who calls may do at one backend: rules compiled for the way of a request, asked for each message and item.

Deny wins. A name is allowed by a rule over names or over the method that uses it; what no rule allows is denied. The methods
that the protocol lives of need no rule of their own, where anything is allowed at all.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

import msgspec

from gateway.policy.globs import Globs, compile_globs
from gateway.policy.rules import KINDS, SUBJECTS, USES, Rules, Subject, is_of_life
from gateway.policy.uris import normalize, normalize_glob, strip
from gateway.protocol.catalogues import Kind

NO_GLOBS: Final = Globs()


class Names(msgspec.Struct, frozen=True, gc=False):
    """Rules over one kind of names."""

    allowed: Globs = NO_GLOBS
    denied: Globs = NO_GLOBS

    def allows(self, name: str) -> bool:
        return self.allowed.fits(name)

    def denies(self, name: str) -> bool:
        return self.denied.fits(name)


class Uris(Names, frozen=True, gc=False):
    """Rules over URIs. One is denied as it is spelt, as normal, or without its query; allowed only as spelt and as normal."""

    normally_allowed: Globs = NO_GLOBS
    normally_denied: Globs = NO_GLOBS

    def allows(self, name: str) -> bool:
        if self.allowed.is_all or not self.allowed.fits(name):
            return self.allowed.is_all
        normal = normalize(name)
        return normal is not None and self.normally_allowed.fits(normal)

    def denies(self, name: str) -> bool:
        if self.denied.is_empty:
            return False
        if self.denied.fits(name) or (normal := normalize(name)) is None:
            return True
        return self.normally_denied.fits(normal) or self.normally_denied.fits(strip(normal))


class Permit(msgspec.Struct, frozen=True):
    """What may be called and seen. `is_total`: everything, so that nothing need be asked or filtered."""

    is_total: bool = False
    is_admitted: bool = False  # whether anything is allowed
    allowed_methods: Globs = NO_GLOBS
    denied_methods: Globs = NO_GLOBS
    names: Mapping[Kind, Names] = msgspec.field(default_factory=lambda: dict.fromkeys(Kind, Names()))

    def may_call(self, method: str, kind: Kind | None = None, name: str | None = None) -> bool:
        """Whether a message may pass. `kind` and `name` are what it is about; for `completion/complete` what its `ref` is.

        Of the methods in `rules.KINDS` the kind is known. A response, a GET and a DELETE have the method "".
        """
        if self.is_total:
            return True
        if self.denied_methods.fits(method):
            return False
        if kind is None and (kind := KINDS.get(method)) is None:
            return self.is_admitted if is_of_life(method) else self.allowed_methods.fits(method)
        names, name = self.names[kind], name or ""
        return not names.denies(name) and (names.allows(name) or self.allowed_methods.fits(method))

    def may_see(self, kind: Kind, name: str) -> bool:
        """Whether an item may stand in a list: whether it may be used."""
        return self.may_call(USES[kind], kind, name)

    def shows_all(self, kind: Kind) -> bool:
        """Whether lists of this kind needn't be filtered, and are what they would be for anybody."""
        method, names = USES[kind], self.names[kind]
        if self.is_total:
            return True
        if self.denied_methods.fits(method) or not names.denied.is_empty:
            return False
        return names.allowed.is_all or self.allowed_methods.fits(method)


TOTAL: Final = Permit(is_total=True, is_admitted=True)


def compile_permit(allow: Iterable[Rules], deny: Iterable[Rules]) -> Permit:
    """What these rules add up to."""
    allow, deny = tuple(allow), tuple(deny)
    allowed, denied = unite(allow, "methods"), unite(deny, "methods")
    if compile_globs(allowed).is_all and all(rules.is_empty for rules in deny):
        return TOTAL
    return Permit(
        is_admitted=not all(rules.is_empty for rules in allow),
        allowed_methods=compile_globs(allowed),
        denied_methods=compile_globs(denied),
        names={
            kind: _compile_names(kind, unite(allow, subject), unite(deny, subject))
            for kind, subject in SUBJECTS.items()
        },
    )


def unite(rules: Iterable[Rules], subject: Subject) -> tuple[str, ...]:
    """All globs about it, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(one.of(subject) for one in rules)))


def _compile_names(kind: Kind, allowed: tuple[str, ...], denied: tuple[str, ...]) -> Names:
    if not kind.is_uri:
        return Names(compile_globs(allowed), compile_globs(denied))
    return Uris(compile_globs(allowed), compile_globs(denied), compile_normal(allowed), compile_normal(denied))


def compile_normal(globs: tuple[str, ...]) -> Globs:
    """Those of the globs' URIs in their normal form."""
    return compile_globs(tuple(normal for glob in globs if (normal := normalize_glob(glob)) is not None))
