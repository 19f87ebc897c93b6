"""Sessions that their backend forgot: begun anew, once for all who share a memory, and nothing is executed twice."""

import pytest

from gateway.exchange.healers import Healer
from gateway.policy.backends import Backend
from gateway.protocol.outcomes import Failed, Outcome
from gateway.state.healings import MemoryHealings
from gateway.state.memory_marks import MemoryRoom
from tests.fakes import ECHO, FakeAnswer, World, site_of
from tests.flow.scenes import (
    CALL,
    RESULT,
    A,
    B,
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

PARAMS = b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"claude","version":"1"}}'
BEGUN = b'{"jsonrpc":"2.0","id":"gateway-heal","result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
OLDER = b'{"jsonrpc":"2.0","id":"gateway-heal","result":{"protocolVersion":"2025-06-18","capabilities":{}}}'
NEW_SESSION = (b"mcp-session-id", b"up-8")


def forgotten() -> FakeAnswer:
    return json_answer(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}', status=404)


def accepted() -> FakeAnswer:
    return FakeAnswer(202, [], b"", whole=True)


def world_of(healings: MemoryHealings | None, backend: Backend = ECHO) -> World:
    world = World(site_of(backend))
    if healings is not None:
        world.gateway.healer = Healer(healings)
    return world


def sessions_sent(world: World) -> list[tuple[bytes, bytes | None]]:
    return [(sent.method, sent.header(b"mcp-session-id")) for sent in world.upstream.sent]


@proves("HEAL-1")
@pytest.mark.parametrize(
    "begun",
    [json_answer(BEGUN, NEW_SESSION), sse_answer(b"data: " + BEGUN + b"\n\n", b"", headers=[NEW_SESSION])],
    ids=["JSON", "SSE"],
)
async def test_a_forgotten_session_is_begun_anew_with_the_clients_parameters(begun: FakeAnswer) -> None:
    world = world_of(MemoryHealings()).will_answer(forgotten(), begun, accepted(), json_answer())
    client = await run(world, legacy_post(token=token_of(world, params=PARAMS)), CALL)
    assert (client.status, client.body) == (200, RESULT)
    assert sessions_sent(world) == [(b"POST", b"up-7"), (b"POST", None), (b"POST", b"up-8"), (b"POST", b"up-8")]
    initialize, initialized, again = world.upstream.sent[1:]
    assert initialize.body == (b'{"jsonrpc":"2.0","id":"gateway-heal","method":"initialize","params":' + PARAMS + b"}")
    assert initialized.body == b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    assert again.body == CALL
    assert world.telemetry.healed == ["echo"]


@proves("HEAL-1")
async def test_a_worker_remembers_what_it_healed() -> None:
    world = world_of(MemoryHealings()).will_answer(
        forgotten(), json_answer(BEGUN, NEW_SESSION), accepted(), json_answer(), json_answer()
    )
    token = token_of(world, params=PARAMS)
    await run(world, legacy_post(token=token), CALL)
    client = await run(world, legacy_post(token=token), CALL)
    assert client.status == 200
    assert sessions_sent(world)[4:] == [(b"POST", b"up-8")]


@proves("HEAL-1")
async def test_another_worker_finds_what_the_first_has_healed() -> None:
    shared = MemoryHealings()
    first = world_of(shared).will_answer(forgotten(), json_answer(BEGUN, NEW_SESSION), accepted(), json_answer())
    second = world_of(shared).will_answer(forgotten(), json_answer())
    token = token_of(first, params=PARAMS)
    await run(first, legacy_post(token=token), CALL)
    client = await run(second, legacy_post(token=token), CALL)
    assert client.status == 200
    assert sessions_sent(second) == [(b"POST", b"up-7"), (b"POST", b"up-8")]


@proves("HEAL-1")
async def test_a_session_is_healed_as_often_as_it_is_forgotten() -> None:
    world = world_of(MemoryHealings()).will_answer(
        forgotten(), json_answer(BEGUN, NEW_SESSION), accepted(), json_answer()
    )
    token = token_of(world, params=PARAMS)
    await run(world, legacy_post(token=token), CALL)
    world.will_answer(forgotten(), json_answer(BEGUN, (b"mcp-session-id", b"up-9")), accepted(), json_answer())
    client = await run(world, legacy_post(token=token), CALL)
    assert client.status == 200
    assert sessions_sent(world)[-1] == (b"POST", b"up-9")


@proves("HEAL-1")
async def test_a_session_whose_endpoint_is_gone_is_healed_on_another() -> None:
    world = world_of(MemoryHealings()).will_answer(json_answer(BEGUN, NEW_SESSION), accepted(), json_answer())
    world.endpoints.gone.add(A)
    client = await run(world, legacy_post(token=token_of(world, params=PARAMS)), CALL)
    assert client.status == 200
    assert {sent.address for sent in world.upstream.sent} == {B}


@proves("HEAL-1")
async def test_a_stream_is_opened_on_a_healed_session() -> None:
    world = world_of(MemoryHealings()).will_answer(
        forgotten(), json_answer(BEGUN, NEW_SESSION), accepted(), sse_answer(b"")
    )
    inbound = request("GET", (b"accept", b"text/event-stream"), *session_headers(token_of(world, params=PARAMS)))
    client = await run(world, inbound)
    assert client.status == 200
    assert sessions_sent(world)[-1] == (b"GET", b"up-8")


@proves("HEAL-1")
@pytest.mark.parametrize(
    ("changes", "healings"),
    [
        ({"heal": False}, MemoryHealings()),  # its sessions hold what matters
        ({}, None),  # there is nothing that replicas share
    ],
    ids=["not wanted", "no memory"],
)
async def test_the_404_reaches_the_client_where_nothing_is_healed(
    changes: dict[str, bool], healings: MemoryHealings | None
) -> None:
    backend = Backend("echo", ECHO.endpoints, "/echo", **changes)
    world = world_of(healings, backend).will_answer(forgotten())
    client = await run(world, legacy_post(token=token_of(world, params=PARAMS)), CALL)
    assert (client.status, len(world.upstream.sent)) == (404, 1)


@proves("HEAL-1")
async def test_a_session_whose_parameters_were_too_large_to_carry_is_not_healed() -> None:
    world = world_of(MemoryHealings()).will_answer(forgotten())
    client = await run(world, legacy_post(token=token_of(world, params=b"")), CALL)
    assert (client.status, len(world.upstream.sent)) == (404, 1)


@proves("HEAL-1")
@pytest.mark.parametrize(
    "begun",
    [
        json_answer(BEGUN),  # without a session
        json_answer(OLDER, NEW_SESSION),  # the client speaks another version
        json_answer(b'{"jsonrpc":"2.0","id":"gateway-heal","error":{"code":-32600,"message":"no"}}', status=400),
        Failed(Outcome.UNREACHABLE, "down"),
    ],
    ids=["no session", "another version", "refused", "unreachable"],
)
async def test_the_client_gets_the_404_where_the_session_cannot_be_begun_anew(begun: FakeAnswer | Failed) -> None:
    world = world_of(MemoryHealings()).will_answer(forgotten(), begun)
    client = await run(world, legacy_post(token=token_of(world, params=PARAMS)), CALL)
    assert error_of(client)[:3] == (404, 1, -32600)
    assert world.telemetry.healed == []


@proves("HEAL-1")
async def test_what_failed_is_tried_again_by_the_next_request() -> None:
    world = world_of(MemoryHealings()).will_answer(forgotten(), Failed(Outcome.UNREACHABLE, "down"))
    token = token_of(world, params=PARAMS)
    await run(world, legacy_post(token=token), CALL)
    world.will_answer(forgotten(), json_answer(BEGUN, NEW_SESSION), accepted(), json_answer())
    client = await run(world, legacy_post(token=token), CALL)
    assert client.status == 200


@proves("HEAL-1")
async def test_a_session_that_its_client_ended_stays_ended() -> None:
    world = world_of(MemoryHealings()).will_answer(FakeAnswer(200, [], b"", whole=True), forgotten())
    async with MemoryRoom() as room:
        world.gateway.marks = room.marks
        token = token_of(world, params=PARAMS)
        await run(world, request("DELETE", *session_headers(token)))
        client = await run(world, legacy_post(token=token), CALL)
    assert error_of(client)[0] == 404
    assert sessions_sent(world) == [(b"DELETE", b"up-7"), (b"POST", b"up-7")]
