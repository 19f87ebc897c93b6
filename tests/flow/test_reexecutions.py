"""A read-only call that is lost is run once more: told as transcripts over the memory log."""

import asyncio
import json
from typing import Any, Final

import msgspec
import pytest

from gateway.exchange import reexecutions
from gateway.exchange.healers import Healer
from gateway.exchange.owners import Owners
from gateway.exchange.sessions import digest_session
from gateway.flow import serve
from gateway.policy.streams import Bounds, Facts, Hold, Owner
from gateway.ports import StreamTurn
from gateway.protocol.cursors import StreamName
from gateway.protocol.outcomes import Failed, Outcome
from gateway.state.healings import MemoryHealings
from gateway.state.memory_logs import MemoryLog
from gateway.state.memory_marks import MemoryHeartbeats, MemoryMarks
from gateway.state.wakes import Bells
from tests.fakes import BOUND_SECONDS, ECHO, NOW, TRACE, FakeAnswer, FakeClient, Sent, World, site_of
from tests.flow.scenes import (
    JSON,
    PRIMER,
    A,
    B,
    event_error,
    json_answer,
    legacy_post,
    let_others_run,
    request,
    run,
    running,
    sse_answer,
    token_of,
)
from tests.requirements import proves

NAME: Final = StreamName("CvdlGRbNQ92ESOshHIAxnA")
ME: Final = Owner("me")
DEAD: Final = Owner("dead")
AGAIN: Final = f"gateway-{TRACE}"
UNREACHABLE: Final = Failed(Outcome.UNREACHABLE, "refused")
BROKEN: Final = Failed(Outcome.BROKEN, "the connection broke")
TRUSTED: Final = msgspec.structs.replace(ECHO, reexecute="read_only")
CALL: Final = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"find","_meta":{"progressToken":"t"}}}'
EMPTY: Final = b"data: \n\n"
FIRST: Final = b"retry: 3000\n" + EMPTY


def stage(log: MemoryLog, backend: Any = TRUSTED) -> World:
    world = World(site_of(backend))
    world.gateway.log = log
    world.gateway.owners = Owners(MemoryHeartbeats(6.0, lambda: NOW), ME, 6.0, lambda: NOW)
    world.gateway.wall_clock = lambda: NOW
    return world


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(clock=lambda: NOW)


def message(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode()


def event(data: bytes) -> bytes:
    return b"event: message\ndata: %b\n\n" % data


def progress(made: int) -> bytes:
    return event(message(method="notifications/progress", params={"progressToken": "t", "progress": made}))


def result(request_id: int | str) -> bytes:
    return b'event: message\ndata: {"jsonrpc":"2.0","id":%b,"result":{"n": 1}}\n\n' % json.dumps(request_id).encode()


def tools(*, is_read_only: bool = True, name: str = "find", more: str | None = None) -> FakeAnswer:
    found = {"tools": [{"name": name, "annotations": {"readOnlyHint": is_read_only}}], "nextCursor": more}
    return json_answer(message(id=AGAIN, result=found))


def accepted() -> FakeAnswer:
    return FakeAnswer(202, [], b"", whole=True)


def numbered(seq: int, payload: bytes, epoch: int = 1) -> bytes:
    return b"id: %s.%d%s\n%s" % (NAME.encode(), seq, b"" if epoch == 1 else b".%d" % epoch, payload)


def resume(token: str, seq: int) -> Any:
    headers = [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", b"2025-11-25")]
    return request("GET", *headers, (b"last-event-id", b"%s.%d" % (NAME.encode(), seq)))


async def leave_behind(log: MemoryLog, token: str, *payloads: bytes, body: bytes = CALL, **changes: Any) -> None:
    """A call of a worker that has given it up."""
    fields = {
        "session": digest_session(token),
        "principal": "",
        "mount": "/echo",
        "backend": "echo",
        "endpoint": A,
        "upstream_session": "up-7",
        "version": "2025-11-25",
        "request_id": b"7",
        "began_at": NOW - 60,
        **changes,
    }
    hold = Hold(NAME, 1, DEAD)
    await log.create(hold, Facts(**fields), [FIRST, *payloads], request=body)
    await log.release(hold)


def said(sent: Sent) -> Any:
    return json.loads(sent.body) if sent.body else None


def error_in(body: bytes) -> tuple[object, int, str]:
    """The error in the last event."""
    return event_error(b"event: message\n" + body.rpartition(b"event: message\n")[2])


# ---- what is run again


@proves("AGAIN-1", "AGAIN-2")
async def test_a_call_whose_connection_broke_is_run_again_on_its_session(log: MemoryLog) -> None:
    again = sse_answer(progress(1), progress(2), progress(3), result(AGAIN))
    first = sse_answer(progress(1), progress(2), BROKEN, live=True)
    world = stage(log).will_answer(first, tools(), accepted(), again)
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    expected = [FIRST, progress(1), progress(2), progress(3), result(7)]
    assert client.body == b"".join(numbered(seq, payload) for seq, payload in enumerate(expected, start=1))
    _, listed, cancelled, called = world.upstream.sent
    assert said(listed) == {"jsonrpc": "2.0", "id": AGAIN, "method": "tools/list", "params": {}}
    assert said(cancelled)["method"] == "notifications/cancelled"
    assert said(cancelled)["params"]["requestId"] == 7
    assert called.body == CALL.replace(b'"id":7', b'"id":"%b"' % AGAIN.encode())
    for sent in (listed, cancelled, called):
        assert (sent.method, sent.address, sent.header(b"content-type")) == (b"POST", A, b"application/json")
        assert sent.header(b"accept") == b"application/json, text/event-stream"
        assert sent.header(b"mcp-session-id") == b"up-7"
        assert sent.header(b"mcp-protocol-version") == b"2025-11-25"
    assert world.telemetry.turns == [StreamTurn.RUN_AGAIN]
    assert world.record.outcome is Outcome.OK


@proves("AGAIN-1", "AGAIN-2")
async def test_a_call_whose_worker_is_gone_is_run_again_by_who_takes_it_over(log: MemoryLog) -> None:
    world = stage(log).will_answer(tools(), accepted(), sse_answer(progress(1), progress(2), result(AGAIN)))
    token = token_of(world)
    await leave_behind(log, token, progress(1))
    client = await run(world, resume(token, 1))
    expected = [numbered(1, EMPTY), numbered(2, progress(1)), numbered(3, progress(2), 2), numbered(4, result(7), 2)]
    assert client.body == b"".join(expected)
    assert world.telemetry.turns == [StreamTurn.TAKEN_OVER, StreamTurn.RUN_AGAIN]
    assert world.upstream.sent[-1].timeouts.total_seconds == ECHO.timeouts.total_seconds - 60


@proves("AGAIN-1")
async def test_a_second_run_may_be_answered_in_json(log: MemoryLog) -> None:
    body = b'{"jsonrpc": "2.0",\r\n "id": "%b", "result": {"n": 1}}' % AGAIN.encode()
    world = stage(log).will_answer(tools(), accepted(), FakeAnswer(200, [JSON], body[:20], body[20:]))
    token = token_of(world)
    await leave_behind(log, token, progress(1))
    client = await run(world, resume(token, 2))
    assert client.body == numbered(2, EMPTY) + numbered(3, result(7), 2)


@proves("AGAIN-1")
async def test_what_a_second_run_says_of_another_request_is_nonsense(log: MemoryLog) -> None:
    world = stage(log).will_answer(tools(), accepted(), json_answer(message(id="another", result={})))
    token = token_of(world)
    await leave_behind(log, token)
    client = await run(world, resume(token, 1))
    assert error_in(client.body)[0] == 7
    assert "another id" in error_in(client.body)[2]


@proves("AGAIN-1")
async def test_a_call_of_a_backend_without_sessions_is_run_where_one_can_be_reached(log: MemoryLog) -> None:
    answers = (UNREACHABLE, tools(), accepted(), sse_answer(result(AGAIN)))
    world = stage(log).will_answer(*answers)
    token = token_of(world, address="", upstream_id="")
    await leave_behind(log, token, endpoint="", upstream_session="")
    client = await run(world, resume(token, 1))
    assert client.body == numbered(1, EMPTY) + numbered(2, result(7), 2)
    assert [sent.address for sent in world.upstream.sent] == [A, B, B, B]


async def test_a_backend_that_restarts_is_given_a_while(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reexecutions, "WAITS_SECONDS", (0.0, 0.0, 0.0))
    world = stage(log).will_answer(UNREACHABLE, BROKEN, tools(), accepted(), sse_answer(result(AGAIN)))
    token = token_of(world)
    await leave_behind(log, token)
    assert result(7) in (await run(world, resume(token, 1))).body


@proves("AGAIN-3")
async def test_a_backend_that_stays_away_runs_nothing(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reexecutions, "WAITS_SECONDS", (0.0, 0.0, 0.0))
    world = stage(log).will_answer(UNREACHABLE, UNREACHABLE, UNREACHABLE)
    token = token_of(world)
    await leave_behind(log, token)
    await expect_loss(world, await run(world, resume(token, 1)), asked=3)


# ---- where the backend forgot the session

PARAMS: Final = b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"claude","version":"1"}}'


def heal(world: World) -> World:
    """A worker that can heal."""
    world.gateway.marks = MemoryMarks(Bounds(), lambda: NOW, Bells())
    world.gateway.healer = Healer(MemoryHealings())
    return world


def initialized() -> FakeAnswer:
    body = message(id="gateway-heal", result={"protocolVersion": "2025-11-25", "capabilities": {}})
    return json_answer(body, (b"mcp-session-id", b"up-8"))


@proves("AGAIN-1")
async def test_a_call_whose_session_is_forgotten_is_run_on_the_one_that_stands_in_for_it(log: MemoryLog) -> None:
    answers = (FakeAnswer(404, []), initialized(), accepted(), tools(), sse_answer(result(AGAIN)))
    world = heal(stage(log)).will_answer(*answers)
    token = token_of(world, params=PARAMS)
    await leave_behind(log, token)
    client = await run(world, resume(token, 1))
    assert client.body == numbered(1, EMPTY) + numbered(2, result(7), 2)
    methods = [said(sent)["method"] for sent in world.upstream.sent]
    assert methods == ["tools/list", "initialize", "notifications/initialized", "tools/list", "tools/call"]
    assert [sent.header(b"mcp-session-id") for sent in world.upstream.sent] == [
        b"up-7",
        None,
        b"up-8",
        b"up-8",
        b"up-8",
    ]
    assert world.telemetry.healed == ["echo"]


@proves("AGAIN-3")
async def test_a_session_that_must_not_be_healed_is_not_and_nothing_is_run(log: MemoryLog) -> None:
    world = heal(stage(log, msgspec.structs.replace(TRUSTED, heal=False))).will_answer(FakeAnswer(404, []))
    token = token_of(world, params=PARAMS)
    await leave_behind(log, token)
    await expect_loss(world, await run(world, resume(token, 1)), asked=1)


@proves("AGAIN-3")
async def test_a_backend_that_forgets_at_once_runs_nothing(log: MemoryLog) -> None:
    answers = (FakeAnswer(404, []), initialized(), accepted(), FakeAnswer(404, []))
    world = heal(stage(log)).will_answer(*answers)
    token = token_of(world, params=PARAMS)
    await leave_behind(log, token)
    client = await run(world, resume(token, 1))
    assert "call again" in error_in(client.body)[2]
    assert StreamTurn.RUN_AGAIN not in world.telemetry.turns
    assert StreamTurn.BROKEN not in world.telemetry.turns


@proves("AGAIN-4")
async def test_a_second_run_that_is_waited_for_ends_with_its_worker(log: MemoryLog) -> None:
    world = stage(log).will_answer(tools(), accepted(), sse_answer(result(AGAIN)))
    token = token_of(world)
    await leave_behind(log, token)
    client, send = FakeClient(), world.upstream.send

    async def send_in_vain(*args: Any) -> FakeAnswer:
        if b"tools/call" in args[4]:
            world.upstream.pending = asyncio.Event()
            world.upstream.called.clear()
        return await send(*args)

    world.upstream.send = send_in_vain  # type: ignore[method-assign]
    async with running(world, resume(token, 1), client), asyncio.timeout(BOUND_SECONDS):
        while world.upstream.pending is None or not world.upstream.called.is_set():  # noqa: ASYNC110  # in memory, a turn of the loop is all
            await asyncio.sleep(0)
        client.leave()
        await world.pumps.close()
        await let_others_run()
    assert world.upstream.cancelled == 1


async def test_the_tool_is_looked_for_on_every_page(log: MemoryLog) -> None:
    pages = tools(name="other", more="page 2"), tools()
    world = stage(log).will_answer(*pages, accepted(), sse_answer(result(AGAIN)))
    token = token_of(world)
    await leave_behind(log, token)
    client = await run(world, resume(token, 1))
    assert result(7) in client.body
    assert [said(sent).get("params") for sent in world.upstream.sent[:2]] == [{}, {"cursor": "page 2"}]


async def test_a_backend_that_can_resume_is_not_asked_to_run_it_again(log: MemoryLog) -> None:
    first = sse_answer(PRIMER + progress(1), BROKEN, live=True)
    world = stage(log).will_answer(first, sse_answer(b"id: 9\n" + result(7)))
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    assert client.body.endswith(numbered(3, result(7)))
    assert [sent.method for sent in world.upstream.sent] == [b"POST", b"GET"]


# ---- what isn't


async def expect_loss(world: World, client: FakeClient, asked: int) -> None:
    """The client got an error on its id, and after the loss the backend was asked so many things, none of them the call."""
    request_id, _, text = error_in(client.body)
    assert request_id == 7
    assert "call again" in text
    assert [said(sent)["method"] for sent in world.upstream.sent] == ["tools/list"] * asked
    assert StreamTurn.CUT_SHORT in world.telemetry.turns
    assert StreamTurn.RUN_AGAIN not in world.telemetry.turns


@proves("AGAIN-3")
async def test_a_tool_that_may_change_something_is_not_run_again_nor_cancelled(log: MemoryLog) -> None:
    world = stage(log).will_answer(tools(is_read_only=False))
    token = token_of(world)
    await leave_behind(log, token)
    await expect_loss(world, await run(world, resume(token, 1)), asked=1)


@proves("AGAIN-3")
@pytest.mark.parametrize("answer", [FakeAnswer(404, []), FakeAnswer(500, []), json_answer(b"what?")])
async def test_where_nobody_says_that_it_is_read_only_it_isn_t(log: MemoryLog, answer: FakeAnswer) -> None:
    world = stage(log).will_answer(answer)
    token = token_of(world)
    await leave_behind(log, token)
    await expect_loss(world, await run(world, resume(token, 1)), asked=1)


@proves("AGAIN-3")
async def test_the_search_for_the_tool_has_an_end(log: MemoryLog) -> None:
    world = stage(log).will_answer(*(tools(name="other", more="more") for _ in range(50)))
    token = token_of(world)
    await leave_behind(log, token)
    await expect_loss(world, await run(world, resume(token, 1)), asked=50)


@proves("AGAIN-3")
async def test_on_a_backend_that_is_not_trusted_nothing_is_run_again(log: MemoryLog) -> None:
    world = stage(log, ECHO)
    token = token_of(world)
    await leave_behind(log, token)
    await expect_loss(world, await run(world, resume(token, 1)), asked=0)


@proves("AGAIN-3")
async def test_a_call_that_asked_its_client_something_is_not_run_again(log: MemoryLog) -> None:
    world = stage(log)
    token = token_of(world)
    await leave_behind(log, token, event(message(id=0, method="elicitation/create", params={})), progress(1))
    await expect_loss(world, await run(world, resume(token, 1)), asked=0)


@proves("AGAIN-3")
async def test_a_call_of_which_the_log_has_not_all_is_not_run_again() -> None:
    log = MemoryLog(clock=lambda: NOW)
    world = stage(log)
    token = token_of(world)
    await leave_behind(log, token, progress(1))
    taken = await log.take_over(NAME, 1, DEAD)
    await log.append(taken.hold, 5, [progress(4)], is_across_hole=True)  # type: ignore[union-attr]
    await log.release(taken.hold)  # type: ignore[union-attr]
    headers = [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", b"2025-11-25")]
    inbound = request("GET", *headers, (b"last-event-id", b"%s.5.2" % NAME.encode()))
    await expect_loss(world, await run(world, inbound), asked=0)


@proves("AGAIN-3")
@pytest.mark.parametrize(("size", "is_kept"), [(65536, True), (65537, False)])
async def test_a_large_request_is_not_kept(log: MemoryLog, size: int, is_kept: bool) -> None:
    call = CALL.replace(b"}}}", b'},"pad":"%b"}}' % (b"x" * (size - len(CALL) - 9)))
    assert len(call) == size
    world = stage(log).will_answer(sse_answer(progress(1), live=True))
    client = FakeClient(call)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        assert log._logs[NAME].request == (call if is_kept else b"")
        world.answered[0].push(result(7))
        world.answered[0].push(b"")
    assert log._logs[NAME].request == b""


@proves("AGAIN-3")
async def test_only_calls_of_tools_are_kept_and_on_trusted_backends(log: MemoryLog) -> None:
    for backend, body in ((ECHO, CALL), (TRUSTED, CALL.replace(b"tools/call", b"resources/read"))):
        world = stage(MemoryLog(clock=lambda: NOW), backend).will_answer(sse_answer(progress(1), BROKEN, live=True))
        client = await run(world, legacy_post(token=token_of(world)), body)
        assert error_in(client.body)[0] == 7
        assert len(world.upstream.sent) == 1


# ---- once


@proves("AGAIN-4")
async def test_a_second_loss_is_told(log: MemoryLog) -> None:
    second = sse_answer(b"id: 5\n" + progress(2), BROKEN, live=True)
    world = stage(log).will_answer(sse_answer(progress(1), BROKEN, live=True), tools(), accepted(), second)
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    assert client.body.startswith(numbered(1, FIRST) + numbered(2, progress(1)) + numbered(3, progress(2)))
    assert error_in(client.body)[0] == 7
    assert world.telemetry.turns == [StreamTurn.RUN_AGAIN, StreamTurn.CUT_SHORT]
    assert len(world.upstream.sent) == 4


@proves("AGAIN-4")
async def test_who_takes_a_second_run_over_tells_its_loss(log: MemoryLog) -> None:
    world = stage(log).will_answer(tools(), accepted(), sse_answer(b"id: 5\n" + progress(2), live=True))
    token = token_of(world)
    await leave_behind(log, token, progress(1))
    client = FakeClient()
    async with running(world, resume(token, 2), client):
        await client.until(lambda: progress(2) in client.body)
        client.leave()
        await world.pumps.close()
    late = FakeClient()
    await serve(world.gateway, resume(token, 2), late)
    assert late.body.startswith(numbered(2, EMPTY) + numbered(3, progress(2), 2))
    assert error_in(late.body)[0] == 7
    assert world.telemetry.turns.count(StreamTurn.RUN_AGAIN) == 1
    assert len(world.upstream.sent) == 3


async def test_a_client_that_cancels_ends_the_second_run_too() -> None:
    bells = Bells()
    log = MemoryLog(clock=lambda: NOW, bells=bells)
    world = stage(log).will_answer(tools(), accepted(), sse_answer(progress(2), live=True), accepted())
    world.gateway.marks = marks = MemoryMarks(Bounds(), lambda: NOW, bells)
    token = token_of(world)
    await leave_behind(log, token, progress(1))
    client = FakeClient()
    async with running(world, resume(token, 2), client):
        await client.until(lambda: progress(2) in client.body)
        await marks.mark_ended(digest_session(token), b"7")
        await client.until(lambda: client.has_ended)
        await asyncio.gather(*world.pumps._tasks)
    assert said(world.upstream.sent[-1])["params"]["requestId"] == AGAIN
