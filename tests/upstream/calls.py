"""How these tests call: one line for a backend, one for a call, one for the failure that is expected."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.policy.backends import Backend, Endpoint, Timeouts, parse_endpoint
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.answers import PooledAnswer
from gateway.upstream.clients import PooledClient
from tests.upstream.servers import WITHIN_SECONDS

PATIENT = Timeouts(connect_seconds=WITHIN_SECONDS, idle_seconds=WITHIN_SECONDS, total_seconds=WITHIN_SECONDS)


def backend_at(*urls: str, **fields: Any) -> Backend:
    return Backend(**{"name": "echo", "endpoints": urls, "timeouts": PATIENT, **fields})


def endpoint_of(backend: Backend) -> Endpoint:
    return parse_endpoint(backend.endpoints[0], server_name=backend.tls.server_name)


async def send(
    client: PooledClient,
    backend: Backend,
    body: bytes = b"{}",
    *,
    method: bytes = b"POST",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> PooledAnswer:
    async with asyncio.timeout(WITHIN_SECONDS):
        return await client.send(backend, endpoint_of(backend), method, headers or [], body, backend.timeouts)


async def call(client: PooledClient, backend: Backend, body: bytes = b"{}", **more: Any) -> tuple[int, bytes]:
    """Status and whole body."""
    answer = await send(client, backend, body, **more)
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            return answer.status, await answer.read(2**30)
    finally:
        answer.close()


async def failure(awaited: Awaitable[object], outcome: Outcome) -> str:
    """The message of the failure that must come, with that outcome."""
    with pytest.raises(Failed) as caught:
        await awaited
    assert caught.value.outcome is outcome, caught.value.message
    return caught.value.message


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until something has happened that has no event of its own."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while not condition():  # noqa: ASYNC110 - that is the purpose
            await asyncio.sleep(0.001)
