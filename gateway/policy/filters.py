"""Lists as one who calls may see them. A list that is filtered is theirs alone: it leaves as private (design §10)."""

from gateway.policy.permits import Permit
from gateway.protocol.catalogues import Kind, keep_items


def filter_result(kind: Kind, result: bytes, permit: Permit) -> bytes:
    """A backend's list result without the items that may not be seen; unchanged where all lists of the kind may be.

    Raises `results.Malformed` for one that is no list.
    """
    if permit.shows_all(kind):
        return result
    return keep_items(kind, result, lambda name: permit.may_see(kind, name))
