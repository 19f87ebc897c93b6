"""Which rule decides, in words: the same decision as a `permits.Permit`'s, told grant by grant. For operators."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gateway.policy.globs import compile_globs
from gateway.policy.grants import Grant, Grants, scopes_for
from gateway.policy.identities import Identity
from gateway.policy.permits import compile_normal
from gateway.policy.rules import KINDS, SUBJECTS, USES, Subject, is_of_life
from gateway.policy.uris import normalize, strip
from gateway.protocol.catalogues import Kind


class Explanation(msgspec.Struct, frozen=True):
    """Whether something is allowed, and why. `rule` and `place` say what decides it; empty where it is the lack of a rule."""

    is_allowed: bool
    reason: str  # a sentence
    rule: str = ""  # grants[1].deny.tools: drop_*
    place: str = ""  # gateway.yaml:12:5
    scopes: tuple[str, ...] = ()  # with these it would be allowed


class Question(NamedTuple):
    """What is asked about."""

    method: str
    kind: Kind | None
    name: str

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What rules it may be about."""
        return ("methods",) if self.kind is None else (SUBJECTS[self.kind], "methods")


class Found(NamedTuple):
    """A rule that fits."""

    grant: Grant
    subject: Subject
    glob: str


def explain(
    grants: Grants | None,
    identity: Identity,
    backend: str,
    method: str,
    kind: Kind | None = None,
    name: str | None = None,
) -> Explanation:
    """What `permit_for(…).may_call(…)` says, and by which rule."""
    if grants is None:
        return Explanation(True, "there are no `grants:`: whoever is let in may do everything")
    question = Question(method, KINDS.get(method) if kind is None else kind, name or "")
    fitting = [grant for _, grant in grants.concerning(identity, backend)]
    if (denial := find_denial(fitting, question)) is not None:
        return _tell(denial, "deny", question)
    if question.kind is None and is_of_life(method):
        told = _explain_life(fitting, backend, method)
    elif (leave := find_leave(fitting, question)) is not None:
        return _tell(leave, "allow", question)
    else:
        told = _explain_lack(fitting, backend)
    scopes = () if told.is_allowed else scopes_for(grants, identity, backend, *question)
    return msgspec.structs.replace(told, scopes=scopes)


def find_denial(grants: Iterable[Grant], question: Question) -> Found | None:
    """The first rule that denies it."""
    for grant in grants:
        for subject in question.subjects:
            for glob in grant.deny.of(subject):
                if _denies(glob, subject, question):
                    return Found(grant, subject, glob)
    return None


def _denies(glob: str, subject: Subject, question: Question) -> bool:
    text = question.method if subject == "methods" else question.name
    if compile_globs((glob,)).fits(text):
        return True
    if subject != "resources":
        return False
    normal, denied = normalize(text), compile_normal((glob,))
    return normal is None or denied.fits(normal) or denied.fits(strip(normal))


def find_leave(grants: list[Grant], question: Question) -> Found | None:
    """The first rule that allows it, those alone that need no second look before the others."""
    fitting = [
        Found(grant, subject, glob)
        for grant in grants
        for subject in question.subjects
        for glob in grant.allow.of(subject)
        if compile_globs((glob,)).fits(question.method if subject == "methods" else question.name)
    ]
    sure = (one for one in fitting if one.subject != "resources" or one.glob == "*")
    return next(sure, None) or (_find_normal(grants, question.name) if fitting else None)


def _find_normal(grants: list[Grant], uri: str) -> Found | None:
    """A pattern must allow the URI in its normal form, too."""
    if (normal := normalize(uri)) is not None:
        for grant in grants:
            for glob in grant.allow.resources:
                if compile_normal((glob,)).fits(normal):
                    return Found(grant, "resources", glob)
    return None


def _tell(found: Found, effect: str, question: Question) -> Explanation:
    grant, subject, glob = found
    what = f"the method {question.method}" if question.kind is None else f"the {question.kind} {question.name!r}"
    if question.kind is not None and question.method != USES[question.kind]:
        what = f"{question.method} of {what}"
    verb = {"allow": "allows", "deny": "denies"}[effect]
    return Explanation(
        is_allowed=effect == "allow",
        reason=f"{grant.key} {verb} {what}: {glob!r} stands in its `{effect}.{subject}`",
        rule=f"{grant.key}.{effect}.{subject}: {glob}",
        place=grant.place,
    )


def _explain_life(fitting: list[Grant], backend: str, method: str) -> Explanation:
    grant = next((one for one in fitting if not one.allow.is_empty), None)
    what = f"{method} belongs to the protocol itself" if method else "a session's own requests belong to the protocol"
    if grant is None:
        return Explanation(False, f"{what}, but no grant allows them anything at {backend}")
    return Explanation(True, f"{what}, and {grant.key} allows them something at {backend}", grant.key, grant.place)


def _explain_lack(fitting: list[Grant], backend: str) -> Explanation:
    keys = [grant.key for grant in fitting]
    if not keys:
        return Explanation(False, f"no grant is to them at {backend}, and what no grant allows is denied")
    named = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"
    are = "is the only grant" if len(keys) == 1 else "are the only grants"
    return Explanation(False, f"{named} {are} to them at {backend}, and what no grant allows is denied")
