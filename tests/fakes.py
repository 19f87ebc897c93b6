"""A fake for every port: scripted where it acts, remembering where it is told something. No clock runs here."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from gateway.exchange.caches import Caches
from gateway.exchange.exchanges import Gateway
from gateway.exchange.hubs import Hubs
from gateway.exchange.orphans import Orphans
from gateway.exchange.pumps import Pumps
from gateway.exchange.standing import Standing
from gateway.policy.backends import Address, Backend, Endpoint, Timeouts, parse_endpoint
from gateway.policy.caches import CacheOutcome
from gateway.policy.sites import Site, compile_routes
from gateway.ports import ClientLeft, Headers, Record, StreamTurn
from gateway.protocol.outcomes import Ended, Failed, Outcome
from gateway.protocol.versions import Era
from gateway.state.seals import Keyring

BOUND_SECONDS: Final = 5.0
"""How long a test waits for an event that must come. It decides nothing but how fast a broken build fails."""

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
NOW: Final = 100.0
KEY: Final = b"0123456789abcdef0123456789abcdef"

SILENCE: Final = None
"""A piece of an answer that is none: the time to wait for one is over."""


class FakeClient:
    """`Client`: has sent `body`, and keeps what it is replied. `leave()` is its disconnect."""

    def __init__(self, body: bytes = b"", *, unreadable: Ended | None = None) -> None:
        self._body = body
        self._unreadable = unreadable
        self._changed = asyncio.Event()
        self._cut: asyncio.Task[object] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.cuts = 0
        self.started = False
        self.until_close = False  # the reply ends with its connection
        self.left = False
        self.has_ended = False
        self.status = 0
        self.headers: Headers = []
        self.writes: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    def header(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name!r} was sent twice"
        return values[0] if values else None

    async def read_body(self, limit_bytes: int, within_seconds: float) -> bytes:
        if self.left:
            raise ClientLeft
        if self._unreadable is not None:
            raise self._unreadable
        if len(self._body) > limit_bytes:
            raise AssertionError("give FakeClient(unreadable=...) for a body that is too large")
        return self._body

    def cut_on_leave(self) -> None:
        self.cuts += 1
        self._cut = asyncio.current_task()
        if self.left and self._cut is not None:
            self._cut.cancel()

    def leave(self) -> None:
        self.left = True
        self._room.set()
        if self._cut is not None and not self.has_ended:
            self._cut.cancel()

    def stop_reading(self) -> None:
        """From now on `write` waits."""
        self._room.clear()

    def go_on_reading(self) -> None:
        self._room.set()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        assert not self.started, "a second reply"
        self.started = self.has_ended = True
        self.status, self.headers = status, headers
        self.writes.append(body)
        self._changed.set()

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        assert not self.started, "a second reply"
        self.started, self.until_close = True, until_close
        self.status, self.headers = status, headers
        self._changed.set()

    async def write(self, data: bytes) -> None:
        assert self.started
        assert not self.has_ended
        await self._room.wait()
        if self.left:
            raise ClientLeft
        self.writes.append(data)
        self._changed.set()

    async def end(self) -> None:
        assert self.started
        assert not self.has_ended
        self.has_ended = True
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until something that is written makes the condition true."""
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


Piece = bytes | Failed | None


class FakeAnswer:
    """`Answer`: its pieces one by one; `live=True` leaves it open for `push`. A piece may be a failure, or SILENCE."""

    def __init__(self, status: int, headers: Headers, *pieces: Piece, live: bool = False, whole: bool = False) -> None:
        self.status = status
        self.headers = headers
        self._whole = b"".join(p for p in pieces if isinstance(p, bytes)) if whole else None
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.is_live = live
        self.closed = asyncio.Event()
        self.closings = 0
        self.reads = 0
        self.was_read_to_end = whole
        for piece in pieces:
            self.push(piece)
        if not live:
            self.push(b"")

    def push(self, piece: Piece) -> None:
        self._pieces.put_nowait(piece)

    @property
    def body(self) -> bytes | None:
        return self._whole

    async def read(self, limit_bytes: int) -> bytes:
        body = b""
        while piece := await self.next_chunk(0):
            body += piece
            if len(body) > limit_bytes:
                raise Failed(Outcome.NONSENSE, "the backend's answer is too large")
        return body

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        assert not self.closings, "read after close"
        if self.was_read_to_end:
            return b""
        self.reads += 1
        piece = await self._pieces.get()
        if isinstance(piece, Failed):
            raise piece
        if piece == b"":
            self.was_read_to_end = True
        return piece

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


class Sent(msgspec.Struct):
    """One request that reached, or would have reached, a backend."""

    backend: str
    address: Address
    method: bytes
    headers: Headers
    body: bytes
    timeouts: Timeouts

    def header(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name!r} was sent twice"
        return values[0] if values else None


class FakeUpstream:
    """`Upstream`: gives the scripted answers in turn. `pending` is what it waits for before the answer's head comes.

    Where `respond` is set, it makes the answers: of several backends that are asked at once each gives its own.
    """

    def __init__(self) -> None:
        self.respond: Callable[[Sent], FakeAnswer | Exception] | None = None
        self.answers: deque[FakeAnswer | Exception] = deque()
        self.answered: list[FakeAnswer] = []
        self.sent: list[Sent] = []
        self.called = asyncio.Event()
        self.pending: asyncio.Event | None = None
        self.cancelled = 0

    async def send(
        self, backend: Backend, endpoint: Endpoint, method: bytes, headers: Headers, body: bytes, timeouts: Timeouts
    ) -> FakeAnswer:
        self.sent.append(Sent(backend.name, endpoint.address, method, list(headers), body, timeouts))
        self.called.set()
        try:
            if self.pending is not None:
                await self.pending.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.respond is not None:
            answer = self.respond(self.sent[-1])
        else:
            assert self.answers, "the gateway sent a request that the test has no answer for"
            answer = self.answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        self.answered.append(answer)
        return answer


class FakeEndpoints:
    """`Endpoints`: all healthy, each in turn."""

    def __init__(self) -> None:
        self.gone: set[Address] = set()
        self.outstanding: Counter[Address] = Counter()
        self.finished: list[tuple[Address, Outcome]] = []
        self._turn = 0

    def pick(self, backend: Backend, but_not: Sequence[Address] = ()) -> Endpoint:
        addresses = [a for a in backend.endpoints if a not in self.gone and a not in but_not]
        if not addresses:
            raise Failed(Outcome.UNREACHABLE, f"backend {backend.name!r} has no endpoint")
        self._turn += 1
        return parse_endpoint(addresses[(self._turn - 1) % len(addresses)])

    def find(self, backend: Backend, address: Address) -> Endpoint | None:
        return parse_endpoint(address) if address in backend.endpoints and address not in self.gone else None

    def begin(self, endpoint: Endpoint) -> None:
        self.outstanding[endpoint.address] += 1

    def finish(self, endpoint: Endpoint, outcome: Outcome) -> None:
        self.outstanding[endpoint.address] -= 1
        assert self.outstanding[endpoint.address] >= 0, "a call was finished twice"
        self.finished.append((endpoint.address, outcome))


class FakeEras:
    """`Eras`: knows what it was told before, and remembers what it is told now."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Era], bool] = {}
        self.observed: list[tuple[str, Era, bool]] = []

    def speaks(self, backend: Backend, era: Era) -> bool | None:
        return self.known.get((backend.name, era))

    def observe(self, backend: Backend, era: Era, spoken: bool) -> None:
        self.observed.append((backend.name, era, spoken))


class FakeTelemetry:
    """`Telemetry`: keeps everything."""

    tells_steps = True

    def __init__(self) -> None:
        self.begun: list[Record] = []
        self.finished: list[Record] = []
        self.steps: list[str] = []
        self.exceptions: list[BaseException] = []
        self.open_streams: Counter[str] = Counter()
        self.streams: list[str] = []
        self.stream_counts: Counter[str] = Counter()
        self.turns: list[StreamTurn] = []
        self.healed: list[str] = []
        self.calls: tuple[int, int] = (0, 0)  # followed, orphans
        self.left_out: list[tuple[str, str, str]] = []
        self.collided: list[tuple[str, str, tuple[str, ...]]] = []
        self.cached: list[tuple[str, CacheOutcome]] = []
        self.cache_size = (0, 0)
        self.open_hubs: Counter[str] = Counter()
        self.limits: list[str] = []
        self.apart: list[bool] = []

    def begin(self, record: Record) -> None:
        self.begun.append(record)

    def finish(self, record: Record) -> None:
        self.finished.append(record)

    def step(self, record: Record, step: str, **facts: object) -> None:
        self.steps.append(step)

    def stream_opened(self, record: Record, kind: str) -> Callable[[], None]:
        self.streams.append(kind)
        self.open_streams[kind] += 1

        def closed() -> None:
            self.open_streams[kind] -= 1

        return closed

    def stream_events(self, done: Literal["appended", "replayed"], events: int) -> None:
        self.stream_counts[done] += events

    def member_left_out(self, aggregate: str, backend: str, reason: str, detail: str) -> None:
        self.left_out.append((aggregate, backend, reason))

    def names_collided(self, aggregate: str, kind: str, names: Sequence[str]) -> None:
        self.collided.append((aggregate, kind, tuple(names)))

    def calls_counted(self, *, followed: int, orphans: int) -> None:
        self.calls = (followed, orphans)

    def session_healed(self, backend: str) -> None:
        self.healed.append(backend)

    def stream_turned(self, turn: StreamTurn, detail: str = "") -> None:
        self.turns.append(turn)

    def hub_opened(self, backend: str) -> Callable[[], None]:
        self.open_hubs[backend] += 1

        def closed() -> None:
            self.open_hubs[backend] -= 1

        return closed

    def cache_asked(self, backend: str, outcome: CacheOutcome) -> None:
        self.cached.append((backend, outcome))

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        self.cache_size = (entries, size_bytes)

    def limited(self, limit: str) -> None:
        self.limits.append(limit)

    def limits_apart(self, are_apart: bool) -> None:
        self.apart.append(are_apart)

    def exception(self, record: Record, error: BaseException) -> None:
        self.exceptions.append(error)


ECHO: Final = Backend("echo", ("http://10.0.0.7:9000/mcp", "http://10.0.0.8:9000/mcp"), "/echo")
MATH: Final = Backend("math", ("http://10.0.0.9:9000/mcp",), "/math")


def site_of(*backends: Backend, **changes: object) -> Site:
    """A site of these backends, `echo` and `math` unless told otherwise."""
    chosen = backends or (ECHO, MATH)
    return msgspec.structs.replace(Site({b.name: b for b in chosen}, compile_routes(chosen)), **changes)


class World:
    """One worker's gateway, with a fake at every port but the seals, which are pure enough."""

    def __init__(self, site: Site | None = None) -> None:
        self.upstream = FakeUpstream()
        self.endpoints = FakeEndpoints()
        self.eras = FakeEras()
        self.telemetry = FakeTelemetry()
        self.seals = Keyring([KEY])
        self.standing = Standing()
        self.pumps = Pumps(self.standing, orphans=Orphans(telemetry=self.telemetry))
        self.now = NOW
        self.caches = Caches(self.telemetry, lambda: self.now)
        self.hubs = Hubs(self.upstream, self.endpoints, self.caches, self.telemetry)
        self.gateway = Gateway(
            site=site or site_of(),
            upstream=self.upstream,
            endpoints=self.endpoints,
            eras=self.eras,
            seals=self.seals,
            telemetry=self.telemetry,
            pumps=self.pumps,
            standing=self.standing,
            caches=self.caches,
            hubs=self.hubs,
            clock=lambda: self.now,
            new_trace=lambda: TRACE,
        )

    @property
    def answered(self) -> list[FakeAnswer]:
        """The answers given so far."""
        return self.upstream.answered

    def will_answer(self, *answers: FakeAnswer | Exception) -> "World":
        """The script: these answers, in turn."""
        self.upstream.answers.extend(answers)
        return self

    @property
    def sent(self) -> Sent:
        """The one request that was sent."""
        (sent,) = self.upstream.sent
        return sent

    @property
    def record(self) -> Record:
        """The one record of the one exchange."""
        (record,) = self.telemetry.finished
        return record
