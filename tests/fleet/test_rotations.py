"""Session keys and upstream credentials are changed while clients go on, in the order that SECURITY.md asks for.

Two fleets of one replica each, so that each has a key ring of its own: between two steps of a rotation replicas differ.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from gateway.settings.session_keys import make_key
from tests.fleet.figures import wait_for_metric
from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.requests import legacy, modern, open_session
from tests.fleet.scripted import Call, Scripted, scripted

RELOADS = "mcp_gateway_configuration_reloads_total"
OLD, NEW = make_key(), make_key()


class Node:
    """A replica, its files, and how often it has taken up a change."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.url = f"{fleet.replicas[0].url}/tools/mcp"
        self._applied = 0

    async def write(self, name: str, *lines: str) -> None:
        """Replaces a secret's file in one step, and waits until it counts."""
        replace(self.folder / name, *lines)
        self._applied += 1
        await wait_for_metric(self.fleet, self._applied, RELOADS, result="applied")


def replace(file: Path, *lines: str) -> None:
    file.with_suffix(".new").write_text("\n".join(lines) + "\n")
    file.with_suffix(".new").replace(file)


async def script(call: Call) -> None:
    """A backend that tells which credential it was shown, in whose session."""
    message = call.message
    if message["method"] == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tools", "version": "1"},
        }
        await call.answer(result, mcp_session_id="upstream-1")
    elif "id" not in message:
        await call.reply(b"", 202)
    else:
        await call.answer({"tools": [], "shown": call.headers["authorization"]})


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with AsyncExitStack() as cleanup:
        backend = await cleanup.enter_async_context(scripted(script))
        first, second = (start(cleanup, backend, tmp_path / name) for name in ("first", "second"))
        yield first, second


def start(cleanup: AsyncExitStack, backend: Scripted, folder: Path) -> Node:
    folder.mkdir()
    replace(folder / "keys", OLD)
    replace(folder / "token", "Bearer first-credential")
    config = f"""
backends:
  tools:
    endpoints: ['{backend.url}']
    era: dual
    headers: {{authorization: {{file: {folder}/token}}}}
"""
    env = {"MCPGW_SESSION_KEYS": "", "MCPGW_SESSION_KEYS_FILE": f"{folder}/keys"}  # instead of the fleet's own
    return Node(cleanup.enter_context(running_fleet(config, 1, env=env)), folder)


async def list_tools(http: httpx2.AsyncClient, node: Node, session: str) -> int:
    return (await http.post(node.url, **legacy("tools/list", session=session))).status_code


async def test_sessions_live_through_a_rotation_of_the_keys_at_every_replica(
    nodes: tuple[Node, Node], http: httpx2.AsyncClient
) -> None:
    sessions = [await open_session(http, nodes[0].url)]
    for ring in ((OLD, NEW), (NEW, OLD)):  # add last everywhere, then move first
        for node in nodes:
            await node.write("keys", *ring)
            sessions.append(await open_session(http, node.url))  # while the other replica has the ring of before
            for session in sessions:
                assert [await list_tools(http, each, session) for each in nodes] == [200, 200]
    for node in nodes:
        await node.write("keys", NEW)  # and drop: only what the old key sealed is gone
    expected = [404, 404, 404, 200, 200]
    assert [await list_tools(http, nodes[0], session) for session in sessions] == expected
    assert [await list_tools(http, nodes[1], session) for session in sessions] == expected


async def test_a_backends_credential_is_replaced_without_a_restart_and_its_sessions_go_on(
    nodes: tuple[Node, Node], http: httpx2.AsyncClient
) -> None:
    session = await open_session(http, nodes[0].url)
    assert await show_credentials(http, nodes[0], session) == ["Bearer first-credential"] * 2
    await nodes[0].write("token", "Bearer second-credential")
    assert await show_credentials(http, nodes[0], session) == ["Bearer second-credential"] * 2
    assert await show_credentials(http, nodes[1], session) == ["Bearer first-credential"] * 2


async def show_credentials(http: httpx2.AsyncClient, node: Node, session: str) -> list[str]:
    """What the backend is shown by a replica: of a session that began before, and of a modern request."""
    answers = [
        await http.post(node.url, **asked) for asked in (legacy("tools/list", session=session), modern("tools/list"))
    ]
    return [answer.json()["result"]["shown"] for answer in answers]
