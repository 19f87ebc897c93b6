"""What the fleet's tests share: an HTTP client."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fleet.requests import open_http


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_http() as http:
        yield http
