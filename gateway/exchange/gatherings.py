"""Several members' streams as one, as if it were one backend's: whoever relays, pumps or logs it needn't know.

Each member is read by a task of its own. One that breaks, or was away, is opened again, with pauses; when it is back the
client is told that lists may have changed, since it may have missed that. Nobody's failure is another's.
"""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from gateway.exchange.calls import Call
from gateway.policy.aggregates import Member
from gateway.ports import Headers
from gateway.protocol import headers as h
from gateway.protocol.events import encode_event, message_event, parse_event
from gateway.protocol.outcomes import Failed, Outcome

PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a member's stream is opened again. Beyond the last: every 30 s."""

SILENCE_SECONDS: Final = 60.0
"""How long one read waits; a silent member is read again."""

WAITING_EVENTS: Final = 256
"""Events that wait for the client. Beyond them members are not read."""

CHANGED: Final = tuple(
    message_event(b'{"jsonrpc":"2.0","method":"notifications/%b/list_changed"}' % kind)
    for kind in (b"tools", b"prompts", b"resources")
)
"""Told of a member that was away: what it has may be other than what was listed."""

Open = Callable[[bytes], Awaitable[Call]]
"""Opens a member's stream, behind an event id of its own where there is one. Raises `Failed` where that may be tried again."""


class Refused(Exception):
    """The member has no such stream, now and later."""


class GatheredAnswer:
    """`gateway.ports.Answer`: the events of all members, each with an id that says how far each member's stream has come."""

    def __init__(self, opens: Mapping[Member, Open], cursors: Mapping[str, bytes]) -> None:
        self.status = 200
        self.headers: Headers = [(b"content-type", h.SSE)]
        self._cursors = dict(cursors)
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(WAITING_EVENTS)
        self._settled = asyncio.Event()
        self._unsettled = len(opens)
        self._tasks = [asyncio.create_task(self._read(member, open_it)) for member, open_it in opens.items()]
        self._is_refused = True

    @property
    def body(self) -> bytes | None:
        return None

    async def settle(self, within_seconds: float) -> bool:
        """Waits until each member's stream is open, or isn't, as long as that; False where every one of them refused."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._settled.wait()
        return not self._is_refused or self._unsettled > 0

    async def read(self, limit_bytes: int) -> bytes:
        raise Failed(Outcome.NONSENSE, "a stream without end can't be read whole")

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        try:
            async with asyncio.timeout(within_seconds):
                first = await self._waiting.get()
        except TimeoutError:
            return None
        events = [first]
        while not self._waiting.empty():
            events.append(self._waiting.get_nowait())
        return b"".join(events)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _read(self, member: Member, open_it: Open) -> None:
        """One member's stream, as often as it takes."""
        failures, was_away, is_first = 0, False, True
        while True:
            outcome = Outcome.BROKEN
            try:
                call = await open_it(self._cursors.get(member.backend, b""))
            except Refused:
                self._settle(is_first)
                return
            except Failed:
                was_away = True
                self._settle(is_first, is_refused=False)
            else:
                self._settle(is_first, is_refused=False)
                try:
                    if was_away:
                        await self._tell_changed()
                    was_away, outcome = False, await self._read_one(member, call)
                    failures = 0
                finally:
                    call.end(outcome)
            is_first = False
            await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])
            failures += 1

    def _settle(self, is_first: bool, *, is_refused: bool = True) -> None:
        if not is_first:
            return
        self._is_refused = self._is_refused and is_refused
        self._unsettled -= 1
        if not self._unsettled:
            self._settled.set()

    async def _tell_changed(self) -> None:
        for event in CHANGED:
            await self._waiting.put(event)

    async def _read_one(self, member: Member, call: Call) -> Outcome:
        """To its end, however it ends. The pieces are whole events (`views`)."""
        from gateway.protocol.events import EventSplitter

        splitter = EventSplitter(1 << 30)  # bounded by who gave us the answer
        while True:
            try:
                piece = await call.answer.next_chunk(SILENCE_SECONDS)
            except Failed as failure:
                return failure.outcome
            if piece == b"":
                return Outcome.OK
            for block in splitter.feed(piece or b""):
                await self._pass_on(member, block)

    async def _pass_on(self, member: Member, block: bytes) -> None:
        event = parse_event(block)
        if event.id:
            self._cursors[member.backend] = event.id
        if event.data:
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
    except (ValueError, msgspec.MsgspecError):
        return {}
