"""The ASGI application: who answers which path, and what a server is told of start-up and shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.downstream.applications import Application, is_reserved
from gateway.exchange.exchanges import Gateway
from gateway.policy.backends import Backend
from tests.bridge import Conversation, Message, calling, http_scope
from tests.fakes import BOUND_SECONDS, World, site_of
from tests.flow.scenes import CALL, FINAL, PROGRESS, RESULT, json_answer, modern_body, modern_post, sse_answer
from tests.requirements import proves

JSON_HEADERS = [(b"content-type", b"application/json")]


async def operations(scope: Message, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"operations"})


class Life:
    """A lifespan that can fail at either end."""

    def __init__(self, world: World, *, fails_at: str = "") -> None:
        self.world = world
        self.fails_at = fails_at
        self.steps: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Gateway]:
        if self.fails_at == "startup":
            raise OSError("no such file")
        self.steps.append("begun")
        try:
            yield self.world.gateway
        finally:
            self.steps.append("ended")
        if self.fails_at == "shutdown":
            raise OSError("cannot write")


def app_over(world: World) -> Application:
    app = Application(Life(world), operations)
    app.gateway = world.gateway
    return app


@proves("APP-1")
async def test_the_lifespan_is_told_and_the_gateway_serves_within_it() -> None:
    life = Life(World().will_answer(json_answer()))
    app = Application(life, operations)
    async with calling(app, {"type": "lifespan"}) as server:
        server.say(type="lifespan.startup")
        assert await server.hear() == {"type": "lifespan.startup.complete"}
        async with calling(app, http_scope(headers=JSON_HEADERS)) as call:
            call.say_body(CALL)
            assert (await call.hear())["status"] == 200
        server.say(type="lifespan.shutdown")
        assert await server.hear() == {"type": "lifespan.shutdown.complete"}
    assert life.steps == ["begun", "ended"]


@proves("APP-1")
@pytest.mark.parametrize(
    ("stage", "message"), [("startup", "OSError: no such file"), ("shutdown", "OSError: cannot write")]
)
async def test_a_lifespan_that_fails_says_at_which_end_and_why(stage: str, message: str) -> None:
    server = Conversation()
    server.say(type="lifespan.startup")
    server.say(type="lifespan.shutdown")
    with pytest.raises(OSError, match=message.split(": ")[1]):
        await Application(Life(World(), fails_at=stage), operations)({"type": "lifespan"}, server.receive, server.send)
    assert server.rest()[-1] == {"type": f"lifespan.{stage}.failed", "message": message}


@proves("APP-2")
@pytest.mark.parametrize(
    ("path", "is_operators"),
    [
        ("/health", True),
        ("/livez", True),
        ("/readyz", True),
        ("/metrics", True),
        ("/metrics/x", True),
        ("/.well-known/oauth-protected-resource/echo/mcp", True),
        ("/echo/mcp", False),
        ("/nowhere", False),
        ("/healthy", False),
        ("/", False),
    ],
)
async def test_reserved_paths_are_the_operators(path: str, is_operators: bool) -> None:
    assert is_reserved(path) is is_operators
    async with calling(app_over(World()), http_scope("GET", path)) as call:
        assert ((await call.hear())["status"] == 299) is is_operators or not is_operators
        assert (call.heard[0]["status"] == 299) is is_operators
        call.hang_up()


@proves("APP-2")
async def test_a_mount_that_is_configured_comes_before_the_operators() -> None:
    world = World(site_of(Backend("metrics", ("http://10.0.0.7/mcp",), "/metrics/team")))
    world.will_answer(json_answer())
    async with calling(app_over(world), http_scope(path="/metrics/team/mcp", headers=JSON_HEADERS)) as call:
        call.say_body(CALL)
        assert (await call.hear())["status"] == 200


@proves("APP-2")
async def test_before_start_up_only_the_operators_answer() -> None:
    async with calling(Application(Life(World()), operations), http_scope()) as call:
        assert (await call.hear())["status"] == 299


@proves("APP-2")
async def test_a_websocket_is_closed() -> None:
    async with calling(app_over(World()), {"type": "websocket"}) as call:
        call.say(type="websocket.connect")
        assert await call.hear() == {"type": "websocket.close", "code": 1000}


async def test_a_call_is_served_over_asgi() -> None:
    world = World().will_answer(json_answer())
    async with calling(app_over(world), http_scope(headers=JSON_HEADERS)) as call:
        call.say_body(CALL[:5], CALL[5:])
        assert (await call.hear())["status"] == 200
        assert (await call.hear())["body"] == RESULT
    assert world.sent.body == CALL


@proves("NET-3", "LEAVE-1")
async def test_a_modern_client_that_hangs_up_cancels_upstream_and_is_no_error() -> None:
    world = World().will_answer(answer := sse_answer(PROGRESS, live=True))
    async with calling(app_over(world), http_scope(headers=modern_post().headers[1:])) as call:
        call.say_body(modern_body())
        assert (await call.hear())["status"] == 200
        assert (await call.hear())["body"] == b""
        assert (await call.hear())["body"] == PROGRESS
        call.hang_up()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert not answer.was_read_to_end
    assert call.rest() == []


@proves("NET-3", "LEAVE-2")
async def test_a_legacy_client_that_hangs_up_cancels_nothing() -> None:
    world = World().will_answer(answer := sse_answer(PROGRESS, live=True))
    async with calling(app_over(world), http_scope(headers=JSON_HEADERS)) as call:
        call.say_body(CALL)
        for _ in range(3):
            await call.hear()
        call.hang_up()
    assert not answer.closings
    answer.push(FINAL)
    answer.push(b"")
    await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
    assert answer.was_read_to_end


@proves("NET-3")
async def test_a_cancellation_by_the_server_is_not_taken_for_the_client() -> None:
    world = World()
    world.upstream.pending = asyncio.Event()
    conversation = Conversation()
    conversation.say_body(CALL)
    scope = http_scope(headers=JSON_HEADERS)
    task = asyncio.ensure_future(app_over(world)(scope, conversation.receive, conversation.send))
    await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@proves("LEAVE-3")
async def test_standing_streams_end_once_and_not_before_nothing_comes_any_more() -> None:
    world = World()
    app = app_over(world)
    app.drain()
    assert (app.is_leaving, world.standing.is_draining) == (True, False)
    app.release()
    app.release()
    assert world.standing.is_draining
    app = Application(Life(world), operations)
    app.release()  # before start-up there is nothing to end
    app.give_up()
    assert (app.is_busy, app.lost) == (False, 0)
