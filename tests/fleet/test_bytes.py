"""What goes through the gateway comes out as it went in, byte for byte: what the conformance suite can't see.

Each sample backend is asked everything it knows, directly and through three replicas; the rest is told by a scripted backend.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx2
import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import initialize, legacy, legacy_headers, modern, open_session
from tests.fleet.scripted import SSE, Call, Scripted, scripted
from tests.requirements import proves

SAMPLES = ("echo", "math", "weather")


class Stage:
    def __init__(self, fleet: Fleet, direct: dict[str, str], backend: Scripted) -> None:
        self.fleet = fleet
        self.direct = direct
        self.backend = backend
        self.url = f"{fleet.url}/raw/mcp"

    def through(self, sample: str) -> str:
        return f"{self.fleet.url}/{sample}/mcp"


@pytest.fixture(scope="module")
def samples() -> Iterator[dict[str, str]]:
    with ExitStack() as cleanup:
        yield {name: cleanup.enter_context(serving(f"backends.{name}")) for name in SAMPLES}


@pytest.fixture(scope="module")
async def whole_stage(samples: dict[str, str]) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as cleanup:
        raw = await cleanup.enter_async_context(scripted())
        lines = [f"  {name}: {{endpoints: ['{url}']}}" for name, url in samples.items()]
        config = "\n".join(["backends:", *lines, f"  raw: {{endpoints: ['{raw.url}'], era: dual}}"])
        yield Stage(cleanup.enter_context(running_fleet(config)), samples, raw)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    whole_stage.backend.forget()
    return whole_stage


# everything the samples know

LISTS = [("tools/list", {}), ("resources/list", {}), ("resources/templates/list", {}), ("prompts/list", {})]
WRONG = [
    ("tools/call", {"name": "nothing", "arguments": {}}),
    ("no/such/method", {}),
    ("resources/read", {"uri": "no://"}),
]


def tool(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


ASKED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "echo": [
        tool("echo", text='hello, "wörld" \U0001f30d\n\u2028 <&>'),
        tool("echo", text="x" * 100_000),
        tool("count", n=3, delay_ms=0),
        tool("count", n=-1),
        ("resources/read", {"uri": "echo://last"}),
        ("prompts/get", {"name": "rephrase", "arguments": {"text": "hello"}}),
    ],
    "math": [
        tool("add", a=0.1, b=0.2),
        tool("multiply", a=1e308, b=10),
        tool("divide", a=1, b=0),
        tool("divide", a=1, b=3),
        tool("statistics", numbers=[1, 2, 3.5]),
        tool("add", a="one"),
    ],
    "weather": [
        tool("get_weather", city="berlin", month=1),
        tool("get_weather", city="Atlantis"),
        tool("list_cities"),
        ("resources/read", {"uri": "weather://Lima/climate"}),
    ],
}
QUESTIONS = [
    pytest.param(sample, method, params, id=f"{sample} {method} {index}")
    for sample, asked in ASKED.items()
    for index, (method, params) in enumerate([*LISTS, *WRONG, *asked])
]
SEALED = re.compile(rb'"requestState":"[^"]*"')


def seen(answer: httpx2.Response) -> tuple[int, str | None, bytes]:
    """What a client gets of an answer, but for what differs each time."""
    return answer.status_code, answer.headers.get("content-type"), SEALED.sub(b'"requestState":""', answer.content)


@pytest.mark.parametrize(("sample", "method", "params"), QUESTIONS)
@proves("RELAY-1", "RELAY-2")
async def test_a_modern_answer_is_the_backends_own(
    stage: Stage, http: httpx2.AsyncClient, sample: str, method: str, params: dict[str, Any]
) -> None:
    direct = await http.post(stage.direct[sample], **modern(method, params, request_id="ü-1"))
    through = await http.post(stage.through(sample), **modern(method, params, request_id="ü-1"))
    assert seen(through) == seen(direct)
    assert direct.content


@pytest.fixture(scope="module")
async def sessions(whole_stage: Stage) -> dict[str, tuple[str, str]]:
    """Of each sample: a session at the backend itself, and one through the fleet."""
    async with httpx2.AsyncClient(timeout=60) as http:
        return {
            sample: (
                await open_session(http, whole_stage.direct[sample]),
                await open_session(http, whole_stage.through(sample)),
            )
            for sample in SAMPLES
        }


@pytest.mark.parametrize(("sample", "method", "params"), QUESTIONS)
@proves("RELAY-1", "RELAY-2")
async def test_a_legacy_answer_is_the_backends_own(
    stage: Stage,
    sessions: dict[str, tuple[str, str]],
    http: httpx2.AsyncClient,
    sample: str,
    method: str,
    params: dict[str, Any],
) -> None:
    own, token = sessions[sample]
    direct = await http.post(stage.direct[sample], **legacy(method, params, request_id="ü-1", session=own))
    through = await http.post(stage.through(sample), **legacy(method, params, request_id="ü-1", session=token))
    assert seen(through) == seen(direct)
    assert direct.content


@pytest.mark.parametrize("sample", SAMPLES)
async def test_questions_at_the_beginning_are_answered_in_the_backends_own_words(
    stage: Stage, http: httpx2.AsyncClient, sample: str
) -> None:
    for request in (initialize(), initialize("2025-03-26"), modern("server/discover"), modern("ask")):
        direct = await http.post(stage.direct[sample], **request)
        through = await http.post(stage.through(sample), **request)
        assert seen(through) == seen(direct)


async def test_a_tool_that_asks_back_asks_in_the_backends_own_words(stage: Stage, http: httpx2.AsyncClient) -> None:
    method, params = tool("ask", question="why?")
    request = modern(method, params)
    request["json"]["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {}}
    direct = await http.post(stage.direct["echo"], **request)
    through = await http.post(stage.through("echo"), **request)
    assert seen(through) == seen(direct)
    assert direct.json()["result"]["resultType"] == "input_required"


# bytes as they are

ODD_REQUEST = (
    b'\n{ "params":{"name":"t","arguments":{"a":1.0e0,"b":1E+2,"c":123456789012345678901234567890,'
    b'"d":"\\u00e9\\ud83d\\ude00\\/","e":[ ],"f":{"name":"inner"}}}\t,"method" : "tools/call","id":"1","jsonrpc":"2.0"}\r\n'
)
ODD_ANSWER = (
    b' {"result" :{"n":1.0e0,"huge":1e400,"s":"\\u00e9\\ud83d\\ude00\\/ \xc3\xa9","again":1,"again":2},\r\n'
    b'"jsonrpc":"2.0","id":"1","more":[{"id":"2"}]}\n'
)


async def test_requests_and_answers_are_passed_on_byte_for_byte(stage: Stage, http: httpx2.AsyncClient) -> None:
    async def answer(call: Call) -> None:
        await call.reply(
            ODD_ANSWER, 203, "application/json; charset=utf-8", x_own_header="kept", mcp_param_x="kept too"
        )

    stage.backend.script = answer
    headers = legacy_headers() | {"content-type": "application/json", "mcp-param-region": "=?base64?w7w=?="}
    got = await http.post(stage.url, content=ODD_REQUEST, headers=headers)
    assert (got.status_code, got.content) == (203, ODD_ANSWER)
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert (got.headers["x-own-header"], got.headers["mcp-param-x"]) == ("kept", "kept too")
    (call,) = stage.backend.calls
    assert call.body == ODD_REQUEST
    assert call.headers["mcp-param-region"] == "=?base64?w7w=?="


async def test_a_large_answer_stays_one_json_body(stage: Stage, http: httpx2.AsyncClient) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + b"x" * 10 * 2**20 + b'"}}'

    async def answer(call: Call) -> None:
        await call.start("application/json")
        for start in range(0, len(body), 100_000):
            await call.write_chunk(body[start : start + 100_000])
        await call.finish()

    stage.backend.script = answer
    for request in (legacy("tools/list"), modern("tools/list")):
        got = await http.post(stage.url, **request)
        assert got.headers["content-type"] == "application/json"
        assert got.content == body


ODD_STREAM = [
    b": hello\n\n",
    b"id: 7\nretry: 100\ndata:\n\n",
    b'event: message\r\ndata: {"jsonrpc":"2.0",\r\ndata: "method":"notifications/message","params":{}}\r\n\r\n',
    b'id: \xc3\xbc\rdata:{"jsonrpc":"2.0","method":"notifications/x"}\r\r',
    b'data: {"jsonrpc":"2.0","id":1,"result":{"text":"\xe2\x80\xa8 \\u2028"}}\n\n',
]


@pytest.mark.parametrize("request_", [legacy("tools/list"), modern("tools/list")], ids=["legacy", "modern"])
@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
async def test_a_streams_events_are_passed_on_byte_for_byte(
    stage: Stage, http: httpx2.AsyncClient, request_: dict[str, Any], piece_bytes: int
) -> None:
    whole = b"".join(ODD_STREAM)

    async def answer(call: Call) -> None:
        await call.start(f"{SSE}; charset=utf-8")
        for start in range(0, len(whole), piece_bytes):
            await call.write_chunk(whole[start : start + piece_bytes])
        await call.finish()

    stage.backend.script = answer
    got = await http.post(stage.url, **request_)
    assert got.content == whole
    assert got.headers["content-type"] == f"{SSE}; charset=utf-8"
