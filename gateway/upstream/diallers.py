"""How one backend is reached: directly or through its proxy, with its one TLS context.

The wall for connecting: whatever goes wrong becomes `Failed` (UNREACHABLE), in words that name the backend and never
an address; the cause stays attached for our own log.
"""

import asyncio
import socket
import ssl
from typing import Final

from gateway.policy.addresses import leads_to_metadata
from gateway.policy.backends import Backend, Endpoint, Tls
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.connections import Connection
from gateway.upstream.dials import AddressesRefused, dial, never
from gateway.upstream.requests import encode_opening
from gateway.upstream.tunnels import Proxy, TunnelRefused, TunnelReply, encode_connect, name_origin, parse_proxy

_HINTS: Final = (
    (AddressesRefused, "its name leads to a link-local or cloud-metadata address (see `allow_link_local:`)"),
    (ConnectionRefusedError, "nothing listens there"),
    (ConnectionResetError, "it closed the connection while it was being made"),
    (socket.gaierror, "its host name can't be resolved"),
    (TimeoutError, "it did not answer in time"),
)


class TlsFilesUnusable(Exception):
    """A file of a backend's `tls:` is missing or isn't PEM. The cause, which names it, stays attached."""


class Dialler:
    """Dials the endpoints of one backend. A TLS context costs some 30 ms: it is made once, off the loop."""

    def __init__(self, backend: Backend) -> None:
        self._name = backend.name
        self._tls = backend.tls
        # A proxy is dialled where the operator says; what it dials is its own affair.
        self._is_refused = never if backend.allow_link_local or backend.proxy else leads_to_metadata
        self._proxy: Proxy | None = parse_proxy(backend.proxy) if backend.proxy else None
        self._context: ssl.SSLContext | None = None
        self._making = asyncio.Lock()

    def opening(self, endpoint: Endpoint) -> bytes:
        """What the heads of this endpoint's requests have after the method; for a plain proxy, in absolute form."""
        if self._proxy is None or endpoint.tls:
            return encode_opening(endpoint.target, endpoint.host_header)
        return encode_opening(name_origin(endpoint) + endpoint.target, endpoint.host_header, *self._proxy.header_lines)

    async def dial(self, endpoint: Endpoint, connection: Connection, within_seconds: float) -> None:
        """Connects `connection`, TLS and tunnel included, within that time. Raises `Failed`."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._dial(endpoint, connection)
        except (OSError, TunnelRefused, TlsFilesUnusable, UnicodeError) as error:
            hint = _explain(error)
            raise Failed(Outcome.UNREACHABLE, f"Backend {self._name!r} can't be reached: {hint}.") from error

    async def _dial(self, endpoint: Endpoint, connection: Connection) -> None:
        context = await self._find_context() if endpoint.tls else None
        nearest = self._proxy or endpoint
        made = await dial(nearest.host, nearest.port, self._is_refused)
        descriptor = made.fileno()
        loop = asyncio.get_running_loop()
        try:
            raw, _ = await loop.create_connection(lambda: connection, sock=made)
        except BaseException:
            made.close()
            raise
        try:
            transport: asyncio.Transport | None = raw
            if context is not None:
                if self._proxy is not None:
                    await _open_tunnel(raw, self._proxy, endpoint)
                transport = await loop.start_tls(raw, connection, context, server_hostname=endpoint.server_name)
            if transport is None:
                raise ConnectionResetError("the connection closed during the TLS handshake")
        except BaseException:
            raw.abort()
            raise
        connection.attach(raw, transport, descriptor)

    async def _find_context(self) -> ssl.SSLContext:
        async with self._making:
            if self._context is None:
                self._context = await asyncio.to_thread(make_context, self._tls)
            return self._context


def make_context(tls: Tls) -> ssl.SSLContext:
    """The context that a backend's `tls:` describes. Raises `TlsFilesUnusable`."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        if tls.client_cert is not None:
            context.load_cert_chain(tls.client_cert, tls.client_key)
    except OSError as error:  # ssl.SSLError is one
        raise TlsFilesUnusable("a file of its `tls:` settings can't be read, or is not PEM") from error
    return context


async def _open_tunnel(raw: asyncio.Transport, proxy: Proxy, endpoint: Endpoint) -> None:
    connection = raw.get_protocol()
    reply = TunnelReply()
    raw.set_protocol(reply)
    raw.write(encode_connect(proxy, endpoint))
    await reply.accepted
    raw.set_protocol(connection)


def _explain(error: Exception) -> str:
    """Why, in a few words without any address: those of the system may hold one."""
    if isinstance(error, TunnelRefused | TlsFilesUnusable):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted (see the backend's `tls:`)"
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake failed"
    return next((words for kind, words in _HINTS if isinstance(error, kind)), "the network said no")
