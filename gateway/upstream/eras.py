"""The `Eras` port: which eras each backend speaks, found out in the background.

What is configured counts; else a probe asks (`protocol.probes`). Conclusive answers are kept until a real answer
contradicts them, inconclusive ones never. Nothing on a request's path waits for any of this.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.policy.backends import Backend, Endpoint, Timeouts
from gateway.ports import Answer, Endpoints, Headers, Upstream
from gateway.protocol import headers as h
from gateway.protocol.events import EventSplitter, EventTooLarge, parse_event
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.probes import (
    DISCOVER,
    DISCOVER_HEADERS,
    INITIALIZE,
    INITIALIZE_HEADERS,
    is_answer,
    judge_discover,
    judge_initialize,
)
from gateway.protocol.versions import LATEST_HANDSHAKE, Era
from gateway.upstream.witnesses import Nobody, Witness


class Pace(msgspec.Struct, frozen=True):
    """How often and how long probes ask. Times are seconds."""

    question: float = 10.0  # for one question; what takes longer tells nothing
    first_pause: float = 1.0  # between probes that told nothing: doubled from the first to the longest
    longest_pause: float = 60.0
    jitter: Callable[[], float] = random.random  # a pause is shortened by up to a half, so that workers spread out
    rest: float = 5.0  # after a conclusive one: answers contradict each other while a fleet is being rolled


MAX_ANSWER_BYTES: Final = 1024 * 1024

_TOGGLES: Final[dict[str, dict[Era, bool]]] = {
    "legacy": {Era.LEGACY: True, Era.MODERN: False},
    "modern": {Era.LEGACY: False, Era.MODERN: True},
    "dual": {Era.LEGACY: True, Era.MODERN: True},
}


class _Knowledge:
    """Of one backend: what it speaks, and whether someone wants it probed."""

    __slots__ = ("spoken", "wanted")

    def __init__(self) -> None:
        self.spoken: dict[Era, bool] = {}
        self.wanted = asyncio.Event()
        self.wanted.set()


class ProbedEras:
    """`gateway.ports.Eras`. Each backend without a configured era wants one task: `watch`."""

    def __init__(
        self,
        client: Upstream,
        endpoints: Endpoints,
        witness: Witness | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._endpoints = endpoints
        self._witness = witness or Nobody()
        self._pace = pace or Pace()
        self._known: dict[str, _Knowledge] = {}

    # ---- the port

    def speaks(self, backend: Backend, era: Era) -> bool | None:
        if backend.era != "auto":
            return _TOGGLES[backend.era][era]
        known = self._known.get(backend.name)
        return None if known is None else known.spoken.get(era)

    def observe(self, backend: Backend, era: Era, spoken: bool) -> None:
        if backend.era != "auto":
            return
        known = self._find(backend.name)
        before = known.spoken.get(era)
        if before is spoken:
            return
        if before is not None:
            known.wanted.set()
        if spoken:  # an answer proves that it speaks; that it doesn't, only a probe: any client can provoke a refusal
            self._note(backend, era, spoken)

    # ---- the room's side

    def forget(self, name: str) -> None:
        """The backend is gone, or is another now."""
        self._known.pop(name, None)

    async def watch(self, backend: Backend) -> None:
        """Probes the backend whenever it is wanted, once at a time, until cancelled."""
        known = self._find(backend.name)
        if len(known.spoken) < len(Era):
            known.wanted.set()  # a watch before us may have been stopped half-way
        while True:
            await known.wanted.wait()
            known.wanted.clear()
            pause = self._pace.first_pause
            while not await self.probe(backend):
                await asyncio.sleep(pause * (1.0 - self._pace.jitter() / 2))
                pause = min(pause * 2, self._pace.longest_pause)
            await asyncio.sleep(self._pace.rest)

    async def probe(self, backend: Backend) -> bool:
        """Asks once. Whether both eras are known now; what one answer showed is kept even if the other told nothing."""
        try:
            modern = judge_discover(*(await self._ask(backend, DISCOVER_HEADERS, DISCOVER))[:2])
            status, message, session = await self._ask(backend, INITIALIZE_HEADERS, INITIALIZE)
        except Failed:
            return False
        legacy = judge_initialize(status, message)
        if session:
            await self._end_session(backend, session)
        if modern is False and legacy is False:  # speaks nothing at all: a wrong path, or a deploy half done
            self._find(backend.name).spoken.clear()
            return False
        for era, spoken in ((Era.MODERN, modern), (Era.LEGACY, legacy)):
            if spoken is not None:
                self._note(backend, era, spoken)
        return modern is not None and legacy is not None

    async def _ask(
        self, backend: Backend, headers: Headers, body: bytes
    ) -> tuple[int, bytes, tuple[Endpoint, bytes] | None]:
        """Status and message of the answer, and the session that it opened, if it did."""
        endpoint = self._endpoints.pick(backend)
        self._endpoints.begin(endpoint)
        outcome = Outcome.CLIENT_LEFT
        try:
            async with asyncio.timeout(self._pace.question):
                answer = await self._send(backend, endpoint, b"POST", headers, body)
                try:
                    outcome = Outcome.BACKEND_FAILED if answer.status >= 500 else Outcome.OK
                    message = await self._read_message(answer)
                finally:
                    answer.close()
        except TimeoutError:
            outcome = Outcome.TIMED_OUT
            raise Failed(Outcome.TIMED_OUT, f"Backend {backend.name!r} did not answer a probe in time.") from None
        except Failed as failure:
            outcome = failure.outcome
            raise
        finally:
            self._endpoints.finish(endpoint, outcome)
        session = h.find_header(answer.headers, h.SESSION)
        return answer.status, message, (endpoint, session) if session else None

    async def _read_message(self, answer: Answer) -> bytes:
        """The body, or of a stream the first event that answers the probe; b"" where there is none."""
        if h.media_type(answer.headers) != b"text/event-stream":
            return await answer.read(MAX_ANSWER_BYTES)
        splitter = EventSplitter(MAX_ANSWER_BYTES)
        while chunk := await answer.next_chunk(self._pace.question):
            try:
                events = splitter.feed(chunk)
            except EventTooLarge:
                break
            for event in events:
                message = parse_event(event).data
                if is_answer(message):
                    return message
        return b""

    async def _end_session(self, backend: Backend, opened: tuple[Endpoint, bytes]) -> None:
        endpoint, session = opened
        headers = [(h.SESSION, session), (h.VERSION, LATEST_HANDSHAKE.encode())]
        try:
            async with asyncio.timeout(self._pace.question):
                answer = await self._send(backend, endpoint, b"DELETE", headers, b"")
                answer.close()
        except (Failed, TimeoutError):
            pass  # it expires by itself

    async def _send(self, backend: Backend, endpoint: Endpoint, method: bytes, headers: Headers, body: bytes) -> Answer:
        own = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in backend.headers}
        merged = [header for header in headers if header[0] not in own] + list(own.items())
        timeouts = Timeouts(backend.timeouts.connect_seconds, self._pace.question, self._pace.question)
        return await self._client.send(backend, endpoint, method, merged, body, timeouts)

    def _note(self, backend: Backend, era: Era, spoken: bool) -> None:
        known = self._find(backend.name)
        if known.spoken.get(era) is not spoken:
            known.spoken[era] = spoken
            self._witness.era_found(backend.name, era, spoken)

    def _find(self, name: str) -> _Knowledge:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Knowledge()
        return known
