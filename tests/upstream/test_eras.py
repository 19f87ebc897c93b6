"""Which eras a backend speaks: configured, probed, observed. Against scripted servers, and the SDK's own."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer

from gateway.policy.backends import Backend
from gateway.protocol.versions import Era
from gateway.upstream.clients import PooledClient
from gateway.upstream.eras import Pace, ProbedEras
from gateway.upstream.rosters import Rosters
from tests.upstream.calls import backend_at, until
from tests.upstream.servers import WITHIN_SECONDS, Peer, Request, serve
from tests.upstream.witnesses import Memory

Reply = tuple[int, Any] | None  # status and JSON; None: the connection is closed without an answer
MODERN_OK: Reply = (200, {"result": {"supportedVersions": ["2026-07-28"]}})
LEGACY_OK: Reply = (200, {"result": {"protocolVersion": "2025-11-25"}})
REFUSED: Reply = (400, {"error": {"code": -32600, "message": "no"}})


class Answers:
    """A server's answers to the two probes, changed by tests as they go."""

    def __init__(self, discover: Reply, initialize: Reply, *, session: bytes = b"") -> None:
        self.discover = discover
        self.initialize = initialize
        self.session = session
        self.methods: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            if request.line.startswith(b"DELETE"):
                self.methods.append("DELETE")
                peer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                continue
            message = json.loads(request.body)
            self.methods.append(message["method"])
            reply = self.discover if message["method"] == "server/discover" else self.initialize
            if reply is None:
                return
            peer.write(self.encode(message["id"], *reply))

    def encode(self, message_id: object, status: int, fields: dict[str, Any]) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", "id": message_id, **fields}).encode()
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % status
        if self.session and "result" in fields:
            head += b"Mcp-Session-Id: %b\r\n" % self.session
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


QUICK = Pace(first_pause=0.01, rest=0.0, jitter=lambda: 0.0)


def eras_with(client: PooledClient, memory: Memory | None = None, pace: Pace = QUICK) -> ProbedEras:
    return ProbedEras(client, Rosters(), memory, pace)


def spoken(eras: ProbedEras, backend: Backend) -> tuple[bool | None, bool | None]:
    return eras.speaks(backend, Era.MODERN), eras.speaks(backend, Era.LEGACY)


@pytest.mark.parametrize(
    ("configured", "modern", "legacy"), [("modern", True, False), ("legacy", False, True), ("dual", True, True)]
)
async def test_what_is_configured_counts_whatever_is_seen(
    client: PooledClient, configured: Any, modern: bool, legacy: bool
) -> None:
    eras, backend = eras_with(client), backend_at("http://a/", era=configured)
    for era in Era:
        eras.observe(backend, era, spoken=False)
        eras.observe(backend, era, spoken=True)
    assert spoken(eras, backend) == (modern, legacy)


@pytest.mark.parametrize(
    ("discover", "initialize", "known", "is_done"),
    [
        (MODERN_OK, LEGACY_OK, (True, True), True),
        (MODERN_OK, REFUSED, (True, False), True),
        (REFUSED, LEGACY_OK, (False, True), True),
        (REFUSED, REFUSED, (None, None), False),
        ((401, {}), (401, {}), (None, None), False),
        ((500, {}), LEGACY_OK, (None, True), False),
        (MODERN_OK, (503, {}), (True, None), False),
        (None, LEGACY_OK, (None, None), False),
    ],
)
async def test_a_probe_keeps_what_is_conclusive_and_nothing_else(
    client: PooledClient,
    discover: Reply,
    initialize: Reply,
    known: tuple[bool | None, bool | None],
    is_done: bool,
) -> None:
    async with serve(Answers(discover, initialize)) as server:
        eras, backend = eras_with(client), backend_at(server.url)
        assert await eras.probe(backend) is is_done
        assert spoken(eras, backend) == known


async def test_the_probes_carry_the_headers_of_their_era_and_those_configured(client: PooledClient) -> None:
    async with serve(Answers(MODERN_OK, LEGACY_OK)) as server:
        backend = backend_at(server.url, headers=(("Authorization", "Bearer x"), ("Accept", "*/*")))
        await eras_with(client).probe(backend)

    def sent(request: Request) -> dict[bytes, bytes]:
        return {name: value for name, value in request.headers if name not in (b"host", b"content-length")}

    shared = {
        b"content-type": b"application/json",
        b"accept-encoding": b"identity",
        b"authorization": b"Bearer x",
        b"accept": b"*/*",
    }
    discover, initialize = server.requests
    assert sent(discover) == {**shared, b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"server/discover"}
    assert sent(initialize) == shared


async def test_the_session_that_a_probe_opened_is_ended_even_if_the_backend_will_not(client: PooledClient) -> None:
    answers = Answers(REFUSED, LEGACY_OK, session=b"s-1")
    async with serve(answers) as server:
        assert await eras_with(client).probe(backend_at(server.url))
    assert answers.methods == ["server/discover", "initialize", "DELETE"]
    assert (b"mcp-session-id", b"s-1") in server.requests[2].headers


async def test_an_answer_on_a_stream_is_read_past_what_else_is_said_and_not_to_its_end(client: PooledClient) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            message = json.loads(request.body)
            if message["method"] == "server/discover":
                peer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            reply = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-06-18"}})
            peer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                b'id: 1\ndata:\n\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
                b"data: " + reply.encode() + b"\n\n"
            )
            await peer.wait_closed()

    async with serve(script) as server:
        eras, backend = eras_with(client), backend_at(server.url)
        assert await eras.probe(backend)
        assert spoken(eras, backend) == (False, True)


async def test_a_backend_that_is_away_is_asked_again_until_it_answers(client: PooledClient) -> None:
    answers = Answers(None, None)
    async with serve(answers) as server:
        eras, backend = eras_with(client), backend_at(server.url)
        watch = asyncio.ensure_future(eras.watch(backend))
        await until(lambda: len(answers.methods) >= 2)
        assert set(answers.methods) == {"server/discover"}
        answers.discover, answers.initialize = MODERN_OK, LEGACY_OK
        await until(lambda: spoken(eras, backend) == (True, True))
        watch.cancel()
    assert answers.methods[-2:] == ["server/discover", "initialize"]


async def test_what_an_answer_shows_is_known_at_once_and_told(client: PooledClient) -> None:
    memory = Memory()
    eras, backend = eras_with(client, memory), backend_at("http://a/")
    assert spoken(eras, backend) == (None, None)
    for _ in range(3):
        eras.observe(backend, Era.MODERN, spoken=True)
    assert spoken(eras, backend) == (True, None)
    assert memory.told == [("era", "echo", "modern", True)]


async def test_a_contradiction_starts_another_probe(client: PooledClient) -> None:
    answers = Answers(MODERN_OK, LEGACY_OK)
    async with serve(answers) as server:
        eras, backend = eras_with(client), backend_at(server.url)
        watch = asyncio.ensure_future(eras.watch(backend))
        await until(lambda: spoken(eras, backend) == (True, True))
        answers.discover = REFUSED  # it was rolled back
        eras.observe(backend, Era.MODERN, spoken=True)
        assert len(answers.methods) == 2
        eras.observe(backend, Era.LEGACY, spoken=False)
        assert spoken(eras, backend) == (True, True)  # any client can provoke a refusal: the probe decides
        await until(lambda: spoken(eras, backend) == (False, True))
        watch.cancel()
    assert len(answers.methods) == 4


async def test_a_backend_that_speaks_nothing_any_more_is_unknown_again(client: PooledClient) -> None:
    answers = Answers(MODERN_OK, LEGACY_OK)
    async with serve(answers) as server:
        eras, backend = eras_with(client), backend_at(server.url)
        await eras.probe(backend)
        answers.discover = answers.initialize = (404, {})
        assert not await eras.probe(backend)
        assert spoken(eras, backend) == (None, None)


async def test_a_watch_stopped_half_way_is_taken_up_by_the_next(client: PooledClient) -> None:
    answers = Answers((503, {}), (503, {}))
    async with serve(answers) as server:
        eras, backend = eras_with(client, pace=Pace(first_pause=WITHIN_SECONDS)), backend_at(server.url)
        first = asyncio.ensure_future(eras.watch(backend))
        await until(lambda: len(answers.methods) == 2)
        first.cancel()
        answers.discover, answers.initialize = MODERN_OK, LEGACY_OK
        second = asyncio.ensure_future(eras.watch(backend))
        await until(lambda: spoken(eras, backend) == (True, True))
        second.cancel()


async def test_an_answer_that_never_comes_shows_nothing(client: PooledClient) -> None:
    async with serve(lambda peer: peer.wait_closed()) as server:
        eras, backend = eras_with(client, pace=Pace(question=0.2)), backend_at(server.url)
        assert await eras.probe(backend) is False
        assert spoken(eras, backend) == (None, None)
        await server.wait_left()


def sdk_app(json_response: bool, stateless: bool) -> Callable[..., Any]:
    server = MCPServer("sample")
    return server.streamable_http_app(json_response=json_response, stateless_http=stateless)


@pytest.mark.parametrize("json_response", [True, False])
@pytest.mark.parametrize("stateless", [True, False])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
async def test_the_sdks_own_server_is_found_to_speak_both(
    client: PooledClient, json_response: bool, stateless: bool
) -> None:
    configuration = uvicorn.Config(sdk_app(json_response, stateless), port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(configuration)
    serving = asyncio.ensure_future(server.serve())
    try:
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        eras, backend = eras_with(client), backend_at(f"http://127.0.0.1:{port}/mcp")
        assert await eras.probe(backend)
        assert spoken(eras, backend) == (True, True)
    finally:
        server.should_exit = True
        async with asyncio.timeout(WITHIN_SECONDS):
            await serving
