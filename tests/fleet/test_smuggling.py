"""Requests that two parsers would take apart differently, against a running replica: none of them gets a second request past
it, or is served where its framing is in doubt. RFC 9112 §6.3, §11.2.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress

import pytest

from tests.fleet.fleet import running_fleet
from tests.fleet.scripted import WITHIN_SECONDS, Call, scripted

MODERN = (
    b"content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
    b"mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: %b\r\n"
)
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def encode_call(name: str) -> bytes:
    params = {"name": name, "arguments": {}, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


OPEN = encode_call("open")
LENGTH = b"content-length: %d\r\n" % len(OPEN)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(OPEN), OPEN)
HIDDEN = b"POST /tools/mcp HTTP/1.1\r\nhost: localhost\r\n%bcontent-length: %d\r\n\r\n%b" % (
    MODERN % b"hidden",
    len(encode_call("hidden")),
    encode_call("hidden"),
)


def post(
    framing: bytes, body: bytes, *, line: bytes = b"POST /tools/mcp HTTP/1.1", host: bytes = b"localhost"
) -> bytes:
    """A call of `open`, framed so, and behind it what must never be taken for a request."""
    return line + b"\r\nhost: " + host + b"\r\n" + MODERN % b"open" + framing + b"\r\n" + body


REFUSED = {
    "length and chunks": post(LENGTH + CHUNKED, CHUNKS + HIDDEN),
    "chunks and length": post(CHUNKED + LENGTH, CHUNKS + HIDDEN),
    "length of nothing, and chunks": post(b"content-length: 0\r\n" + CHUNKED, CHUNKS + HIDDEN),
    "two lengths": post(b"content-length: 0\r\n" + LENGTH, OPEN + HIDDEN),
    "the same length twice": post(LENGTH + LENGTH, OPEN),
    "a list of lengths": post(b"content-length: %d, %d\r\n" % (len(OPEN), len(OPEN)), OPEN),
    "a length with a sign": post(b"content-length: +%d\r\n" % len(OPEN), OPEN),
    "a negative length": post(b"content-length: -1\r\n", OPEN),
    "a hexadecimal length": post(b"content-length: 0x%x\r\n" % len(OPEN), OPEN),
    "a length beyond 64 bits": post(b"content-length: 18446744073709551617\r\n", OPEN),
    "a length before a space and a colon": post(b"content-length : 0\r\n", OPEN),
    "chunks in another coding": post(b"transfer-encoding: xchunked\r\n", CHUNKS + HIDDEN),
    "chunks, then another coding": post(b"transfer-encoding: chunked, identity\r\n", CHUNKS + HIDDEN),
    "chunks twice": post(CHUNKED + CHUNKED, CHUNKS + HIDDEN),
    "another coding and a length": post(b"transfer-encoding: identity\r\n" + LENGTH, OPEN + HIDDEN),
    "chunks behind a vertical tab": post(b"transfer-encoding: \x0bchunked\r\n", CHUNKS + HIDDEN),
    "chunks before a colon with a space": post(b"transfer-encoding : chunked\r\n", CHUNKS + HIDDEN),
    "chunks of HTTP/1.0": post(CHUNKED, CHUNKS + HIDDEN, line=b"POST /tools/mcp HTTP/1.0"),
    "a folded header": post(b"x: a\r\n " + LENGTH, OPEN),
    "a folded coding": post(b"transfer-encoding:\r\n chunked\r\n", CHUNKS + HIDDEN),
    "a bare LF in the head": post(b"x: a\n" + LENGTH, OPEN),
    "a bare CR in a value": post(b"x: a\rcontent-length: 0\r\n" + LENGTH, OPEN),
    "a NUL in a value": post(b"x: a\0b\r\n" + LENGTH, OPEN),
    "a NUL in a name": post(b"x\0: a\r\n" + LENGTH, OPEN),
    "a header without a name": post(b": a\r\n" + LENGTH, OPEN),
    "a header without a colon": post(b"x\r\n" + LENGTH, OPEN),
    "a chunk's size with a sign": post(CHUNKED, b"+" + CHUNKS),
    "a chunk's size with 0x": post(CHUNKED, b"0x" + CHUNKS),
    "a chunk's size beyond 64 bits": post(CHUNKED, b"10000000000000000%b" % CHUNKS),
    "a chunk's size that ends in a bare LF": post(CHUNKED, CHUNKS.replace(b"\r\n", b"\n", 1) + HIDDEN),
    "a chunk without its end": post(CHUNKED, CHUNKS.replace(OPEN + b"\r\n", OPEN + b"xx") + HIDDEN),
    "a chunk's extension with a bare LF": post(CHUNKED, CHUNKS.replace(b"\r\n", b";a\n", 1) + HIDDEN),
    "a length among trailers": post(CHUNKED, CHUNKS[:-2] + b"content-length: 0\r\n\r\n"),
    "no host": OPEN.join((post(LENGTH, b"").replace(b"host: localhost\r\n", b""), b"")),
    "two hosts": post(b"host: localhost\r\n" + LENGTH, OPEN),
    "another host": post(LENGTH, OPEN, host=b"elsewhere"),
    "a host with a user": post(LENGTH, OPEN, host=b"localhost@elsewhere"),
    "a path with a space": post(LENGTH, OPEN, line=b"POST /tools/mcp /x HTTP/1.1"),
    "HTTP/2.0": post(LENGTH, OPEN, line=b"POST /tools/mcp HTTP/2.0"),
    "HTTP/0.9": b"GET /tools/mcp\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n" + HIDDEN,
    "an unknown method": post(LENGTH, OPEN, line=b"SMUGGLE /tools/mcp HTTP/1.1"),
    "a trace": b"TRACE /tools/mcp HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
}
"""Each gets a 4xx or 5xx, or its connection closed."""

SERVED = {
    "plainly": post(LENGTH, OPEN),
    "in chunks": post(CHUNKED, CHUNKS),
    "with chunk extensions": post(CHUNKED, CHUNKS.replace(b"\r\n", b';a="b";c\r\n', 1)),
    "with a trailer": post(CHUNKED, CHUNKS[:-2] + b"x-more: 1\r\nhost: elsewhere\r\n\r\n"),
    "with an upgrade to HTTP/2": post(
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n" + LENGTH, OPEN
    ),
    "with an upgrade to WebSocket": post(
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + LENGTH,
        OPEN,
    ),
}  # fmt: skip
"""Each is one call, and the backend's connection carries nothing of how it was framed."""


class Stage:
    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: list[Call] = []

    async def script(self, call: Call) -> None:
        self.calls.append(call)
        await call.answer({"content": []})

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """The status of the first reply, 0 where the connection ended without one; and all that came until it was closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                writer.write(request)
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    head = await reader.readuntil(b"\r\n\r\n")
                    return int(head.split()[1]), head
                return 0, b""
        finally:
            writer.close()

    def names(self) -> list[str]:
        """The tools that the backend was asked to call."""
        return [call.message["params"]["name"] for call in self.calls]


@pytest.fixture(scope="module")
async def whole_stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(scripted())
        config = f"backends: {{tools: {{endpoints: ['{backend.url}'], era: dual}}}}"
        fleet = cleanup.enter_context(running_fleet(config, 1))
        stage = Stage(fleet.replicas[0].port)
        backend.script = stage.script
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    whole_stage.calls.clear()
    yield whole_stage
    assert "hidden" not in whole_stage.names()


@pytest.mark.parametrize("shape", REFUSED)
async def test_what_two_parsers_could_read_differently_is_refused(stage: Stage, shape: str) -> None:
    status, _ = await stage.send(REFUSED[shape])
    assert status == 0 or 400 <= status < 600
    status, _ = await stage.send(SERVED["plainly"])
    assert status == 200
    assert stage.names() == ["open"], "it was forwarded"


@pytest.mark.parametrize("shape", SERVED)
async def test_what_is_well_framed_is_served_once_and_framed_anew(stage: Stage, shape: str) -> None:
    status, head = await stage.send(SERVED[shape])
    assert status == 200
    assert b"upgrade" not in head.lower()
    (call,) = stage.calls
    assert call.body == OPEN
    framing = ("transfer-encoding", "upgrade", "http2-settings", "connection", "trailer", "content-length")
    assert {name: call.headers[name] for name in framing if name in call.headers} == {"content-length": str(len(OPEN))}


async def test_a_call_and_what_is_pipelined_behind_it_are_two_calls(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    async with asyncio.timeout(WITHIN_SECONDS):
        writer.write(post(LENGTH, OPEN) + HIDDEN.replace(b"hidden", b"behind"))
        for _ in range(2):
            assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert stage.names() == ["open", "behind"]


async def test_requests_that_wish_for_another_protocol_may_be_pipelined(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    async with asyncio.timeout(WITHIN_SECONDS):
        writer.write(SERVED["with an upgrade to HTTP/2"] * 8)
        for _ in range(8):
            assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert stage.names() == ["open"] * 8


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_a_body_behind_the_wish_for_another_protocol_is_no_request(stage: Stage, protocol: bytes) -> None:
    """The head leaves alone, so that the body comes as a packet of its own: whatever has to be read anew, it is a body."""
    wish = b"connection: upgrade\r\nupgrade: " + protocol + b"\r\ncontent-length: %d\r\n" % len(HIDDEN)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    async with asyncio.timeout(WITHIN_SECONDS):
        writer.write(post(wish + b"expect: 100-continue\r\n", b""))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(HIDDEN)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await stage.send(SERVED["plainly"]))[0] == 200
    assert stage.names() == ["open"]
