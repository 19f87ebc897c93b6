"""The upstream room runs on both event loops: uvicorn takes uvloop where it is installed, and they differ in detail."""

from collections.abc import AsyncIterator

import pytest

from gateway.upstream.clients import PooledClient


@pytest.fixture(scope="session", params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    made = PooledClient()
    yield made
    made.close()
