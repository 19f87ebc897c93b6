"""uvicorn's HTTP protocol with what a gateway needs of its connections besides: a bound on heads, dead peers found out."""

import socket
from asyncio import BaseTransport, Transport
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's head. Session tokens are below 2 KiB, real heads below 8 KiB; llhttp itself has no bound. Beyond: 431."""

KEEPALIVE_SECONDS: Final = 30
USER_TIMEOUT_MILLISECONDS: Final = 60_000
"""A client that vanished without FIN is found after these: by probes on a silent connection, by what stays unacknowledged
on a talking one. Else its stream, and the backend's behind it, would stay open for ever."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GatewayProtocol(HttpToolsProtocol):
    """Give it to uvicorn as `http=`."""

    _head_bytes = 0
    _is_in_head = True

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast("Transport", transport))
        if (connection := transport.get_extra_info("socket")) is not None:
            find_dead_peers(connection)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self._is_parsed_by(data):
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        super().data_received(data)

    def _is_parsed_by(self, data: bytes) -> bool:
        """Whether the head ends in these bytes: then most of them are body, and the head is small enough."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._head_bytes - len(data) + end <= MAX_HEAD_BYTES

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()


def find_dead_peers(connection: Any) -> None:
    """Socket options, where the platform has them and the socket is TCP."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), KEEPALIVE_SECONDS),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), KEEPALIVE_SECONDS // 3),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), 3),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), USER_TIMEOUT_MILLISECONDS),
    )
    for level, option, value in options:
        if option is not None:
            connection.setsockopt(level, option, value)
