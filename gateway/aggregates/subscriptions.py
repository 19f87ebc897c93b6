"""A modern client's `subscriptions/listen` to an aggregate: told what each member tells, on one stream.

Each member is listened to through its hub, which this worker's other listeners share. One that is away, or whose hub ends, is
joined again, with pauses, and what it has is then said to have changed, since it may have.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from itertools import chain, repeat
from typing import Final

import msgspec

from gateway.aggregates.targets import resolve
from gateway.exchange.bells import Bell
from gateway.exchange.exchanges import Exchange
from gateway.exchange.gatherings import PAUSES_SECONDS
from gateway.exchange.hub_listeners import Listener
from gateway.exchange.recalls import asker_of
from gateway.exchange.resumes import SSE_HEADERS
from gateway.exchange.subscriptions import relay_told
from gateway.policy.aggregates import Aggregate, Member, permits
from gateway.protocol.catalogues import Kind
from gateway.protocol.changes import Change
from gateway.protocol.events import message_event
from gateway.protocol.intents import Send
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Outcome, Rejected
from gateway.protocol.splices import find, replace
from gateway.protocol.subscriptions import Filter, Note, read_filter
from gateway.protocol.versions import Era

_encode: Final = msgspec.json.Encoder().encode


class Watch:
    """One member, listened to for one client. `uris`: what the client watches of it, by the member's own names for them."""

    def __init__(
        self, exchange: Exchange, member: Member, wanted: Filter, uris: Mapping[str, str], version: str
    ) -> None:
        self._exchange = exchange
        self._member = member
        self._wanted = wanted
        self._uris = uris
        self._version = version
        self._task: asyncio.Task[None] | None = None
        self._was_away = False
        self.settled = asyncio.Event()  # the first attempt is over
        self.listener: Listener | None = None

    def begin(self, bell: Bell, *, at_once: bool = True) -> None:
        """Joins the member's hub, in the background, and again and again where it won't have us."""
        self._task = asyncio.get_running_loop().create_task(self._run(bell, at_once=at_once))

    async def _run(self, bell: Bell, *, at_once: bool) -> None:
        for seconds in chain((0.0,) if at_once else (), PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1])):
            await asyncio.sleep(seconds)
            has_joined = await self._join(bell)
            self.settled.set()
            if has_joined:
                bell.ring()
                return

    async def _join(self, bell: Bell) -> bool:
        exchange, gateway = self._exchange, self._exchange.gateway
        backend = exchange.site.backends[self._member.backend]
        limit_bytes, asker = exchange.site.limits.event_bytes, asker_of(exchange)
        request_id = exchange.record.request_id
        self.listener = await gateway.hubs.join(
            backend, asker, self._version, self._wanted, request_id, limit_bytes, bell
        )
        if self.listener is not None and self._was_away:
            # First the caches: what is kept was made without it, and who is told looks at once.
            await asyncio.gather(*(gateway.caches.invalidate(backend.name, change) for change in Change))
            self.listener.offer_all()
        return self.listener is not None

    def note_acknowledged(self) -> None:
        """From now on a member that joins has been away."""
        self._was_away = self.listener is None

    def take(self, bell: Bell) -> list[Note]:
        """What it has told since."""
        if self.listener is None:
            return []
        notes = self.listener.drain()
        if self.listener.is_over:
            self.listener.leave()
            self.listener, self._was_away = None, True
            self.begin(bell, at_once=False)
        return notes

    def show(self, note: Note, rpc_id: RequestId) -> bytes:
        """The event, a resource under the name that the client watches it by."""
        shown = self._uris.get(note.uri)
        if note.change is not None or shown in (None, note.uri):
            return note.event(rpc_id)
        message = note.message(rpc_id)
        span = find(message, "params", "uri")
        return message_event(message if span is None else replace(message, span, _encode(shown)))

    @property
    def honoured(self) -> Filter:
        """What the client will be told of it. Of a member that is away: all, once it is back."""
        told = self._wanted if self.listener is None else self.listener.wanted
        return Filter(told.changes, tuple(self._uris[uri] for uri in told.uris))

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.listener is not None:
            self.listener.leave()


async def listen_to_all(exchange: Exchange, aggregate: Aggregate, intent: Send, body: bytes) -> None:
    """The client's stream, to its end. Raises `Rejected`."""
    wanted, rpc_id = read_filter(body), exchange.rpc_id
    if wanted is None or rpc_id is None:
        raise Rejected(Outcome.INVALID_PARAMS, "`params.notifications` must say what is to be told")
    bell = Bell()
    watches = await make_watches(exchange, aggregate, intent, wanted)
    try:
        for watch in watches:
            watch.begin(bell)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(aggregate.deadline_seconds):
                for watch in watches:
                    await watch.settled.wait()
        await relay_told(exchange, Watches(watches, bell), rpc_id)
    finally:
        for watch in watches:
            watch.end()


async def make_watches(exchange: Exchange, aggregate: Aggregate, intent: Send, wanted: Filter) -> list[Watch]:
    """For each member what is to be told of it. A resource that nobody lists may be anybody's."""
    uris: dict[str, dict[str, str]] = {member.backend: {} for member in aggregate.members}
    for shown in wanted.uris:
        local = await resolve(exchange, aggregate, Kind.RESOURCE, shown)
        for member in aggregate.members:
            name = shown if local is None else local.name
            if (local is None or local.member == member) and permits(aggregate, member, Kind.RESOURCE, name):
                uris[member.backend][name] = shown
    speaks, backends = exchange.gateway.eras.speaks, exchange.site.backends
    return [
        Watch(exchange, member, Filter(wanted.changes, tuple(own)), own, intent.version)
        for member, own in zip(aggregate.members, uris.values(), strict=True)
        if speaks(backends[member.backend], Era.MODERN) is not False
    ]


class Watches:
    """`exchange.subscriptions.Source`: all members', until the client leaves."""

    headers = SSE_HEADERS
    is_over = False

    def __init__(self, watches: list[Watch], bell: Bell) -> None:
        self._watches = watches
        self.bell = bell

    def promise(self) -> Filter:
        """What the client is told in all. Whoever joins from now on has been away."""
        for watch in self._watches:
            watch.note_acknowledged()
        each = [watch.honoured for watch in self._watches]
        uris = dict.fromkeys(uri for one in each for uri in one.uris)
        return Filter(frozenset[Change]().union(*(one.changes for one in each)), tuple(uris))

    def take(self, rpc_id: RequestId) -> bytes:
        return b"".join([watch.show(note, rpc_id) for watch in self._watches for note in watch.take(self.bell)])
