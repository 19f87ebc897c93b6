"""What is told of exchanges and streams, and to whom: logs and metrics behind one port."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from gateway.policy.backends import Address
from gateway.policy.caches import CacheOutcome
from gateway.protocol.outcomes import Outcome


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
    cache: CacheOutcome | Literal[""] = ""  # what the cache had, where it was asked


class StreamTurn(StrEnum):
    """What may happen to a resumable stream besides reaching its end."""

    TAKEN_OVER = "taken_over"  # this worker goes on with another's
    FENCED = "fenced"  # another worker goes on with ours
    RELEASED = "released"  # given up for whoever follows it: we drain, or it was an orphan too many
    LOSS_REPORTED = "loss_reported"  # a client was told that events are gone
    NOT_KEPT = "not_kept"  # the log was away or full when it began: it lasts as long as its connections
    CUT_SHORT = "cut_short"  # the backend couldn't resume it: its request got an error
    RUN_AGAIN = "run_again"  # the same, but its request was sent once more
    BROKEN = "broken"  # by a bug of ours: its request got an error
    ORPHAN_GIVEN_UP = "orphan_given_up"  # more clients than the bound had left: released, or ended with an error
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

    def calls_counted(self, *, followed: int, orphans: int) -> None:
        """So many calls with a log does this worker read, by whether a client follows them here."""

    def session_healed(self, backend: str) -> None:
        """A session that its backend forgot was begun anew."""

    def hub_opened(self, backend: str) -> Callable[[], None]:
        """One more stream from that backend that listeners share; call the result when it closed."""

    def cache_asked(self, backend: str, outcome: CacheOutcome) -> None:
        """What the cache had, for one question to that backend."""

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        """So much is kept from now on."""

    def member_left_out(self, aggregate: str, backend: str, reason: str, detail: str) -> None:
        """An aggregate answered without that backend, and why."""

    def names_collided(self, aggregate: str, kind: str, names: Sequence[str]) -> None:
        """These names are had by two members of an aggregate: each is shown under its prefix."""

    def limited(self, limit: str) -> None:
        """A request was refused because its caller has reached that limit."""

    def limits_apart(self, are_apart: bool) -> None:
        """Whether this worker holds limits by its own share, because their common memory is away; told when that changes."""

    def exception(self, record: Record, error: BaseException) -> None:
        """A bug of ours: logged with its trace, never shown to a client."""
