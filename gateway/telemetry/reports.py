"""The port `Telemetry`: whatever happens is counted in the metrics and told in the logs.

Times in a record are seconds of `clock`. `time.monotonic` fits asyncio's loop and uvloop's; only, uvloop's own
`loop.time()` moves in whole milliseconds, which is too coarse for the gateway's share of a call.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

from gateway.policy.backends import Address
from gateway.policy.caches import CacheOutcome
from gateway.ports import Record, StreamTurn
from gateway.telemetry.logs import Level, Logs
from gateway.telemetry.metrics import Metrics

SHOWN_NAMES: Final = 20
"""Of names that collided, in one line of the log."""


class Telemetry:
    """Tells of exchanges, and of what else an operator should know."""

    def __init__(self, logs: Logs, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._logs = logs
        self._metrics = metrics
        self._clock = clock
        self.tells_steps = logs.debugging
        self._collided: dict[tuple[str, str], tuple[str, ...]] = {}

    def begin(self, record: Record) -> None:
        """An exchange is in flight, at the record's mount."""
        self._metrics.begin(record)

    def finish(self, record: Record) -> None:
        """It ended, just now: one log line, a few metrics."""
        ended = self._clock()
        self._metrics.finish(record, ended)
        self._logs.tell_exchange(record, ended)

    def step(self, record: Record, step: str, **facts: object) -> None:
        """One step of the way, for `--log-level debug`. Header lists are shown redacted, bytes only counted."""
        if self._logs.debugging:
            self._logs.tell_step(record, step, facts)

    def stream_opened(self, record: Record, kind: str) -> Callable[[], None]:
        """One more open stream of that kind (`post`, `get`, `listen`); call the result when it closed."""
        return self._metrics.open_stream(kind)

    def exception(self, record: Record, error: BaseException) -> None:
        """A bug of ours: logged with its trace, never shown to a client."""
        self._logs.tell_bug(record, error)

    def stream_events(self, done: Literal["appended", "replayed"], events: int) -> None:
        """So many events of resumable streams were written to the log, or read from it for a client."""
        self._metrics.count_stream_events(done, events)

    def stream_turned(self, turn: StreamTurn, detail: str = "") -> None:
        """A resumable stream took a turn that an operator should know of."""
        self._metrics.count_stream_turn(turn)
        self._logs.tell("info", "stream turned", turn=turn.value, detail=detail)

    def calls_counted(self, *, followed: int, orphans: int) -> None:
        """So many calls with a log does this worker read, by whether a client follows them here."""
        self._metrics.show_durable_calls(followed, orphans)

    def session_healed(self, backend: str) -> None:
        """A session that its backend forgot was begun anew."""
        self._metrics.count_healing(backend)
        self._logs.tell("info", "session healed", backend=backend)

    def hub_opened(self, backend: str) -> Callable[[], None]:
        """One more stream from that backend that listeners share; call the result when it closed."""
        return self._metrics.open_hub(backend)

    def cache_asked(self, backend: str, outcome: CacheOutcome) -> None:
        """What the cache had, for one question to that backend."""
        self._metrics.count_cache(backend, outcome)

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        """So much is kept from now on."""
        self._metrics.show_cache(entries, size_bytes)

    def member_left_out(self, aggregate: str, backend: str, reason: str, detail: str) -> None:
        """An aggregate answered without that backend, and why."""
        self._metrics.count_left_out(aggregate, backend, reason)
        self._logs.tell(
            "warning", "member left out", aggregate=aggregate, backend=backend, reason=reason, detail=detail
        )

    def names_collided(self, aggregate: str, kind: str, names: Sequence[str]) -> None:
        """These names are had by two members of an aggregate: each is shown under its prefix. Logged when that is news."""
        self._metrics.count_collisions(aggregate, kind, len(names))
        if self._collided.get((aggregate, kind)) != tuple(names):
            self._collided[aggregate, kind] = tuple(names)
            shown = list(names[:SHOWN_NAMES])
            self._logs.tell("warning", "names collided", aggregate=aggregate, kind=kind, count=len(names), names=shown)

    def limited(self, limit: str) -> None:
        """A request was refused because its caller has reached that limit."""
        self._metrics.count_limited(limit)

    def limits_apart(self, are_apart: bool) -> None:
        """Whether this worker holds limits by its own share from now on."""
        self._metrics.show_limits_apart(are_apart)
        if are_apart:
            self._logs.tell("warning", "limits apart: redis is away, each worker holds its own share of them")
        else:
            self._logs.tell("info", "limits shared again")

    def asked(self, command: str, seconds: float) -> None:
        """Redis answered a command, or a script of that name."""
        self._metrics.observe_redis(command, seconds)

    def failed(self, command: str, trouble: str) -> None:
        """Redis did not answer it, or refused."""
        self._metrics.count_redis_failure(command, str(trouble))

    def degraded(self, node: str, trouble: str, detail: str) -> None:
        """From now on this Redis can't do all that it should."""
        self._metrics.show_redis_degraded(node, str(trouble))
        self._logs.tell("warning", "redis degraded", node=node, trouble=str(trouble), detail=detail)

    def restored(self, node: str, trouble: str, seconds: float) -> None:
        """That is over, after so long."""
        self._metrics.add_redis_degraded(node, str(trouble), seconds)
        self._logs.tell("info", "redis restored", node=node, trouble=str(trouble), seconds=round(seconds, 3))

    def endpoint_ejected(self, backend: str, address: Address) -> None:
        """An endpoint failed so often that it rests for a while."""
        self._metrics.count_ejection(backend)
        self._logs.tell("warning", "endpoint ejected", backend=backend, endpoint=address)

    def endpoint_restored(self, backend: str, address: Address) -> None:
        """An ejected endpoint answered again."""
        self._logs.tell("info", "endpoint restored", backend=backend, endpoint=address)

    def endpoints_counted(self, backend: str, *, healthy: int, ejected: int) -> None:
        """How many endpoints a backend has now; call it on every change, with zeros for a removed backend."""
        self._metrics.show_endpoints(backend, healthy, ejected)

    def audit_lines(self, result: Literal["written", "lost"], lines: int) -> None:
        """So many lines of the audit log were written, or weren't."""
        self._metrics.count_audit_lines(result, lines)

    def audit_troubled(self, detail: str) -> None:
        """From now on the audit log can't be written, for this reason; or, where there is none, it can again."""
        if detail:
            self._logs.tell("error", "audit log can't be written", detail=detail)
        else:
            self._logs.tell("info", "audit log is written again")

    def era_found(self, backend: str, era: str, spoken: bool) -> None:
        """A probe, or an answer, showed whether a backend speaks an era."""
        self._logs.tell("info", "era found", backend=backend, era=era, spoken=spoken)

    def configuration_applied(self, digest: str, *, changed: bool = True) -> None:
        """The configuration with that digest runs from now on; `changed` is False for the one at the start."""
        self._metrics.show_configuration(digest)
        if changed:
            self._metrics.count_reload("applied")
        self._logs.tell("info", "configuration applied", digest=digest)

    def configuration_refused(self, problems: Sequence[str]) -> None:
        """A changed configuration is invalid; the one before goes on."""
        self._metrics.count_reload("refused")
        self._logs.tell("error", "configuration refused, the one before goes on", problems=list(problems))

    def change_log_level(self, level: Level) -> None:
        """From now on lines below this level are left out."""
        self._logs.change_level(level)
        self.tells_steps = self._logs.debugging

    def worker_started(self, worker: str) -> None:
        """This worker serves from now on."""
        self._logs.tell("info", "worker started", worker=worker)

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """The page of metrics for a scraper that sent this `Accept`, and its content type."""
        return self._metrics.render(accept)
