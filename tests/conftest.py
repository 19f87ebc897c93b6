"""What every test may rely on."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """`async def` tests run on asyncio, as the gateway does."""
    return "asyncio"
