"""Who may do what, as the configuration's `grants:` say it: to whom each is, and at which backends.

It is decided at the backend, so that it binds every way there: its mount, every aggregate, every member of a batch. What the
grants add up to for one who calls is a `permits.Permit`; why so, in words, an `explanations.Explanation`.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Final, TypeVar

import msgspec

from gateway.policy.globs import compile_globs, is_exact
from gateway.policy.identities import Identity
from gateway.policy.permits import TOTAL, Permit, compile_permit
from gateway.policy.rules import NOTHING, Rules
from gateway.protocol.catalogues import Kind

MAX_PERMITS: Final = 16_384
"""Of one worker: backends times those who call at once; some 110 bytes each. Beyond it the oldest is made anew when it is next
needed."""


K = TypeVar("K")


class Audience(msgspec.Struct, frozen=True):
    """To whom: one of the principals or of a group, where any are named; and who has all the scopes, where any are.

    All are globs. Principals are those who said who they are: `principals: ["*"]` isn't anybody.
    """

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    is_anybody: bool = False

    def names(self, identity: Identity) -> bool:
        """Whether it means them, scopes apart. An audience of nobody doesn't."""
        if self.is_anybody:
            return True
        if not (self.principals or self.groups):
            return bool(self.scopes)
        if identity.principal and compile_globs(self.principals).fits(identity.principal):
            return True
        return any(map(compile_globs(self.groups).fits, identity.groups))

    def lacking(self, identity: Identity) -> list[str]:
        """The scopes that they don't have."""
        return [scope for scope in self.scopes if not any(map(compile_globs((scope,)).fits, identity.scopes))]

    def holds(self, identity: Identity) -> bool:
        """Whether the grant is to them."""
        return self.names(identity) and not self.lacking(identity)


class Grant(msgspec.Struct, frozen=True):
    """One of `grants:`. `key` and `place` say where it stands: for operators, never for clients."""

    to: Audience
    backends: tuple[str, ...] = ("*",)  # globs
    allow: Rules = NOTHING
    deny: Rules = NOTHING
    key: str = ""  # grants[0]
    place: str = ""  # gateway.yaml:12:5


PermitKey = tuple[str, str, frozenset[str], frozenset[str]]
"""Backend, principal, groups, scopes: all that a decision depends on besides the grants."""


class Grants(msgspec.Struct, frozen=True, dict=True):
    """All of them. What none allows is denied; what one denies is denied, whatever another allows."""

    grants: tuple[Grant, ...] = ()

    # Remembered with the grants, and gone with them; no part of what two configurations are compared by.

    @cached_property
    def permits(self) -> dict[PermitKey, Permit]:
        return {}

    @cached_property
    def compiled(self) -> dict[tuple[int, ...], Permit]:
        """By the numbers of the grants: many who call differ in their names only."""
        return {}

    def concerning(self, identity: Identity, backend: str) -> Iterator[tuple[int, Grant]]:
        """Those to them at that backend, in order, with their numbers."""
        for number, grant in enumerate(self.grants):
            if compile_globs(grant.backends).fits(backend) and grant.to.holds(identity):
                yield number, grant


def permit_for(grants: Grants | None, identity: Identity, backend: str) -> Permit:
    """What they may do at the backend. Without grants (None): everything, whoever was let in."""
    if grants is None:
        return TOTAL
    key = backend, identity.principal, identity.groups, identity.scopes
    permit = grants.permits.get(key)
    if permit is None:
        permit = _compile(grants, identity, backend)
        _remember(grants.permits, key, permit)
    return permit


def _compile(grants: Grants, identity: Identity, backend: str) -> Permit:
    found = dict(grants.concerning(identity, backend))
    numbers = tuple(found)
    permit = grants.compiled.get(numbers)
    if permit is None:
        permit = compile_permit((one.allow for one in found.values()), (one.deny for one in found.values()))
        _remember(grants.compiled, numbers, permit)
    return permit


def scopes_for(
    grants: Grants, identity: Identity, backend: str, method: str, kind: Kind | None = None, name: str | None = None
) -> tuple[str, ...]:
    """With which scopes in all they could do what they now may not; empty where no scopes would help.

    For the `scope` of an `insufficient_scope` challenge, which names all that are needed (2025-11-25, basic/authorization
    "Scope Challenge Handling"). The first grant that needs the fewest more.
    """
    found: list[tuple[int, tuple[str, ...]]] = []
    for grant in grants.grants:
        lacking = grant.to.lacking(identity)
        if not lacking or not all(map(is_exact, lacking)) or not grant.to.names(identity):
            continue
        scopes = identity.scopes.union(lacking)
        risen = _compile(grants, Identity(identity.principal, identity.groups, scopes), backend)
        if risen.may_call(method, kind, name):
            held = (one for one in sorted(identity.scopes) if compile_globs(grant.to.scopes).fits(one))
            found.append((len(lacking), tuple(dict.fromkeys((*held, *lacking)))))
    return min(found, key=lambda one: one[0], default=(0, ()))[1]


def _remember(known: dict[K, Permit], key: K, permit: Permit) -> None:
    if len(known) >= MAX_PERMITS:
        del known[next(iter(known))]
    known[key] = permit
