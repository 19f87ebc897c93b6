"""What operators and orchestrators ask: /health, /livez, /readyz, /metrics. Knows HTTP; what it tells is given to it.

A dead backend or a dead Redis makes a replica degraded, never unready: taking every replica out of the load balancer at
once helps nobody. Host is not checked here: probes come with the pod's address.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.policy.backends import Address
from gateway.policy.streams import Ailment
from gateway.protocol.versions import Era
from gateway.telemetry.redactions import scrub, shorten, strip_query

DRAINING: Final = "draining"
"""The hindrance by which a replica says that it is about to end."""

_FRESH: Final = {"cache-control": "no-store"}


class BackendState(msgspec.Struct, frozen=True):
    """How a backend is, as this worker sees it."""

    name: str
    mount: str | None
    endpoints: Mapping[Address, Literal["healthy", "ejected"]]
    eras: Mapping[Era, bool | None]  # None: not known yet

    @property
    def status(self) -> Literal["healthy", "degraded", "down"]:
        healthy = sum(state == "healthy" for state in self.endpoints.values())
        if not healthy:
            return "down"
        return "healthy" if healthy == len(self.endpoints) else "degraded"


class Replica(Protocol):
    """What the endpoints ask of the gateway. Every answer is at hand: none of them waits."""

    version: str

    def hindrances(self) -> Sequence[str]:
        """Why no request should be sent here, in a few words each (`draining`); empty when ready."""

    def digest(self) -> str:
        """Of the configuration that runs; "" before there is one."""

    def backends(self) -> Sequence[BackendState]:
        """All backends, in the order of the configuration."""

    def redis_troubles(self) -> Sequence[Ailment] | None:
        """What ails Redis, as this worker sees it; None where none is configured."""

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """The page of metrics for that `Accept` header, and its content type. May be called from another thread."""


def build_operations(
    replica: Replica, *, details: bool | Callable[[], bool], clock: Callable[[], float] = time.monotonic
) -> Starlette:
    """All four endpoints. Without `details`, /health and /readyz?verbose don't tell of backends and configuration:
    that is for a port which strangers reach. A callable is asked each time: a new configuration may change it."""
    operations = _Operations(replica, details if callable(details) else lambda: details, clock)
    return _route(
        {
            "/health": operations.health,
            "/livez": _livez,
            "/readyz": operations.readyz,
            "/metrics": operations.metrics,
        }
    )


def build_probes(replica: Replica) -> Starlette:
    """/livez and plain /readyz: what stays on the main port when the rest has a port of its own."""

    async def readyz(_request: Request) -> Response:
        return _tell_readiness(replica.hindrances())

    return _route({"/livez": _livez, "/readyz": readyz})


def _route(endpoints: Mapping[str, Callable[[Request], Any]]) -> Starlette:
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()])
    app.router.redirect_slashes = False
    return app


async def _livez(_request: Request) -> Response:
    return PlainTextResponse("alive\n", headers=_FRESH)  # that it is told at all is the answer: the event loop turns


def _tell_readiness(hindrances: Sequence[str]) -> Response:
    text = f"not ready: {', '.join(hindrances)}" if hindrances else "ready"
    return PlainTextResponse(f"{text}\n", 503 if hindrances else 200, headers=_FRESH)


class _Operations:
    def __init__(self, replica: Replica, details: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._replica = replica
        self._details = details
        self._clock = clock
        self._started = clock()

    async def health(self, _request: Request) -> Response:
        hindrances, states = self._replica.hindrances(), self._replica.backends()
        troubles = self._replica.redis_troubles()
        report: dict[str, object] = {
            "status": judge(hindrances, states, is_redis_degraded=bool(troubles)),
            "mcp": "not ready" if hindrances else "ready",
            "version": self._replica.version,
            "uptime_seconds": round(self._clock() - self._started, 1),
        }
        if hindrances:
            report["reasons"] = list(hindrances)
        if self._details():
            report["configuration"] = self._replica.digest()
            report["backends"] = {state.name: _describe(state) for state in states}
            if troubles is not None:
                report["redis"] = _describe_redis(troubles)
        return JSONResponse(report, 503 if hindrances else 200, headers=_FRESH)

    async def readyz(self, request: Request) -> Response:
        hindrances = self._replica.hindrances()
        plain = _tell_readiness(hindrances)
        if not self._details() or "verbose" not in request.query_params:
            return plain
        lines = [f"[-] {hindrance}" for hindrance in hindrances]
        lines.append(f"[+] configuration {self._replica.digest()}")
        for state in self._replica.backends():
            sign = "+" if state.status == "healthy" else "!"  # "!" is worth knowing, but hinders nothing
            lines.append(f"[{sign}] backend {state.name} {state.status}")
        if (troubles := self._replica.redis_troubles()) is not None:
            lines += [f"[!] redis {t.node} {t.trouble} for {t.seconds:.1f} s" for t in troubles] or [
                "[+] redis healthy"
            ]
        return PlainTextResponse("\n".join([*lines, bytes(plain.body).decode()]), plain.status_code, headers=_FRESH)

    def metrics(self, request: Request) -> Response:
        """Not `async`, so that Starlette runs it in a thread: thousands of series take a while to write down."""
        page, content_type = self._replica.render_metrics(request.headers.get("accept", ""))
        return Response(page, headers={**_FRESH, "content-type": content_type})


def judge(hindrances: Sequence[str], states: Sequence[BackendState], *, is_redis_degraded: bool = False) -> str:
    """One word for the whole: `draining`, `not ready`, `degraded` or `healthy`."""
    if DRAINING in hindrances:
        return DRAINING
    if hindrances:
        return "not ready"
    if is_redis_degraded:
        return "degraded"
    return "healthy" if all(state.status == "healthy" for state in states) else "degraded"


def _describe(state: BackendState) -> dict[str, object]:
    return {
        "status": state.status,
        "mount": state.mount,
        "endpoints": {strip_query(address): endpoint for address, endpoint in state.endpoints.items()},
        "eras": {era.value: spoken for era, spoken in state.eras.items()},
    }


def _describe_redis(troubles: Sequence[Ailment]) -> dict[str, object]:
    told = [
        {
            "node": trouble.node,
            "trouble": trouble.trouble.value,
            "seconds": round(trouble.seconds, 1),
            "detail": shorten(scrub(trouble.detail)),
        }
        for trouble in troubles
    ]
    return {"status": "degraded", "troubles": told} if told else {"status": "healthy"}
