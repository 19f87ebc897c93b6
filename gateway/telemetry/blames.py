"""Whose fault an outcome is, as far as an operator cares: the client's and nobody's are alike to them."""

from typing import Final

from gateway.protocol.outcomes import Outcome

UPSTREAM_FAILURES: Final = frozenset(
    {
        Outcome.UNREACHABLE,
        Outcome.BROKEN,
        Outcome.TIMED_OUT,
        Outcome.NONSENSE,
        Outcome.BACKEND_FAILED,
        Outcome.BACKEND_UNAUTHORIZED,
        Outcome.OVERLOADED,
    }
)
"""Outcomes for which a backend, or the way to it, is to blame."""
