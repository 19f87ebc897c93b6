"""Who is to be woken when a stream, or a session, has something new.

One pub/sub connection per worker, on which it subscribes to the channels of what its followers wait for. Nothing is lost
between subscribing and reading: when Redis confirms a subscription, the first as after a cut, everybody on that channel is
rung, and reads again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from gateway.state.dials import DIAL_SECONDS
from gateway.state.keys import wake_channel

QUIET_SECONDS: Final = 5.0
"""A connection on which nothing came for so long is asked for a sign of life, and dropped when for as long again none comes."""
_REST_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)

Ring = Callable[[], None]


class Bells:
    """Rings by name: all that waking within one process needs."""

    def __init__(self) -> None:
        self._rings: dict[str, dict[str, dict[object, Ring]]] = {}  # channel, name, one for each who waits

    def hang(self, name: str, ring: Ring) -> Callable[[], None]:
        """From now on `ring` is called when `name` is; the result takes it down again."""
        channel, key = wake_channel(name), object()
        names = self._rings.setdefault(channel, {})
        names.setdefault(name, {})[key] = ring

        def take_down() -> None:
            rings = names.get(name, {})
            rings.pop(key, None)
            if not rings:
                names.pop(name, None)
            if not names and self._rings.get(channel) is names:
                del self._rings[channel]

        return take_down

    def channels(self) -> frozenset[str]:
        """The channels on which anybody waits."""
        return frozenset(self._rings)

    def ring(self, channel: str, name: str | None = None) -> None:
        """Rings for one name; without one, for all on the channel."""
        names = self._rings.get(channel, {})
        for one in [name] if name is not None else list(names):
            for ring in list(names.get(one, {}).values()):
                ring()


class Wakes:
    """`Bells` that ring when any worker of the fleet pulls them. `run` for as long as they shall."""

    def __init__(self, dial: Callable[[], Awaitable[Connection]]) -> None:
        self._dial = dial
        self._bells = Bells()
        self._subscribed: set[str] = set()
        self._changed = asyncio.Event()

    def hang(self, name: str, ring: Ring) -> Callable[[], None]:
        """As `Bells.hang`: hang first, and read then."""
        take_down = self._bells.hang(name, ring)
        self._note_change()

        def leave() -> None:
            take_down()
            self._note_change()

        return leave

    async def run(self) -> None:
        """Listens until cancelled, whatever becomes of the connection."""
        failures = 0
        while True:
            connection = None
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    connection = await self._dial()
                failures = 0
                await self._listen(connection)
            except (RedisError, OSError):  # TimeoutError is an OSError
                await asyncio.sleep(_REST_SECONDS[min(failures, len(_REST_SECONDS) - 1)])
                failures += 1
            finally:
                self._subscribed = set()
                if connection is not None:
                    await connection.disconnect(nowait=True)

    async def _listen(self, connection: Connection) -> None:
        self._changed.set()
        subscribing = asyncio.ensure_future(self._subscribe(connection))
        try:
            await self._hear(connection)
        finally:
            subscribing.cancel()
            await asyncio.gather(subscribing, return_exceptions=True)

    async def _subscribe(self, connection: Connection) -> None:
        """Keeps the subscriptions as the bells need them."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._bells.channels()
            for word, channels in (
                ("SUBSCRIBE", wanted - self._subscribed),
                ("UNSUBSCRIBE", self._subscribed - wanted),
            ):
                if channels:
                    await connection.send_command(word, *channels, check_health=False)
            self._subscribed = set(wanted)

    async def _hear(self, connection: Connection) -> None:
        is_doubtful = False
        while True:
            said: list[Any] | None = await connection.read_response(timeout=QUIET_SECONDS)
            if said is None:
                if is_doubtful:
                    raise ConnectionError("the pub/sub connection is silent")
                is_doubtful = True
                await connection.send_command("PING", check_health=False)
                continue
            is_doubtful = False
            self._take(said)

    def _take(self, said: list[Any]) -> None:
        match said:
            case [b"message", bytes(channel), bytes(name)]:
                self._bells.ring(channel.decode(), name.decode())
            case [b"subscribe", bytes(channel), _]:
                self._bells.ring(channel.decode())
            case _:
                pass  # a pong, or an end of a subscription

    def _note_change(self) -> None:
        if self._bells.channels() != self._subscribed:
            self._changed.set()
