"""Every number that the gateway publishes: names, labels, buckets, and how they add up over the workers of a replica.

Names and labels follow OpenTelemetry's semantic conventions for MCP, in Prometheus spelling
(https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/). Every label has a bounded set of values: whoever calls can't
make new series by calling oddly.

One worker keeps its numbers in memory. Several share them in the files of `PROMETHEUS_MULTIPROC_DIR`, a variable of
prometheus-client's own that `serve` sets before that library is first imported; any worker then answers for all.
"""

import os
import platform
import time
from collections.abc import Callable
from typing import Literal

from prometheus_client import ProcessCollector, disable_created_metrics

from gateway.policy.caches import CacheOutcome
from gateway.ports import Record, StreamTurn
from gateway.telemetry.blames import UPSTREAM_FAILURES
from gateway.telemetry.labels import ToolNames, name_method
from gateway.telemetry.pages import CONFIGURATION, render_page
from gateway.telemetry.series import Definitions


class Metrics(Definitions):
    """The numbers of this worker, and the page that shows those of the whole replica."""

    def __init__(self, version: str = "unknown") -> None:
        # `_created` adds a series for each series, and Prometheus needs none of them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        super().__init__()
        self._shared_folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._tools = ToolNames()
        self._digest = ""
        self._define_exchanges()
        self._define_backends()
        self._define_limits()
        self._define_aggregates()
        self._define_caches()
        self._define_streams()
        self._define_replica(version)

    def _define_exchanges(self) -> None:
        operation = ("mcp_method_name", "mount", "era", "outcome")
        self._waited = self._histograms(
            "mcp_server_operation_duration_seconds", "What the client waited for the end of the reply.", operation
        )
        self._took = self._histograms(
            "mcp_client_operation_duration_seconds",
            "What the backend took, from the request leaving to the answer's last byte.",
            (*operation, "backend"),
        )
        self._tool_calls = self._counters(
            "mcp_gateway_tool_calls", "Tool calls that reached a backend.", ("backend", "tool", "outcome")
        )
        self._received = self._counters("mcp_gateway_received_bytes", "Bodies from clients.", ("mount",))
        self._sent = self._counters("mcp_gateway_sent_bytes", "Bodies to clients.", ("mount",))
        self._in_flight = self._gauges("mcp_gateway_in_flight_exchanges", "Exchanges that have not ended.", ("mount",))
        self._streams = self._gauges("mcp_gateway_open_streams", "Open SSE streams to clients.", ("kind",))

    def _define_backends(self) -> None:
        self._failures = self._counters(
            "mcp_gateway_upstream_failures", "Exchanges that failed by the backend's fault.", ("backend", "outcome")
        )
        self._ejections = self._counters("mcp_gateway_ejections", "Times an endpoint was ejected.", ("backend",))
        self._endpoints = self._gauges(
            "mcp_gateway_endpoints",
            "Endpoints in that state, as the worker that has most of them sees it.",
            ("backend", "state"),
            "livemax",
        )

    def _define_limits(self) -> None:
        self._limited = self._counters(
            "mcp_gateway_limited_requests", "Requests refused because their caller had reached that limit.", ("limit",)
        )
        self._limits_apart = self._gauge(
            "mcp_gateway_limits_apart",
            "1 while a worker holds limits by its own share, because Redis is away.",
            "livemax",
        )
        self._limits_apart.set(0)

    def _define_aggregates(self) -> None:
        self._left_out = self._counters(
            "mcp_gateway_left_out_members",
            "Answers of an aggregate that were made without one of its backends.",
            ("aggregate", "backend", "reason"),
        )
        self._collisions = self._counters(
            "mcp_gateway_name_collisions",
            "Names in lists of an aggregate that two backends have.",
            ("aggregate", "kind"),
        )

    def _define_caches(self) -> None:
        self._cache_questions = self._counters(
            "mcp_gateway_cache_questions",
            "Discoveries and lists that could be answered from the cache, by what it had.",
            ("backend", "outcome"),
        )
        self._hubs = self._gauges(
            "mcp_gateway_shared_listens", "Streams from backends that their listeners share.", ("backend",)
        )
        self._cache_entries = self._gauge("mcp_gateway_cache_entries", "Answers that are kept.", "livesum")
        self._cache_bytes = self._gauge("mcp_gateway_cache_bytes", "What they take, about.", "livesum")

    def _define_streams(self) -> None:
        self._stream_events = self._counters(
            "mcp_gateway_stream_events", "Events of resumable streams, by what was done with them.", ("done",)
        )
        self._stream_turns = self._counters(
            "mcp_gateway_stream_turns", "Resumable streams that took another way than to their end.", ("turn",)
        )
        self._durable_calls = self._gauges(
            "mcp_gateway_durable_calls",
            "Calls with a log that are read from their backends, by whether the reading worker has a client for them.",
            ("state",),
        )
        self.show_durable_calls(0, 0)
        for turn in StreamTurn:
            self._stream_turns[(turn,)].inc(0)
        self._healings = self._counters(
            "mcp_gateway_healed_sessions", "Sessions that their backend forgot, and that were begun anew.", ("backend",)
        )
        self._redis_seconds = self._histograms(
            "mcp_gateway_redis_duration_seconds", "What Redis took to answer.", ("command",)
        )
        self._redis_failures = self._counters(
            "mcp_gateway_redis_failures", "Commands that Redis did not answer, or refused.", ("command", "trouble")
        )
        self._redis_degraded = self._counters(
            "mcp_gateway_redis_degraded_seconds",
            "How long Redis could not do all that it should; told when it is over.",
            ("node", "trouble"),
        )
        self._redis_troubles = self._gauges(
            "mcp_gateway_redis_degraded",
            "1 while a worker finds that Redis can't do all that it should.",
            ("node", "trouble"),
            "livemax",
        )

    def _define_replica(self, version: str) -> None:
        self._configurations = self._gauges(CONFIGURATION, "1 for the configuration that runs.", ("digest",), "livemax")
        self._reloads = self._counters(
            "mcp_gateway_configuration_reloads", "Changed configurations, by what became of them.", ("result",)
        )
        for result in ("applied", "refused"):
            self._reloads[(result,)].inc(0)
        self._audit_lines = self._counters(
            "mcp_gateway_audit_lines", "Lines of the audit log, by what became of them.", ("result",)
        )
        builds = self._gauges("mcp_gateway_build_info", "What runs.", ("version", "python"), "livemax")
        builds[version, platform.python_version()].set(1)
        self._gauge("mcp_gateway_workers", "Workers that run.", "livesum").set(1)
        self._gauge("mcp_gateway_start_time_seconds", "When the oldest worker started.", "livemin").set(time.time())
        if not self._shared_folder:  # with several workers it would tell of the one that happens to answer
            ProcessCollector(registry=self._registry)

    def begin(self, record: Record) -> None:
        """One more exchange in flight, at the mount that the record names: it keeps to it."""
        self._in_flight[(record.mount,)].inc()

    def finish(self, record: Record, ended: float) -> None:
        """Counts the exchange, which ended at `ended` (of the clock of the record's other times)."""
        self._in_flight[(record.mount,)].dec()
        mount, era, outcome = record.mount, record.era, record.outcome
        method = name_method(record)
        self._waited[method, mount, era, outcome].observe(max(0.0, ended - record.started))
        if record.bytes_in:
            self._received[(mount,)].inc(record.bytes_in)
        if record.bytes_out:
            self._sent[(mount,)].inc(record.bytes_out)
        if record.forwarded:
            took = (record.upstream_ended or ended) - record.forwarded
            self._took[method, mount, era, outcome, record.backend].observe(max(0.0, took))
            if method == "tools/call":
                self._tool_calls[record.backend, self._tools.name(record), outcome].inc()
        if record.backend and outcome in UPSTREAM_FAILURES:
            self._failures[record.backend, outcome].inc()

    def open_stream(self, kind: str) -> Callable[[], None]:
        """One more open stream; the result, called once or more, takes it off again."""
        gauge = self._streams[(kind,)]
        gauge.inc()
        still_open = [gauge]
        return lambda: still_open.pop().dec() if still_open else None

    def count_stream_events(self, done: Literal["appended", "replayed"], events: int) -> None:
        """So many events of resumable streams were written to the log, or read from it for a client."""
        self._stream_events[(done,)].inc(events)

    def count_stream_turn(self, turn: StreamTurn) -> None:
        """A resumable stream took that turn."""
        self._stream_turns[(turn,)].inc()

    def show_durable_calls(self, followed: int, orphans: int) -> None:
        """So many calls with a log does this worker read now, by whether a client follows them here."""
        self._durable_calls[("followed",)].set(followed)
        self._durable_calls[("orphan",)].set(orphans)

    def count_healing(self, backend: str) -> None:
        """A session that its backend forgot was begun anew."""
        self._healings[(backend,)].inc()

    def count_left_out(self, aggregate: str, backend: str, reason: str) -> None:
        """An aggregate answered without that backend."""
        self._left_out[aggregate, backend, reason].inc()

    def count_collisions(self, aggregate: str, kind: str, names: int) -> None:
        """So many names of one list are had by two backends."""
        self._collisions[aggregate, kind].inc(names)

    def count_limited(self, limit: str) -> None:
        """A request was refused because of that limit."""
        self._limited[(limit,)].inc()

    def show_limits_apart(self, are_apart: bool) -> None:
        """Whether this worker holds limits by its own share."""
        self._limits_apart.set(are_apart)

    def open_hub(self, backend: str) -> Callable[[], None]:
        """One more stream from that backend that listeners share; the result, called once, takes it off again."""
        gauge = self._hubs[(backend,)]
        gauge.inc()
        return gauge.dec

    def count_cache(self, backend: str, outcome: CacheOutcome) -> None:
        """What the cache had for a question to that backend."""
        self._cache_questions[backend, outcome].inc()

    def show_cache(self, entries: int, size_bytes: int) -> None:
        """So much is kept from now on."""
        self._cache_entries.set(entries)
        self._cache_bytes.set(size_bytes)

    def observe_redis(self, command: str, seconds: float) -> None:
        """Redis answered."""
        self._redis_seconds[(command,)].observe(seconds)

    def count_redis_failure(self, command: str, trouble: str) -> None:
        """Redis didn't, or refused."""
        self._redis_failures[command, trouble].inc()

    def show_redis_degraded(self, node: str, trouble: str) -> None:
        """From now on a node can't do all that it should."""
        self._redis_troubles[node, trouble].set(1)

    def add_redis_degraded(self, node: str, trouble: str, seconds: float) -> None:
        """A node could not do all that it should for so long, and can again."""
        self._redis_troubles[node, trouble].set(0)
        self._redis_degraded[node, trouble].inc(seconds)

    def count_ejection(self, backend: str) -> None:
        """One of the backend's endpoints was ejected."""
        self._ejections[(backend,)].inc()

    def show_endpoints(self, backend: str, healthy: int, ejected: int) -> None:
        """How many endpoints the backend has now, by state; both 0 for a backend that was removed."""
        self._endpoints[backend, "healthy"].set(healthy)
        self._endpoints[backend, "ejected"].set(ejected)

    def show_configuration(self, digest: str) -> None:
        """The configuration with that digest runs from now on."""
        if self._digest:
            self._configurations[(self._digest,)].set(0)
        self._configurations[(digest,)].set(1)
        self._digest = digest

    def count_reload(self, result: Literal["applied", "refused"]) -> None:
        """A changed configuration was taken, or wasn't."""
        self._reloads[(result,)].inc()

    def count_audit_lines(self, result: Literal["written", "lost"], lines: int) -> None:
        """So many lines of the audit log were written, or weren't."""
        self._audit_lines[(result,)].inc(lines)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page for a scraper that sent this `Accept`, and its content type: OpenMetrics where asked for."""
        return render_page(self._shared_folder or self._registry, accept)
