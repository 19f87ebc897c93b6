"""Legacy MCP: a pump reads the backend's stream, a follower writes it to the client, and a bounded hand-over joins them.

They are two halves because they live differently long: for legacy MCP a disconnect is no cancellation (2025-11-25,
basic/transports "Sending Messages" 5), so the pump of a call goes on when its client has left, and reads the backend to
the end. Only a standalone stream, which nobody else can have, ends with its client.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, Protocol, runtime_checkable

from gateway.exchange.bells import Bell
from gateway.exchange.calls import Call
from gateway.exchange.orphans import Orphans
from gateway.exchange.pipes import SILENCE_SECONDS, check
from gateway.exchange.standing import Standing
from gateway.ports import Client, Record
from gateway.protocol.cursors import START, StreamName
from gateway.protocol.errors import encode_error
from gateway.protocol.events import COMMENT, message_event
from gateway.protocol.outcomes import Ended, Failed, Outcome
from gateway.protocol.streams import StreamReader

QUEUE_BYTES: Final = 256 * 1024
"""Events that wait for a slow client. Beyond it the pump waits, and through it the backend: memory doesn't grow."""


class HandOver:
    """The bounded queue between a pump and the follower that is attached to it."""

    __slots__ = ("_events", "_filled", "_is_attached", "_is_closed", "_is_untouched", "_size_bytes", "_taken", "cursor")

    def __init__(self) -> None:
        self.cursor = START  # of the last event that was handed over, where the pump tells
        self._events: list[bytes] = []
        self._filled = Bell()
        self._taken = Bell()
        self._size_bytes = 0
        self._is_attached = True
        self._is_closed = False
        self._is_untouched = True  # the follower has taken nothing yet

    async def put(self, event: bytes) -> None:
        """Hands the event over, waiting while the queue is full; without a follower it is dropped."""
        while self._is_attached and self._size_bytes >= QUEUE_BYTES:
            await self._taken.wait()
        if self._is_attached:
            self._events.append(event)
            self._size_bytes += len(event)
            self._filled.ring()

    def offer(self, event: bytes) -> bool:
        """Hands the event over without waiting. False: the follower had no room for it, and was let go."""
        if self._is_attached and self._size_bytes + len(event) > QUEUE_BYTES and self._events:
            self._is_attached = False
            if not self._is_untouched:  # else the first id is among them, without which nobody can resume
                self._events.clear()
            self.close()
            return False
        if self._is_attached:
            self._events.append(event)
            self._size_bytes += len(event)
            self._filled.ring()
        return True

    async def take(self, within_seconds: float) -> bytes | None:
        """All that waits, in one piece; b"" when the pump has ended, None when nothing came in time."""
        while not self._events:
            if self._is_closed:
                return b""
            if not await self._filled.wait(within_seconds):
                return None
        data = b"".join(self._events)
        self._events.clear()
        self._size_bytes = 0
        self._is_untouched = False
        self._taken.ring()
        return data

    def close(self) -> None:
        """The pump's last word."""
        self._is_closed = True
        self._filled.ring()

    def detach(self) -> None:
        """The follower has left: nothing is queued from now on, and nobody waits for room."""
        self._is_attached = False
        self._events.clear()
        self._taken.ring()


class Pump:
    """Reads one upstream stream to its end and hands its events over. `outcome` and `detail` tell how it ended."""

    __slots__ = ("_call", "_exchange_id", "_first", "detail", "hand_over", "outcome", "reader")

    def __init__(self, call: Call, reader: StreamReader, exchange_id: str, first: Sequence[bytes] = ()) -> None:
        """`first`: events that the reader has given already."""
        self._call = call
        self._exchange_id = exchange_id
        self._first = first
        self.reader = reader
        self.hand_over = HandOver()
        self.outcome = Outcome.OK
        self.detail = ""

    can_be_released = False

    async def run(self) -> None:
        """Never raises but when cancelled. A request left without a response gets a JSON-RPC error on its id."""
        try:
            await self._read_all()
            self.outcome = self.reader.outcome
        except Ended as ended:
            self.outcome, self.detail = ended.outcome, ended.message
            # Cut off after an event id: the client resumes, and an error now would tell it not to.
            if ended.outcome is not Outcome.BROKEN or not self.reader.is_resumable:
                await self._put_errors(ended)
        except asyncio.CancelledError:
            self.outcome = Outcome.CLIENT_LEFT
            raise
        finally:
            self.close()

    def close(self) -> None:
        """The end, also of a pump that was cancelled before it ran. Harmless when repeated."""
        self.hand_over.close()
        self._call.end(self.outcome)

    async def _put_errors(self, ended: Ended) -> None:
        for request_id in sorted(self.reader.awaited, key=str):
            await self.hand_over.put(message_event(encode_error(ended, self._exchange_id, request_id)))

    async def _read_all(self) -> None:
        answer, reader, put = self._call.answer, self.reader, self.hand_over.put
        for event in self._first:
            await put(event)
        while (piece := await answer.next_chunk(SILENCE_SECONDS)) != b"":
            if piece is not None:
                for event in reader.feed(piece):
                    await put(event)
                check(reader)
        if reader.unfinished and not reader.is_resumable:
            raise Failed(Outcome.BROKEN, reader.unfinished)


class AnyPump(Protocol):
    """What reads a stream to its end."""

    @property
    def can_be_released(self) -> bool:
        """Whether another worker could go on with the stream now, and lose nothing."""

    async def run(self) -> None:
        """Never raises but when cancelled."""

    def close(self) -> None:
        """Harmless when repeated."""


@runtime_checkable
class OfCall(AnyPump, Protocol):
    """What reads the stream of one call."""

    def abandon(self) -> None:
        """When it is cancelled next, the call ends with an error instead of being released."""


class Feeder(Protocol):
    """What hands a stream's events over to one client."""

    hand_over: HandOver


async def follow(pump: Feeder, client: Client, record: Record) -> None:
    """Writes the pump's events to the client until the stream ends. Raises `ClientLeft`."""
    hand_over = pump.hand_over
    try:
        while (data := await hand_over.take(SILENCE_SECONDS)) != b"":
            if data is not None:
                record.bytes_out += len(data)
            await client.write(COMMENT if data is None else data)
    finally:
        hand_over.detach()


class Pumps:
    """The pumps of this worker: they outlive the exchanges that started them, never the worker.

    `are_releasable`: whether there may be another worker that can go on with a durable stream.
    """

    def __init__(self, standing: Standing, *, are_releasable: bool = True, orphans: Orphans | None = None) -> None:
        self._standing = standing
        self.orphans = Orphans() if orphans is None else orphans
        self.are_releasable = are_releasable
        self._tasks: set[asyncio.Task[None]] = set()
        self._durable: dict[StreamName, tuple[asyncio.Task[None], AnyPump] | None] = {}
        self._released: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, pump: AnyPump, *, ends_with_client: bool, stream: StreamName | None = None) -> Callable[[], object]:
        """Runs the pump; call the result when its client has left. `stream`: its name, if another worker could go on."""
        task = asyncio.get_running_loop().create_task(pump.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: pump.close())
        if ends_with_client:
            self._standing.add(task)
            return task.cancel
        if stream is not None:
            self._durable[stream] = (task, pump)
            task.add_done_callback(lambda _: self.forget(stream))
            if isinstance(pump, OfCall):
                self.orphans.begin(stream, lambda: self._abandon(task, pump))
            if self._standing.is_draining:
                task.get_loop().call_soon(self.release)  # behind its first step: what never ran could give up nothing
        return _go_on

    def reserve(self, stream: StreamName) -> bool:
        """Keeps the name for a pump to come. False: it is taken. Two pumps of one stream would each hide the other's events."""
        if stream in self._durable:
            return False
        self._durable[stream] = None
        return True

    def has(self, stream: StreamName) -> bool:
        """Whether a pump of that stream is here, or to come."""
        return stream in self._durable

    async def finish(self, work: Coroutine[None, None, None]) -> None:
        """Waits for work that must come to its end though whoever waits is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    def forget(self, stream: StreamName) -> None:
        """No pump of that stream is here any more."""
        self._durable.pop(stream, None)
        self.orphans.end(stream)

    @property
    def is_busy(self) -> bool:
        """Whether there are durable streams that were not released, or not yet."""
        return bool(self._durable)

    def release(self) -> None:
        """The worker drains: streams that another worker can go on with are given up, so that it may at once.

        Again and again: one whose events wait for Redis, or that has no upstream cursor yet, may be able to later.
        """
        for task, pump in filter(None, list(self._durable.values())):
            would_last = not isinstance(pump, OfCall)  # for ever: its client opens it again, wherever that is
            if would_last or (self.are_releasable and pump.can_be_released):
                self._give_up(task)

    def give_up(self) -> None:
        """The grace is over: what could not be released ends all the same. Whoever follows it elsewhere is told of the loss."""
        for task, _ in filter(None, list(self._durable.values())):
            self._standing.lost += self._give_up(task)

    def _abandon(self, task: asyncio.Task[None], pump: "OfCall") -> None:
        """Too many clients have left. Another worker, or this one, can go on when its client is back; or the call ends."""
        if not pump.can_be_released:
            pump.abandon()
        self._give_up(task)

    def _give_up(self, task: asyncio.Task[None]) -> bool:
        """Cancels the pump, unless that was done: a second time would cut off its leave-taking."""
        if task in self._released or task.done():
            return False
        self._released.add(task)
        task.add_done_callback(self._released.discard)
        return task.cancel()

    async def close(self) -> None:
        """Ends them all, and waits until they have."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _go_on() -> None:
    """For legacy MCP a client that leaves has cancelled nothing."""
