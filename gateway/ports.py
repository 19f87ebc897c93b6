"""What the flow needs from the world, as Protocols. The shells implement them; the tests stand fakes at them.

Header lists are `list[tuple[bytes, bytes]]` with lower-case names, in the order of the wire. Times are seconds of
one monotonic clock, `time.monotonic` in production. Every method that waits is bounded by a time-out that its docstring names.
"""

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from gateway.policy.backends import Address, Backend, Endpoint, Timeouts
from gateway.policy.streams import (
    AppendResult,
    Facts,
    Hold,
    Owner,
    Reading,
    Refusal,
    SessionDigest,
    Sighting,
    Standing,
    State,
    Takeover,
)
from gateway.protocol.cursors import Cursor, StreamName
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


class Record(msgspec.Struct):
    """What is told of one exchange: the log line, the metrics. Filled in along the way by the flow."""

    request_id: str
    http_method: str
    path: str
    started: float
    mount: str = ""
    backend: str = ""
    era: str = ""
    method: str = ""  # the JSON-RPC method; of a batch, that of its first request
    name: str = ""  # tool, prompt or resource
    client_name: str = ""
    endpoint: Address = ""
    session: str = ""  # the first 8 characters of a digest: to find a session's lines, not to use the session
    status: int = 0
    outcome: Outcome = Outcome.INTERNAL
    detail: str = ""  # why, in a few words, where the outcome isn't `ok`
    bytes_in: int = 0
    bytes_out: int = 0
    events: int = 0
    forwarded: float = 0.0  # when the request left for the backend; 0: it never did
    answered: float = 0.0  # when the head of the answer came
    upstream_ended: float = 0.0  # when the answer's last byte came
    rpc_code: int = 0  # of the JSON-RPC error, if there was one


class StreamTurn(StrEnum):
    """What may happen to a resumable stream besides reaching its end."""

    TAKEN_OVER = "taken_over"  # this worker goes on with another's
    FENCED = "fenced"  # another worker goes on with ours
    RELEASED = "released"  # we drain, and gave it up
    LOSS_REPORTED = "loss_reported"  # a client was told that events are gone
    NOT_KEPT = "not_kept"  # the log was away or full when it began: it lasts as long as its connections
    BROKEN = "broken"  # by a bug of ours: its request got an error
    CLIENT_DETACHED = "client_detached"  # too slow: it resumes


class Telemetry(Protocol):
    """What is told, and to whom, is its own business."""

    def begin(self, record: Record) -> None:
        """An exchange is in flight, at the mount that the record names from the start."""

    def finish(self, record: Record) -> None:
        """It ended: one log line, a few metrics."""

    tells_steps: bool
    """Whether anybody listens to `step`: ask first, what is told costs more than the question."""

    def step(self, record: Record, step: str, **facts: object) -> None:
        """One step of the way, for `--log-level debug`."""

    def stream_opened(self, record: Record, kind: str) -> Callable[[], None]:
        """One more open stream of that kind (`post`, `get`, `listen`); call the result when it closed."""

    def stream_events(self, done: Literal["appended", "replayed"], events: int) -> None:
        """So many events of resumable streams were written to the log, or read from it for a client."""

    def stream_turned(self, turn: StreamTurn, detail: str = "") -> None:
        """A resumable stream took a turn that an operator should know of."""

    def session_healed(self, backend: str) -> None:
        """A session that its backend forgot was begun anew."""

    def exception(self, record: Record, error: BaseException) -> None:
        """A bug of ours: logged with its trace, never shown to a client."""


class EventLog(Protocol):
    """The events of resumable streams: dense, sealed, kept for a while, and written by one hold at a time.

    To ask anything again is harmless. Nothing waits longer than 250 ms for a log that doesn't answer: it raises `LogAway`.
    """

    async def create(
        self,
        hold: Hold,
        facts: Facts,
        events: Sequence[bytes],
        *,
        upstream_cursor: bytes = b"",
        is_final: bool = False,
        request: bytes = b"",
    ) -> AppendResult:
        """Begins a stream with these events, numbered from 1. OK, FENCED (the name is another's), FULL or AWAY; never raises."""

    async def append(
        self,
        hold: Hold,
        first_seq: int,
        events: Sequence[bytes],
        *,
        upstream_cursor: bytes = b"",
        is_final: bool = False,
        is_across_hole: bool = False,
    ) -> AppendResult:
        """Adds the events, the first of them as number `first_seq`: all of them or none; those that are there are skipped.

        `upstream_cursor`: the last id the backend gave; empty leaves the one from before. `is_final`: nothing comes behind
        them. `is_across_hole`: events between the head and `first_seq` are lost for good; those before them are dropped,
        so that no reader is led across. Never raises: every `Appended` is possible.
        """

    async def read(
        self, stream: StreamName, after: Cursor, limit_events: int = 512, limit_bytes: int = 1024 * 1024
    ) -> Reading | None:
        """What stands behind `after`, at least one entry where there is one; None where there is no such log."""

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        """Makes the stream ours, unless it has changed hands since `expected_epoch`. From then on older holds are FENCED."""

    async def release(self, hold: Hold) -> bool:
        """Gives the stream up, so that anybody may take it over at once. False: it isn't ours any more."""

    async def finish(self, hold: Hold, state: State = State.FINISHED) -> bool:
        """Ends the stream without a further event, FINISHED or LOST. False: it isn't ours any more, or has ended."""

    async def keep(self, streams: Collection[StreamName]) -> frozenset[StreamName]:
        """Puts off the end of streams that are still pumped or followed; those of them that are gone."""

    def wake(self, name: StreamName | SessionDigest, ring: Callable[[], None]) -> Callable[[], None]:
        """Calls `ring` when the stream, or the session, has something new. Hang it first, and read then. Undone by the result.
        It also rings when something may have been missed. Look every few seconds all the same.
        """


class Marks(Protocol):
    """What is known of a legacy session beside its streams, by all replicas. Raises `LogAway`, waits as `EventLog` does."""

    async def mark_ended(self, session: SessionDigest, request_id: bytes | None) -> None:
        """The request was cancelled (its id as JSON), or the whole session deleted (None). Wakes who waits for the session."""

    async def is_ended(self, session: SessionDigest, request_id: bytes | None) -> bool:
        """Whether the request was cancelled or its session deleted."""

    async def join(
        self, session: SessionDigest, candidate: StreamName, replacing: StreamName | None = None
    ) -> Standing:
        """The session's standalone stream: the one there is, else `candidate`; and a turn that ends all earlier ones.

        `replacing`: a stream that was found to be gone, instead of which the candidate is to stand. Wakes the session.
        """

    async def standing(self, session: SessionDigest) -> Standing | None:
        """Which one it is now."""

    async def deliver(self, session: SessionDigest, standing: Standing) -> bool:
        """Notes how far the client has had it. False: another has the turn."""

    async def keep_standing(self, sessions: Collection[SessionDigest]) -> None:
        """Puts off the end of what is known of these sessions' standalone streams."""

    async def leave(self, session: SessionDigest, stream: StreamName) -> None:
        """The session has no standalone stream any more, if that was it."""


class Remedy(msgspec.Struct, frozen=True):
    """What is known of a session that its backend forgot. `healed`: what stands in for it, sealed by the caller."""

    state: Literal["known", "mine", "busy"]  # `mine`: the caller is to heal it; `busy`: another worker is at it
    healed: bytes = b""


class Healings(Protocol):
    """Which sessions were healed, by all replicas, and who heals one now. Raises `LogAway`, waits as `EventLog` does."""

    async def begin(self, session: SessionDigest, failed: bytes, claim: str) -> Remedy:
        """What stands in for the session, other than what `failed`; else whose it is to find out."""

    async def end(self, session: SessionDigest, claim: str, healed: bytes) -> None:
        """What was found, for all; empty: nothing. Ignored where the claim has expired."""


class Heartbeats(Protocol):
    """Which workers live. Raises `LogAway`, waits as `EventLog` does."""

    async def beat(self, owner: Owner) -> None:
        """This worker lives, for another TTL."""

    async def look(self, owners: Collection[Owner]) -> Sighting:
        """Whose heartbeat is absent, as one server has it."""
