"""The operators' endpoints, asked as a probe, a scraper and a person ask them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from gateway.downstream.operations import BackendState, build_operations, build_probes
from gateway.policy.streams import Ailment, Trouble
from gateway.protocol.versions import Era

HEALTHY = BackendState("echo", "/echo", {"http://10.0.0.7:9000/mcp": "healthy"}, {Era.LEGACY: True, Era.MODERN: None})
HALF = BackendState(
    "math",
    None,
    {"http://10.0.0.8:9000/mcp?key=hunter2": "healthy", "http://10.0.0.9:9000/mcp?key=hunter2": "ejected"},
    {Era.LEGACY: False, Era.MODERN: True},
)
DOWN = BackendState("weather", "/weather", {"http://10.0.0.10:9000/mcp": "ejected"}, {})
UNRESOLVED = BackendState("slow", "/slow", {}, {})


class FakeReplica:
    version = "1.2.3"

    def __init__(
        self,
        *backends: BackendState,
        hindrances: Sequence[str] = (),
        troubles: Sequence[Ailment] | None = None,
    ) -> None:
        self._backends = backends
        self._troubles = troubles
        self._hindrances = hindrances

    def hindrances(self) -> Sequence[str]:
        return self._hindrances

    def digest(self) -> str:
        return "0123456789ab"

    def backends(self) -> Sequence[BackendState]:
        return self._backends

    def redis_troubles(self) -> Sequence[Ailment] | None:
        return self._troubles

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        return f"# for {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"


class Reply:
    status: int
    headers: dict[str, str]

    def __init__(self, messages: list[Message]) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(app: ASGIApp, path: str, method: str = "GET", query: bytes = b"", accept: bytes = b"*/*") -> Reply:
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"host", b"evil.example"), (b"accept", accept)],
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50000),
        "root_path": "",
    }
    await app(scope, receive, send)
    return Reply(messages)


async def test_health_tells_a_person_how_the_replica_and_its_backends_are() -> None:
    times = iter([1000.0, 1012.34])
    app = build_operations(FakeReplica(HEALTHY, HALF, DOWN, UNRESOLVED), details=True, clock=lambda: next(times))
    reply = await ask(app, "/health")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json == {
        "status": "degraded",
        "mcp": "ready",
        "version": "1.2.3",
        "uptime_seconds": 12.3,
        "configuration": "0123456789ab",
        "backends": {
            "echo": {
                "status": "healthy",
                "mount": "/echo",
                "endpoints": {"http://10.0.0.7:9000/mcp": "healthy"},
                "eras": {"legacy": True, "modern": None},
            },
            "math": {
                "status": "degraded",
                "mount": None,
                "endpoints": {"http://10.0.0.8:9000/mcp": "healthy", "http://10.0.0.9:9000/mcp": "ejected"},
                "eras": {"legacy": False, "modern": True},
            },
            "weather": {
                "status": "down",
                "mount": "/weather",
                "endpoints": {"http://10.0.0.10:9000/mcp": "ejected"},
                "eras": {},
            },
            "slow": {"status": "down", "mount": "/slow", "endpoints": {}, "eras": {}},
        },
    }


async def test_health_tells_strangers_no_names_and_no_addresses() -> None:
    reply = await ask(build_operations(FakeReplica(HEALTHY), details=False, clock=lambda: 0.0), "/health")
    assert reply.json == {"status": "healthy", "mcp": "ready", "version": "1.2.3", "uptime_seconds": 0.0}


@pytest.mark.parametrize(
    ("hindrances", "status", "mcp", "code"),
    [
        ((), "healthy", "ready", 200),
        (("draining",), "draining", "not ready", 503),
        (("no configuration yet",), "not ready", "not ready", 503),
        (("no configuration yet", "draining"), "draining", "not ready", 503),
    ],
)
async def test_health_is_503_when_no_request_should_come(
    hindrances: Sequence[str], status: str, mcp: str, code: int
) -> None:
    reply = await ask(build_operations(FakeReplica(HEALTHY, hindrances=hindrances), details=True), "/health")
    assert (reply.status, reply.json["status"], reply.json["mcp"]) == (code, status, mcp)
    assert reply.json.get("reasons", []) == list(hindrances)


async def test_a_dead_backend_leaves_the_replica_ready() -> None:
    app = build_operations(FakeReplica(DOWN), details=True)
    assert (await ask(app, "/readyz")).status == 200
    assert (await ask(app, "/health")).status == 200
    assert (await ask(app, "/health")).json["status"] == "degraded"


AWAY = Ailment("10.0.0.20:6379", Trouble.AWAY, "no answer in time", 12.34)
FULL = Ailment("10.0.0.21:6379", Trouble.FULL, "OOM at redis://user:hunter2@10.0.0.21", 0.0)


async def test_a_degraded_redis_is_shown_and_leaves_the_replica_ready() -> None:
    app = build_operations(FakeReplica(HEALTHY, troubles=[AWAY, FULL]), details=True)
    assert (await ask(app, "/readyz")).status == 200
    reply = await ask(app, "/health")
    assert (reply.status, reply.json["status"], reply.json["mcp"]) == (200, "degraded", "ready")
    assert reply.json["redis"] == {
        "status": "degraded",
        "troubles": [
            {"node": "10.0.0.20:6379", "trouble": "away", "seconds": 12.3, "detail": "no answer in time"},
            {"node": "10.0.0.21:6379", "trouble": "full", "seconds": 0.0, "detail": "OOM at redis://…@10.0.0.21"},
        ],
    }
    lines = (await ask(app, "/readyz", query=b"verbose")).body.decode().splitlines()
    assert lines[2:4] == ["[!] redis 10.0.0.20:6379 away for 12.3 s", "[!] redis 10.0.0.21:6379 full for 0.0 s"]


async def test_strangers_learn_that_it_is_degraded_and_not_by_what() -> None:
    app = build_operations(FakeReplica(HEALTHY, troubles=[AWAY]), details=False, clock=lambda: 0.0)
    told = {"status": "degraded", "mcp": "ready", "version": "1.2.3", "uptime_seconds": 0.0}
    assert (await ask(app, "/health")).json == told
    assert (await ask(app, "/readyz", query=b"verbose")).body == b"ready\n"


async def test_a_redis_without_troubles_is_healthy() -> None:
    app = build_operations(FakeReplica(HEALTHY, troubles=[]), details=True)
    reply = await ask(app, "/health")
    assert (reply.json["status"], reply.json["redis"]) == ("healthy", {"status": "healthy"})
    assert "[+] redis healthy" in (await ask(app, "/readyz", query=b"verbose")).body.decode()


async def test_a_draining_replica_is_alive_but_not_ready() -> None:
    for app in (
        build_operations(FakeReplica(hindrances=["draining"]), details=True),
        build_probes(FakeReplica(hindrances=["draining"])),
    ):
        ready = await ask(app, "/readyz")
        assert (ready.status, ready.body) == (503, b"not ready: draining\n")
        alive = await ask(app, "/livez")
        assert (alive.status, alive.body) == (200, b"alive\n")


async def test_verbose_readiness_says_what_it_looked_at() -> None:
    app = build_operations(FakeReplica(HEALTHY, DOWN, hindrances=["draining"]), details=True)
    reply = await ask(app, "/readyz", query=b"verbose")
    assert reply.status == 503
    assert reply.body.decode().splitlines() == [
        "[-] draining",
        "[+] configuration 0123456789ab",
        "[+] backend echo healthy",
        "[!] backend weather down",
        "not ready: draining",
    ]


async def test_verbose_readiness_tells_strangers_nothing_more() -> None:
    for app in (build_operations(FakeReplica(HEALTHY), details=False), build_probes(FakeReplica(HEALTHY))):
        assert (await ask(app, "/readyz", query=b"verbose")).body == b"ready\n"


async def test_metrics_come_in_the_format_that_was_asked_for() -> None:
    app = build_operations(FakeReplica(), details=False)
    reply = await ask(app, "/metrics", accept=b"application/openmetrics-text")
    assert (reply.status, reply.body) == (200, b"# for application/openmetrics-text\n")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics"])
async def test_get_and_head_are_answered_and_nothing_else(path: str) -> None:
    app = build_operations(FakeReplica(HEALTHY), details=True)
    assert (await ask(app, path, "HEAD")).status == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        reply = await ask(app, path, method)
        assert reply.status == 405
        assert sorted(reply.headers["allow"].split(", ")) == ["GET", "HEAD"]


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_the_main_port_keeps_only_the_probes_when_there_is_an_admin_port(path: str) -> None:
    assert (await ask(build_probes(FakeReplica()), path)).status == 404


@pytest.mark.parametrize("path", ["/health/", "/livez/", "/nothing"])
async def test_other_spellings_are_not_redirected(path: str) -> None:
    assert (await ask(build_operations(FakeReplica(), details=True), path)).status == 404


async def test_details_follow_a_configuration_that_begins_to_ask_who_calls() -> None:
    is_open = True
    app = build_operations(FakeReplica(HEALTHY), details=lambda: is_open)
    assert "backends" in (await ask(app, "/health")).json
    is_open = False
    assert "backends" not in (await ask(app, "/health")).json
