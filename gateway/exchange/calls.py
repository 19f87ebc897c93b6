"""One upstream call under way: the answer, and the endpoint that it burdens. Ended exactly once, by whoever holds it."""

from gateway.policy.backends import Endpoint
from gateway.ports import Answer, Endpoints
from gateway.protocol.outcomes import Outcome


class Call:
    """`end()` gives the connection back (or drops it, where the answer wasn't read to its end) and eases the endpoint."""

    __slots__ = ("_endpoints", "_is_mine", "answer", "endpoint")

    def __init__(self, answer: Answer, endpoint: Endpoint, endpoints: Endpoints) -> None:
        self.answer = answer
        self.endpoint = endpoint
        self._endpoints = endpoints
        self._is_mine = True

    def end(self, outcome: Outcome) -> None:
        """Harmless when repeated, or after `pass_on`: the first outcome counts."""
        if self._is_mine:
            self._is_mine = False
            self.answer.close()
            self._endpoints.finish(self.endpoint, outcome)

    def pass_on(self) -> "Call":
        """The same call for another holder, who ends it from now on."""
        self._is_mine = False
        return Call(self.answer, self.endpoint, self._endpoints)
