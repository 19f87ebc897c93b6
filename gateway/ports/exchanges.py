"""What one exchange needs: the client who called, the backend's answer, and what is known of both."""

from collections.abc import Collection
from typing import Protocol

import msgspec

from gateway.policy.backends import Address, Backend, Endpoint, Timeouts
from gateway.protocol.outcomes import Outcome
from gateway.protocol.versions import Era

Headers = list[tuple[bytes, bytes]]


class Inbound(msgspec.Struct, frozen=True):
    """The head of one downstream HTTP request."""

    method: str
    path: str  # percent-encoded, as in the request line, without the query
    query: bytes
    headers: Headers
    peer: str  # the IP address that connected, "" where there is none
    scheme: str


class ClientLeft(Exception):
    """The client closed its connection; there is nobody left to tell."""


class Client(Protocol):
    """The one who called: read its body, answer it once, with a whole reply or with a stream."""

    @property
    def started(self) -> bool:
        """Whether a reply has begun: from then on an error can only be an event."""

    @property
    def left(self) -> bool:
        """Whether the client is known to have left."""

    async def read_body(self, limit_bytes: int, within_seconds: float) -> bytes:
        """The whole body. Raises `Rejected` (TOO_LARGE, BODY_TIMEOUT) or `ClientLeft`."""

    def cut_on_leave(self) -> None:
        """From now on the exchange's task is cancelled as soon as the client leaves. Call it at most once."""

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole reply in one go; sets content-length."""

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        """The head of a streamed reply. `until_close`: its end is the connection's, where the shell can do that."""

    async def write(self, data: bytes) -> None:
        """A part of a streamed reply; waits while the client is slow. Raises `ClientLeft`."""

    async def end(self) -> None:
        """The end of a streamed reply."""


class Answer(Protocol):
    """What the backend sent back: the head at once, the body as it comes.

    Whoever has an answer must `close()` it (in a `finally`): a body not read to its end costs the connection, which is
    how an upstream call is cancelled.
    """

    status: int
    headers: Headers

    @property
    def body(self) -> bytes | None:
        """The whole body, where it came together with the head; None otherwise. Costs nothing to ask."""

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises `Failed`: NONSENSE beyond the limit, BROKEN when cut, TIMED_OUT."""

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        """The next piece of the body, of any size; b"" at its end; None where nothing came in time (ask again).

        Reading is what keeps the backend going: pieces not asked for are bounded, then the backend has to wait.
        Raises `Failed` as `read` does.
        """

    def close(self) -> None:
        """Gives the connection back, or drops it when the body wasn't read to its end. Harmless when repeated."""


class Upstream(Protocol):
    """Calls backends. One method, because one job."""

    async def send(
        self, backend: Backend, endpoint: Endpoint, method: bytes, headers: Headers, body: bytes, timeouts: Timeouts
    ) -> Answer:
        """Sends the request and waits for the answer's head, as long as `timeouts` allow: they bind the whole answer.

        `headers` are end-to-end headers; the client adds `host`, `content-length`, `connection` and nothing else.
        Raises `Failed`: UNREACHABLE (no byte was sent), BROKEN, TIMED_OUT, NONSENSE (not HTTP), OVERLOADED.
        A stale pooled connection is replaced without the caller knowing, only if no byte of the answer arrived and no
        byte of the request can have been read by the backend.
        """


class Endpoints(Protocol):
    """Which endpoints a backend has now, and how they are."""

    def pick(self, backend: Backend, but_not: Collection[Address] = ()) -> Endpoint:
        """The least loaded healthy endpoint, of those not named.

        Raises `Failed` (UNREACHABLE) where there is none at all, e.g. before DNS answered.
        """

    def find(self, backend: Backend, address: Address) -> Endpoint | None:
        """The endpoint of that address while it is still configured or resolved, healthy or not."""

    def begin(self, endpoint: Endpoint) -> None:
        """One more call is outstanding at this endpoint."""

    def finish(self, endpoint: Endpoint, outcome: Outcome) -> None:
        """A call that `begin` announced has ended; the outcome feeds passive ejection."""


class Seals(Protocol):
    """Seals what a client holds for us. Any replica with the same keys opens it."""

    def seal(self, plain: bytes, purpose: bytes) -> str:
        """base64url without padding, opaque, of visible ASCII."""

    def open(self, token: str, purpose: bytes) -> bytes | None:
        """What was sealed for that purpose, or None for anything else whatsoever."""


class Eras(Protocol):
    """Which eras a backend is known to speak."""

    def speaks(self, backend: Backend, era: Era) -> bool | None:
        """True or False where it is known (configured, probed, or seen), None where it isn't."""

    def observe(self, backend: Backend, era: Era, spoken: bool) -> None:
        """An answer showed that the backend speaks an era, or let doubt that it does: a contradiction starts a new probe."""
