"""What a worker remembers of sessions that were healed. How they are: `healings`."""

from collections import OrderedDict
from typing import Final

from gateway.policy.streams import SessionDigest
from gateway.ports import Healings
from gateway.protocol.sessions import Session

KEPT: Final = 10_000
"""Beyond: the oldest are looked up once more."""


class Healer:
    """What this worker knows of healed sessions."""

    def __init__(self, healings: Healings) -> None:
        self.healings = healings
        self._known: OrderedDict[SessionDigest, tuple[bytes, Session]] = OrderedDict()

    def find(self, digest: SessionDigest) -> tuple[bytes, Session] | None:
        """What stands in for the session, sealed and open; None where it isn't known to have been healed."""
        return self._known.get(digest)

    def remember(self, digest: SessionDigest, sealed: bytes, session: Session) -> None:
        """From now on that stands in for it."""
        self._known[digest] = (sealed, session)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
