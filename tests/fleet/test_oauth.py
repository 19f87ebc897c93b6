"""The SDK client's own OAuth flow through three replicas: 401 → metadata → registration → login → token → call → step-up."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.fleet.authorities import Authority, authorizing
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import modern, open_http
from tests.requirements import proves
from tests.tools.install import MODULES, node

READ, WRITE = "mcp:read", "mcp:write"


class Storage:
    """What a client keeps."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client_info: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client_info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client_info = client_info


class Browser:
    """Follows a login's redirect as a user's browser would."""

    def __init__(self) -> None:
        self._came_back: dict[str, list[str]] = {}

    async def go(self, url: str) -> None:
        async with httpx2.AsyncClient() as http:
            reply = await http.get(url)
        assert reply.status_code == 302, reply.text
        self._came_back = parse_qs(urlsplit(reply.headers["location"]).query)

    async def come_back(self) -> AuthorizationCodeResult:
        assert "code" in self._came_back, self._came_back
        return AuthorizationCodeResult(code=self._came_back["code"][0], state=self._came_back["state"][0])


@asynccontextmanager
async def connected(url: str, mode: str, storage: Storage | None = None) -> AsyncIterator[Client]:
    browser = Browser()
    metadata = OAuthClientMetadata(
        client_name="a client",
        redirect_uris=["http://127.0.0.1:1/callback"],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
    )
    auth = OAuthClientProvider(url, metadata, storage or Storage(), browser.go, browser.come_back)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


class Stage:
    def __init__(self, fleet: Fleet, authority: Authority) -> None:
        self.fleet = fleet
        self.authority = authority


@pytest.fixture(scope="module")
async def started() -> AsyncIterator[Stage]:
    async with authorizing(READ, WRITE) as authority:
        with serving("backends.math") as math, running_fleet(f"backends: {{math: {{endpoints: ['{math}']}}}}") as fleet:
            fleet.configure(f"""
public_url: {fleet.url}
auth:
  issuers: [{{issuer: {authority.issuer}, jwks_url: {authority.issuer}keys}}]
  scopes: [{READ}]
backends: {{math: {{endpoints: ['{math}']}}}}
aggregates: {{all: {{mount: /}}}}
grants:
  - {{to: {{scopes: [{READ}]}}, allow: {{tools: [add]}}}}
  - {{to: {{scopes: [{WRITE}]}}, allow: all}}
""")
            with anyio.fail_after(30):
                async with open_http() as http:
                    for replica in fleet.replicas:
                        await until_asking(http, replica.url)
            yield Stage(fleet, authority)


@pytest.fixture
def stage(started: Stage) -> Stage:
    started.authority.granted.clear()
    return started


async def until_asking(http: httpx2.AsyncClient, url: str) -> None:
    """Until the replica has taken up the configuration by which it asks who calls."""
    status = 0
    while status != 401:  # what is waited for is in another process
        await anyio.sleep(0.05)
        status = (await http.post(f"{url}/math/mcp", **modern("tools/list"))).status_code


@proves("AUTH-2", "AUTH-4", "AUTH-5")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_client_logs_in_calls_and_steps_up_by_itself(stage: Stage, mode: str) -> None:
    url = f"{stage.fleet.url}/math/mcp"
    async with connected(url, mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
        for _ in range(6):
            assert (await client.call_tool("add", {"a": 2, "b": 3})).structured_content == {"result": 5}
        assert stage.authority.granted == [(url, [READ])]
        assert (await client.call_tool("multiply", {"a": 2, "b": 3})).structured_content == {"result": 6}
        resource, scopes = stage.authority.granted[1]
        assert (resource, set(scopes)) == (url, {READ, WRITE})
    assert len(stage.authority.granted) == 2
    assert len(stage.authority.asked) <= 3  # each replica asks for the keys once


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_client_in_typescript_does_the_same(stage: Stage, version: str) -> None:
    url = f"{stage.fleet.url}/math/mcp"
    program = [str(node()), str(Path(__file__).with_name("oauth.mjs")), str(MODULES), version, url]
    with anyio.fail_after(60):
        told = await anyio.run_process(program, check=False)
    assert told.returncode == 0, told.stderr.decode()
    assert json.loads(told.stdout) == {
        "tools": ["add"],
        "added": {"result": 5},
        "multiplied": {"result": 6},
        "logins": 2,
    }
    assert [(resource, set(scopes)) for resource, scopes in stage.authority.granted] == [
        (url, {READ}),
        (url, {READ, WRITE}),
    ]


@pytest.mark.parametrize("path", ["/math", "/mcp"])
async def test_any_url_of_a_mount_will_do(stage: Stage, path: str) -> None:
    async with connected(stage.fleet.url + path, "legacy") as client:
        assert len((await client.list_tools()).tools) == 1
    assert stage.authority.granted == [(stage.fleet.url + path, [READ])]


async def test_a_stolen_session_is_no_session(stage: Stage) -> None:
    url = f"{stage.fleet.url}/math/mcp"
    alice, bob = (
        {
            "authorization": f"Bearer {stage.authority.issue(name, url, READ)}",
            "accept": "application/json, text/event-stream",
        }
        for name in ("alice", "bob")
    )
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    async with open_http() as http:
        session = (await http.post(url, json=hello, headers=alice)).headers["mcp-session-id"]
        statuses = [
            (await http.post(url, json=ping, headers={**who, "mcp-session-id": session})).status_code
            for who in (alice, bob)
        ]
    assert statuses == [200, 404]


async def test_nothing_of_a_token_is_in_what_the_fleet_wrote(stage: Stage) -> None:
    url = f"{stage.fleet.url}/math/mcp"
    good = stage.authority.issue("alice", url, READ)
    async with open_http() as http:
        for token in (good, good[:-4] + "AAAA", "mcpgw_" + "A" * 43, "hunter2hunter2"):
            await http.post(url, **_with(modern("tools/list"), token))
    for replica in stage.fleet.replicas:
        replica.child.wait_for_line("unauthenticated", 10)
    written = stage.fleet.describe() + "".join(replica.output for replica in stage.fleet.replicas)
    assert "unauthenticated" in written
    for part in (*good.split("."), "A" * 43, "hunter2"):
        assert part not in written


def _with(call: dict[str, object], token: str) -> dict[str, object]:
    headers = call["headers"]
    assert isinstance(headers, dict)
    return {**call, "headers": {**headers, "authorization": f"Bearer {token}"}}
