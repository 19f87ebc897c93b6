"""The `Upstream` port: finds the pool, sends the request, waits for the answer's head.

Knows when a request may be sent a second time: never, unless no byte of it left this process.
"""

from collections.abc import Iterable, Mapping

from gateway.policy.backends import Address, Backend, Endpoint, Timeouts
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

    def is_dialled_like(self, backend: Backend) -> bool:
        mine = self.backend
        return (mine.tls, mine.proxy, mine.allow_link_local) == (backend.tls, backend.proxy, backend.allow_link_local)


class PooledClient:
    """`gateway.ports.Upstream` over keep-alive connections. Belongs to one event loop; `close` it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._retired: list[Pool] = []  # whose last calls are still under way

    async def send(
        self, backend: Backend, endpoint: Endpoint, method: bytes, headers: Headers, body: bytes, timeouts: Timeouts
    ) -> PooledAnswer:
        line = self._lines.get(backend.name) or self._add(backend)
        pool = line.pools.get(endpoint.address)
        if pool is None or (pool.endpoint is not endpoint and not _is_same(pool.endpoint, endpoint)):
            pool = self._open_pool(line, endpoint)
        head = encode_head(method, pool.opening, headers, len(body))
        answer = await _begin(pool, backend.max_connections, timeouts, head, body, method == b"HEAD")
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
                self._retire(self._lines.pop(name).pools.values())

    def close(self) -> None:
        """Drops every connection; whoever waits is told `Failed`."""
        for line in self._lines.values():
            self._retire(line.pools.values())
        self._lines.clear()
        for pool in self._retired:
            pool.abort()

    def _open_pool(self, line: _Line, endpoint: Endpoint) -> Pool:
        pools = line.pools
        # Resolved addresses come and go; and one address may come to mean another place.
        gone = [a for a, pool in pools.items() if pool.is_empty or a == endpoint.address]
        self._retire([pools.pop(address) for address in gone])
        dialler = line.dialler
        pool = Pool(line.backend.name, endpoint, dialler.opening(endpoint), dialler.dial)
        pools[endpoint.address] = pool
        return pool

    def _retire(self, pools: Iterable[Pool]) -> None:
        self._retired = [pool for pool in self._retired if not pool.is_empty]
        for pool in pools:
            pool.retire()
            self._retired.append(pool)

    def _add(self, backend: Backend) -> _Line:
        line = self._lines[backend.name] = _Line(backend)
        return line


async def _begin(
    pool: Pool, max_connections: int, timeouts: Timeouts, head: bytes, body: bytes, is_head: bool
) -> PooledAnswer:
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
            connection = await pool.connect(max_connections, timeouts)
            now = pool.loop.time()
        if pool.timeouts is not timeouts:
            pool.sweep_for(timeouts)
        answer = connection.begin(head, body, is_head, timeouts, now)
        if answer is not None:
            pool.note_begun(connection, timeouts)
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
