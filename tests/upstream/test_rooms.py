"""The whole room: what runs in the background, and what a changed configuration does to it."""

import asyncio

import pytest

from gateway.policy.backends import Backend, HealthCheck
from gateway.protocol.outcomes import Outcome
from gateway.protocol.versions import Era
from gateway.upstream.rooms import UpstreamRoom
from gateway.upstream.rosters import State
from tests.upstream.calls import backend_at, call, failure, until
from tests.upstream.servers import Peer, always, raw, serve
from tests.upstream.witnesses import Memory

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def named(*backends: Backend) -> dict[str, Backend]:
    return {backend.name: backend for backend in backends}


async def test_names_are_resolved_in_the_background_again_and_again() -> None:
    answers, asked = ["10.0.0.1"], []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return list(answers)

    backend = backend_at("http://math:9000/mcp", name="math", era="dual", resolve="dns", resolve_seconds=0.01)
    async with UpstreamRoom(named(backend), resolve=resolve) as room:
        await until(lambda: bool(room.endpoints.report()["math"]))
        assert room.endpoints.pick(backend).address == "http://10.0.0.1:9000/mcp"
        answers[:] = ["10.0.0.2"]
        await until(lambda: room.endpoints.find(backend, "http://10.0.0.2:9000/mcp") is not None)
        assert room.endpoints.find(backend, "http://10.0.0.1:9000/mcp") is None
    assert asked[0] == ("math", 9000)


async def test_a_resolved_endpoint_is_dialled_and_given_the_configured_host() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serve(always) as server:
        backend = backend_at(f"http://math.example:{server.port}/mcp", era="dual", resolve="dns")
        async with UpstreamRoom(named(backend), resolve=resolve) as room:
            await until(lambda: bool(room.endpoints.report()["echo"]))
            endpoint = room.endpoints.pick(backend)
            answer = await room.client.send(backend, endpoint, b"POST", [], b"{}", backend.timeouts)
            answer.close()
    assert server.requests[0].headers[0] == (b"host", b"math.example:%d" % server.port)


async def test_an_unhealthy_endpoint_is_taken_out_and_brought_back_by_checks() -> None:
    health = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            peer.write(health if request.line.startswith(b"GET /healthz ") else OK)

    memory = Memory()
    async with serve(script) as sick, serve(raw(OK)) as well:
        check = HealthCheck(path="/healthz", interval_seconds=0.02)
        backend = backend_at(sick.url, well.url, era="dual", health_check=check)
        async with UpstreamRoom(named(backend), memory) as room:
            await until(lambda: room.endpoints.report()["echo"][0].state is State.EJECTED)
            assert {room.endpoints.pick(backend).address for _ in range(4)} == {well.url}
            health = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            await until(lambda: room.endpoints.report()["echo"][0].state is State.HEALTHY)
    assert [said[:2] for said in memory.told if said[0] in ("ejected", "restored")] == [
        ("ejected", "echo"),
        ("restored", "echo"),
    ]


async def test_an_endpoint_that_does_not_answer_its_check_is_taken_out() -> None:
    async with serve(lambda peer: peer.wait_closed()) as silent:
        check = HealthCheck(interval_seconds=0.02, timeout_seconds=0.1)
        backend = backend_at(silent.url, era="dual", health_check=check)
        async with UpstreamRoom(named(backend)) as room:
            await until(lambda: room.endpoints.report()["echo"][0].state is State.EJECTED)
            assert room.endpoints.pick(backend).address == silent.url  # the last one is still tried


async def test_eras_are_probed_in_the_background_while_calls_go_on() -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            peer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" if b"discover" in request.body else OK)

    async with serve(script) as server:
        backend = backend_at(server.url)
        async with UpstreamRoom(named(backend)) as room:
            assert await call(room.client, backend) == (200, b"hi")
            await until(lambda: room.eras.speaks(backend, Era.MODERN) is False)


async def test_reconciling_keeps_what_is_unchanged_starts_what_is_new_and_ends_what_is_gone() -> None:
    memory = Memory()
    async with serve(always) as kept, serve(always) as gone, serve(always) as new:
        first = backend_at(kept.url, name="kept", era="dual")
        second = backend_at(gone.url, name="gone", era="dual")
        third = backend_at(new.url, name="new", era="dual")
        async with UpstreamRoom(named(first, second), memory) as room:
            endpoint = room.endpoints.pick(first)
            room.endpoints.begin(endpoint)
            await call(room.client, first)
            await call(room.client, second)
            room.reconcile(named(first, third))
            await gone.wait_left()
            assert room.endpoints.pick(first) is endpoint
            assert list(room.endpoints.report()) == ["kept", "new"]
            assert room.endpoints.report()["kept"][0].outstanding == 1
            await call(room.client, first)
            await call(room.client, third)
            room.endpoints.finish(endpoint, Outcome.OK)
    assert (len(kept.peers), len(new.peers)) == (1, 1)
    assert ("counted", "gone", 0, 0) in memory.told


async def test_what_was_found_out_is_forgotten_with_the_endpoints_it_was_true_of() -> None:
    async with UpstreamRoom({}) as room:
        before = backend_at("http://a.invalid/")
        room.reconcile(named(before))
        room.eras.observe(before, Era.MODERN, spoken=True)
        slower = backend_at("http://a.invalid/", max_connections=7)
        room.reconcile(named(slower))
        assert room.eras.speaks(slower, Era.MODERN) is True
        moved = backend_at("http://b.invalid/")
        room.reconcile(named(moved))
        assert room.eras.speaks(moved, Era.MODERN) is None


async def test_leaving_the_room_ends_calls_and_tasks() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_closed()

    async with serve(script) as server:
        backend = backend_at(server.url, resolve="dns", health_check=HealthCheck())
        async with UpstreamRoom(named(backend)) as room:
            waiting = asyncio.ensure_future(call(room.client, backend, b"ours"))
            await until(lambda: any(request.body == b"ours" for request in server.requests))
        await failure(waiting, Outcome.DRAINING)
        await server.wait_left()


async def test_an_error_of_whoever_holds_the_room_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError):
        async with UpstreamRoom(named(backend_at("http://a.invalid/"))):
            raise LookupError


async def test_a_bug_in_one_backends_task_is_told_and_ends_nothing_else() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise ZeroDivisionError

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, said: told.append(said["exception"]))
    async with serve(always) as server:
        good, bad = backend_at(server.url), backend_at("http://a/", name="bad", resolve="dns", era="dual")
        async with UpstreamRoom(named(good, bad), resolve=resolve) as room:
            await until(lambda: bool(told))
            assert await call(room.client, good) == (200, b"{}")
    assert [type(error) for error in told] == [ZeroDivisionError]
