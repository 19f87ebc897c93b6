"""What a client sees of a backend that is dead, silent, talks nonsense or is given too much: design §11, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import initialize, legacy, modern, open_session, read_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, encode, scripted
from tests.requirements import proves

CONFIG = """
backends:
  calls: {{endpoints: ['{calls}'], era: dual, timeouts: {{idle: 1s}}}}
  brief: {{endpoints: ['{calls}'], era: dual, timeouts: {{idle: 1s, total: 2s}}}}
  pair: {{endpoints: ['{left}', '{right}'], era: dual}}
  dead: {{endpoints: ['{dead}', '{dead_too}'], era: dual}}
  tight: {{endpoints: ['{calls}'], era: dual, max_connections: 1}}
"""


class Stage:
    """The fleet, and the backends behind it that a test can direct."""

    def __init__(self, fleet: Fleet, calls: Scripted, left: Scripted, right: Scripted) -> None:
        self.fleet = fleet
        self.calls = calls
        self.left = left
        self.right = right

    def url(self, backend: str) -> str:
        return f"{self.fleet.url}/{backend}/mcp"


@pytest.fixture(scope="module")
async def whole_stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        calls, left, right = [await cleanup.enter_async_context(scripted()) for _ in range(3)]
        # Bound, but nobody listens: as long as this lasts no one else gets these ports.
        dead, dead_too = [cleanup.enter_context(socket.socket()) for _ in range(2)]
        for refusing in (dead, dead_too):
            refusing.bind(("127.0.0.1", 0))
        config = CONFIG.format(
            calls=calls.url,
            left=left.url,
            right=right.url,
            dead=f"http://127.0.0.1:{dead.getsockname()[1]}/mcp",
            dead_too=f"http://127.0.0.1:{dead_too.getsockname()[1]}/mcp",
        )
        yield Stage(cleanup.enter_context(running_fleet(config)), calls, left, right)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    for backend in (whole_stage.calls, whole_stage.left, whole_stage.right):
        backend.forget()
    return whole_stage


def error_of(answer: httpx2.Response | dict[str, Any]) -> dict[str, Any]:
    """The JSON-RPC error, after checking that the gateway made it and says on which exchange."""
    message = answer.json() if isinstance(answer, httpx2.Response) else answer
    assert message["jsonrpc"] == "2.0"
    assert message["error"]["data"]["source"] == "gateway"
    if isinstance(answer, httpx2.Response):
        assert message["error"]["data"]["requestId"] == answer.headers["x-request-id"]
    return {"id": message["id"], **message["error"]}


REQUESTS = {"modern": modern("tools/list", request_id=7), "legacy": legacy("tools/list", request_id=7)}
both_eras = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())


# dead


@both_eras
@proves("FAIL-1")
async def test_all_endpoints_dead_is_a_503_that_names_the_mount_and_says_when_to_retry(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    answer = await http.post(stage.url("dead"), **request_)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    error = error_of(answer)
    assert error["id"] == 7
    assert error["message"] == "no server of mount /dead can be reached"


async def test_an_outage_at_the_handshake_is_no_4xx_either(stage: Stage, http: httpx2.AsyncClient) -> None:
    answer = await http.post(stage.url("dead"), **initialize())
    assert answer.status_code == 503
    assert error_of(answer)["id"] == 0


def named(name: str) -> Any:
    """A script: a server with sessions, whose answers say who it is."""

    async def script(call: Call) -> None:
        if call.message.get("method") == "initialize":
            info = {"name": name, "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info}
            await call.answer(result, mcp_session_id=f"session-of-{name}")
        elif "id" in call.message:
            assert call.headers.get("mcp-session-id", f"session-of-{name}") == f"session-of-{name}"
            await call.answer({"from": name})
        else:
            await call.reply(b"", 202)

    return script


async def open_one_on_each(stage: Stage, http: httpx2.AsyncClient) -> dict[str, str]:
    """A session on either endpoint of the pair."""
    sessions: dict[str, str] = {}
    async with asyncio.timeout(WITHIN_SECONDS):
        while len(sessions) < 2:
            session = await open_session(http, stage.url("pair"))
            sessions[await ask(stage, http, session)] = session
    return sessions


async def ask(stage: Stage, http: httpx2.AsyncClient, session: str) -> str:
    answer = await http.post(stage.url("pair"), **legacy("tools/list", session=session))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["result"]["from"])


async def test_with_one_endpoint_of_two_dead_the_other_serves_and_sessions_wait_for_their_own(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.left.script, stage.right.script = named("left"), named("right")
    sessions = await open_one_on_each(stage, http)
    await stage.left.stop()
    # A session of the dead one: an outage, on every replica, time and again. Never a 4xx, which would end it.
    for _ in range(9):
        answer = await http.post(stage.url("pair"), **legacy("tools/list", request_id=8, session=sessions["left"]))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert error_of(answer)["id"] == 8
    # Everybody else is served, by the other.
    assert {await ask(stage, http, sessions["right"]) for _ in range(6)} == {"right"}
    for _ in range(9):
        assert (await http.post(stage.url("pair"), **modern("tools/list"))).json()["result"] == {"from": "right"}
    # And when it is back, so is its session.
    await stage.left.start()
    assert {await ask(stage, http, sessions["left"]) for _ in range(6)} == {"left"}


# silent


@both_eras
@proves("FAIL-3")
async def test_a_backend_that_never_answers_is_a_504_and_is_told_that_nobody_waits(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    async def hold(call: Call) -> None:
        await call.left.wait()

    stage.calls.script = hold
    answer = await http.post(stage.url("calls"), **request_)
    assert answer.status_code == 504
    assert error_of(answer)["id"] == 7
    call = await stage.calls.wait_call(1)
    async with asyncio.timeout(WITHIN_SECONDS):
        await call.left.wait()
    assert len(stage.calls.calls) == 1  # what may have been executed is not sent again


@both_eras
@proves("FAIL-4")
async def test_a_stream_that_falls_silent_ends_with_an_error_on_the_requests_id(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    async def begin(call: Call) -> None:
        await call.start()
        await call.progress(1)
        await call.left.wait()

    stage.calls.script = begin
    async with http.stream("POST", stage.url("calls"), **request_) as answer:
        assert answer.status_code == 200
        first, last = [message async for message in read_events(answer)]
    assert first["params"]["progress"] == 1
    assert error_of(last)["id"] == 7
    async with asyncio.timeout(WITHIN_SECONDS):
        await stage.calls.calls[0].left.wait()


@both_eras
async def test_progress_puts_off_the_end_of_patience_but_not_of_the_total(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    async def never_ending(call: Call) -> None:
        await call.start()
        while True:
            await call.progress(1)
            await asyncio.sleep(0.1)

    stage.calls.script = never_ending
    async with http.stream("POST", stage.url("brief"), **request_) as answer:
        *progress, last = [message async for message in read_events(answer)]
    assert len(progress) > 10  # a second, which is all the patience with silence, has only ten tenths
    assert error_of(last)["id"] == 7


# nonsense

NONSENSE = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "a body cut short": b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"jsonrpc"',
    "no JSON": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{oh}",
    "a page": b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
    "another request's answer": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n"
    b'{"jsonrpc":"2.0","id":8,"result":{}}',
    "nothing": b"",
}


@pytest.mark.parametrize("bytes_", NONSENSE.values(), ids=NONSENSE.keys())
@both_eras
@proves("FAIL-3")
async def test_nonsense_instead_of_an_answer_is_a_502(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any], bytes_: bytes
) -> None:
    async def speak(call: Call) -> None:
        await call.write(bytes_)
        call.close()

    stage.calls.script = speak
    answer = await http.post(stage.url("calls"), **request_)
    assert answer.status_code == 502
    assert error_of(answer)["id"] == 7
    assert len(stage.calls.calls) == 1


BROKEN_STREAMS = {
    "no JSON": b"data: oh\r\n\r\n",
    "another request's answer": b'data: {"jsonrpc":"2.0","id":8,"result":{}}\r\n\r\n',
    "an event cut short": b'data: {"jsonrpc":"2.0","id":7',
    "nothing": b"",
}


@pytest.mark.parametrize("bytes_", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS.keys())
@both_eras
@proves("FAIL-4")
async def test_nonsense_on_a_stream_ends_it_with_an_error_on_the_requests_id(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any], bytes_: bytes
) -> None:
    is_seen = asyncio.Event()

    async def speak(call: Call) -> None:
        await call.start()
        await call.progress(1)
        await is_seen.wait()  # so that no status can tell of it any more
        await call.write(b"%x\r\n%b\r\n" % (len(bytes_), bytes_) if bytes_ else b"")
        await call.finish()

    stage.calls.script = speak
    async with http.stream("POST", stage.url("calls"), **request_) as answer:
        events = read_events(answer)
        assert (await anext(events))["params"]["progress"] == 1
        is_seen.set()
        (last,) = [message async for message in events]
    assert error_of(last)["id"] == 7


# too large, too many


@both_eras
@proves("LIM-1")
async def test_a_body_that_is_too_large_is_a_413_and_reaches_nobody(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    large = encode(request_["json"] | {"padding": "x" * 5 * 2**20})
    headers = request_["headers"] | {"content-type": "application/json"}
    answer = await http.post(stage.url("calls"), headers=headers, content=large)
    assert answer.status_code == 413
    assert error_of(answer)["message"] == "the request's body is larger than the 4194304 bytes taken here"
    assert stage.calls.calls == []


@both_eras
async def test_more_calls_than_a_backend_may_have_are_a_429_that_says_when_to_retry(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any]
) -> None:
    may_answer = asyncio.Event()

    async def wait(call: Call) -> None:
        await may_answer.wait()
        await call.answer({"patience": "pays"})

    stage.calls.script = wait
    async with asyncio.TaskGroup() as tasks:
        # One connection for each of three replicas, and each is taken.
        taken = [tasks.create_task(http.post(stage.url("tight"), **request_)) for _ in range(3)]
        await stage.calls.wait_call(3)
        answer = await http.post(stage.url("tight"), **request_)
        may_answer.set()
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert error_of(answer)["id"] == 7
    assert [task.result().json()["result"] for task in taken] == [{"patience": "pays"}] * 3
