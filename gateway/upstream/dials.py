"""How a TCP connection is made: names looked up, addresses raced (RFC 8305), socket options set.

Knows nothing of backends, TLS or HTTP. Raises OSError; its callers translate.
"""

import asyncio
import socket
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, Final

HEAD_START_SECONDS: Final = 0.25
"""How long an address may try alone before the next one is tried beside it (RFC 8305 §5)."""

_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""A backend that vanished without FIN under an idle stream is noticed after a minute, not the kernel's two hours."""

Place = tuple[int, tuple[Any, ...]]
"""An address family, and an address as the socket module takes it."""


class AddressesRefused(OSError):
    """The name leads only where nothing may be dialled."""


def never(_: str) -> bool:
    """No address is refused."""
    return False


async def dial(host: str, port: int, is_refused: Callable[[str], bool] = never) -> socket.socket:
    """A connected, non-blocking socket to the first address of `host` that answers. Raises OSError.

    `is_refused` is asked of each address before anything is sent to it: what a name leads to is not the operator's word.
    """
    places = await _look_up(host, port)
    allowed = [place for place in places if not is_refused(place[1][0])]
    if places and not allowed:
        raise AddressesRefused
    return await _race(_interleave(allowed))


async def _look_up(host: str, port: int) -> list[Place]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # a name, not an address: that may take a while
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _interleave(places: list[Place]) -> list[Place]:
    """The families in turn, beginning with the system's favourite: one broken family costs one head start (RFC 8305 §4)."""
    families = list(dict.fromkeys(family for family, _ in places))
    columns = [[place for place in places if place[0] == family] for family in families]
    return [place for row in zip_longest(*columns) for place in row if place is not None]


async def _race(places: list[Place]) -> socket.socket:
    if len(places) == 1:
        return await _connect(places[0])
    won: list[socket.socket] = []
    errors: list[OSError] = []
    try:
        async with asyncio.TaskGroup() as group:
            tries: list[asyncio.Task[None]] = []
            for place in places:
                tries.append(group.create_task(_try(place, won, errors)))
                await asyncio.wait(tries[-1:], timeout=HEAD_START_SECONDS)
                if won:
                    break
            while not won and any(not attempt.done() for attempt in tries):
                await asyncio.wait([t for t in tries if not t.done()], return_when=asyncio.FIRST_COMPLETED)
            for attempt in tries:
                attempt.cancel()
    except BaseException:
        _close(won)
        raise
    _close(won[1:])
    if not won:
        raise errors[0] if errors else OSError("no address to connect to")
    return won[0]


async def _try(place: Place, won: list[socket.socket], errors: list[OSError]) -> None:
    try:
        won.append(await _connect(place))
    except OSError as error:
        errors.append(error)


def _close(sockets: list[socket.socket]) -> None:
    for late in sockets:
        late.close()


async def _connect(place: Place) -> socket.socket:
    family, address = place
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
