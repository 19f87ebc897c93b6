"""Outgoing HTTP proxies: their URL, the CONNECT request, and what they reply to it (RFC 9110 §9.3.6).

Knows nothing of what goes through the tunnel.
"""

import asyncio
import base64
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from gateway.policy.backends import Endpoint

MAX_REPLY_BYTES: Final = 16 * 1024
"""Of a proxy's reply to CONNECT. Beyond: refused."""


class Proxy(msgspec.Struct, frozen=True):
    """One outgoing proxy."""

    host: str
    port: int
    header_lines: tuple[bytes, ...] = ()  # its credentials, if it wants some


class TunnelRefused(Exception):
    """The proxy doesn't let us through. Its text is fit for a client's eyes."""


def parse_proxy(url: str) -> Proxy:
    """The proxy that `http://[user:password@]host:port` names. Raises ValueError, with a sentence, for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("a `proxy` must look like http://[user:password@]host:port")
    if parts.username is None:
        return Proxy(parts.hostname, parts.port or 80)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    line = b"proxy-authorization: Basic " + base64.b64encode(credentials)
    return Proxy(parts.hostname, parts.port or 80, (line,))


def encode_connect(proxy: Proxy, endpoint: Endpoint) -> bytes:
    """The request for a tunnel to the endpoint."""
    authority = _bracket(endpoint.host) + b":%d" % endpoint.port
    return b"\r\n".join((b"CONNECT %b HTTP/1.1" % authority, b"host: %b" % authority, *proxy.header_lines, b"", b""))


def name_origin(endpoint: Endpoint) -> bytes:
    """`http://host[:port]`, to stand before the target when a plain request goes through a proxy (RFC 9112 §3.2.2)."""
    return b"http://" + _bracket(endpoint.host) + (b"" if endpoint.port == 80 else b":%d" % endpoint.port)


def _bracket(host: str) -> bytes:
    return (f"[{host}]" if ":" in host else host).encode("idna" if not host.isascii() else "ascii")


class TunnelReply(asyncio.Protocol):
    """Reads the proxy's reply to CONNECT. `accepted` is done when the tunnel stands, or raises why it doesn't."""

    def __init__(self) -> None:
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            if len(self._received) > MAX_REPLY_BYTES:
                self._refuse("its proxy's reply is too long")
            return
        words = head.split(b"\r\n", 1)[0].split(b" ", 2)
        status = words[1] if len(words) > 1 and words[0].startswith(b"HTTP/1.") else b""
        if status == b"407":
            self._refuse("its proxy wants other credentials")
        elif len(status) != 3 or not status.startswith(b"2") or rest:  # in TLS the client speaks first: nothing follows
            self._refuse("its proxy refused")
        elif not self.accepted.done():
            self.accepted.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._refuse("its proxy closed the connection")

    def _refuse(self, why: str) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(TunnelRefused(why))
