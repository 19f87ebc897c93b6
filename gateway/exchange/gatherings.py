"""Several members' streams as one, as if it were one backend's: whoever relays, pumps or logs it needn't know.

Each member is read by a task of its own. One that breaks, or was away, is opened again, with pauses; when it is back the
client is told that lists may have changed, since it may have missed that. Nobody's failure is another's.
"""

import asyncio
import base64
import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from gateway.exchange.calls import Call
from gateway.exchange.exchanges import Gateway
from gateway.exchange.healings import digest_upstream, heal
from gateway.exchange.parts import find_part
from gateway.exchange.standing_calls import Refused, open_standing
from gateway.exchange.views import View, view
from gateway.policy.aggregates import Member, expose_uri
from gateway.policy.listings import Key
from gateway.policy.streams import Facts
from gateway.ports import Answer, Headers
from gateway.protocol import headers as h
from gateway.protocol.answers import inspect_message
from gateway.protocol.catalogues import Kind
from gateway.protocol.changes import Change
from gateway.protocol.events import Event, EventSplitter, encode_event, parse_event
from gateway.protocol.outcomes import Failed, Outcome, Rejected
from gateway.protocol.sessions import Session
from gateway.protocol.splices import Doubled, find, replace

PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a member's stream is opened again. Beyond the last: every 30 s."""

SILENCE_SECONDS: Final = 3600.0
"""How long one read waits; a silent member is read again."""

WAITING_EVENTS: Final = 256
"""Events that wait for the client. Beyond them members are not read."""

CHANGED: Final = {
    change: Event(b'{"jsonrpc":"2.0","method":"notifications/%b/list_changed"}' % change.encode()) for change in Change
}
"""Told of a member that was away: what it has may be other than what was listed."""

_UPDATED: Final = b"notifications/resources/updated"
_CHANGED: Final = b"list_changed"

Open = Callable[[bytes], Awaitable[tuple[Call, bool]]]
"""Opens a member's stream, behind an event id of its own where there is one; and says whether the member has forgotten the
session in which it was open before. Raises `Refused`; `Failed` where it may be tried again."""


async def open_gathered(gateway: Gateway, facts: Facts, session: Session, cursor: bytes, request_id: str) -> Call:
    """The standing streams of all members as one, each as far as `cursor` says. `session`: an aggregate's, whole.

    Raises `Refused` where no member has such a stream.
    """
    aggregate = next((one for one in gateway.site.aggregates.values() if one.mount == facts.mount), None)
    if aggregate is None:
        raise Refused
    # Where grants decide, a member joins by a call that was granted, not by a stream.
    begun = {part.backend for part in session.parts}
    opens: dict[Member, Open] = {
        member: _Opening(gateway, facts, session, View(aggregate, member), request_id)
        for member in aggregate.members
        if gateway.site.grants is None or member.backend in begun
    }
    key = (f"{aggregate.name} {gateway.site.digest}", facts.session, Kind.RESOURCE)
    answer = GatheredAnswer(
        opens,
        decode_cursors(cursor),
        lambda member, uri: _show_uri(gateway, key, member, uri),
        lambda member, change: gateway.caches.note_change(member.backend, change),
    )
    if not await answer.settle(aggregate.deadline_seconds):
        answer.close()
        raise Refused
    return GatheredCall(answer)


async def open_again(gateway: Gateway, facts: Facts, session: Session, cursor: bytes, request_id: str) -> Call:
    """A session's standing stream, a backend's or an aggregate's. Raises `Refused`; `Failed` where it may be tried again."""
    if session.parts:
        return await open_gathered(gateway, facts, session, cursor, request_id)
    return await open_standing(gateway, facts, session, cursor, request_id)


def refuse_get() -> Rejected:
    """No member has a standing stream."""
    allow = ((b"allow", b"POST, DELETE, OPTIONS"),)
    return Rejected(Outcome.METHOD_NOT_ALLOWED, "no server here has a stream of its own", headers=allow)


class _Opening:
    """An `Open` of one member's stream, for one whole session."""

    def __init__(self, gateway: Gateway, facts: Facts, whole: Session, through: View, request_id: str) -> None:
        self._gateway = gateway
        self._through = through
        self._request_id = request_id
        self._part = part = find_part(whole, facts.session, through.member)
        self._facts = msgspec.structs.replace(
            facts, backend=through.member.backend, version=part.version or whole.version
        )
        self._has_opened = False
        self._stand_in: object = None  # for the part, where it was healed

    async def __call__(self, cursor: bytes) -> tuple[Call, bool]:
        gateway, part = self._gateway, self._part
        await _join(gateway, part, self._through.member, self._request_id)
        call = await open_standing(gateway, self._facts, part, cursor, self._request_id)
        before = self._stand_in
        self._stand_in = None if gateway.healer is None else gateway.healer.find(digest_upstream(part))
        is_another = self._has_opened and self._stand_in != before
        self._has_opened = True
        return view(self._through, call, gateway.site.limits.event_bytes), is_another


async def _join(gateway: Gateway, part: Session, member: Member, request_id: str) -> None:
    """A member that was away when the session began takes part from now on. Raises `Failed` where it is away still."""
    if part.version:
        return
    backend, healer, digest = gateway.site.backends.get(member.backend), gateway.healer, digest_upstream(part)
    if backend is None or healer is None or not part.params:
        raise Refused
    if healer.find(digest) is None and await heal(gateway, request_id, backend, part, digest, b"") is None:
        raise Failed(Outcome.UNREACHABLE, f"{member.backend} can't be reached")


def _show_uri(gateway: Gateway, key: Key, member: Member, uri: str) -> list[str]:
    """How clients may know a member's resource: as it is listed; where that isn't remembered, either way."""
    shown = gateway.listings.find_name(key, member.backend, uri)
    return [uri, expose_uri(member, uri)] if shown is None else [shown]


class GatheredCall(Call):
    """No endpoint is burdened by it: each member's own call burdens its own."""

    __slots__ = ()

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._is_mine = True

    def end(self, outcome: Outcome) -> None:
        if self._is_mine:
            self._is_mine = False
            self.answer.close()

    def pass_on(self, answer: Answer | None = None) -> Call:
        self._is_mine = False
        return GatheredCall(answer or self.answer)


class GatheredAnswer:
    """`gateway.ports.Answer`: the events of all members, each with an id that says how far each member's stream has come."""

    def __init__(
        self,
        opens: Mapping[Member, Open],
        cursors: Mapping[str, bytes],
        show_uri: Callable[[Member, str], list[str]],
        note_change: Callable[[Member, Change], object],
    ) -> None:
        """`cursors`: by backend, event ids of its own. `show_uri`: what clients may call a member's resource. `note_change` is
        told what a member says, or may have said unheard, before the client is."""
        self.status = 200
        self.headers: Headers = [(b"content-type", h.SSE)]
        self._cursors = dict(cursors)
        self._show_uri = show_uri
        self._note_change = note_change
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(WAITING_EVENTS)
        self._settled = asyncio.Event()
        self._unsettled = set(opens)
        self._is_refused = True
        self._tasks = [asyncio.create_task(self._read(member, open_it)) for member, open_it in opens.items()]

    @property
    def body(self) -> bytes | None:
        return None

    async def settle(self, within_seconds: float) -> bool:
        """Waits until each member's stream is open, or isn't, as long as that; False where every one of them refused."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._settled.wait()
        return bool(self._unsettled) or not self._is_refused

    async def read(self, limit_bytes: int) -> bytes:
        raise Failed(Outcome.NONSENSE, "a stream without end can't be read whole")

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        try:
            async with asyncio.timeout(within_seconds):
                events = [await self._waiting.get()]
        except TimeoutError:
            return None
        while not self._waiting.empty():
            events.append(self._waiting.get_nowait())
        return b"".join(events)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _read(self, member: Member, open_it: Open) -> None:
        """One member's stream, as often as it takes."""
        failures, was_away = 0, False
        while True:
            try:
                call, has_forgotten = await open_it(self._cursors.get(member.backend, b""))
            except Refused:
                self._settle(member, is_refused=True)
                return
            except Failed:
                was_away = True
                self._settle(member)
            else:
                self._settle(member)
                failures, was_away = 0, await self._read_one(member, call, was_away=was_away or has_forgotten)
            await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])
            failures += 1

    def _settle(self, member: Member, *, is_refused: bool = False) -> None:
        if member in self._unsettled:
            self._unsettled.discard(member)
            self._is_refused = self._is_refused and is_refused
            if not self._unsettled:
                self._settled.set()

    async def _read_one(self, member: Member, call: Call, *, was_away: bool) -> bool:
        """One connection, to its end, however it ends; False, since the member was there."""
        outcome, splitter = Outcome.CLIENT_LEFT, EventSplitter(sys.maxsize)  # whole events come, bounded (`views`)
        try:
            for change in Change if was_away else ():
                self._note_change(member, change)
                await self._put(CHANGED[change])
            while (piece := await call.answer.next_chunk(SILENCE_SECONDS)) != b"":
                for block in splitter.feed(piece or b""):
                    await self._pass_on(member, parse_event(block))
            outcome = Outcome.OK
        except Failed as failure:
            outcome = failure.outcome
        finally:
            call.end(outcome)
        return False

    async def _pass_on(self, member: Member, event: Event) -> None:
        if event.id:
            self._cursors[member.backend] = event.id
        if not event.data:
            return
        if _CHANGED in event.data and (said := inspect_message(event.data)) is not None and said.change is not None:
            self._note_change(member, said.change)
        if _UPDATED not in event.data:
            await self._put(event)
            return
        for data in self._show_update(member, event.data):
            await self._put(msgspec.structs.replace(event, data=data))

    def _show_update(self, member: Member, data: bytes) -> list[bytes]:
        """A resource has changed: told of it by each name under which it may be watched."""
        try:
            span = find(data, "params", "uri")
            uri = "" if span is None else msgspec.json.decode(span.value, type=str)
        except (Doubled, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return [data]
        if span is None:
            return [data]
        return [replace(data, span, msgspec.json.encode(shown)) for shown in self._show_uri(member, uri)]

    async def _put(self, event: Event) -> None:
        mark = encode_cursors(self._cursors) if self._cursors else None
        await self._waiting.put(encode_event(msgspec.structs.replace(event, id=mark, retry=None)))


def encode_cursors(cursors: Mapping[str, bytes]) -> bytes:
    """How far each member's stream has come, as one event id."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(dict(cursors))).rstrip(b"=")


def decode_cursors(mark: bytes) -> dict[str, bytes]:
    """What `encode_cursors` was given; empty for anything else."""
    try:
        plain = base64.urlsafe_b64decode(mark + b"=" * (-len(mark) % 4))
        return msgspec.msgpack.decode(plain, type=dict[str, bytes])
    except (ValueError, RecursionError):
        return {}
