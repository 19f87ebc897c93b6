"""A pump whose events are in the log before a client sees them, so that any replica can go on where this one ends.

It belongs to no connection: neither the client's, which may go and resume elsewhere, nor the backend's, to which it comes
back where the backend can resume. What it can't save it reports, as a JSON-RPC error on the request's id.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.exchange.calls import Call
from gateway.exchange.journals import BEHIND_SECONDS, Fenced, Journal
from gateway.exchange.pipes import SILENCE_SECONDS, check
from gateway.exchange.pumps import HandOver
from gateway.exchange.reexecutions import Reexecution
from gateway.exchange.watches import Watch
from gateway.policy.streams import Bounds, Hold, LogAway
from gateway.ports import EventLog, StreamTurn, Telemetry
from gateway.protocol.errors import encode_error
from gateway.protocol.events import message_event, strip_ids
from gateway.protocol.outcomes import Ended, Failed, Outcome
from gateway.protocol.streams import StreamReader

END_SECONDS: Final = 0.05
"""How long the end of a stream is waited for after its last response: a server that doesn't close costs a connection."""

COME_BACK_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits before coming back to a backend whose stream broke. Beyond the last: it can't be resumed."""

KEEP_SECONDS: Final = Bounds().keep_seconds
"""How often the log is told that a silent stream is still pumped."""

LONGEST_RETRY_SECONDS: Final = 30.0
"""Of the `retry` that a backend asks for."""

ABANDONED: Final = "too many clients had left their calls, so this one was ended: call again"

Reopen = Callable[[bytes], Awaitable[Call]]
"""Asks the backend for what follows that event id of its own. Raises `Failed`."""


class _Unwanted(Exception):
    """The client has ended the call."""


class DurablePump:
    """One call's stream, read to its end. `call` is None where it was taken over: the backend is asked to resume."""

    def __init__(
        self,
        telemetry: Telemetry,
        log: EventLog,
        journal: Journal,
        reader: StreamReader,
        call: Call | None,
        reopen: Reopen,
        exchange_id: str,
    ) -> None:
        self._telemetry = telemetry
        self._log = log
        self._journal = journal
        self._call = call
        self._reopen = reopen
        self._exchange_id = exchange_id
        self._kept_at = 0.0
        self._vain_returns = 0  # to the backend, since it last had something new
        self._watch: Watch | None = None
        self._is_abandoned = False
        self._again: Reexecution | None = None
        self.reader = reader
        self.hand_over = HandOver()
        self.outcome = Outcome.OK
        self.detail = ""

    def end_when(self, watch: Watch) -> None:
        """From now on the pump ends as soon as its client has ended the call."""
        self._watch = watch

    def may_run_again(self, again: Reexecution) -> None:
        """From now on a call that is lost is run once more, where it may be."""
        self._again = again

    @property
    def hold(self) -> Hold:
        return self._journal.hold

    @property
    def can_be_released(self) -> bool:
        """Whether the backend gave an id to ask it with, and the log has all that its client has."""
        return bool(self.reader.cursor) and self._journal.is_complete

    def abandon(self) -> None:
        """When it is cancelled next, the call ends with an error instead of being released."""
        self._is_abandoned = True

    async def run(self) -> None:
        """Never raises but when cancelled: then the stream is released, for whoever follows it to take over."""
        task = asyncio.current_task()
        leave = _nothing if self._watch is None or task is None else self._watch.begin(task)
        try:
            await self._read_to_the_end()
        except Fenced:
            self._note_fenced()
        except _Unwanted:
            await self._finish_unwanted()
        except Ended as ended:
            await self._report(ended)
        except asyncio.CancelledError:
            self.outcome = Outcome.CLIENT_LEFT
            is_unwanted = self._watch is not None and self._watch.has_ended
            if task is None or not (is_unwanted or self._is_abandoned):
                await self._release()
                raise
            task.uncancel()
            await (self._finish_unwanted() if is_unwanted else self._report(Failed(Outcome.OVERLOADED, ABANDONED)))
        except Exception as error:  # a task's root, as `flow.serve` is one: a bug must not leave a stream open for ever
            self._telemetry.stream_turned(StreamTurn.BROKEN, repr(error))
            await self._report(Failed(Outcome.INTERNAL, "the gateway failed in the middle of this call: call again"))
        finally:
            leave()
            self.close()

    async def _heed_ending(self) -> None:
        """Its word may have come before anybody listened for it, or while Redis was away."""
        if self._watch is not None and await self._watch.is_ended():
            raise _Unwanted

    async def _release(self) -> None:
        self._end_call()  # first: a backend may serve one stream to one connection at a time
        with contextlib.suppress(LogAway):
            await self._log.release(self.hold)
            self._telemetry.stream_turned(StreamTurn.RELEASED)

    async def _finish_unwanted(self) -> None:
        """The client has ended the call: nobody is to go on with it."""
        self._end_call()
        if self._again is not None:
            await self._again.cancel()
        await self._journal.finish()

    def close(self) -> None:
        """The end, also of a pump that was cancelled before it ran. Harmless when repeated."""
        self.hand_over.close()
        self._end_call()

    def _end_call(self) -> None:
        if self._call is not None:
            self._call.end(self.outcome)

    async def _read_to_the_end(self) -> None:
        while True:
            if self._call is not None:
                outcome = await self._read(self._call)
                self._call.end(outcome)
                if not self.reader.awaited:
                    break
                if outcome is Outcome.OK and self.reader.retry_seconds is not None and self._journal.head.seq:
                    self.hand_over.close()  # the backend wants to be polled: its client is let go, too, and polls us
            self._call = await self._go_on()
            self.reader.reconnect()
        self.outcome = self.reader.outcome
        await self._let_go()

    async def _read(self, call: Call) -> Outcome:
        """Reads one connection to its end, or to the response. A broken one is an end like any: we may come back."""
        answer, reader, journal, before = call.answer, self.reader, self._journal, self.reader.events
        try:
            while reader.awaited:
                piece = await answer.next_chunk(BEHIND_SECONDS if journal.is_behind else SILENCE_SECONDS)
                if piece == b"":
                    return Outcome.OK
                await self._write(reader.feed(piece) if piece else [])
                check(reader)
                if piece is None:
                    await self._keep()
            await answer.next_chunk(END_SECONDS)
        except Failed as failure:
            if reader.awaited and failure.outcome is not Outcome.BROKEN:
                raise
            return failure.outcome
        finally:
            self._vain_returns = 0 if reader.events > before else self._vain_returns + 1
        return Outcome.OK

    async def _keep(self) -> None:
        """A silent stream is no forgotten one."""
        now = asyncio.get_running_loop().time()
        if now - self._kept_at >= KEEP_SECONDS:
            self._kept_at = now
            with contextlib.suppress(LogAway):
                await self._log.keep([self.hold.stream])
            await self._heed_ending()

    async def _write(self, blocks: list[bytes]) -> None:
        """Log first, client then."""
        payloads = strip_ids(blocks)
        if not payloads and not self._journal.is_behind:
            return
        given = await self._journal.write(payloads, self.reader.cursor, is_final=not self.reader.awaited)
        self._telemetry.stream_events("appended", len(payloads))
        await self.give(given)

    async def give(self, given: bytes) -> None:
        """To the attached client, if there is one. One that is too slow is let go: it resumes from the log."""
        if not given:
            return
        if not self._journal.is_complete:
            await self.hand_over.put(given)
        elif not self.hand_over.offer(given):
            self._telemetry.stream_turned(StreamTurn.CLIENT_DETACHED)

    async def _go_on(self) -> Call:
        """What comes behind a connection that ended too soon: the rest of the stream, or the call run again. Raises `Failed`."""
        await self._heed_ending()
        try:
            return await self._come_back()
        except Failed as failure:
            if failure.outcome is Outcome.TIMED_OUT:
                raise
            if (call := await self._run_again()) is not None:
                return call
            self._telemetry.stream_turned(StreamTurn.CUT_SHORT, failure.message)
            raise

    async def _run_again(self) -> Call | None:
        """The call's second run, which can't be resumed; None where there is to be none."""
        # What the client has and the log lacks could be a question to it, or progress.
        if self._again is None or not self._journal.is_complete:
            return None
        running = asyncio.create_task(self._again.begin(self.hold))
        try:
            while not running.done():  # the answer's head may take its time
                await asyncio.wait([running], timeout=SILENCE_SECONDS)
                await self._keep()
        except BaseException:
            running.cancel()
            running.add_done_callback(_drop)
            raise
        if (call := running.result()) is not None:
            self.reader.cursor = b""
        return call

    async def _come_back(self) -> Call:
        """The rest of the stream, from the backend. Raises `Failed` where it gave no ids, or can't resume."""
        reader = self.reader
        if not reader.cursor:
            raise Failed(Outcome.BROKEN, "the connection to the server broke, and it can't resume: call again")
        wished_seconds = min(reader.retry_seconds or 0.0, LONGEST_RETRY_SECONDS)
        for pause_seconds in COME_BACK_SECONDS[min(self._vain_returns, len(COME_BACK_SECONDS) - 1) :]:
            await asyncio.sleep(max(wished_seconds, pause_seconds))
            try:
                return await self._reopen(reader.cursor)
            except Failed as failure:
                if failure.outcome not in (Outcome.UNREACHABLE, Outcome.BROKEN):
                    raise
        raise Failed(Outcome.UNREACHABLE, "the server could not be reached again: call again")

    async def _let_go(self) -> None:
        """The attached client has had all. Whoever follows the log elsewhere is to have it, too."""
        self.hand_over.close()
        await self._journal.close(self.reader.cursor)

    async def _report(self, ended: Ended) -> None:
        """A request left without a response gets a JSON-RPC error on its id; that is the stream's last event."""
        self.outcome, self.detail = ended.outcome, ended.message
        errors = [
            message_event(encode_error(ended, self._exchange_id, request_id))
            for request_id in sorted(self.reader.awaited, key=str)
        ]
        try:
            await self.give(await self._journal.write(errors, self.reader.cursor, is_final=True))
            await self._let_go()
        except Fenced:
            self._note_fenced()

    def _note_fenced(self) -> None:
        self.detail = "another worker has taken the stream over"
        self._telemetry.stream_turned(StreamTurn.FENCED)


def _drop(running: asyncio.Task[Call | None]) -> None:
    """Nobody waits for it any more."""
    if not running.cancelled() and running.exception() is None and (call := running.result()) is not None:
        call.end(Outcome.CLIENT_LEFT)


def _nothing() -> None:
    """There is nothing to undo."""
