"""Many listeners, one upstream stream: a backend's `subscriptions/listen`, shared by all of this worker who may share it.

    listener = await hubs.join(backend, asker, version, wanted, request_id, limit_bytes)     None: ask the backend yourself
    await listener.bell.wait(seconds)
    notes = listener.drain()
    listener.leave()

A hub asks its backend for news of all lists, and of the same resources that its listeners watch: listeners of other
resources, other credentials or another principal have another hub. What it hears is level triggers ("it changed, look"), so
what waits for a slow listener is never more than one of each kind; one that lets too many kinds wait is ended in good order,
and listens anew. Whoever comes first opens the stream, and it is closed a little after the last has left.

A backend that doesn't take the gateway's request may take, or refuse in its own words, the listener's: so each asks for
itself then. A stream that breaks after it was taken is opened again, and since something may have been missed meanwhile,
every listener is told so of all that it wants to know. The listeners don't notice otherwise.
"""

import asyncio
import random
from contextlib import suppress
from typing import Final

from gateway.exchange.bells import Bell
from gateway.exchange.caches import Caches
from gateway.exchange.calls import Call, open_call
from gateway.exchange.hub_listeners import Listener
from gateway.policy.backends import Backend, Timeouts
from gateway.policy.caches import Asker
from gateway.policy.hubs import HubKey
from gateway.ports import Endpoints, Telemetry, Upstream
from gateway.protocol import headers as h
from gateway.protocol.changes import Change
from gateway.protocol.events import EventSplitter, EventTooLarge, parse_event
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.subscriptions import Acknowledged, Filter, Note, Over, parse_told

LINGER_SECONDS: Final = 5.0
"""How long a stream without listeners is kept: clients that listen anew, one after another, find it still open."""

ACKNOWLEDGE_SECONDS: Final = 10.0
"""How long a backend may take to acknowledge. Beyond it each listener asks for itself, for as long as it likes."""

MAX_ENDPOINTS: Final = 3
"""Tried one after another, as for any request: only one that was unreachable is followed by another."""

REST_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Before a stream that broke is opened again; each is shortened by up to a half, lest all workers come at once."""

STEADY_SECONDS: Final = 60.0
"""A stream that lasted so long was a sound one: the rests begin anew."""

_SILENCE_SECONDS: Final = 3600.0
_TRANSIENT: Final = frozenset({408, 425, 429})


class Refused(Exception):
    """The backend won't have such a stream."""


class Hub:
    """One upstream stream, and who listens. Its task lives as long as the stream is wanted."""

    def __init__(self, hubs: "Hubs", key: HubKey, request_id: str, limit_bytes: int) -> None:
        self._hubs = hubs
        self._key = key
        self._request_id = request_id
        self._limit_bytes = limit_bytes
        self._honoured: Filter | None = None
        self._settled = asyncio.Event()
        self._listeners: dict[Listener, None] = {}
        self._waiting = 0
        self._linger: asyncio.TimerHandle | None = None
        self.headers: h.Headers = []
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def join(self, wanted: Filter, bell: Bell) -> Listener | None:
        """A listener, as soon as the backend has acknowledged; None where it doesn't."""
        self._waiting += 1
        self._stay()
        try:
            await self._settled.wait()
        finally:
            self._waiting -= 1
            self._leave_if_idle()
        if self._honoured is None or self.task.done():
            return None
        listener = Listener(self, wanted.honoured_by(self._honoured), bell)
        self._listeners[listener] = None
        self._stay()
        return listener

    def remove(self, listener: Listener) -> None:
        if self._listeners.pop(listener, self) is None:
            self._leave_if_idle()

    def _stay(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _leave_if_idle(self) -> None:
        if not self.task.done() and not self._listeners and not self._waiting and self._linger is None:
            seconds = LINGER_SECONDS if self._honoured is not None else 0.0
            self._linger = asyncio.get_running_loop().call_later(seconds, self.close)

    def close(self) -> None:
        """Nobody is to join from now on; whoever listens is ended."""
        self._hubs.forget(self._key, self)
        self.task.cancel()

    # ---- upstream

    async def _run(self) -> None:
        """Keeps the stream open until it is closed, or until the backend won't have it any more."""
        closed = self._hubs.telemetry.hub_opened(self._key.backend.name)
        try:
            await self._listen_for_ever()
        finally:
            closed()
            self._stay()
            self._hubs.forget(self._key, self)
            for listener in list(self._listeners):
                listener.end()
            self._settled.set()

    async def _listen_for_ever(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                await self._listen()
            except Refused:
                return
            except Failed:
                pass
            if self._honoured is None:  # it never was: whoever waits asks for itself
                return
            failures = 0 if loop.time() - began > STEADY_SECONDS else failures
            rest_seconds = REST_SECONDS[min(failures, len(REST_SECONDS) - 1)]
            await asyncio.sleep(rest_seconds * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret
            failures += 1

    async def _listen(self) -> None:
        """The stream once, to its end in good order. Raises `Failed`, or `Refused` where it is no use to ask again."""
        outcome = Outcome.CLIENT_LEFT
        call: Call | None = None
        try:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS) as patience:
                call = await self._open()
                self._check(call)
                await self._read(call, patience)
            outcome = Outcome.OK
        except TimeoutError as late:
            outcome = Outcome.TIMED_OUT
            raise Failed(outcome, "the backend did not acknowledge in time") from late
        except Failed as failure:
            outcome = failure.outcome
            raise
        except Refused:
            outcome = Outcome.BACKEND_REFUSED
            raise
        finally:
            if call is not None:
                call.end(outcome)

    async def _open(self) -> Call:
        hubs, backend = self._hubs, self._key.backend
        headers, body = self._key.headers(self._request_id), self._key.body()
        timeouts = Timeouts(backend.timeouts.connect_seconds, float("inf"), float("inf"))
        tried: set[str] = set()
        while True:
            endpoint = hubs.endpoints.pick(backend, tried)
            try:
                return await open_call(
                    hubs.upstream, hubs.endpoints, backend, endpoint, b"POST", headers, body, timeouts
                )
            except Failed as failure:
                tried.add(endpoint.address)
                if failure.outcome is not Outcome.UNREACHABLE or len(tried) == MAX_ENDPOINTS:
                    raise

    def _check(self, call: Call) -> None:
        answer = call.answer
        if answer.status >= 500 or answer.status in _TRANSIENT:
            raise Failed(Outcome.BACKEND_FAILED, "the backend has no stream to give now")
        if answer.status != 200 or h.media_type(answer.headers) != h.SSE:
            raise Refused
        self.headers = h.streamed(answer.headers)

    async def _read(self, call: Call, patience: asyncio.Timeout) -> None:
        splitter, is_acknowledged = EventSplitter(self._limit_bytes), False
        while (piece := await call.answer.next_chunk(_SILENCE_SECONDS)) != b"":
            for told in _parse(splitter, piece or b""):
                match told:
                    case Acknowledged(honoured) if not is_acknowledged:
                        is_acknowledged = True
                        patience.reschedule(None)
                        self._take_up(honoured)
                    case _ if not is_acknowledged:  # which must come first
                        raise Refused
                    case Note():
                        await self._tell(told)
                    case Over(is_error):
                        if is_error:
                            raise Failed(Outcome.RPC_ERROR, "the backend ended the stream with an error")
                        return
                    case _:
                        pass
        if not is_acknowledged:
            raise Refused
        raise Failed(Outcome.BROKEN, "the backend closed the stream")

    def _take_up(self, honoured: Filter) -> None:
        """The backend listens to us; after a cut it may have said something unheard."""
        if self._honoured is None:
            self._honoured = honoured
            self._settled.set()
            return
        for change in Change:
            self._hubs.caches.note_change(self._key.backend.name, change)
        for listener in list(self._listeners):
            listener.offer_all()

    async def _tell(self, note: Note) -> None:
        """First the caches, on all workers: who is told looks at once, and perhaps on another replica."""
        if note.change is not None:
            await self._hubs.caches.invalidate(self._key.backend.name, note.change)
        for listener in list(self._listeners):
            listener.offer(note)


def _parse(splitter: EventSplitter, piece: bytes) -> list[Acknowledged | Note | Over | None]:
    try:
        events = [parse_event(block).data for block in splitter.feed(piece)]
        return [parse_told(data) for data in events if data]
    except (EventTooLarge, ValueError, RecursionError) as error:
        raise Failed(Outcome.NONSENSE, "the backend sent what is no message, or one beyond the size limit") from error


class Hubs:
    """This worker's hubs, by what their listeners have in common."""

    def __init__(self, upstream: Upstream, endpoints: Endpoints, caches: Caches, telemetry: Telemetry) -> None:
        self.upstream = upstream
        self.endpoints = endpoints
        self.caches = caches
        self.telemetry = telemetry
        self._hubs: dict[HubKey, Hub] = {}

    def __len__(self) -> int:
        return len(self._hubs)

    async def join(
        self,
        backend: Backend,
        asker: Asker,
        version: str,
        wanted: Filter,
        request_id: str,
        limit_bytes: int,
        bell: Bell | None = None,
    ) -> Listener | None:
        """A listener to the backend; None where the backend doesn't take the gateway's request. `leave` it, come what may.

        `bell`: what rings for several listeners of one waiter. `request_id` is told the backend, should this open the stream.
        """
        key = HubKey(backend, asker, version, frozenset(wanted.uris))
        hub = self._hubs.get(key)
        if hub is None:
            hub = self._hubs[key] = Hub(self, key, request_id, limit_bytes)
        return await hub.join(wanted, bell or Bell())

    def forget(self, key: HubKey, hub: Hub) -> None:
        """That hub takes nobody any more."""
        if self._hubs.get(key) is hub:
            del self._hubs[key]

    async def close(self) -> None:
        """Ends them all, and waits until they have."""
        hubs = list(self._hubs.values())
        for hub in hubs:
            hub.close()
        for hub in hubs:
            with suppress(asyncio.CancelledError):
                await hub.task
