"""The keys that a configuration file may hold, their types and defaults: pydantic models, from which the published
JSON Schema is made too. What only several keys together can get wrong is told in `checks`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.policy.absences import HEARTBEAT_SECONDS
from gateway.policy.backends import Ejection, EraChoice, HealthCheck, Reexecute, Timeouts
from gateway.policy.drains import Drain
from gateway.policy.sites import Limits
from gateway.policy.streams import MAX_ORPHANS, MEMORY_BUDGET_BYTES
from gateway.settings import values
from gateway.settings.admissions import Auth
from gateway.settings.aggregates import AggregateShape
from gateway.settings.audits import AuditShape
from gateway.settings.caches import BackendCache, BackendCacheShape, CacheShape
from gateway.settings.fields import Duration, Flag, Shape, Size, Texts, TlsShape, Wait, duration_field, size_field
from gateway.settings.grants import GrantShape
from gateway.settings.limits import RatesShape
from gateway.settings.quantities import encode_size

Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(values.refuse_flags)]
HttpUrl = WithJsonSchema({"type": "string", "pattern": "^https?://"})
EndpointUrl = Annotated[str, AfterValidator(values.check_endpoint), HttpUrl]
Mount = Annotated[
    str,
    AfterValidator(values.check_mount),
    WithJsonSchema({"type": "string", "pattern": "^(none|(/[a-z0-9._~-]+)+/?)$"}),
]
Header = Annotated[str, AfterValidator(values.check_header_value)]
HeaderName = Annotated[str, AfterValidator(values.check_header_name)]
Network = Annotated[str, AfterValidator(values.check_network)]
Origin = Annotated[str, AfterValidator(values.check_origin)]
HostName = Annotated[str, AfterValidator(values.check_host_name)]
BackendName = Annotated[str, AfterValidator(values.check_backend_name)]
AggregateName = Annotated[str, AfterValidator(values.check_aggregate_name)]


class TimeoutsShape(Shape):
    """How long to wait for a backend."""

    connect: Duration = duration_field(Timeouts().connect_seconds, "To open a connection, TLS included.")
    idle: Duration = duration_field(Timeouts().idle_seconds, "Without a byte from the backend; progress resets it.")
    total: Duration = duration_field(Timeouts().total_seconds, "For a whole call; nothing resets it.")


class LimitsShape(RatesShape):
    """Bounds of what passes through, and of how much each caller may ask for."""

    body: Size = size_field(Limits().body_bytes, "A client's request body; beyond it 413.")
    answer: Size = size_field(Limits().answer_bytes, "One JSON answer of a backend.")
    event: Size = size_field(Limits().event_bytes, "One SSE event of a backend.")
    body_timeout: Duration = duration_field(Limits().body_seconds, "For a client to send its body; beyond it 408.")


class StreamsShape(Shape):
    """Streams that outlive their replica; of effect where `redis` names a Redis."""

    heartbeat: Annotated[Duration, AfterValidator(values.check_heartbeat)] = duration_field(
        HEARTBEAT_SECONDS,
        "How long a replica may be silent before others doubt it; its streams are taken over after as long again.",
    )
    budget: Size | None = Field(
        default=None,
        description="How much memory all Redis servers together may use before no further stream is made resumable (nine tenths "
        "of it), and no event is kept (all of it). Default: what each Redis has (`maxmemory`); with `redis: memory` "
        f"{encode_size(MEMORY_BUDGET_BYTES)}.",
        examples=["2GiB"],
    )
    max_orphans: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(values.refuse_flags)] = Field(
        default=MAX_ORPHANS,
        description="Calls per worker that go on though their client has left and hasn't come back to it. Beyond that the oldest "
        "is given up: one that its backend can resume goes on when its client comes back, another ends with an error.",
    )


class DrainShape(Shape):
    """How this replica ends when it is told to (SIGTERM)."""

    delay: Wait = duration_field(
        Drain().delay_seconds,
        "How long it goes on as before, though unready, until no load balancer sends anything here any more.",
    )
    grace: Wait = duration_field(
        Drain().grace_seconds, "From then on, for calls under way to end; what hasn't ended by then fails."
    )


class CorsShape(Shape):
    """Which web pages may call the gateway from a browser."""

    origins: Annotated[list[Origin], BeforeValidator(values.split_commas)] = Field(
        default=[], description='`scheme://host[:port]` each, or "*".', examples=[["https://app.example.com"]]
    )


class AdminShape(Shape):
    """A port of its own for /health, /metrics and verbose readiness; without it they are on the main port."""

    host: str | None = Field(default=None, description="Default: the main `host`.")
    port: Port | None = Field(default=None, description="Default: no port of its own.", examples=[9090])


class LogShape(Shape):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="`debug` shows each request's way step by step."
    )
    format: Literal["auto", "json", "pretty"] = Field(
        default="auto", description="`auto`: pretty on a terminal, else JSON."
    )


class HealthCheckShape(Shape):
    """An active check: GET `path` on each endpoint's host; a status below 500 is healthy."""

    path: Annotated[str, AfterValidator(values.check_path)] = Field(
        default=HealthCheck().path, description="Of the GET request; the endpoint's own path is not used."
    )
    interval: Duration = duration_field(HealthCheck().interval_seconds, "Between two checks.")
    timeout: Duration = duration_field(HealthCheck().timeout_seconds, "For one check.")


class EjectionShape(Shape):
    """When an endpoint that fails gets a rest. The last endpoint never does."""

    failures: Annotated[int, Field(ge=1), BeforeValidator(values.refuse_flags)] = Field(
        default=Ejection().failures, description="In a row."
    )
    rest: Duration = duration_field(Ejection().rest_seconds, "The first rest; doubled each time.")
    max_rest: Duration = duration_field(Ejection().max_rest_seconds, "The longest rest.")


class BackendTimeoutsShape(Shape):
    """A backend's own time-outs. What isn't given here is as the file's `timeouts` say."""

    connect: Duration | None = Field(default=None, description="To open a connection, TLS included.")
    idle: Duration | None = Field(default=None, description="Without a byte from the backend; progress resets it.")
    total: Duration | None = Field(default=None, description="For a whole call; nothing resets it.")


class BackendShape(Shape):
    """One MCP server behind the gateway."""

    endpoints: Annotated[list[EndpointUrl], BeforeValidator(values.split_commas)] = Field(
        default=[],
        description="URLs of the MCP endpoint; several serve the same thing.",
        examples=[["http://echo:9000/mcp"]],
    )
    mount: Mount | None = Field(
        default=None,
        description="The path that selects this backend; `none` hides it. Default: / and the backend's name.",
        examples=["/echo", "none"],
    )
    era: EraChoice = Field(default="auto", description="Which protocol versions it speaks; `auto` finds out.")
    resolve: Literal["none", "dns"] = Field(
        default="none", description="`dns`: every address of the host is an endpoint of its own (a headless Service)."
    )
    resolve_interval: Duration = duration_field(5.0, "Between two look-ups with `resolve: dns`.")
    timeouts: BackendTimeoutsShape = BackendTimeoutsShape()
    tls: TlsShape = TlsShape()
    proxy: Annotated[str, AfterValidator(values.check_proxy)] | None = Field(
        default=None, description="An outgoing HTTP proxy.", examples=["http://proxy:3128"]
    )
    headers: dict[HeaderName, Header] = Field(
        default={},
        description="Set on every request to the backend, replacing the client's.",
        examples=[{"authorization": "Bearer ${WEATHER_TOKEN}"}],
    )
    ejection: EjectionShape = EjectionShape()
    health_check: HealthCheckShape | None = Field(default=None, description="Off unless it is here; `{}` is enough.")
    max_connections: Annotated[int, Field(ge=1, le=65535), BeforeValidator(values.refuse_flags)] = Field(
        default=1024,
        description="Calls per endpoint and worker; beyond it a request is refused with 429. Standing streams don't count.",
    )
    heal: Flag = Field(default=True, description="Whether a session that the backend lost is made anew.")
    reexecute: Reexecute = Field(
        default="never",
        description="Whether a long call that was lost with its connection or replica, and can't be resumed, is run once more. "
        "`read_only`: where the tool's annotations say `readOnlyHint: true`. They are trusted: only for a backend whose "
        "annotations you vouch for. Of effect where `redis` names a Redis.",
    )
    cache: BackendCache = Field(
        default=BackendCacheShape(),
        description="How long its discovery and lists are kept: as long as it says, or at most `max_ttl`. `off`: not at all.",
        examples=["off", {"max_ttl": "30s"}],
    )
    limits: RatesShape = Field(
        default=RatesShape(),
        description="What each caller may ask of this backend; each of them stands in the place of the file's own. Calls "
        "through an aggregate count, too; what the aggregate asks all of its backends, and sessions begun there, don't.",
    )
    trust_public: Flag = Field(
        default=False,
        description="Whether what it calls `public` is kept for all users together. One that is wrong in that shows one user's "
        "list to all; without it each user has entries of their own.",
    )
    allow_link_local: Flag = Field(
        default=False, description="Whether an endpoint may be a link-local or cloud-metadata address."
    )


class FileShape(Shape):
    """The configuration of an MCP gateway."""

    include: Texts = Field(
        default=[],
        description="Files with further `backends:`, `aggregates:` and `grants:`, relative to this one.",
        examples=["conf.d/*.yaml"],
    )
    public_url: Annotated[str, AfterValidator(values.check_public_url), HttpUrl] | None = Field(
        default=None,
        description="What clients call the gateway. Required off loopback.",
        examples=["https://mcp.example.com"],
    )
    redis: Annotated[str, AfterValidator(values.check_redis)] = Field(
        default="none",
        description="Where the events of long calls are kept, so that a broken stream can be resumed: a redis://, rediss://, "
        "redis+sentinel:// or redis+cluster:// URL; `memory`, for one worker and one replica only; or `none`.",
        examples=["${REDIS_URL}", "memory"],
    )
    auth: Auth | None = Field(
        default=None,
        description="Who may call, and how that is proven. Required off loopback, also where it is `none`.",
    )
    trusted_proxies: Annotated[list[Network], BeforeValidator(values.split_commas)] = Field(
        default=[], description="Only these may set X-Forwarded-*, or say who calls.", examples=[["10.0.0.0/8"]]
    )
    host: Annotated[str, AfterValidator(values.check_bind)] = Field(
        default="127.0.0.1", description="The address to listen on."
    )
    port: Port = Field(default=8080, description="The port to listen on; 0: any free one, named in the log.")
    workers: Annotated[int, Field(ge=1, le=512), BeforeValidator(values.refuse_flags)] = Field(
        default=1, description="Processes of this replica."
    )
    admin: AdminShape = AdminShape()
    log: LogShape = LogShape()
    audit: AuditShape = AuditShape()
    timeouts: TimeoutsShape = TimeoutsShape()
    limits: LimitsShape = LimitsShape()
    cache: CacheShape = CacheShape()
    streams: StreamsShape = StreamsShape()
    drain: DrainShape = DrainShape()
    cors: CorsShape = CorsShape()
    allowed_hosts: Annotated[list[HostName], BeforeValidator(values.split_commas)] = Field(
        default=[],
        description="Host names beyond public_url's (and loopback's, on loopback) that a request may be addressed to.",
        examples=[["mcp.internal"]],
    )
    expose_mounts: Flag = Field(default=False, description="Whether an unknown path is answered with the mounts.")
    session_keys: Annotated[list[str], BeforeValidator(values.split_session_keys)] = Field(
        default=[],
        description="The ring that seals sessions, made by `mcp-gateway keygen`: the first seals, all open.",
        examples=[["${SESSION_KEY}"], [{"file": "/run/secrets/session-key"}]],
    )
    session_keys_file: str | None = Field(default=None, description="A file with the ring, one key a line.")
    backends: Annotated[dict[BackendName, BackendShape], BeforeValidator(values.none_as_empty)] = Field(
        default={}, description="The MCP servers behind the gateway, by name."
    )
    aggregates: Annotated[dict[AggregateName, AggregateShape], BeforeValidator(values.none_as_empty)] = Field(
        default={}, description="Several backends as one MCP server, by name."
    )
    grants: list[GrantShape] | None = Field(
        default=None,
        description="Who may do what. Without them whoever is let in may do everything; with them, what none allows is denied.",
    )
