"""Host names and their addresses: `resolve: dns` makes every address an endpoint of its own.

Knows which names to ask for and what to keep when DNS fails. The asking itself is a callable, so that tests need no DNS.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.policy.backends import Backend, Endpoint, parse_endpoint

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) → its IP addresses, each once. Raises OSError where there is no answer."""

LOOKUP_SECONDS: Final = 5.0
"""A resolver that is silent for longer counts as failed. glibc would go on for 30 s and more."""


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Asks the system, /etc/hosts included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


class Names:
    """The addresses of one backend's configured hosts, as DNS last gave them."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._known: dict[tuple[str, int], list[str]] = {}

    async def find_endpoints(self, backend: Backend) -> list[Endpoint]:
        """An endpoint for each address of each configured URL. A name that can't be resolved keeps its last addresses."""
        found: dict[str, Endpoint] = {}
        for url in backend.endpoints:
            configured = parse_endpoint(url)
            for ip in await self._look_up(configured.host, configured.port):
                endpoint = parse_endpoint(url, ip=ip, server_name=backend.tls.server_name)
                found.setdefault(endpoint.address, endpoint)
        return list(found.values())

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):  # TimeoutError is an OSError, as is socket.gaierror
            addresses = []
        if addresses:
            self._known[host, port] = sorted(addresses)  # DNS shuffles; the order must not look like a change
        return self._known.get((host, port), [])
