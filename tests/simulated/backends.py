"""One simulated MCP server behind all replicas: it says what it is told to say, and keeps what it has said, or doesn't."""

import asyncio
import json
from typing import Final

from gateway.policy.backends import Backend, Endpoint, Timeouts
from gateway.ports import Headers
from gateway.protocol.outcomes import Failed, Outcome
from tests.simulated.hosts import Host

SSE: Final[Headers] = [(b"content-type", b"text/event-stream")]


class Job:
    """One call as the server knows it. `said` is every message, and the index of one, from 1, is its event id."""

    def __init__(self, rpc_id: str, *, keeps: bool) -> None:
        self.rpc_id = rpc_id
        self.keeps = keeps  # gives ids, and can be asked for the rest
        self.said: list[bytes] = []
        self.steps = 0
        self.is_called = False
        self.is_finished = False
        self.is_cancelled = False
        self.resumes = 0
        self.pipes: list[Pipe] = []

    def step(self, size: int = 0) -> None:
        """Tells its progress: 1, 2, 3 and so on."""
        self.steps += 1
        params = {"progressToken": self.rpc_id, "progress": self.steps, "message": "x" * size}
        self._say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def whisper(self) -> None:
        """Says something to whoever is connected now, and never again."""
        for pipe in self.pipes:
            pipe.push(
                b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"psst"}}\n\n'
            )

    def finish(self) -> None:
        self.is_finished = True
        self._say({"jsonrpc": "2.0", "id": self.rpc_id, "result": {"steps": self.steps}})

    def open(self, after: int) -> "Pipe":
        """One more connection: what was said behind that event, and what will be."""
        pipe = Pipe(self)
        self.pipes.append(pipe)
        if self.keeps and not after:
            pipe.push(self._event(0, b""))
        for number in range(after + 1, len(self.said) + 1):
            pipe.push(self._event(number, self.said[number - 1]))
        if self.is_finished:
            pipe.push(b"")
        return pipe

    def cut(self) -> None:
        """Every connection breaks, without an end."""
        for pipe in self.pipes:
            pipe.push(Failed(Outcome.BROKEN, "the connection broke"))
        self.pipes.clear()

    def rest(self) -> None:
        """Every connection ends: it wants to be asked again, in a while (2025-11-25, "Sending Messages" 6)."""
        for pipe in self.pipes:
            pipe.push(b"retry: 50\n\n")
            pipe.push(b"")
        self.pipes.clear()

    def give_up(self) -> None:
        """Every connection ends, without a response, and there won't be another."""
        self.keeps = False
        for pipe in self.pipes:
            pipe.push(b"")

    def _say(self, message: object) -> None:
        self.said.append(json.dumps(message).encode())
        for pipe in self.pipes:
            pipe.push(self._event(len(self.said), self.said[-1]))
            if self.is_finished:
                pipe.push(b"")

    def _event(self, number: int, data: bytes) -> bytes:
        named = b"id: %b/%d\n" % (self.rpc_id.encode(), number) if self.keeps else b""
        return b"%bdata: %b\n\n" % (named, data)


class Pipe:
    """`Answer`: one connection to the server."""

    status = 200
    headers = SSE
    body = None

    def __init__(self, job: Job) -> None:
        self._job = job
        self._pieces: asyncio.Queue[bytes | Failed] = asyncio.Queue()
        self._end: bytes | Failed | None = None
        self.host: Host | None = None
        self.is_closed = False

    def push(self, piece: bytes | Failed) -> None:
        self._pieces.put_nowait(piece)

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        assert not self.is_closed, "read after close"
        assert self.host is not None
        piece = self._end
        if piece is None:
            try:
                async with asyncio.timeout(within_seconds):
                    piece = await self._pieces.get()
            except TimeoutError:
                return None
        await self.host.wait()
        if isinstance(piece, Failed) or piece == b"":
            self._end = piece
        if isinstance(piece, Failed):
            raise piece
        return piece

    async def read(self, limit_bytes: int) -> bytes:
        raise AssertionError("nobody reads a stream whole")

    def close(self) -> None:
        self.is_closed = True
        if self in self._job.pipes:
            self._job.pipes.remove(self)


class Refusal:
    """`Answer`: a status, and no body."""

    body = b""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: Headers = []

    async def next_chunk(self, within_seconds: float) -> bytes | None:
        return b""

    async def read(self, limit_bytes: int) -> bytes:
        return b""

    def close(self) -> None: ...


class Server:
    """All the jobs there are: each before it is called, so that what it is told to say doesn't depend on when that is."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def answer(self, method: bytes, headers: Headers, body: bytes) -> Pipe | Refusal:
        if method == b"GET":
            rpc_id, _, number = dict(headers)[b"last-event-id"].decode().partition("/")
            job = self.jobs[rpc_id]
            job.resumes += 1
            return job.open(int(number)) if job.keeps else Refusal(404)
        if method == b"DELETE":
            return Refusal(200)
        message = json.loads(body)
        if message["method"] == "notifications/cancelled":
            self.jobs[message["params"]["requestId"]].is_cancelled = True
            return Refusal(202)
        job = self.jobs[message["id"]]
        assert not job.is_called, "a call was sent twice"
        job.is_called = True
        return job.open(0)


class Line:
    """`Upstream`: the way of one host to the server."""

    def __init__(self, server: Server, host: Host) -> None:
        self._server = server
        self._host = host

    async def send(
        self, backend: Backend, endpoint: Endpoint, method: bytes, headers: Headers, body: bytes, timeouts: Timeouts
    ) -> Pipe | Refusal:
        await self._host.wait()
        answer = self._server.answer(method, headers, body)
        if isinstance(answer, Pipe):
            answer.host = self._host
        return answer
