"""The `Upstream` port: finds the pool, sends the request, waits for the answer's head.

Knows when a request may be sent a second time: never, unless no byte of it left this process.
"""

from collections.abc import Mapping

from gateway.policy.backends import Address, Backend, Endpoint
from gateway.ports import Headers
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.answers import PooledAnswer
from gateway.upstream.diallers import Dialler
from gateway.upstream.pools import Pool
from gateway.upstream.requests import encode_head


class _Line:
    """What we keep of one backend: how it is dialled, and a pool for each of its endpoints."""

    __slots__ = ("backend", "dialler", "pools")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.dialler = Dialler(backend)
        self.pools: dict[Address, Pool] = {}

    def open_pool(self, endpoint: Endpoint) -> Pool:
        for address in [a for a, pool in self.pools.items() if pool.is_empty]:
            del self.pools[address]  # resolved addresses come and go
        if endpoint.address in self.pools:
            self.pools[endpoint.address].retire()
        pool = Pool(self.backend.name, endpoint, self.dialler.opening(endpoint), self.dialler.dial)
        self.pools[endpoint.address] = pool
        return pool

    def is_dialled_like(self, backend: Backend) -> bool:
        return self.backend.tls == backend.tls and self.backend.proxy == backend.proxy


class PooledClient:
    """`gateway.ports.Upstream` over keep-alive connections. Belongs to one event loop; `close` it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    async def send(
        self, backend: Backend, endpoint: Endpoint, method: bytes, headers: Headers, body: bytes
    ) -> PooledAnswer:
        line = self._lines.get(backend.name) or self._add(backend)
        pool = line.pools.get(endpoint.address)
        if pool is None or (pool.endpoint is not endpoint and not _is_same(pool.endpoint, endpoint)):
            pool = line.open_pool(endpoint)
        head = encode_head(method, pool.opening, headers, len(body))
        answer = await _begin(pool, backend, head, body, method == b"HEAD")
        while not answer.status:
            if answer.error is not None:
                raise answer.error
            await answer.wait()
        return answer

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """From now on these: what is dialled as before keeps its connections, the others close once their calls are over."""
        for name, line in list(self._lines.items()):
            backend = backends.get(name)
            if backend is not None and line.is_dialled_like(backend):
                line.backend = backend
            else:
                for pool in self._lines.pop(name).pools.values():
                    pool.retire()

    def close(self) -> None:
        """Drops every connection; whoever waits is told `Failed`."""
        for line in self._lines.values():
            for pool in line.pools.values():
                pool.abort()
        self._lines.clear()

    def _add(self, backend: Backend) -> _Line:
        line = self._lines[backend.name] = _Line(backend)
        return line


async def _begin(pool: Pool, backend: Backend, head: bytes, body: bytes, is_head: bool) -> PooledAnswer:
    """Writes the request on a connection that takes it.

    A reused connection may turn out closed at the very first write. Then nothing was handed to the kernel, and the next
    connection gets the request, whatever its method. Once a byte was handed over, a close is BROKEN and not repeated:
    the backend may have read it (RFC 9110 §9.2.2).
    """
    while True:
        now = pool.loop.time()
        connection = pool.take(now)
        fresh = connection is None
        if connection is None:
            connection = await pool.connect(backend)
            now = pool.loop.time()
        answer = connection.begin(head, body, is_head, backend.timeouts, now)
        if answer is not None:
            return answer
        connection.abort()
        if fresh:
            raise Failed(Outcome.UNREACHABLE, f"Backend {pool.name!r} closed a new connection at once.")


def _is_same(one: Endpoint, other: Endpoint) -> bool:
    return (one.host, one.port, one.tls, one.target, one.host_header, one.server_name) == (
        other.host,
        other.port,
        other.tls,
        other.target,
        other.host_header,
        other.server_name,
    )
