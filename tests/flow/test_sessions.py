"""Sessions without a session store: what `initialize` gives, and what a token then does."""

import pytest

from gateway.policy.sites import Limits
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.sessions import PURPOSE, Session, parse_session
from gateway.protocol.versions import Era
from tests.fakes import FakeAnswer, FakeClient, World, site_of
from tests.flow.scenes import (
    CALL,
    INITIALIZE,
    INITIALIZED,
    PRIMER,
    PROGRESS,
    A,
    error_of,
    json_answer,
    legacy_post,
    request,
    run,
    session_headers,
    sse_answer,
    token_of,
)
from tests.requirements import proves

SESSION = (b"mcp-session-id", b"up-7")
INITIALIZED_EVENT = b"data: " + INITIALIZED + b"\n\n"
PARAMS = b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"claude","version":"1"}}'


def session_of(world: World, client: FakeClient) -> Session | None:
    token = client.header(b"mcp-session-id")
    plain = None if token is None else world.seals.open(token.decode(), PURPOSE)
    return None if plain is None else parse_session(plain)


@proves("SESS-1", "SESS-6", "ERA-3")
async def test_initialize_answered_in_json_gives_a_token() -> None:
    world = World().will_answer(json_answer(INITIALIZED, SESSION))
    client = await run(world, legacy_post(), INITIALIZE)
    assert (client.status, client.body) == (200, INITIALIZED)
    assert session_of(world, client) == Session("/echo", A, "up-7", "", "2025-11-25", PARAMS, "claude")
    assert world.record.client_name == "claude"
    assert world.record.session == (client.header(b"mcp-session-id") or b"")[:8].decode()
    assert world.eras.observed == [("echo", Era.LEGACY, True)]


@proves("SESS-1", "SESS-6")
@pytest.mark.parametrize("end", [b"", None, Failed(Outcome.BROKEN, "reset")])
async def test_initialize_answered_on_a_stream_gives_a_token(end: bytes | Failed | None) -> None:
    events = PRIMER + PROGRESS + INITIALIZED_EVENT
    answer = sse_answer(events[:30], events[30:], end, headers=[SESSION])
    world = World().will_answer(answer)
    client = await run(world, legacy_post(), INITIALIZE)
    assert (client.status, client.body) == (200, events)
    assert client.header(b"content-type") == b"text/event-stream"
    assert session_of(world, client) == Session("/echo", A, "up-7", "", "2025-11-25", PARAMS, "claude")


@proves("SESS-1")
async def test_what_follows_the_answer_to_initialize_does_not_hide_it() -> None:
    world = World().will_answer(sse_answer(INITIALIZED_EVENT + PROGRESS, headers=[SESSION]))
    client = await run(world, legacy_post(), INITIALIZE)
    assert client.body == INITIALIZED_EVENT + PROGRESS
    assert session_of(world, client) is not None


@proves("SESS-1")
async def test_a_backend_without_sessions_gets_a_token_of_no_endpoint() -> None:
    world = World().will_answer(json_answer(INITIALIZED))
    client = await run(world, legacy_post(), INITIALIZE)
    assert session_of(world, client) == Session("/echo", "", "", "", "2025-11-25", PARAMS, "claude")


@proves("SESS-1")
async def test_a_refused_initialize_gives_no_token() -> None:
    refusal = b'{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"Unsupported protocol version"}}'
    world = World().will_answer(json_answer(refusal, SESSION))
    client = await run(world, legacy_post(), INITIALIZE)
    assert (client.status, client.body, client.header(b"mcp-session-id")) == (200, refusal, None)


@proves("SESS-1", "MSG-4")
@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (b'{"x":"%s"}' % (b"y" * 2000), b""),
        (b'{"clientInfo":{"name":5}}', b'{"clientInfo":{"name":5}}'),
        (b'{"clientInfo":5}', b'{"clientInfo":5}'),
        (b'{"x":"\\ud800"}', b""),
        (b'{"x":' + b"[" * 900 + b"]" * 900 + b"}", b""),
    ],
)
async def test_odd_parameters_are_no_hindrance(params: bytes, kept: bytes) -> None:
    world = World().will_answer(json_answer(INITIALIZED, SESSION))
    body = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":%s}' % params
    client = await run(world, legacy_post(), body)
    if client.status == 200:
        session = session_of(world, client)
        assert session is not None
        assert (session.params, session.client_name) in {(kept, ""), (params, "")}
    else:
        assert error_of(client)[0] == 400


@proves("FAIL-3", "SSE-3")
@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (sse_answer(PROGRESS), 502, "the backend closed the stream before it answered `initialize`"),
        (sse_answer(b"data: <html>\n\n"), 502, "the backend sent an event that is not a JSON-RPC message"),
        (sse_answer(PROGRESS * 30), 502, "the backend's answer to `initialize` is too large"),
        (sse_answer(Failed(Outcome.TIMED_OUT, "nothing came")), 504, "nothing came"),
        (json_answer(b"<html>"), 502, "backend 'echo' answered with something that is not a JSON-RPC message"),
    ],
)
async def test_an_initialize_that_fails_has_an_honest_status(answer: FakeAnswer, status: int, message: str) -> None:
    world = World(site_of(limits=Limits(answer_bytes=2000))).will_answer(answer)
    client = await run(world, legacy_post(), INITIALIZE)
    assert error_of(client) == (status, 0, -32603, message)


@proves("SESS-3", "SESS-4")
async def test_every_request_of_a_session_goes_to_its_endpoint_under_the_backends_own_id() -> None:
    world = World().will_answer(*(json_answer(headers) for headers in [b'{"jsonrpc":"2.0","id":1,"result":{}}'] * 3))
    for _ in range(3):
        await run(world, legacy_post(token=token_of(world)), CALL)
    assert {sent.address for sent in world.upstream.sent} == {A}
    assert {sent.header(b"mcp-session-id") for sent in world.upstream.sent} == {b"up-7"}


@proves("SESS-3")
async def test_the_backends_session_id_is_never_seen_by_the_client() -> None:
    world = World()
    token = token_of(world)
    world.will_answer(
        json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}', SESSION), sse_answer(PROGRESS, headers=[SESSION])
    )
    client = await run(world, legacy_post(token=token), CALL)
    assert client.header(b"mcp-session-id") == token.encode()
    client = await run(world, request("GET", *session_headers(token)))
    assert client.header(b"mcp-session-id") == token.encode()


def tampered(token: str) -> str:
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@proves("SESS-2", "ERR-1")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(
    "kind", ["tampered", "foreign mount", "foreign principal", "other purpose", "other key", "raw", "empty"]
)
async def test_a_token_that_is_not_this_mounts_session_gets_404(kind: str, method: str) -> None:
    world = World()
    token = {
        "tampered": tampered(token_of(world)),
        "foreign mount": token_of(world, mount="/math"),
        "foreign principal": token_of(world, principal="somebody"),
        "other purpose": world.seals.seal(b"x", b"cursor"),
        "other key": world.seals.seal(b"\x02x", PURPOSE),
        "raw": "up-7",
        "empty": "",
    }[kind]
    headers = [(b"content-type", b"application/json"), (b"mcp-session-id", token.encode())]
    client = await run(world, request(method, *headers), CALL)
    request_id = 1 if method == "POST" else None
    assert error_of(client) == (404, request_id, -32600, "Session not found")
    assert world.upstream.sent == []
    assert world.record.outcome is Outcome.UNKNOWN_SESSION


@proves("SESS-4")
async def test_a_session_whose_endpoint_was_taken_out_is_unknown() -> None:
    world = World()
    world.endpoints.gone.add(A)
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    assert error_of(client) == (404, 1, -32600, "Session not found")


@proves("SESS-4", "FAIL-1")
async def test_a_session_whose_endpoint_does_not_answer_is_not_unknown() -> None:
    world = World().will_answer(Failed(Outcome.UNREACHABLE, "refused"))
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    assert error_of(client) == (503, 1, -32603, "no server of mount /echo can be reached")
    assert [sent.address for sent in world.upstream.sent] == [A]  # no other endpoint knows the session


@proves("SESS-5")
async def test_a_session_that_no_backend_keeps_cannot_be_deleted_and_needs_no_endpoint() -> None:
    world = World()
    token = token_of(world, upstream_id="", address="")
    client = await run(world, request("DELETE", *session_headers(token)))
    assert error_of(client) == (405, None, -32600, "this server keeps no session that could be ended")
    assert client.header(b"allow") == b"GET, POST, OPTIONS"
    world = World().will_answer(json_answer())
    await run(world, legacy_post(token=token), CALL)
    assert world.sent.header(b"mcp-session-id") is None


@proves("SESS-3")
@pytest.mark.parametrize("status", [200, 204])
async def test_the_end_of_a_session_is_the_backends(status: int) -> None:
    world = World().will_answer(FakeAnswer(status, [], whole=True))
    client = await run(world, request("DELETE", *session_headers(token_of(world))))
    assert (client.status, client.body) == (status, b"")
    assert (world.sent.method, world.sent.header(b"mcp-session-id")) == (b"DELETE", b"up-7")
