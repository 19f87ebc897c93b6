"""A circuit breaker: whether to ask a store that lately didn't answer. Pure; `now` is given.

Closed: everybody may ask. Open: nobody may, until a rest is over. Probing: one question is under way that will show how
it is; nobody else asks until it has. The probe is not a client's request, so that no client waits for it.
"""

from enum import StrEnum
from typing import Final

import msgspec

FIRST_REST_SECONDS: Final = 0.1
MAX_REST_SECONDS: Final = 1.0
"""Rests double up to this: a store that comes back is noticed within a second."""


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker(msgspec.Struct, frozen=True, gc=False):
    circuit: Circuit = Circuit.CLOSED
    rest_seconds: float = 0.0
    probe_at: float = 0.0  # when the rest is over
    failed_at: float = 0.0  # when it opened


CLOSED: Final = Breaker()


def is_open(breaker: Breaker) -> bool:
    """Whether nobody may ask: one who would is told at once that the store is away."""
    return breaker.circuit is not Circuit.CLOSED


def fail(breaker: Breaker, now: float) -> Breaker:
    """A question got no answer. One is enough: the next would wait for as long."""
    match breaker.circuit:
        case Circuit.CLOSED:
            return Breaker(Circuit.OPEN, FIRST_REST_SECONDS, now + FIRST_REST_SECONDS, now)
        case Circuit.OPEN:  # asked before it opened: told us nothing new
            return breaker
        case Circuit.PROBING:
            rest_seconds = min(breaker.rest_seconds * 2, MAX_REST_SECONDS)
            return Breaker(Circuit.OPEN, rest_seconds, now + rest_seconds, breaker.failed_at)


def probe(breaker: Breaker, now: float) -> Breaker:
    """The rest is over, if it is: the one who gets a breaker that is probing must ask, and tell what came of it."""
    if breaker.circuit is Circuit.OPEN and now >= breaker.probe_at:
        return msgspec.structs.replace(breaker, circuit=Circuit.PROBING)
    return breaker


def succeed(breaker: Breaker) -> Breaker:
    """A question was answered, whatever the answer."""
    return CLOSED
