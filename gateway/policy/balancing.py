"""Which endpoint gets the next call, and when one is given a rest.

Passive ejection: so many failures in a row and an endpoint rests; each further failure after a rest doubles the next;
when the rest is over, one call at a time may try it (half-open), and one success makes it whole. Pure: `now` is given
(seconds of any steady clock), and whoever holds the states replaces them by what these functions return.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from gateway.policy.backends import Ejection
from gateway.protocol.outcomes import COUNTS_AGAINST_ENDPOINT, Outcome


class State(StrEnum):
    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBING = "probing"  # the rest is over, and nothing has shown yet how it is


class Health(msgspec.Struct, frozen=True, gc=False):
    """How one endpoint did lately."""

    failures: int = 0  # in a row
    rests: int = 0  # in a row
    rested_at: float | None = None  # when the rest is, or was, over; None: it is not ejected
    trying_until: float = 0.0  # a call is under way that will show how it is; until then no other tries
    is_down: bool = False  # the active check says so


class Standing(msgspec.Struct, gc=False):
    """What is known of one endpoint now."""

    outstanding: int = 0
    health: Health = Health()


WELL: Final = Health()

TRIAL_SECONDS: Final = 10.0
"""How long a trial keeps others out: one that turns into a stream may last for hours, and shows nothing before its end."""

PROOFS_OF_LIFE: Final = frozenset(
    {
        Outcome.OK,
        Outcome.RPC_ERROR,
        Outcome.TOOL_ERROR,
        Outcome.BACKEND_REFUSED,
        Outcome.BACKEND_UNAUTHORIZED,
        Outcome.NONSENSE,
    }
)
"""The backend answered, whatever it said. All other outcomes, such as a client that left, show nothing."""


def state_of(health: Health, now: float) -> State:
    """How the endpoint is to be called in reports."""
    if health.is_down:
        return State.EJECTED
    if health.rested_at is None:
        return State.HEALTHY
    return State.EJECTED if now < health.rested_at else State.PROBING


def is_available(health: Health, now: float) -> bool:
    """Whether it may be given a call: it is well, or it has rested and nobody is trying it yet."""
    if health is WELL:
        return True
    if health.is_down:
        return False
    return health.rested_at is None or (now >= health.rested_at and now >= health.trying_until)


def choose(standings: Sequence[Standing], turn: int, now: float) -> int | None:
    """The index of the available one with the fewest calls outstanding; among equals, each in its `turn`.

    Where none is available, all are: a bad endpoint is better than none. None where there are none at all.
    """
    indices = [i for i, standing in enumerate(standings) if is_available(standing.health, now)] or range(len(standings))
    if not indices:
        return None
    fewest = min(standings[i].outstanding for i in indices)
    equals = [i for i in indices if standings[i].outstanding == fewest]
    return equals[turn % len(equals)]


def begin(health: Health, now: float) -> Health:
    """A call is about to be made: on an ejected endpoint it is the one that tries it."""
    if health.rested_at is None or now < health.rested_at or now < health.trying_until:
        return health
    return msgspec.structs.replace(health, trying_until=now + TRIAL_SECONDS)


def finish(health: Health, outcome: Outcome, rule: Ejection, has_others: bool, now: float) -> Health:
    """A call has ended. `has_others`: whether another endpoint is available; the last one is never ejected."""
    if outcome in COUNTS_AGAINST_ENDPOINT:
        return _fail(health, rule, has_others, now)
    if outcome in PROOFS_OF_LIFE:
        return Health(is_down=True) if health.is_down else WELL
    return msgspec.structs.replace(health, trying_until=0.0) if health.trying_until else health


def check(health: Health, is_down: bool) -> Health:
    """What an active check showed. One that went well ends a rest too."""
    return msgspec.structs.replace(health, is_down=True) if is_down else WELL


def _fail(health: Health, rule: Ejection, has_others: bool, now: float) -> Health:
    failures = health.failures + 1
    if (
        health.rested_at is not None and now < health.rested_at
    ):  # of a call begun before the rest: it told us nothing new
        return msgspec.structs.replace(health, failures=failures)
    if failures < rule.failures or not has_others:
        return msgspec.structs.replace(health, failures=failures, rested_at=None, trying_until=0.0)
    rest_seconds = min(rule.rest_seconds * 2.0 ** min(health.rests, 32), rule.max_rest_seconds)
    return Health(failures, health.rests + 1, now + rest_seconds, is_down=health.is_down)
