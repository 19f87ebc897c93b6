"""One upstream call under way: the answer, and the endpoint that it burdens. Ended exactly once, by whoever holds it."""

from gateway.policy.backends import Backend, Endpoint, Timeouts
from gateway.ports import Answer, Endpoints, Headers, Upstream
from gateway.protocol.outcomes import Failed, Outcome


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

    def pass_on(self, answer: Answer | None = None) -> "Call":
        """The same call for another holder, who ends it from now on. `answer`: as that one is to see it."""
        self._is_mine = False
        return Call(answer or self.answer, self.endpoint, self._endpoints)


async def open_call(
    upstream: Upstream,
    endpoints: Endpoints,
    backend: Backend,
    endpoint: Endpoint,
    method: bytes,
    headers: Headers,
    body: bytes,
    timeouts: Timeouts,
) -> Call:
    """One request to one endpoint, and the head of its answer. Raises `Failed`; the endpoint is eased either way."""
    endpoints.begin(endpoint)
    try:
        answer = await upstream.send(backend, endpoint, method, headers, body, timeouts)
    except Failed as failure:
        endpoints.finish(endpoint, failure.outcome)
        raise
    except BaseException:
        endpoints.finish(endpoint, Outcome.CLIENT_LEFT)
        raise
    return Call(answer, endpoint, endpoints)
