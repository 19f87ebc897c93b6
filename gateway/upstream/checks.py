"""Active health checks: a GET to each endpoint's host now and then; an answer below 500 is good health.

Off unless configured: a backend's real calls say more about it than a check does.
"""

import asyncio

from gateway.policy.backends import Backend, Endpoint, HealthCheck, Timeouts
from gateway.ports import Upstream
from gateway.protocol.outcomes import Failed
from gateway.upstream.rosters import Rosters

_MAX_BODY_BYTES = 64 * 1024


async def check_forever(backend: Backend, check: HealthCheck, client: Upstream, rosters: Rosters) -> None:
    """Checks the backend's endpoints, all at once, every interval, until cancelled."""
    while True:
        async with asyncio.TaskGroup() as group:
            for endpoint in rosters.seats_of(backend):
                group.create_task(_check(backend, check, client, rosters, endpoint))
        await asyncio.sleep(check.interval_seconds)


async def _check(backend: Backend, check: HealthCheck, client: Upstream, rosters: Rosters, endpoint: Endpoint) -> None:
    rosters.note_check(endpoint, is_down=not await is_healthy(backend, check, client, endpoint))


async def is_healthy(backend: Backend, check: HealthCheck, client: Upstream, endpoint: Endpoint) -> bool:
    """Whether the endpoint's host answers the check below 500, and in time."""
    seconds = check.timeout_seconds
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in backend.headers]
    try:
        async with asyncio.timeout(seconds):
            answer = await client.send(
                backend, _at_path(endpoint, check.path), b"GET", headers, b"", Timeouts(seconds, seconds, seconds)
            )
            try:
                healthy = answer.status < 500
                await answer.read(_MAX_BODY_BYTES)  # so that the connection can be used again
            finally:
                answer.close()
    except (Failed, TimeoutError):
        return False
    return healthy


def _at_path(endpoint: Endpoint, path: str) -> Endpoint:
    """The same host, another path: an endpoint of its own, and so a pool of its own."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    scheme = "https" if endpoint.tls else "http"
    return Endpoint(
        address=f"{scheme}://{host}:{endpoint.port}{path}#check",
        tls=endpoint.tls,
        host=endpoint.host,
        port=endpoint.port,
        target=path.encode("ascii"),
        host_header=endpoint.host_header,
        server_name=endpoint.server_name,
    )
