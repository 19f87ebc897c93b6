"""Listening sockets, made before anything else starts: a port that can't be had is a sentence, not a traceback."""

import errno
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

BACKLOG: Final = 2048
"""Connections that wait to be accepted; the kernel caps it at net.core.somaxconn (4096 since Linux 5.4)."""


class Unavailable(Exception):
    """The address can't be listened on; the message says why and how to mend it."""


class Place(msgspec.Struct, frozen=True):
    """Where to listen, and how one says so: `--host` and `--port`, or keys of the configuration."""

    host: str
    port: int  # 0: any
    host_key: str = "--host"
    port_key: str = "--port"


def listen(place: Place) -> list[socket.socket]:
    """One listening socket for each address of the host, all on one port. Raises `Unavailable`."""
    listeners: list[socket.socket] = []
    port = place.port
    try:
        for family, address in _resolve(place):
            listeners.append(_listen_at(family, (address, port)))
            port = listeners[0].getsockname()[1]
    except BaseException as error:
        close(listeners)
        if isinstance(error, OSError):
            raise Unavailable(_explain(error, place)) from error
        raise
    return listeners


def close(listeners: Sequence[socket.socket]) -> None:
    """Closes them all."""
    for listener in listeners:
        listener.close()


def port_of(listeners: Sequence[socket.socket]) -> int:
    """The port that they listen on; of interest where any would do."""
    port: int = listeners[0].getsockname()[1]
    return port


def _resolve(place: Place) -> list[tuple[int, str]]:
    """(family, address) of each address of the host, without doubles, in the resolver's order."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # what no host name can be, e.g. a label of more than 63 characters
        raise OSError(errno.EADDRNOTAVAIL, str(error)) from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _listen_at(family: int, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart needn't wait for TIME_WAIT to end
        if family == socket.AF_INET6 and address[0] != "::":  # `::` serves IPv4 too, where the system has it so
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _explain(error: OSError, place: Place) -> str:
    shown = f"[{place.host}]:{place.port}" if ":" in place.host else f"{place.host}:{place.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {place.port} of {place.host} is in use: stop what listens there "
            f"(`ss -ltnp 'sport = :{place.port}'` names it), or choose another port with {place.port_key}"
        )
    if error.errno == errno.EACCES:
        return f"{shown} needs more rights: choose a port from 1024 on with {place.port_key}"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{place.host} is no address of this machine: choose another with {place.host_key}"
    return f"cannot listen on {shown} ({error.strerror}): choose another with {place.host_key} and {place.port_key}"
