"""When the world says no: whose fault it was, what the client is told, and what reached a backend."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange.attempts import MAX_ATTEMPTS
from gateway.flow import serve
from gateway.policy.backends import Backend
from gateway.policy.sites import Limits
from gateway.protocol.outcomes import Failed, Outcome
from tests.fakes import SILENCE, FakeAnswer, FakeClient, Piece, World, site_of
from tests.flow.scenes import (
    CALL,
    FINAL,
    PRIMER,
    PROGRESS,
    RESULT,
    A,
    B,
    error_of,
    json_answer,
    legacy_post,
    modern_body,
    modern_post,
    run,
    sse_answer,
)
from tests.requirements import proves

UNREACHABLE = Failed(Outcome.UNREACHABLE, "connection refused by 10.0.0.7:9000")


@proves("FAIL-1", "FAIL-2", "FAIL-8")
async def test_an_endpoint_that_was_not_reached_is_followed_by_another() -> None:
    world = World().will_answer(UNREACHABLE, json_answer())
    client = await run(world, modern_post(), modern_body())
    assert (client.status, client.body) == (200, RESULT)
    assert [sent.address for sent in world.upstream.sent] == [A, B]
    assert world.endpoints.finished == [(A, Outcome.UNREACHABLE), (B, Outcome.OK)]
    assert world.record.endpoint == B


@proves("FAIL-1", "FAIL-8")
async def test_when_none_can_be_reached_the_client_learns_which_mount_and_when_to_come_back() -> None:
    world = World().will_answer(UNREACHABLE, UNREACHABLE)
    client = await run(world, modern_post(), modern_body())
    assert error_of(client) == (503, 1, -32603, "no server of mount /echo can be reached")
    assert client.header(b"retry-after") == b"1"
    assert world.record.outcome is Outcome.UNREACHABLE
    assert world.record.forwarded == 0.0
    assert world.endpoints.finished == [(A, Outcome.UNREACHABLE), (B, Outcome.UNREACHABLE)]


@proves("FAIL-1")
async def test_a_backend_without_an_endpoint_says_why() -> None:
    world = World()
    world.endpoints.gone |= {A, B}
    client = await run(world, modern_post(), modern_body())
    assert error_of(client) == (
        503,
        1,
        -32603,
        "no server of mount /echo can be reached: backend 'echo' has no endpoint",
    )


@proves("FAIL-1")
async def test_not_every_endpoint_of_many_is_tried() -> None:
    many = Backend("echo", tuple(f"http://10.0.0.{n}:9000/mcp" for n in range(9)), "/echo")
    world = World(site_of(many)).will_answer(*[UNREACHABLE] * 9)
    client = await run(world, legacy_post(), CALL)
    assert client.status == 503
    assert len({sent.address for sent in world.upstream.sent}) == len(world.upstream.sent) == MAX_ATTEMPTS


@proves("FAIL-2", "FAIL-3", "FAIL-8")
@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.BROKEN, 502),
        (Outcome.TIMED_OUT, 504),
        (Outcome.NONSENSE, 502),
        (Outcome.OVERLOADED, 429),
    ],
)
async def test_what_may_have_been_sent_is_not_sent_again(outcome: Outcome, status: int) -> None:
    world = World().will_answer(Failed(outcome, "the connection broke"))
    client = await run(world, modern_post(), modern_body())
    assert error_of(client) == (status, 1, -32603, "the connection broke")
    assert len(world.upstream.sent) == 1
    assert world.endpoints.finished == [(A, outcome)]
    assert (client.header(b"retry-after") == b"1") == (status == 429)


@proves("FAIL-3")
@pytest.mark.parametrize("post", [modern_post, legacy_post])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: json_answer(b'{"jsonrpc":'), "backend 'echo' answered with something that is not a JSON-RPC message"),
        (lambda: json_answer(b""), "backend 'echo' answered with something that is not a JSON-RPC message"),
        (lambda: json_answer(b"{}"), "backend 'echo' answered with something that is not a JSON-RPC message"),
        (
            lambda: FakeAnswer(200, [(b"content-type", b"text/html")], b"<html>", whole=True),
            "backend 'echo' answered with something that is not a JSON-RPC message",
        ),
        (lambda: FakeAnswer(202, []), "backend 'echo' answered with something that is not a JSON-RPC message"),
        (
            lambda: json_answer(b'{"jsonrpc":"2.0","id":2,"result":{}}'),
            "backend 'echo' answered with another id than the request's",
        ),
        (
            lambda: json_answer(b'{"jsonrpc":"2.0","id":"1","result":{}}'),
            "backend 'echo' answered with another id than the request's",
        ),
        (
            lambda: json_answer(b'{"jsonrpc":"2.0","method":"notifications/x"}'),
            "backend 'echo' answered with another id than the request's",
        ),
        (
            lambda: FakeAnswer(307, [(b"location", b"http://10.0.0.7:9000/mcp/")]),
            "backend 'echo' answers with a redirect (HTTP 307): configure the URL that it leads to",
        ),
        (
            lambda: FakeAnswer(421, []),
            "backend 'echo' does not accept the host name it is called by (HTTP 421)",
        ),
        (lambda: FakeAnswer(999, []), "backend 'echo' answers with a status that HTTP doesn't have (999)"),
        (
            lambda: FakeAnswer(401, [(b"www-authenticate", b"Bearer")]),
            "backend 'echo' does not accept the gateway's credentials",
        ),
        (lambda: FakeAnswer(407, []), "backend 'echo' does not accept the gateway's credentials"),
        (lambda: FakeAnswer(500, [], b"Internal Server Error"), "backend 'echo' failed (HTTP 500)"),
        (lambda: json_answer(b'{"detail":"x"}', status=503), "backend 'echo' failed (HTTP 503)"),
        (
            lambda: FakeAnswer(
                200, [(b"content-type", b"application/json")], b"[1]", Failed(Outcome.BROKEN, "cut off")
            ),
            "cut off",
        ),
        (
            lambda: FakeAnswer(200, [(b"content-type", b"application/json")], b"x" * 99),
            "the backend's answer is too large",
        ),
    ],
)
@proves("FAIL-6")
async def test_nonsense_is_502_whatever_the_backend_called_it(post: object, answer: object, message: str) -> None:
    world = World(site_of(limits=Limits(answer_bytes=90))).will_answer(answer())
    client = await run(world, post(), modern_body() if post is modern_post else CALL)
    assert error_of(client) == (502, 1, -32603, message)
    assert client.header(b"location") is None
    assert client.header(b"www-authenticate") is None


@proves("FAIL-8")
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda: FakeAnswer(500, []), Outcome.BACKEND_FAILED),
        (lambda: FakeAnswer(401, []), Outcome.BACKEND_UNAUTHORIZED),
        (lambda: json_answer(b"<html>"), Outcome.NONSENSE),
        (lambda: FakeAnswer(404, [], b"Not Found", whole=True), Outcome.BACKEND_REFUSED),
        (lambda: json_answer(), Outcome.OK),
    ],
)
async def test_how_a_call_ended_is_told_to_its_endpoint_once(answer: object, outcome: Outcome) -> None:
    world = World().will_answer(answer())
    await run(world, modern_post(), modern_body())
    assert world.endpoints.finished == [(A, outcome)]
    assert world.record.outcome is outcome


@proves("RELAY-1")
async def test_a_refusal_without_json_rpc_passes_as_it_is() -> None:
    world = World().will_answer(FakeAnswer(404, [(b"content-type", b"text/plain")], b"Not Found", whole=True))
    client = await run(world, legacy_post(), CALL)
    assert (client.status, client.body) == (404, b"Not Found")


@proves("FAIL-7")
async def test_a_bug_of_ours_is_500_without_a_trace_and_logged_once() -> None:
    world = World().will_answer(RuntimeError("secret detail"))
    client = await run(world, modern_post(), modern_body())
    assert error_of(client) == (
        500,
        1,
        -32603,
        "the gateway failed: its log says why, under this request id",
    )
    assert b"secret" not in client.body
    assert [str(error) for error in world.telemetry.exceptions] == ["secret detail"]
    assert world.record.outcome is Outcome.INTERNAL


@proves("FAIL-7")
async def test_a_bug_after_the_reply_began_adds_nothing_untrue() -> None:
    world, client = World().will_answer(answer := sse_answer(PROGRESS, live=True)), FakeClient(modern_body())

    async def break_down(data: bytes) -> None:
        raise RuntimeError("secret detail")

    client.write = break_down  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await serve(world.gateway, modern_post(), client)
    assert (client.status, client.writes, client.has_ended) == (200, [], False)
    assert (answer.closings, len(world.telemetry.exceptions)) == (1, 1)


faults = st.one_of(
    st.just(Failed(Outcome.UNREACHABLE, "refused")),
    st.sampled_from([Outcome.BROKEN, Outcome.TIMED_OUT, Outcome.NONSENSE, Outcome.OVERLOADED]).map(
        lambda o: Failed(o, "x")
    ),
    st.just(RuntimeError("bug")),
)
pieces: st.SearchStrategy[Piece] = st.sampled_from(
    [
        PROGRESS,
        FINAL,
        PRIMER,
        FINAL[:9],
        b"data: <html>\n\n",
        SILENCE,
        Failed(Outcome.BROKEN, "x"),
        Failed(Outcome.TIMED_OUT, "x"),
    ]
)
answers = st.one_of(
    st.lists(pieces, max_size=4).map(lambda p: ("sse", p)),
    st.sampled_from([RESULT, b"<html>", b"", b'{"jsonrpc":"2.0","id":2,"result":{}}']).map(lambda b: ("json", b)),
    st.sampled_from([202, 302, 401, 404, 409, 421, 500, 503]).map(lambda s: ("status", s)),
)


def made(kind: str, content: object) -> FakeAnswer:
    match kind:
        case "sse":
            return sse_answer(*content)  # type: ignore[misc]
        case "json":
            return json_answer(content)  # type: ignore[arg-type]
        case _:
            return FakeAnswer(content, [], b"text")  # type: ignore[arg-type]


@proves("FAIL-2", "FAIL-8", "ERR-2")
@given(st.lists(faults, max_size=4), answers, st.booleans(), st.booleans())
def test_under_any_fault_a_message_reaches_a_backend_at_most_once_and_the_client_is_told(
    before: list[Exception], answer: tuple[str, object], is_modern: bool, has_many: bool
) -> None:
    async def scene() -> None:
        many = Backend("echo", tuple(f"http://10.0.0.{n}:9000/mcp" for n in range(4 if has_many else 1)), "/echo")
        world = World(site_of(many)).will_answer(*before, made(*answer))
        inbound, body = (modern_post(), modern_body()) if is_modern else (legacy_post(), CALL)
        client = await run(world, inbound, body)
        script = [*before, None]
        tried = script[: len(world.upstream.sent)]
        arrived = [fault for fault in tried if not (isinstance(fault, Failed) and fault.outcome is Outcome.UNREACHABLE)]
        assert len(arrived) <= 1
        assert all(fault is before[0] or isinstance(fault, Failed) for fault in tried[:-1])
        assert client.started
        assert client.has_ended
        if client.header(b"content-type") == b"application/json" and client.status >= 500 and b"gateway" in client.body:
            assert json.loads(client.body)["id"] == 1
        assert len(world.telemetry.finished) == 1

    asyncio.run(scene())
