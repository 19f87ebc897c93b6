"""The `Client` port over ASGI, with a server made by hand."""

import asyncio

import pytest

from gateway.downstream.clients import AsgiClient, read_scope
from gateway.ports import ClientLeft
from gateway.protocol.outcomes import Outcome, Rejected
from tests.bridge import Conversation, http_scope
from tests.fakes import BOUND_SECONDS
from tests.requirements import proves


def client_of(conversation: Conversation) -> AsgiClient:
    return AsgiClient(conversation.receive, conversation.send)


@proves("ROUTE-1")
def test_a_scope_is_read_as_it_was_on_the_wire() -> None:
    scope = http_scope(headers=[(b"accept", b"*/*")]) | {"path": "/a b", "raw_path": b"/a%20b", "query_string": b"x=1"}
    inbound = read_scope(scope)
    assert (inbound.method, inbound.path, inbound.query) == ("POST", "/a%20b", b"x=1")
    assert inbound.headers == [(b"host", b"localhost:8080"), (b"accept", b"*/*")]
    assert (inbound.peer, inbound.scheme) == ("192.0.2.7", "http")
    unix = read_scope(scope | {"client": None, "raw_path": None, "path": "/ä", "headers": iter(())})
    assert (unix.peer, unix.path, unix.headers) == ("", "/Ã¤", [])


async def test_a_body_is_joined() -> None:
    for parts in ((b"abc",), (b"a", b"", b"bc"), (b"", b"abc")):
        conversation = Conversation()
        conversation.say_body(*parts)
        assert await client_of(conversation).read_body(3, 1.0) == b"abc"


@proves("LIM-1")
async def test_a_body_beyond_the_limit_is_refused_before_it_is_whole() -> None:
    for parts in ((b"abcd",), (b"ab", b"cd", b"ef")):
        conversation = Conversation()
        conversation.say_body(*parts)
        with pytest.raises(Rejected) as caught:
            await client_of(conversation).read_body(3, 1.0)
        assert (caught.value.outcome, caught.value.message) == (
            Outcome.TOO_LARGE,
            "the request's body is larger than the 3 bytes taken here",
        )
    assert conversation._inbox.qsize() == 1


@proves("LIM-1")
async def test_a_body_that_does_not_come_is_refused() -> None:
    conversation = Conversation()
    conversation.say(type="http.request", body=b"a", more_body=True)
    with pytest.raises(Rejected) as caught:
        await client_of(conversation).read_body(3, 0.0)
    assert (caught.value.outcome, caught.value.headers) == (Outcome.BODY_TIMEOUT, ((b"connection", b"close"),))
    assert caught.value.message == "the request's body did not arrive within 0 seconds"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    conversation = Conversation()
    client = client_of(conversation)
    task = asyncio.create_task(client.read_body(3, 60.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@proves("NET-4")
async def test_a_client_that_leaves_within_its_body_has_left() -> None:
    conversation = Conversation()
    conversation.say(type="http.request", body=b"a", more_body=True)
    conversation.hang_up()
    client = client_of(conversation)
    with pytest.raises(ClientLeft):
        await client.read_body(3, 1.0)
    assert client.left


async def test_a_reply_has_its_length() -> None:
    conversation = Conversation()
    client = client_of(conversation)
    await client.reply(200, [(b"x-own", b"1")], b"abc")
    assert conversation.rest() == [
        {"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1"), (b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"abc"},
    ]
    assert client.started


async def test_a_reply_without_content_has_none() -> None:
    conversation = Conversation()
    await client_of(conversation).reply(204, [], b"")
    assert conversation.rest()[0] == {"type": "http.response.start", "status": 204, "headers": []}


@proves("RELAY-2")
async def test_a_streams_head_leaves_at_once_and_each_part_as_it_is_written() -> None:
    conversation = Conversation()
    client = client_of(conversation)
    await client.start(200, [])
    assert [message["type"] for message in conversation.rest()] == ["http.response.start", "http.response.body"]
    await client.write(b"a")
    assert conversation.rest() == [{"type": "http.response.body", "body": b"a", "more_body": True}]
    await client.end()
    assert conversation.rest() == [{"type": "http.response.body", "body": b"", "more_body": False}]


@proves("NET-3")
async def test_a_client_that_leaves_cuts_the_task_that_asked_for_it() -> None:
    conversation = Conversation()
    cut = asyncio.Event()

    async def serve() -> AsgiClient:
        client = client_of(conversation)
        await client.start(200, [])
        client.cut_on_leave()
        client.cut_on_leave()
        try:
            await asyncio.wait_for(asyncio.Event().wait(), BOUND_SECONDS)
        except asyncio.CancelledError:
            cut.set()
        return client

    task = asyncio.create_task(serve())
    conversation.say(type="http.request", body=b"", more_body=False)
    conversation.hang_up()
    client = await task
    assert cut.is_set()
    assert client.left
    with pytest.raises(ClientLeft):
        await client.write(b"x")


@proves("NET-3")
async def test_once_the_reply_has_ended_nobody_is_cut() -> None:
    conversation = Conversation()
    client = client_of(conversation)
    client.cut_on_leave()
    client._watch()
    await client.start(200, [])
    await client.end()
    conversation.hang_up()
    watcher = client._watcher
    assert watcher is not None
    await asyncio.wait_for(watcher, BOUND_SECONDS)
    assert not client.left
    client.close()


async def test_closing_ends_the_watch() -> None:
    client = client_of(Conversation())
    client.cut_on_leave()
    client._watch()
    client.close()
    watcher = client._watcher
    assert watcher is not None
    with pytest.raises(asyncio.CancelledError):
        await watcher
