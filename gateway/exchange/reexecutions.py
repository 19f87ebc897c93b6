"""A call that is lost is run once more where that does no harm: a read-only tool, on a backend whose annotations are trusted.

Nothing of it is on the way of an ordinary call. That the tool is read-only is asked of the backend when the call is lost; what
the client has seen of it, and whether it was asked something, stands in the log. The log gives the request to one worker,
once: so a call is run twice at most, and a second loss is told as any other.
"""

import asyncio
import contextlib
from typing import Final

import msgspec

from gateway.exchange.attempts import MAX_ATTEMPTS
from gateway.exchange.calls import Call, open_call
from gateway.exchange.exchanges import Exchange, Gateway
from gateway.exchange.healings import digest_upstream, heal
from gateway.exchange.pipes import SILENCE_SECONDS
from gateway.exchange.reopens import find_endpoint, seconds_left, session_headers
from gateway.exchange.responses import read_response
from gateway.exchange.views import find_view, view
from gateway.policy.backends import Backend, Endpoint, Timeouts
from gateway.policy.streams import Facts, Hold, LogAway
from gateway.ports import Answer, EventLog, Headers, StreamTurn
from gateway.protocol import headers as h
from gateway.protocol.cursors import START, StreamName
from gateway.protocol.events import Event, EventSplitter, EventTooLarge, encode_event
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.repetitions import Repetition, Seen, name_tool, read_hint, with_request_id
from gateway.protocol.sessions import PURPOSE, Session, parse_session

REQUEST_BYTES: Final = 64 * 1024
"""A larger request isn't kept, and so not run again: each is in Redis as long as its call lasts."""

LIST_SECONDS: Final = 10.0
LIST_PAGES: Final = 50
LIST_BYTES: Final = 4 * 1024 * 1024
"""What finding the tool in the backend's list may take, and each page hold. Beyond: the call isn't run again."""

CANCEL_SECONDS: Final = 2.0

WAITS_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0)
"""Between attempts to reach a backend, which may be restarting: 28 s in all. Then the loss is told."""


def request_to_keep(backend: Backend, intent: Intent, body: bytes) -> bytes:
    """What must be kept of a call so that it could be run once more: the body that the backend got; b"" for any other."""
    is_call = isinstance(intent, Send) and intent.first.method == "tools/call" and not intent.is_batch
    return body if is_call and backend.reexecute == "read_only" and len(body) <= REQUEST_BYTES else b""


def find_token_session(exchange: Exchange) -> Session | None:
    """The session as the client's token has it, whatever stands in for it by now. An aggregate's has no backend's session."""
    plain = exchange.gateway.seals.open(exchange.token, PURPOSE)
    return None if plain is None else parse_session(plain)


class _Forgotten(Exception):
    """The backend doesn't know the session."""


class Reexecution:
    """The second run of one call, if it comes to that."""

    def __init__(
        self, gateway: Gateway, log: EventLog, facts: Facts, session: Session | None, exchange_id: str
    ) -> None:
        """`session`: as its client's token has it; where the backend forgot it, it is healed."""
        self._gateway = gateway
        self._log = log
        self._facts = facts
        self._session = session
        self._exchange_id = exchange_id
        self._endpoint: Endpoint | None = None
        self._is_healed = False
        self._sent_id: RequestId | None = None

    async def begin(self, hold: Hold) -> Call | None:
        """The call, run again, its answer as the client is to have it; None where it must not be, or can't be."""
        if self._backend() is None:
            return None
        try:
            # The request first: whoever has it is the only one, and from then on the log is ours alone to add to.
            request = await self._log.take_request(hold)
            seen = await self._review(hold.stream) if request else None
            if seen is None or seen.has_questions:
                return None
            self._endpoint = await self._find_healing(name_tool(request))
            return None if self._endpoint is None else await self._run(self._endpoint, request, seen)
        except (LogAway, Failed, _Forgotten, TimeoutError, msgspec.MsgspecError, RecursionError):
            return None

    async def cancel(self) -> None:
        """Tells the backend that nobody waits for the second run; nothing where there is none."""
        if self._sent_id is not None and self._endpoint is not None:
            await self._cancel(self._endpoint, self._sent_id, "the client has ended the call")

    def _backend(self) -> Backend | None:
        """As it is configured now, if it is one whose calls may be run again."""
        backend = self._gateway.site.backends.get(self._facts.backend)
        return backend if backend is not None and backend.reexecute == "read_only" else None

    async def _review(self, stream: StreamName) -> Seen | None:
        """What the log says of the first run; None where some of it is gone."""
        seen, cursor = Seen(), START
        while (reading := await self._log.read(stream, cursor)) is not None and reading.is_continuous:
            for entry in reading.entries:
                seen.note(entry.payload)
            if not reading.entries:
                return seen
            cursor = reading.entries[-1].cursor
        return None

    async def _find_healing(self, tool: str) -> Endpoint | None:
        """Where the call can be run, the tool being read-only there. Raises `Failed`, TimeoutError."""
        try:
            return await self._find_waiting(tool)
        except _Forgotten:
            return await self._find_waiting(tool) if await self._heal() else None

    async def _find_waiting(self, tool: str) -> Endpoint | None:
        """The same, on the session that there is: a backend that restarts is given a while. Raises `_Forgotten` too."""
        for wait_seconds in WAITS_SECONDS:
            try:
                async with asyncio.timeout(LIST_SECONDS):
                    return await self._find(tool)
            except Failed as failure:
                if failure.outcome not in (Outcome.UNREACHABLE, Outcome.BROKEN):
                    raise
            await asyncio.sleep(wait_seconds)
        return None

    async def _find(self, tool: str) -> Endpoint | None:
        tried = set[str]()
        while (backend := self._backend()) is not None:
            if (endpoint := find_endpoint(self._gateway, backend, self._facts, tried)) is None:
                raise _Forgotten
            try:
                return endpoint if await self._is_read_only(endpoint, tool) else None
            except Failed as failure:
                tried.add(endpoint.address)
                if self._facts.endpoint or failure.outcome is not Outcome.UNREACHABLE or len(tried) == MAX_ATTEMPTS:
                    raise
        return None

    async def _heal(self) -> bool:
        """Whether another session stands in for the one that the backend forgot, and the first run with it. Raises `LogAway`."""
        gateway, backend, session = self._gateway, self._backend(), self._session
        if backend is None or session is None or gateway.healer is None or gateway.marks is None:
            return False
        if not (backend.heal and session.params and session.upstream_id):
            return False
        if await gateway.marks.is_ended(self._facts.session, None):
            return False
        digest = digest_upstream(session)
        failed, healed = gateway.healer.find(digest) or (b"", None)
        if healed is None or healed.upstream_id == self._facts.upstream_session:
            healed = await heal(gateway, self._exchange_id, backend, session, digest, failed)
        if healed is None:
            return False
        self._facts = msgspec.structs.replace(self._facts, endpoint=healed.address, upstream_session=healed.upstream_id)
        self._is_healed = True
        return True

    async def _is_read_only(self, endpoint: Endpoint, tool: str) -> bool:
        cursor: str | None = None
        for _ in range(LIST_PAGES):
            hint = read_hint(await self._list_tools(endpoint, cursor), tool)
            if hint.is_read_only is not None or not hint.next_cursor:
                return hint.is_read_only is True
            cursor = hint.next_cursor
        return False

    async def _list_tools(self, endpoint: Endpoint, cursor: str | None) -> bytes:
        request_id = self._new_id()
        params = {} if cursor is None else {"cursor": cursor}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "method": "tools/list", "params": params})
        call = await self._post(endpoint, body, LIST_SECONDS)
        try:
            if call.answer.status == 404 and self._facts.upstream_session:
                raise _Forgotten
            return await read_response(call, request_id, LIST_BYTES) if call.answer.status == 200 else b""
        finally:
            call.end(Outcome.OK)

    async def _run(self, endpoint: Endpoint, request: bytes, seen: Seen) -> Call:
        """Raises `Failed`, `msgspec.MsgspecError`."""
        asked_id: RequestId = msgspec.json.decode(self._facts.request_id, type=int | str)
        sent_id = self._new_id()
        body = with_request_id(request, sent_id)
        if not self._is_healed:  # the first run may still be under way, and its answer is for nobody
            await self._cancel(endpoint, asked_id, "the connection was lost, and the call is made again")
        self._sent_id = sent_id
        self._gateway.telemetry.stream_turned(StreamTurn.RUN_AGAIN, f"{self._facts.backend}: {name_tool(request)}")
        call = await self._post(endpoint, body, self._seconds_left())
        try:
            answer = await self._translate(call.answer, Repetition(sent_id, asked_id, seen))
        except BaseException:
            call.end(Outcome.BROKEN)
            raise
        through = find_view(self._gateway.site, self._facts.mount, self._facts.backend)
        return view(through, call.pass_on(answer), self._gateway.site.limits.event_bytes)

    async def _translate(self, answer: Answer, repetition: Repetition) -> Answer:
        limits, media_type = self._gateway.site.limits, h.media_type(answer.headers)
        if answer.status != 200 or media_type not in (h.SSE, h.JSON):
            raise Failed(Outcome.NONSENSE, "the server would not take the call again")
        whole = b""
        if media_type == h.JSON:
            body = await answer.read(limits.answer_bytes) if answer.body is None else answer.body
            whole = encode_event(Event(body, b"message"))
        return RepeatedAnswer(answer, repetition, limits.event_bytes, whole)

    async def _cancel(self, endpoint: Endpoint, request_id: RequestId, reason: str) -> None:
        """As good as it goes: a backend that doesn't hear of it finishes what nobody reads."""
        params = {"requestId": request_id, "reason": reason}
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        with contextlib.suppress(Failed):
            (await self._post(endpoint, body, CANCEL_SECONDS)).end(Outcome.OK)

    async def _post(self, endpoint: Endpoint, body: bytes, total_seconds: float) -> Call:
        gateway, backend = self._gateway, self._backend()
        if backend is None:
            raise Failed(Outcome.NONSENSE, "the server of this call is no longer configured")
        headers: Headers = [
            *session_headers(backend, self._facts, self._exchange_id),
            (b"content-type", h.JSON),
            (b"accept", b"application/json, text/event-stream"),
        ]
        timeouts = Timeouts(backend.timeouts.connect_seconds, backend.timeouts.idle_seconds, total_seconds)
        return await open_call(gateway.upstream, gateway.endpoints, backend, endpoint, b"POST", headers, body, timeouts)

    def _seconds_left(self) -> float:
        """Raises `Failed` (TIMED_OUT) where there are none."""
        backend = self._backend()
        left_seconds = 0.0 if backend is None else seconds_left(self._gateway, backend, self._facts)
        if left_seconds <= 0:
            raise Failed(Outcome.TIMED_OUT, "the server did not finish this call within the time allowed")
        return left_seconds

    def _new_id(self) -> str:
        """One that no client gives."""
        return f"gateway-{self._gateway.new_trace()}"


class RepeatedAnswer:
    """`gateway.ports.Answer`: the second run's, as if it went on where the first one ended.

    The backend's event ids don't pass: they are of a stream that no other worker knows.
    """

    def __init__(self, answer: Answer, repetition: Repetition, limit_bytes: int, whole: bytes = b"") -> None:
        """`whole`: all there is of it, where it was no stream."""
        self._answer = answer
        self._repetition = repetition
        self._splitter = EventSplitter(limit_bytes)
        self._whole = whole
        self.status = answer.status
        self.headers: Headers = answer.headers

    @property
    def body(self) -> None:
        return None

    async def read(self, limit_bytes: int) -> bytes:
        pieces: list[bytes] = []
        while (piece := await self.next_chunk(SILENCE_SECONDS)) != b"":
            pieces.append(piece or b"")
            if sum(map(len, pieces)) > limit_bytes:
                raise Failed(Outcome.NONSENSE, "the backend sent more than is allowed")
        return b"".join(pieces)

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        """Whole events at a time; None also where there was nothing new in what came. Raises `Failed`."""
        if self._whole:
            whole, self._whole = self._whole, b""
            return self._repetition.translate(whole)
        piece = await self._answer.next_chunk(within_seconds)
        if not piece:
            return piece
        try:
            blocks = self._splitter.feed(piece)
        except EventTooLarge:
            raise Failed(Outcome.NONSENSE, "the backend sent an event beyond the size limit") from None
        return b"".join(map(self._repetition.translate, blocks)) or None

    def close(self) -> None:
        self._answer.close()
