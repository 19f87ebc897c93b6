"""No secret is in anything that a fleet writes: secrets are planted wherever one can be, whatever can go wrong goes wrong, and
then everything is read: logs at level debug, the audit log, metrics, `/health`, refusals, Redis and its files, command lines.
"""

import asyncio
import base64
import hashlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import redis

from tests.fleet.figures import wait_for_metric
from tests.fleet.fleet import Fleet, fetch, running_fleet
from tests.fleet.requests import initialize, legacy, legacy_headers, modern, open_http, read_events
from tests.fleet.scripted import WITHIN_SECONDS, Call, Scripted, scripted
from tests.redis.servers import HOST, RedisServer, running

KEY = base64.urlsafe_b64encode(b"planted session key, 32 bytes!!!").decode().rstrip("=")
API_KEY = "mcpgw_" + "plantedApiKey".ljust(43, "x")
SECRETS = {
    "session key": KEY,
    "api key": API_KEY,
    "api key's part": "plantedApiKey",
    "backend's credential": "planted-backend-credential",
    "backend's other credential": "planted-vendor-credential",
    "client's wrong token": "planted.wrong.token",
    "client's unknown api key": "mcpgw_plantedUnknownKey",
    "basic password": base64.b64encode(b"planted-user:planted-password").decode(),
    "cookie": "planted-cookie",
    "client's odd header": "planted-odd-header",
    "query": "planted-query",
    "argument": "planted-argument",
    "result": "planted-result",
    "backend's words": "planted-words",
    "upstream session": "planted-upstream-session",
    "redis password": "planted-redis-password",
    "configuration": "planted-configuration",
}
"""The principal's own name is none of them: logs and audit are there to tell it."""

OF_CLIENTS = {"argument", "result", "backend's words"}
"""What a client sent or was meant to get may stand in a reply to it."""

CONFIG = """
redis: {redis}
streams: {{heartbeat: 1s}}
log: {{level: debug}}
audit: {{to: {audit}, arguments: [{{tools: [long], keys: [harmless]}}]}}
public_url: http://localhost
auth: {{api_keys: [{{name: tester, sha256: {digest}}}]}}
limits: {{body: 64KiB, answer: 64KiB, event: 64KiB}}
backends:
  tools:
    endpoints: ['{url}']
    era: dual
    heal: false
    headers:
      authorization: Bearer {credential}
      x-vendor: {vendor}
  away:
    endpoints: ['http://127.0.0.1:1/mcp?key={query}']
    era: dual
    headers: {{authorization: Bearer {credential}}}
"""


class Script:
    """A backend that does with a call what the tool's name says."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        message = json.loads(call.body) if call.body else {}
        method = message.get("method", "")
        if method == "initialize":
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "tools", "version": "1"},
            }
            await call.answer(result, mcp_session_id=SECRETS["upstream session"])
        elif method != "tools/call":
            await call.reply(b"", 202)
        else:
            await getattr(self, message["params"]["name"])(call)

    async def quick(self, call: Call) -> None:
        await call.answer({"content": [{"type": "text", "text": SECRETS["result"]}]}, set_cookie=SECRETS["cookie"])

    async def long(self, call: Call) -> None:
        await call.start()
        for number in (1, 2):
            message = f"{SECRETS['result']} {number}"
            params = {"progressToken": "p", "progress": number, "message": message}
            await call.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        await self.may_end.wait()
        await call.finish({"content": [{"type": "text", "text": SECRETS["result"]}]})

    async def fails(self, call: Call) -> None:
        await call.reply(SECRETS["backend's words"].encode(), 500, "text/plain")

    async def refuses(self, call: Call) -> None:
        await call.reply(b"no", 401, www_authenticate="Bearer " + SECRETS["backend's words"])

    async def moves(self, call: Call) -> None:
        await call.reply(b"", 307, location="http://127.0.0.1:1/" + SECRETS["backend's words"])

    async def babbles(self, call: Call) -> None:
        await call.reply(b"{" + SECRETS["backend's words"].encode(), 200)

    async def swaps(self, call: Call) -> None:
        await call.reply(json.dumps({"jsonrpc": "2.0", "id": SECRETS["backend's words"], "result": {}}).encode())

    async def errs(self, call: Call) -> None:
        error = {"code": -32000, "message": SECRETS["backend's words"]}
        await call.reply(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "error": error}).encode())

    async def breaks(self, call: Call) -> None:
        await call.start()
        await call.write_chunk(b"data: {" + SECRETS["backend's words"].encode() + b"\n\n")
        call.close()

    async def overflows(self, call: Call) -> None:
        await call.reply(SECRETS["backend's words"].encode() * 10_000)

    async def drops(self, call: Call) -> None:
        await call.write(b"HTTP/1.1 200 OK\r\nx: " + SECRETS["backend's words"].encode())
        call.drop()

    async def smuggles(self, call: Call) -> None:
        await call.write(SECRETS["backend's words"].encode() + b"\r\n\r\n")
        call.close()


EXPECTED = {
    *("ok", "rpc_error", "backend_failed", "backend_unauthorized", "broken", "nonsense", "unreachable", "too_large"),
    *("host_denied", "origin_denied", "unauthenticated", "unknown_session", "parse_error", "invalid_request"),
}
"""How the exchanges end: a test in which nothing goes wrong would find nothing."""

TOOLS = [name for name in vars(Script) if not name.startswith("_") and name != "long"]


class Stage:
    """A fleet, and all that is found in what it wrote."""

    def __init__(self, fleet: Fleet, backend: Scripted, script: Script, store: RedisServer, audit: Path) -> None:
        self.fleet = fleet
        self.backend = backend
        self.script = script
        self.store = store
        self.audit = audit
        self.told: dict[str, str] = {}
        self.tokens: list[str] = []

    async def ask(self, http: httpx2.AsyncClient, url: str, shown: dict[str, str], **asked: Any) -> httpx2.Response:
        """A request with an API key, unless the headers have another credential; what it is told is kept."""
        sent = {"authorization": f"Bearer {API_KEY}", **asked.pop("headers", {}), **shown}
        answer = await http.request(asked.pop("method", "POST"), url, headers=sent, **asked)
        self.told[f"reply {len(self.told)}"] = f"{answer.headers!r}\n{answer.text}"
        return answer


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    password = SECRETS["redis password"]
    options = ("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--requirepass", password)
    store, audit, script = RedisServer(tmp_path, *options), tmp_path / "audit.log", Script()
    async with AsyncExitStack() as cleanup:
        cleanup.enter_context(running(store))
        backend = await cleanup.enter_async_context(scripted(script))
        cleanup.callback(script.may_end.set)
        config = CONFIG.format(
            redis=f"redis://:{password}@{HOST}:{store.port}",
            audit=audit,
            digest=hashlib.sha256(API_KEY.encode()).hexdigest(),
            url=backend.url,
            credential=SECRETS["backend's credential"],
            vendor=SECRETS["backend's other credential"],
            query=SECRETS["query"],
        )
        fleet = cleanup.enter_context(running_fleet(config, env={"MCPGW_SESSION_KEYS": KEY}))
        yield Stage(fleet, backend, script, store, audit)


CREDENTIALS = [
    {"authorization": "Bearer " + SECRETS["client's wrong token"]},
    {"authorization": "Bearer " + SECRETS["client's unknown api key"]},
    {"authorization": f"Basic {SECRETS['basic password']}"},
    {"authorization": "bearer  " + SECRETS["client's wrong token"] + " x"},
    {"authorization": "", "x-api-key": SECRETS["client's unknown api key"]},
    {"cookie": f"session={SECRETS['cookie']}", "x-odd": SECRETS["client's odd header"]},
    {"mcp-session-id": SECRETS["client's odd header"]},
    {"last-event-id": SECRETS["client's odd header"], "proxy-authorization": SECRETS["client's wrong token"]},
    {"x-request-id": "a b", "host": "elsewhere", "cookie": SECRETS["cookie"]},
    {"origin": "http://elsewhere", "cookie": SECRETS["cookie"]},
]


async def misbehave(stage: Stage, http: httpx2.AsyncClient) -> None:
    """Requests good and bad, to backends good and bad."""
    url, arguments = f"{stage.fleet.url}/tools/mcp", {"password": SECRETS["argument"]}
    opened = await stage.ask(http, url, {}, **initialize())
    session = opened.headers["mcp-session-id"]
    stage.tokens.append(session)
    for name in TOOLS:
        params = {"name": name, "arguments": arguments}
        await stage.ask(http, url, {}, **legacy("tools/call", params, session=session))
        await stage.ask(http, url, {}, **modern("tools/call", params))
        await stage.ask(http, f"{stage.fleet.url}/away/mcp", {}, **modern("tools/call", params))
    quick = {"name": "quick", "arguments": arguments}
    for headers in CREDENTIALS:
        await stage.ask(http, url, headers, **modern("tools/call", quick))
        await stage.ask(http, f"{url}?key={SECRETS['query']}", headers, **legacy("tools/call", quick, session=session))
        await stage.ask(http, url, headers, method="GET", headers=legacy_headers("x" + session))
    bodies = (
        b"{" + SECRETS["argument"].encode(),
        b'"' + SECRETS["argument"].encode() * 10_000 + b'"',
        b"\xff\xfe",
        b"[1]",
    )
    for body in bodies:
        await stage.ask(
            http, url, {}, headers={**legacy_headers(session), "content-type": "application/json"}, content=body
        )
    await stage.ask(http, f"{stage.fleet.url}/nowhere?key={SECRETS['query']}", {}, **modern("tools/call", quick))


async def die(stage: Stage, http: httpx2.AsyncClient) -> None:
    """A replica is killed under a long call, which goes on elsewhere; then Redis goes; then a configuration is refused."""
    url, seen = stage.fleet.replicas[0].url, []
    call = legacy(
        "tools/call", {"name": "long", "arguments": {"password": SECRETS["argument"]}}, session=stage.tokens[0]
    )
    call["headers"]["authorization"] = f"Bearer {API_KEY}"
    async with http.stream("POST", f"{url}/tools/mcp", **call) as answer:
        async for event in read_events(answer):
            seen.append(event)
            if len(seen) == 2:
                break
        stage.told["redis, meanwhile"] = dump(stage.store)
        stage.fleet.kill(0)
    stage.script.may_end.set()
    stage.fleet.restart(0)
    await misbehave(stage, http)
    stage.told["redis"] = dump(stage.store)
    stage.store.stop()
    await misbehave(stage, http)
    stage.told["health"] = str(fetch(f"{stage.fleet.replicas[1].url}/health", WITHIN_SECONDS))
    secret = SECRETS["configuration"]
    stage.fleet.configure(
        f"backends: {{tools: {{endpoints: ['http://u:{secret}@h/'], headers: {{authorization: [{secret}]}}}}}}"
    )
    await wait_for_metric(stage.fleet, 3, "mcp_gateway_configuration_reloads_total", result="refused")


def dump(store: RedisServer) -> str:
    """Every key and value, and the files as they are."""
    with redis.Redis(host=HOST, port=store.port, password=SECRETS["redis password"]) as client:
        found: list[Any] = [client.info("server")["redis_version"]]
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            value = {
                b"stream": lambda key=key: client.xrange(key),
                b"hash": lambda key=key: client.hgetall(key),
                b"string": lambda key=key: client.get(key),
            }.get(kind, lambda kind=kind: kind)()
            found.append((key, value))
        assert len(found) > 1, "nothing was kept"
        client.save()
    files = [file.read_bytes() for file in sorted(store.folder.rglob("*")) if file.is_file()]
    assert len(files) >= 2, "neither RDB nor AOF"
    return repr(found) + "".join(data.decode("latin-1") for data in files)


def read_command_lines(fleet: Fleet) -> str:
    """Of the replicas' processes, and of those that they started."""
    found: list[str] = []
    for replica in fleet.replicas:
        parent = replica.child.process.pid
        started = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        found += [Path(f"/proc/{pid}/{name}").read_text() for pid in (parent, *started) for name in ("cmdline", "comm")]
    return "\n".join(found)


def find(text: str, secrets: dict[str, str]) -> Iterator[str]:
    """Which of them stand in the text, in any form that one might have given them."""
    for name, secret in secrets.items():
        raw = secret.encode()
        forms = {secret, quote(secret, safe=""), base64.b64encode(raw).decode().rstrip("=")[:-1], raw.hex()}
        if any(form in text for form in forms):
            yield name


async def test_no_secret_is_in_anything_that_a_fleet_writes(stage: Stage) -> None:
    async with open_http() as http:
        await misbehave(stage, http)
        stage.told["metrics"] = str(fetch(f"{stage.fleet.replicas[1].url}/metrics", WITHIN_SECONDS))
        await die(stage, http)
    stage.told["command lines"] = read_command_lines(stage.fleet)
    for replica in stage.fleet.replicas:
        replica.end(signal.SIGTERM)
        stage.told[f"log of replica {replica.number}"] = replica.output
    stage.told["audit log"] = stage.audit.read_text()
    sessions = {f"session {number}": token for number, token in enumerate(stage.tokens)}
    assert len(sessions) == 3
    leaks = []
    for place, text in stage.told.items():
        is_reply = place.startswith("reply")
        secrets = {name: secret for name, secret in SECRETS.items() if not (is_reply and name in OF_CLIENTS)}
        leaks += [f"{name} in {place}" for name in find(text, secrets if is_reply else {**secrets, **sessions})]
    assert leaks == []
    log = stage.told["log of replica 1"]
    assert '"event":"step"' in log, "the log is not at level debug"
    outcomes = {json.loads(line)["outcome"] for line in stage.told["audit log"].splitlines()}
    assert outcomes >= EXPECTED, "what should have gone wrong didn't"
    assert {json.loads(line)["principal"] for line in stage.told["audit log"].splitlines()} == {
        "key tester",
        "anonymous",
    }
