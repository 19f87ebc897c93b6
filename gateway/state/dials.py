"""How a connection to Redis is made: address, TLS, credentials, and who is the primary where Sentinel says so.

`redis.asyncio` does the handshake. Its retries are off: what is asked again, and when, is decided by whoever asks.
"""

import asyncio
import socket
from typing import Any, Final

from redis.asyncio import Sentinel
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.state.targets import Address, Target

CLIENT_NAME: Final = "mcp-gateway"
DIAL_SECONDS: Final = 2.0
"""For one dial, Sentinels included. No caller waits so long: after the first that gave up, a probe does."""
_SENTINEL_SECONDS: Final = 0.5  # for each Sentinel, so that one that is silent leaves time for the others

_KEEPALIVE: Final = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""A server that vanished without FIN is noticed within 11 seconds also where nothing is being asked."""


class Dialler:
    """Dials one target's servers. TLS is prepared once: that takes up to 50 ms, and each connection would do it anew."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._arguments: dict[str, Any] = {
            "db": target.db,
            "username": target.username,
            "password": target.password,
            "client_name": CLIENT_NAME,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": DIAL_SECONDS,
            "socket_keepalive": True,
            "socket_keepalive_options": _KEEPALIVE,
        }
        self._tls = SSLConnection(**_tls(target)).ssl_context if target.tls else None

    async def dial(self, address: Address) -> Connection:
        """A connection to the server at that address. Raises redis's errors, which end where they are caught: in this room."""
        connection = await self._make(address)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _make(self, address: Address) -> Connection:
        host, port = address
        if self._tls is None:
            return Connection(host=host, port=port, **self._arguments)
        if self._tls.context is None:
            await asyncio.to_thread(self._tls.get)
        connection = SSLConnection(host=host, port=port, **_tls(self._target), **self._arguments)
        connection.ssl_context = self._tls
        return connection

    async def find_primary(self) -> Address:
        """Whom the Sentinels call the service's primary now. Raises redis's errors where none of them knows one."""
        target = self._target
        asked = Sentinel(  # type: ignore[no-untyped-call]
            target.addresses,
            sentinel_kwargs={
                "username": target.sentinel_username,
                "password": target.sentinel_password,
                "socket_timeout": _SENTINEL_SECONDS,
                "socket_connect_timeout": _SENTINEL_SECONDS,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "ssl": target.tls,
                **(_tls(target) if target.tls else {}),
            },
        )
        try:
            host, port = await asked.discover_master(target.service)
        finally:
            await asked.aclose()
        return host, int(port)


def _tls(target: Target) -> dict[str, Any]:
    return {
        "ssl_ca_certs": target.ca_file,
        "ssl_certfile": target.cert_file,
        "ssl_keyfile": target.key_file,
        "ssl_check_hostname": target.check_hostname,
    }
