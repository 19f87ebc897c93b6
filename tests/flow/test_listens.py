"""Standalone GET streams on the log, told as transcripts over workers that share one memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange.owners import Owners
from gateway.exchange.sessions import digest_session
from gateway.exchange.turns import LINGER_SECONDS, Turns
from gateway.flow import serve
from gateway.policy.streams import NOBODY, Bounds, LogAway, Owner, State, Trouble
from gateway.ports import StreamTurn
from gateway.protocol.cursors import START, StreamName, encode_name, is_standing_name, parse_event_id
from gateway.protocol.events import Event, parse_event
from gateway.protocol.outcomes import Outcome
from gateway.state.memory_marks import MemoryRoom
from tests.fakes import BOUND_SECONDS, FakeAnswer, FakeClient, World
from tests.flow.scenes import (
    FINAL,
    PRIMER,
    check_end,
    let_others_run,
    request,
    session_headers,
    settle,
    sse_answer,
    token_of,
)
from tests.requirements import proves


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.standing_pumps.COME_BACK_SECONDS", (0.0,))
    monkeypatch.setattr("gateway.exchange.turns.NOTE_SECONDS", 0.0)
    monkeypatch.setattr("gateway.exchange.turns.REST_SECONDS", 0.0)
    monkeypatch.setattr("gateway.exchange.listeners.RETURN_SECONDS", 0.0)
    monkeypatch.setattr("gateway.exchange.listeners.GLANCE_SECONDS", 0.01)


class Replicas:
    """Workers with one memory, each with a fake backend of its own, and clients of one session."""

    def __init__(self, room: MemoryRoom, linger_seconds: float) -> None:
        self._names = count(1)
        self._linger_seconds = linger_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self.room = room
        self.worlds: list[World] = []
        self._clients: list[Listener] = []
        self.token = ""

    def add(self) -> World:
        world, room, clock = World(), self.room, asyncio.get_running_loop().time
        gateway = world.gateway
        gateway.clock, gateway.new_trace = clock, lambda: f"{next(self._names):031x}0"
        gateway.log, gateway.marks = room.log, room.marks
        gateway.owners = Owners(room.heartbeats, Owner(f"worker {len(self.worlds)}"), 6.0, clock)
        gateway.turns = Turns(room.log, room.marks, gateway.owners, clock, self._linger_seconds)
        self._tasks.append(asyncio.create_task(gateway.turns.run()))
        self.worlds.append(world)
        return world

    def get(self, world: World, last_event_id: bytes = b"", token: str = "") -> "Listener":
        """A client that opens its stream on that worker."""
        self.token = self.token or token_of(world)
        client = Listener(token or self.token)
        headers = session_headers(client.token)
        if last_event_id:
            headers.append((b"last-event-id", last_event_id))
        client.exchange = asyncio.create_task(serve(world.gateway, request("GET", *headers), client))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.leave()
        async with asyncio.timeout(BOUND_SECONDS):
            await asyncio.gather(*(client.exchange for client in self._clients), return_exceptions=True)
        for world in self.worlds:
            await world.pumps.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for world in self.worlds:
            assert world.telemetry.exceptions == []
            await settle(world)
            check_end(world)


class Listener(FakeClient):
    """A client that keeps account of what it was told."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.exchange: asyncio.Task[None]

    @property
    def events(self) -> list[Event]:
        blocks = [block + b"\n\n" for block in self.body.split(b"\n\n") if block]
        return [event for event in map(parse_event, blocks) if not event.is_comment]

    @property
    def told(self) -> list[int]:
        """The numbers of the messages, less what the gateway itself said."""
        return [json.loads(event.data)["params"]["n"] for event in self.events if event.data]

    @property
    def last_id(self) -> bytes:
        return [event.id for event in self.events if event.id][-1]

    async def until_told(self, *numbers: int) -> None:
        await self.until(lambda: self.told == list(numbers))

    async def until_listening(self) -> None:
        await self.until(lambda: self.started)

    async def drop(self) -> None:
        self.leave()
        await asyncio.wait([self.exchange], timeout=BOUND_SECONDS)


def say(number: int, upstream_id: bytes = b"") -> bytes:
    message = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d}}' % number
    return (b"id: %b\n" % upstream_id if upstream_id else b"") + b"event: message\ndata: " + message + b"\n\n"


@asynccontextmanager
async def replicas(number: int, *, linger_seconds: float = LINGER_SECONDS, **bounds: Any) -> AsyncIterator[Replicas]:
    stage = Replicas(MemoryRoom(bounds=Bounds(**bounds)), linger_seconds)
    for _ in range(number):
        stage.add()
    try:
        yield stage
    finally:
        await stage.close()


async def until_found(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not await ask():  # noqa: ASYNC110  # as below
            await asyncio.sleep(0.001)


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not is_so():  # noqa: ASYNC110  # in memory, some turns of the loop are all
            await asyncio.sleep(0.001)


async def has_left(stage: Replicas, client: Listener) -> bool:
    return await stage.room.marks.standing(digest_session(client.token)) is None


async def is_registered(stage: Replicas, client: Listener) -> bool:
    return not await has_left(stage, client)


async def is_followed_by_nobody(stage: Replicas, client: Listener) -> bool:
    standing = await stage.room.marks.standing(digest_session(client.token))
    return standing is not None and standing.follower == NOBODY


async def knows_cursor(stage: Replicas, client: Listener) -> bool:
    reading = await stage.room.log.read(stream_of(client), START)
    return reading is not None and bool(reading.upstream_cursor)


# ---- one stream, and whose turn it is


@proves("STAND-1")
async def test_what_comes_on_a_get_stream_is_in_the_log_and_has_our_ids() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(answer := sse_answer(PRIMER, say(1, b"8"), live=True))
        client = stage.get(world)
        await client.until_told(1)
        primer, event = (parse_event_id(event.id.decode()) for event in client.events if event.id)
        assert primer is not None
        assert event is not None
        assert (primer.cursor, event.cursor, primer.stream) == ((1, 1), (2, 1), event.stream)
        assert is_standing_name(primer.stream)
        reading = await stage.room.log.read(primer.stream, START)
        assert reading is not None
        assert [parse_event(entry.payload).data for entry in reading.entries] == [b"", parse_event(say(1)).data]
        assert client.events[0].retry == parse_event(reading.entries[0].payload).retry
        assert (reading.upstream_cursor, reading.facts.request_id) == (b"8", b"")
        assert world.telemetry.open_streams == {"get": 1}
        assert answer.closings == 0
        assert world.sent.timeouts.idle_seconds == float("inf")


@proves("STAND-1")
async def test_an_older_client_gets_no_event_without_data() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(sse_answer(say(1), live=True))
        client = stage.get(world, token=token_of(world, version="2025-06-18"))
        await client.until_told(1)
        assert [bool(event.data) for event in client.events] == [True]
        assert client.last_id.endswith(b".1")


@proves("STAND-2")
@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_the_newest_get_has_the_stream_and_the_backend_is_asked_once(is_elsewhere: bool) -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        early = stage.get(first)
        await early.until_told(1)
        late = stage.get(second if is_elsewhere else first)
        await early.until(lambda: early.has_ended)
        await late.until_listening()
        answer.push(say(2))
        await late.until(lambda: 2 in late.told)
        assert early.told == [1]
        assert late.told[-1] == 2
        assert [len(world.upstream.sent) for world in stage.worlds] == [1, 0]


@proves("STAND-2")
async def test_of_many_gets_at_once_one_is_live_and_the_backend_is_asked_once() -> None:
    async with replicas(3) as stage:
        answers = [sse_answer(live=True) for _ in stage.worlds]
        for world, answer in zip(stage.worlds, answers, strict=True):
            world.will_answer(answer)
        clients = [stage.get(world) for world in stage.worlds for _ in range(4)]
        await until(lambda: sum(client.has_ended for client in clients) == 11)
        (sent,) = [world for world in stage.worlds if world.upstream.sent]
        (answer,) = sent.answered
        answer.push(say(1))
        (live,) = [client for client in clients if not client.has_ended]
        await live.until_told(1)
        assert [client.told for client in clients if client is not live] == [[]] * 11


@proves("STAND-3")
@pytest.mark.parametrize("with_id", [False, True])
@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_a_client_that_comes_back_gets_what_came_in_between_once(with_id: bool, is_elsewhere: bool) -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        before = stage.get(first)
        await before.until_told(1)
        await before.drop()
        answer.push(say(2) + say(3))
        await until(lambda: first.telemetry.stream_counts["appended"] == 3)
        world = second if is_elsewhere else first
        after = stage.get(world, before.last_id if with_id else b"")
        await after.until_told(2, 3)
        answer.push(say(4))
        await after.until_told(2, 3, 4)
        assert after.events[0].id == before.last_id, "where it is"
        assert second.upstream.sent == []
        assert answer.closings == 0


@proves("STAND-3")
async def test_a_stream_that_nobody_comes_back_to_ends() -> None:
    async with replicas(1, linger_seconds=0.0) as stage:
        (world,) = stage.worlds
        world.will_answer(answer := sse_answer(say(1), live=True))
        client = stage.get(world)
        await client.until_told(1)
        await client.drop()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
        await until(lambda: not len(world.pumps))
        reading = await stage.room.log.read(stream_of(client), START)
        assert reading is not None
        assert reading.state is State.FINISHED
        assert await stage.room.marks.standing(digest_session(client.token)) is None
        assert world.record.outcome is Outcome.CLIENT_LEFT


def stream_of(client: Listener) -> StreamName:
    event_id = parse_event_id(client.last_id.decode())
    assert event_id is not None
    return event_id.stream


async def test_a_stream_is_pumped_on_while_it_is_followed_from_elsewhere() -> None:
    async with replicas(2, linger_seconds=0.0) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        early = stage.get(first)
        await early.until_told(1)
        late = stage.get(second)
        await early.until(lambda: early.has_ended)
        await asyncio.wait([early.exchange], timeout=BOUND_SECONDS)
        await let_others_run()
        answer.push(say(2))
        await late.until(lambda: 2 in late.told)
        await late.drop()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)


# ---- the backend


@proves("STAND-4")
async def test_a_backend_without_a_get_stream_says_so_itself_to_everybody() -> None:
    async with replicas(2) as stage:
        for world in stage.worlds:
            world.will_answer(FakeAnswer(405, [(b"allow", b"POST")], whole=True))
            client = stage.get(world)
            await client.until(lambda client=client: client.has_ended)
            assert (client.status, client.body, client.header(b"allow")) == (405, b"", b"POST")
        await until(lambda: stage.worlds[0].telemetry.finished)
        assert stage.worlds[0].record.outcome is Outcome.BACKEND_REFUSED


@proves("STAND-4")
async def test_who_waits_for_a_stream_that_is_refused_is_refused_by_the_backend_too() -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.upstream.pending = asyncio.Event()
        first.will_answer(FakeAnswer(405, [], whole=True))
        second.will_answer(FakeAnswer(405, [], whole=True))
        early = stage.get(first)
        await asyncio.wait_for(first.upstream.called.wait(), BOUND_SECONDS)
        late = stage.get(second)
        await let_others_run()
        assert second.upstream.sent == []
        first.upstream.pending.set()
        await late.until(lambda: late.has_ended)
        assert late.status == 405
        await early.until(lambda: early.has_ended)


async def test_a_client_that_leaves_before_the_stream_is_open_leaves_nothing_behind() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.upstream.pending = asyncio.Event()
        client = stage.get(world)
        await asyncio.wait_for(world.upstream.called.wait(), BOUND_SECONDS)
        await client.drop()
        assert world.upstream.cancelled == 1
        await until_found(lambda: has_left(stage, client))
        world.upstream.pending = None
        world.will_answer(sse_answer(say(1), live=True))
        await stage.get(world).until_told(1)


@proves("STAND-5")
@pytest.mark.parametrize("upstream_id", [b"", b"8"])
async def test_a_backend_that_closes_its_stream_is_asked_again_and_the_client_sees_nothing(upstream_id: bytes) -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        again = sse_answer(say(2), live=True)
        world.will_answer(
            sse_answer(b"retry: 0\n\n", say(1, upstream_id), b"id: 9\ndata: {"), FakeAnswer(503, []), again
        )
        client = stage.get(world)
        await client.until_told(1, 2)
        assert not client.has_ended
        assert b"retry: 0" not in client.body
        assert [sent.header(b"last-event-id") for sent in world.upstream.sent[1:]] == [upstream_id or None] * 2
        assert [sent.header(b"mcp-session-id") for sent in world.upstream.sent] == [b"up-7"] * 3


@proves("STAND-5")
async def test_a_backend_that_cannot_resume_is_asked_for_a_fresh_stream() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(sse_answer(say(1, b"8")), FakeAnswer(400, []), sse_answer(say(2), live=True))
        client = stage.get(world)
        await client.until_told(1, 2)
        assert [sent.header(b"last-event-id") for sent in world.upstream.sent] == [None, b"8", None]


@proves("STAND-5")
async def test_a_stream_that_the_backend_refuses_for_good_ends_and_whoever_comes_back_is_told() -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(sse_answer(say(1)), FakeAnswer(405, []))
        client = stage.get(first)
        await client.until(lambda: client.has_ended)
        assert client.told == [1]
        second.will_answer(FakeAnswer(405, [], whole=True))
        again = stage.get(second, client.last_id)
        await again.until(lambda: again.has_ended)
        assert again.status == 405
        assert second.sent.header(b"last-event-id") is None, "ours says nothing to the backend"


async def test_nonsense_of_the_backend_is_not_passed_on_and_not_the_end() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(sse_answer(b"data: nonsense\n\n"), sse_answer(say(1), live=True))
        client = stage.get(world)
        await client.until_told(1)


async def test_a_get_stream_may_carry_requests_and_responses() -> None:
    ask = b'event: message\ndata: {"jsonrpc":"2.0","id":5,"method":"elicitation/create","params":{"n":1}}\n\n'
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(sse_answer(ask + FINAL, live=True))
        client = stage.get(world)
        await client.until(lambda: b'"id":1,"result"' in client.body)
        assert b'"method":"elicitation/create"' in client.body


# ---- takeover


@proves("STAND-6")
@pytest.mark.parametrize("upstream_id", [b"", b"8"])
async def test_a_draining_worker_sends_its_client_away_and_another_goes_on(upstream_id: bytes) -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1, upstream_id), live=True))
        before = stage.get(first)
        await before.until_told(1)
        first.standing.drain()
        first.pumps.release()
        await before.until(lambda: before.has_ended)
        assert before.events[-1].retry is not None
        await until(lambda: answer.closings)
        second.will_answer(sse_answer(say(2), live=True))
        after = stage.get(second, before.last_id)
        await after.until_told(2)
        assert second.sent.header(b"last-event-id") == (upstream_id or None)
        assert first.telemetry.turns == [StreamTurn.RELEASED]
        assert second.telemetry.turns == [StreamTurn.TAKEN_OVER]
        assert first.record.outcome is Outcome.OK


@proves("STAND-6")
async def test_an_id_that_came_without_an_event_is_known_to_whoever_takes_over() -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(sse_answer(PRIMER, live=True))
        before = stage.get(first)
        await before.until_listening()
        await until_found(lambda: knows_cursor(stage, before))
        first.standing.drain()
        first.pumps.release()
        second.will_answer(sse_answer(say(1), live=True))
        after = stage.get(second)
        await after.until_told(1)
        assert second.sent.header(b"last-event-id") == b"7"


@proves("STAND-6")
async def test_a_stream_whose_worker_is_gone_is_taken_over_by_its_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        before = stage.get(first)
        await before.until_told(1)
        after = stage.get(second)
        await after.until_listening()
        assert second.gateway.owners is not None
        monkeypatch.setattr(second.gateway.owners, "is_gone", lambda owner: owner == Owner("worker 0"))
        second.will_answer(sse_answer(say(2), live=True))
        ring(second)
        await after.until(lambda: 2 in after.told)
        answer.push(say(9))
        await until(lambda: StreamTurn.FENCED in first.telemetry.turns)
        assert after.told[-1] == 2
        assert answer.closings == 1


def ring(world: World) -> None:
    """As `Owners` does at each look that finds an owner gone."""
    assert world.gateway.owners is not None
    for rings in list(world.gateway.owners._rings.values()):
        for one in list(rings.values()):
            one()


async def test_a_get_on_a_draining_worker_is_sent_away() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.standing.drain()
        client = stage.get(world)
        await client.until(lambda: client.has_ended)
        assert (client.status, [event.retry is not None for event in client.events]) == (200, [True])
        assert world.upstream.sent == []


async def test_a_pump_whose_follower_died_with_its_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicas(2, linger_seconds=0.0) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        early = stage.get(first)
        await early.until_told(1)
        late = stage.get(second)
        await early.until(lambda: early.has_ended)
        await late.until_listening()
        assert first.gateway.owners is not None
        await until(lambda: Owner("worker 1") in first.gateway.owners._rings)
        monkeypatch.setattr(first.gateway.owners, "is_gone", lambda owner: owner == Owner("worker 1"))
        ring(first)
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)


# ---- the session's end, and others' streams


@proves("STAND-7")
@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_the_stream_of_a_deleted_session_ends(is_elsewhere: bool) -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        client = stage.get(first)
        await client.until_told(1)
        if is_elsewhere:
            client = stage.get(second)
            await client.until_listening()
        await stage.room.marks.mark_ended(digest_session(client.token), None)
        await client.until(lambda: client.has_ended)
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
        await until(lambda: not len(first.pumps))
        assert await stage.room.marks.standing(digest_session(client.token)) is None


@proves("DUR-5")
async def test_with_anothers_event_id_one_gets_ones_own_stream() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(sse_answer(say(1), live=True))
        victim = stage.get(world)
        await victim.until_told(1)
        world.will_answer(sse_answer(say(7), live=True))
        thief = stage.get(world, b"%s.1" % stream_of(victim).encode(), token_of(world, upstream_id="up-8"))
        await thief.until_told(7)
        assert not victim.has_ended


@proves("STAND-3")
async def test_with_the_id_of_a_stream_that_is_long_gone_one_gets_a_new_one() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(sse_answer(say(1), live=True))
        gone = encode_name(b"g" * 16, is_standing=True)
        client = stage.get(world, b"%s.7" % gone.encode())
        await client.until_told(1)
        assert stream_of(client) != gone
        assert world.sent.header(b"last-event-id") is None


# ---- losses, and a log that is away


@proves("DUR-6")
async def test_what_was_trimmed_is_told_and_the_rest_comes() -> None:
    async with replicas(1, events=2) as stage:
        (world,) = stage.worlds
        world.will_answer(answer := sse_answer(say(1), live=True))
        before = stage.get(world)
        await before.until_told(1)
        await before.drop()
        answer.push(say(2) + say(3) + say(4))
        await until(lambda: world.telemetry.stream_counts["appended"] == 4)
        after = stage.get(world, before.last_id)
        await after.until(lambda: say(4)[-20:] in after.body)
        assert b'"level":"error","logger":"gateway"' in after.body
        assert [event.data for event in after.events if b'"n"' in event.data] == [
            parse_event(say(n)).data for n in (3, 4)
        ]
        assert StreamTurn.LOSS_REPORTED in world.telemetry.turns


class Away:
    """A method of a port that can't be asked."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        raise LogAway(Trouble.AWAY)


@proves("STAND-8")
async def test_without_a_log_the_stream_is_relayed_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        monkeypatch.setattr(stage.room.marks, "join", Away())
        world.will_answer(answer := sse_answer(say(1, b"8"), live=True))
        client = stage.get(world)
        await client.until_told(1)
        assert client.last_id == b"8"
        await client.drop()
        await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)


@proves("STAND-8")
async def test_a_get_that_finds_neither_the_log_nor_the_backend_free_is_held_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.exchange.attempts.CONFLICT_WAITS_SECONDS", ())
    monkeypatch.setattr("gateway.exchange.listeners.RETRY_SECONDS", 0.0)
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        await stage.get(first).until_told(1)
        with monkeypatch.context() as patch:
            patch.setattr(stage.room.marks, "join", Away())
            second.will_answer(FakeAnswer(409, [], whole=True))
            late = stage.get(second)
            await late.until_listening()
        answer.push(say(2))
        await late.until(lambda: 2 in late.told)


@proves("STAND-8")
async def test_a_second_get_ends_the_first_only_once_it_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange.attempts.CONFLICT_WAITS_SECONDS", ())
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(answer := sse_answer(say(1), live=True), FakeAnswer(409, [], whole=True))
        early = stage.get(world)
        await early.until_told(1)
        with monkeypatch.context() as patch:
            patch.setattr(stage.room.marks, "join", away := Away())
            late = stage.get(world)
            await late.until_listening()
            answer.push(say(2))
            await early.until_told(1, 2)
            assert away.calls > 0
        await early.until(lambda: early.has_ended)
        answer.push(say(3))
        await late.until(lambda: 3 in late.told)


@proves("STAND-8")
async def test_when_the_log_goes_away_the_client_is_served_on_and_then_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        world.will_answer(answer := sse_answer(say(1), live=True))
        client = stage.get(world)
        await client.until_told(1)
        away, marks = Away(), stage.room.marks
        with monkeypatch.context() as patch:
            for method in ("deliver", "leave", "keep_standing", "join"):
                patch.setattr(marks, method, away)
            answer.push(say(2))
            await client.until_told(1, 2)
            await client.drop()
            await asyncio.wait_for(answer.closed.wait(), BOUND_SECONDS)
        await until_found(lambda: has_left(stage, client))
        reading = await stage.room.log.read(stream_of(client), START)
        assert reading is not None
        assert reading.state is State.FINISHED


@proves("STAND-8")
async def test_when_redis_comes_back_empty_the_stream_goes_on_and_can_be_resumed() -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        client = stage.get(first)
        await client.until_told(1)
        session = digest_session(client.token)
        stage.room.log._logs.clear()
        stage.room.marks._standing._things.clear()
        stage.room.marks._wake(session)  # as everybody is rung when the subscription is renewed
        await until_found(lambda: is_registered(stage, client))
        standing = await stage.room.marks.standing(session)
        assert standing is not None
        assert standing.stream == stream_of(client)
        answer.push(say(2))
        await client.until_told(1, 2)
        assert not client.has_ended
        await client.drop()
        answer.push(say(3))
        after = stage.get(second, client.last_id)
        await after.until_told(3)
        assert second.upstream.sent == []


async def test_an_append_that_finds_no_log_begins_it_anew() -> None:
    async with replicas(2) as stage:
        first, second = stage.worlds
        first.will_answer(answer := sse_answer(say(1), live=True))
        client = stage.get(first)
        await client.until_told(1)
        stage.room.log._logs.clear()
        answer.push(say(2))
        await client.until_told(1, 2)
        answer.push(say(3))
        await client.until_told(1, 2, 3)
        after = stage.get(second, client.last_id)
        answer.push(say(4))
        await after.until_told(4)


@proves("STAND-3")
async def test_a_client_that_is_slow_gets_all_the_same() -> None:
    async with replicas(1) as stage:
        (world,) = stage.worlds
        large = b'event: message\ndata: {"jsonrpc":"2.0","method":"m","params":{"n":%d,"x":"%b"}}\n\n'
        world.will_answer(answer := sse_answer(say(1), live=True))
        client = stage.get(world)
        await client.until_told(1)
        client.stop_reading()
        for number in range(2, 12):
            answer.push(large % (number, b"x" * 100_000))
            await let_others_run()
        client.go_on_reading()
        await client.until_told(*range(1, 12))
        assert not client.has_ended


# ---- N = 1

STEPS = st.lists(
    st.one_of(
        st.just(("say", 0, False)),
        st.tuples(st.just("drop"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("get"), st.integers(0, 2), st.booleans()),
        st.just(("drain", 0, False)),
    ),
    max_size=12,
)


@proves("STAND-3", "STAND-6")
@given(steps=STEPS)
def test_whatever_a_client_does_it_is_told_each_thing_once_and_in_order(steps: list[tuple[str, int, bool]]) -> None:
    asyncio.run(follow_around(steps))


async def follow_around(steps: list[tuple[str, int, bool]]) -> None:
    """One backend that can resume, three workers, and a client that comes and goes among them."""
    said: list[int] = []
    told: list[int] = []
    async with replicas(3) as stage:
        backend = Backend(said)
        for world in stage.worlds:
            world.gateway.upstream = backend
        world = stage.worlds[0]
        client = stage.get(world)
        await client.until_listening()
        is_draining = False
        for what, which, flag in steps:
            match what:
                case "say":
                    backend.say()
                case "drain" if not is_draining:
                    is_draining = True
                    stage.worlds[0].standing.drain()
                    stage.worlds[0].pumps.release()
                    if world is stage.worlds[0]:
                        await client.until(lambda client=client: client.has_ended)
                case "get" | "drop":
                    if what == "drop":
                        await client.drop()
                        await until_found(lambda client=client: is_followed_by_nobody(stage, client))
                    elif not client.has_ended:
                        # Who is superseded may be told something in that very moment; nobody else may be.
                        await until(lambda client=client: told + client.told == said)
                    before = client
                    world = stage.worlds[max(which, int(is_draining))]
                    client = stage.get(world, before.last_id if flag or what == "get" else b"")
                    await client.until_listening()
                    await before.until(lambda before=before: before.has_ended or before.left)
                    await asyncio.wait([before.exchange], timeout=BOUND_SECONDS)
                    told.extend(before.told)
                case _:
                    pass
        if client.has_ended:
            told.extend(client.told)
            client = stage.get(stage.worlds[2], client.last_id)
        await until(lambda: len(told) + len(client.told) >= len(said))
        await let_others_run()
        assert told + client.told == said
        backend.close()


class Backend:
    """`Upstream`: one that gives each event an id, serves one stream at a time, and can resume it."""

    def __init__(self, said: list[int]) -> None:
        self._said = said
        self._live: FakeAnswer | None = None
        self.answers: list[FakeAnswer] = []

    def say(self) -> None:
        self._said.append(len(self._said) + 1)
        if self._live is not None and not self._live.closings:
            self._live.push(self._event(len(self._said)))

    def _event(self, number: int) -> bytes:
        return say(number, b"%d" % number)

    async def send(self, _backend: Any, _endpoint: Any, _method: bytes, headers: Any, *_: Any) -> FakeAnswer:
        if self._live is not None and not self._live.closings:
            return FakeAnswer(409, [])
        after = int(dict(headers).get(b"last-event-id", b"0"))
        events = [b"id: 0\ndata:\n\n", *(self._event(number) for number in self._said[after:])]
        self._live = sse_answer(*events, live=True)
        return self._live

    def close(self) -> None:
        """Nothing to be done: the answers are closed by whoever reads them."""
