"""Durable streams, told as transcripts over the memory log and a log that is as bad as we like."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange.owners import Owners
from gateway.exchange.pumps import QUEUE_BYTES
from gateway.exchange.sessions import digest_session
from gateway.flow import serve
from gateway.policy.streams import (
    NOBODY,
    Appended,
    AppendResult,
    Bounds,
    Facts,
    Hold,
    Owner,
    Reading,
    Refusal,
    State,
    Takeover,
)
from gateway.ports import Inbound, StreamTurn
from gateway.protocol.cursors import START, Cursor, StreamName
from gateway.protocol.events import parse_event
from gateway.protocol.outcomes import Failed, Outcome
from gateway.state.memory_logs import MemoryLog
from gateway.state.memory_marks import MemoryHeartbeats
from tests.fakes import BOUND_SECONDS, ECHO, NOW, FakeAnswer, FakeClient, World
from tests.flow.scenes import (
    CALL,
    FINAL,
    PRIMER,
    PROGRESS,
    A,
    error_of,
    event_error,
    legacy_post,
    let_others_run,
    request,
    run,
    running,
    sse_answer,
    token_of,
)
from tests.requirements import proves

NAME: Final = StreamName("CvdlGRbNQ92ESOshHIAxnA")
ME: Final = Owner("me")
STEP: Final = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
RESULT: Final = b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
EMPTY: Final = b"data: \n\n"
FIRST: Final = b"retry: 3000\n" + EMPTY
LARGE: Final = PROGRESS.replace(b"{}", b'{"message":"%b"}' % (b"x" * (QUEUE_BYTES // 4)))


class BadLog(MemoryLog):
    """The memory log; `answers` are what the next appends answer, without being done. None: it is done."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        super().__init__(bounds, lambda: NOW)
        self.answers: deque[Appended | None] = deque()
        self.is_applied = False  # an append that is answered AWAY is done all the same
        self.may_append = asyncio.Event()
        self.may_append.set()
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.on_release: Callable[[], None] = lambda: None

    async def release(self, hold: Hold) -> bool:
        self.on_release()
        return await super().release(hold)

    async def append(self, hold: Hold, first_seq: int, events: Sequence[bytes], **options: Any) -> AppendResult:
        await self.may_append.wait()
        answer = self.answers.popleft() if self.answers else None
        if answer is None or (answer is Appended.AWAY and self.is_applied):
            result = await super().append(hold, first_seq, events, **options)
            if answer is None:
                return result
        assert answer is not None
        return AppendResult(answer)

    async def read(
        self, stream: StreamName, after: Cursor, limit_events: int = 512, limit_bytes: int = 1024 * 1024
    ) -> Reading | None:
        await self.may_read.wait()
        return await super().read(stream, after, limit_events, limit_bytes)

    async def take_over(self, stream: StreamName, expected_epoch: int, owner: Owner) -> Takeover | Refusal:
        taken = await super().take_over(stream, expected_epoch, owner)
        await self.may_take.wait()
        return taken

    async def payloads(self) -> list[bytes]:
        """All that is in the stream."""
        reading = await MemoryLog.read(self, NAME, START)
        return [] if reading is None else [entry.payload for entry in reading.entries]


class WatchedClient(FakeClient):
    """A client that looks, at each write, whether what it gets is in the log."""

    def __init__(self, log: BadLog, body: bytes = b"") -> None:
        super().__init__(body)
        self._log = log
        self.unlogged: list[bytes] = []

    async def write(self, data: bytes) -> None:
        logged = {b"%s.%d" % (NAME.encode(), seq) for seq in range(1, 1 + len(await self._log.payloads()))}
        self.unlogged += [event_id for event_id in ids_of(data) if event_id not in logged]
        await super().write(data)


def ids_of(data: bytes) -> list[bytes]:
    return [event.id for event in map(parse_event, data.split(b"\n\n")) if event.id]


def stage(log: BadLog) -> World:
    world = World()
    world.gateway.log = log
    world.gateway.owners = Owners(MemoryHeartbeats(6.0, lambda: NOW), ME, 6.0, lambda: NOW)
    return world


def numbered(seq: int, payload: bytes, epoch: int = 1) -> bytes:
    """The event as a client gets it."""
    return b"id: %s.%d%s\n%s" % (NAME.encode(), seq, b"" if epoch == 1 else b".%d" % epoch, payload)


def resume(token: str, seq: int, *, version: bytes = b"2025-11-25", path: str = "/echo/mcp") -> Any:
    headers = [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", version)]
    return request("GET", *headers, (b"last-event-id", b"%s.%d" % (NAME.encode(), seq)), path=path)


async def begin(
    log: BadLog,
    token: str,
    *payloads: bytes,
    owner: Owner = ME,
    upstream_cursor: bytes = b"7",
    began_at: float = 0.0,
) -> Hold:
    """A stream in the log, as another worker would have begun it."""
    hold = Hold(NAME, 1, owner)
    facts = Facts(digest_session(token), "", "/echo", "echo", A, "up-7", "2025-11-25", b"1", began_at)
    await log.create(hold, facts, [FIRST, *payloads], upstream_cursor=upstream_cursor)
    return hold


# ---- log first, client then


@proves("DUR-1")
async def test_a_client_sees_an_event_when_the_log_has_it_and_not_before() -> None:
    log, answer = BadLog(), sse_answer(PRIMER, PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), WatchedClient(log, CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body == numbered(1, FIRST) + numbered(2, STEP))
        log.may_append.clear()
        answer.push(PROGRESS)
        await let_others_run()
        assert client.body == numbered(1, FIRST) + numbered(2, STEP)
        log.may_append.set()
        answer.push(FINAL)
        await client.until(lambda: numbered(4, RESULT) in client.body)
        answer.push(b"")
    assert client.body == numbered(1, FIRST) + numbered(2, STEP) + numbered(3, STEP) + numbered(4, RESULT)
    assert await log.payloads() == [FIRST, STEP, STEP, RESULT]
    assert client.unlogged == []
    assert client.until_close
    assert (world.record.outcome, world.record.events) == (Outcome.OK, 3)


@proves("DUR-1")
async def test_a_call_that_is_answered_at_once_is_not_logged() -> None:
    log = BadLog()
    world = stage(log).will_answer(sse_answer(PRIMER, FINAL))
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    assert client.body == PRIMER + FINAL
    assert await log.read(NAME, START) is None


async def test_the_log_keeps_on_when_the_client_has_left() -> None:
    log, answer = BadLog(), sse_answer(PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        client.leave()
        answer.push(PROGRESS + FINAL)
        answer.push(b"")
    assert await log.payloads() == [FIRST, STEP, STEP, RESULT]


@pytest.mark.parametrize("trouble", [Appended.AWAY, Appended.FULL])
@proves("DUR-2")
async def test_while_the_log_is_away_the_client_is_served_and_the_rest_is_logged_later(trouble: Appended) -> None:
    log, answer = BadLog(), sse_answer(PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        log.answers.append(trouble)
        answer.push(PROGRESS)
        await client.until(lambda: numbered(3, STEP) in client.body)
        assert await log.payloads() == [FIRST, STEP]
        answer.push(FINAL)
        answer.push(b"")
        await client.until(lambda: numbered(4, RESULT) in client.body)
    assert await log.payloads() == [FIRST, STEP, STEP, RESULT]


async def test_a_client_that_is_ahead_of_the_log_waits_for_it() -> None:
    log = BadLog()
    world, client = stage(log), FakeClient()
    token = token_of(world)
    hold = await begin(log, token, STEP)
    world.gateway.pumps.reserve(NAME)
    async with running(world, resume(token, 3), client):
        await client.until(lambda: client.body == numbered(3, EMPTY))
        await log.append(hold, 3, [STEP, RESULT], is_final=True)
        await client.until(lambda: client.has_ended)
    assert client.body == numbered(3, EMPTY) + numbered(4, RESULT)


@proves("DUR-10")
async def test_an_event_that_was_made_up_is_soon_told_to_be_lost() -> None:
    log, now = BadLog(), [NOW]
    world, client = stage(log), FakeClient()
    world.gateway.clock = lambda: now[0]
    token = token_of(world)
    hold = await begin(log, token, STEP)
    world.gateway.pumps.reserve(NAME)
    async with running(world, resume(token, 9), client):
        await client.until(lambda: client.body == numbered(9, EMPTY))
        await log.append(hold, 3, [STEP])
        await let_others_run()
        assert client.body == numbered(9, EMPTY)
        now[0] += 5.0
        await log.append(hold, 4, [STEP])
        await client.until(lambda: client.has_ended)
    assert event_error(client.body.split(b"\n\n", 1)[1])[::2] == (1, "events of this call were lost: call again")


@proves("DUR-2")
async def test_a_log_that_is_lost_ends_nothing_for_the_client_that_is_there() -> None:
    log, answer = BadLog(), sse_answer(PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    token = token_of(world)
    async with running(world, legacy_post(token=token), client):
        await client.until(lambda: client.body)
        log._logs.clear()
        answer.push(PROGRESS)
        await client.until(lambda: numbered(3, STEP) in client.body)
        answer.push(FINAL)
        answer.push(b"")
    assert client.body.endswith(numbered(4, RESULT))
    late = FakeClient()
    async with asyncio.timeout(BOUND_SECONDS):
        await serve(world.gateway, resume(token, 2), late)
    assert error_of(late)[0] == 404


@proves("DUR-2")
@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_slow_client_is_let_go_only_where_it_finds_the_rest_in_the_log(is_lost: bool) -> None:
    log, answer = BadLog(), sse_answer(PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        if is_lost:
            log._logs.clear()
        client.stop_reading()
        for _ in range(8):
            answer.push(LARGE)
            await let_others_run()
        client.go_on_reading()
        answer.push(FINAL)
        answer.push(b"")
        await client.until(lambda: client.has_ended)
    assert (StreamTurn.CLIENT_DETACHED in world.telemetry.turns, RESULT in client.body) == (not is_lost, is_lost)


@proves("DUR-3")
async def test_a_pump_that_is_fenced_sends_nothing_more_and_lets_go_of_the_backend() -> None:
    log, answer = BadLog(), sse_answer(PRIMER, PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        assert isinstance(await log.take_over(NAME, 1, Owner("another")), Takeover)
        answer.push(PROGRESS)
        await client.until(lambda: client.has_ended)
    assert client.body == numbered(1, FIRST) + numbered(2, STEP)
    assert StreamTurn.FENCED in world.telemetry.turns
    assert answer.closings == 1


# ---- resume


@proves("DUR-4")
@pytest.mark.parametrize(
    ("version", "body"),
    [
        ("2025-11-25", numbered(2, EMPTY) + numbered(3, RESULT)),
        ("2025-06-18", numbered(3, RESULT)),
    ],
)
async def test_a_resume_begins_where_the_client_is_for_clients_that_know_such_events(version: str, body: bytes) -> None:
    log = BadLog()
    world = stage(log)
    token = token_of(world, version=version)
    hold = await begin(log, token, STEP)
    await log.append(hold, 3, [RESULT], is_final=True)
    client = await run(world, resume(token, 2, version=version.encode()))
    assert (client.status, client.header(b"content-type"), client.body) == (200, b"text/event-stream", body)
    assert world.upstream.sent == []


@proves("DUR-4")
async def test_who_holds_the_last_event_of_a_finished_stream_gets_405() -> None:
    log = BadLog()
    world = stage(log)
    token = token_of(world)
    hold = await begin(log, token, STEP)
    await log.append(hold, 3, [RESULT], is_final=True)
    assert error_of(await run(world, resume(token, 3)))[0] == 405


@proves("DUR-5")
@pytest.mark.parametrize("changes", [{"upstream_id": "up-8"}, {"mount": "/math"}])
async def test_nobody_reads_anothers_stream(changes: dict[str, str]) -> None:
    log = BadLog()
    world = stage(log)
    await begin(log, token_of(world), STEP)
    path = changes.get("mount", "/echo") + "/mcp"
    address = {"address": "http://10.0.0.9:9000/mcp"} if "mount" in changes else {}
    client = await run(world, resume(token_of(world, **changes, **address), 1, path=path))
    assert error_of(client)[0] == 404
    assert b"progress" not in client.body


async def test_an_unknown_stream_is_404() -> None:
    world = stage(BadLog())
    assert error_of(await run(world, resume(token_of(world), 1)))[0] == 404


@proves("DUR-6")
async def test_what_was_trimmed_is_reported_on_the_calls_id() -> None:
    log = BadLog(Bounds(events=2))
    world = stage(log)
    token = token_of(world)
    await begin(log, token, STEP, STEP, STEP)
    client = await run(world, resume(token, 1))
    head, error = client.writes
    assert head == numbered(1, EMPTY)
    assert event_error(error)[0] == 1
    assert "lost" in event_error(error)[2]
    assert StreamTurn.LOSS_REPORTED in world.telemetry.turns


@proves("DUR-6")
async def test_a_hole_is_reported_to_whom_it_concerns() -> None:
    log, answer = BadLog(), sse_answer(PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    token = token_of(world)
    async with running(world, legacy_post(token=token), client):
        await client.until(lambda: client.body)
        answer.push(PROGRESS)
        await client.until(lambda: numbered(3, STEP) in client.body)
        lose_last(log)
        answer.push(FINAL)
        answer.push(b"")
    assert client.body.endswith(numbered(3, STEP) + numbered(4, RESULT))
    early, late = FakeClient(), FakeClient()
    await serve(world.gateway, resume(token, 2), early)
    await serve(world.gateway, resume(token, 3), late)
    assert event_error(early.writes[-1])[0] == 1
    assert late.body == numbered(3, EMPTY) + numbered(4, RESULT)


def lose_last(log: BadLog) -> None:
    """As a primary that is replaced by one that lags behind it."""
    held = log._logs[NAME]
    held.entries.pop()
    held.head = held.entries[-1].cursor


# ---- takeover


@proves("DUR-7")
async def test_a_released_stream_is_gone_on_with_where_it_ended() -> None:
    log = BadLog()
    world = stage(log).will_answer(sse_answer(b"id: 8\n" + PROGRESS, b"id: 9\n" + FINAL))
    token = token_of(world)
    hold = await begin(log, token, STEP, owner=Owner("another"))
    await log.release(hold)
    client = WatchedClient(log)
    await run(world, resume(token, 1), client=client)
    assert client.body == b"".join(
        (numbered(1, EMPTY), numbered(2, STEP), numbered(3, STEP, epoch=2), numbered(4, RESULT, epoch=2))
    )
    sent = world.sent
    assert (sent.method, sent.address) == (b"GET", A)
    assert sent.header(b"last-event-id") == b"7"
    assert sent.header(b"mcp-session-id") == b"up-7"
    assert sent.header(b"mcp-protocol-version") == b"2025-11-25"
    assert world.telemetry.turns == [StreamTurn.TAKEN_OVER]


@proves("DUR-7")
async def test_an_event_that_was_cut_off_is_taken_from_where_the_backend_resumes() -> None:
    log = BadLog()
    broken = Failed(Outcome.BROKEN, "the connection broke")
    cut = sse_answer(PRIMER + PROGRESS, b"id: 8\n" + PROGRESS[:40], broken, live=True)
    world = stage(log).will_answer(cut, sse_answer(b"id: 8\n" + PROGRESS, b"id: 9\n" + FINAL))
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    expected = [numbered(1, FIRST), numbered(2, STEP), numbered(3, STEP), numbered(4, RESULT)]
    assert client.body == b"".join(expected)
    assert [sent.header(b"last-event-id") for sent in world.upstream.sent] == [None, b"7"]


@proves("DUR-7")
@pytest.mark.parametrize("cursor", [b"", b"7"])
async def test_what_the_backend_cannot_resume_ends_with_an_error_on_its_id(cursor: bytes) -> None:
    log = BadLog()
    world = stage(log)
    if cursor:
        world.will_answer(FakeAnswer(404, []))
    token = token_of(world)
    await log.release(await begin(log, token, STEP, owner=Owner("another"), upstream_cursor=cursor))
    client = await run(world, resume(token, 2))
    head, error = client.body.split(b"\n\n", 1)
    assert head + b"\n\n" == numbered(2, EMPTY)
    identified, _, rest = error.partition(b"\n")
    assert identified == b"id: %s.3.2" % NAME.encode()
    assert event_error(rest)[0] == 1
    assert "call again" in event_error(rest)[2]


async def test_a_takeover_is_finished_though_its_follower_leaves() -> None:
    log = BadLog()
    world = stage(log).will_answer(sse_answer(b"id: 9\n" + FINAL))
    token = token_of(world)
    await log.release(await begin(log, token, STEP, owner=Owner("another")))
    log.may_take.clear()
    client = FakeClient()
    async with running(world, resume(token, 2), client) as exchange:
        await client.until(lambda: client.body)
        await until_owned(log)
        client.leave()
        await asyncio.wait([exchange], timeout=BOUND_SECONDS)
        log.may_take.set()
        await until_state(log, State.FINISHED)
    assert await log.payloads() == [FIRST, STEP, RESULT]


async def test_a_stream_of_ours_that_nobody_pumps_is_taken_up_again() -> None:
    log = BadLog()
    world = stage(log).will_answer(sse_answer(b"id: 9\n" + FINAL))
    token = token_of(world)
    await begin(log, token, STEP, owner=ME)
    client = await run(world, resume(token, 2))
    assert client.body == numbered(2, EMPTY) + numbered(3, RESULT, epoch=2)


async def until_owned(log: BadLog) -> None:
    await until(log, lambda reading: reading.owner not in (NOBODY, Owner("another")))


async def until_state(log: BadLog, state: State) -> None:
    await until(log, lambda reading: reading.state is state)


async def until(log: BadLog, is_so: Callable[[Reading], bool]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while (reading := await log.read(NAME, START)) is None or not is_so(reading):  # noqa: ASYNC110  # in memory, a turn of the loop is all
            await asyncio.sleep(0)


# ---- drain


@proves("DUR-8")
async def test_a_draining_worker_releases_what_can_be_resumed_and_lets_its_clients_go() -> None:
    log, answer = BadLog(), sse_answer(PRIMER, PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), FakeClient(CALL)
    log.on_release = lambda: closings.append(answer.closings)
    closings: list[int] = []
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        world.standing.drain()
        world.pumps.release()
        await client.until(lambda: client.has_ended)
    reading = await log.read(NAME, START)
    assert reading is not None
    assert (reading.owner, reading.state, reading.upstream_cursor) == (NOBODY, State.OPEN, b"7")
    assert closings == [1], "another worker may ask the backend from the moment that it is released"


@proves("DUR-8")
async def test_a_draining_worker_ends_its_followers_in_good_order() -> None:
    log = BadLog()
    world, client = stage(log), FakeClient()
    token = token_of(world)
    await begin(log, token, STEP)
    world.pumps.reserve(NAME)
    async with running(world, resume(token, 1), client):
        await client.until(lambda: numbered(2, STEP) in client.body)
        world.standing.drain()
        await client.until(lambda: client.has_ended)
    assert world.upstream.sent == []


@proves("DUR-8")
async def test_a_resume_on_a_draining_worker_is_begun_and_ended() -> None:
    log = BadLog()
    world = stage(log)
    token = token_of(world)
    await begin(log, token, STEP)
    log.may_read.clear()
    world.standing.drain()
    client = await run(world, resume(token, 1))
    assert client.status == 200
    assert client.body.startswith(numbered(1, EMPTY) + b"retry: 1")


# ---- properties

FAULTS = st.sampled_from([None, None, Appended.AWAY, Appended.FULL])


@proves("DUR-1", "DUR-2")
@given(faults=st.lists(FAULTS, max_size=8), is_applied=st.booleans())
def test_nothing_reaches_a_client_that_the_log_does_not_get(faults: list[Appended | None], is_applied: bool) -> None:
    asyncio.run(push_through(faults, is_applied))


async def push_through(faults: list[Appended | None], is_applied: bool) -> None:
    log = BadLog()
    log.is_applied = is_applied
    log.answers.extend(faults)
    answer = sse_answer(PROGRESS, live=True)
    world, client = stage(log).will_answer(answer), WatchedClient(log, CALL)
    async with running(world, legacy_post(token=token_of(world)), client):
        await client.until(lambda: client.body)
        for seq in range(3, 3 + len(faults)):
            answer.push(PROGRESS)
            await client.until(lambda seq=seq: numbered(seq, STEP) in client.body)
        assert not log.answers
        answer.push(FINAL)
        answer.push(b"")
    payloads = await log.payloads()
    assert payloads == [FIRST, STEP, *[STEP] * len(faults), RESULT]
    assert client.body == b"".join(numbered(seq, payload) for seq, payload in enumerate(payloads, start=1))
    if not any(faults):
        assert client.unlogged == []


@proves("DUR-4")
@given(steps=st.integers(0, 20), data=st.data())
def test_a_replay_is_exactly_the_rest(steps: int, data: st.DataObject) -> None:
    after = data.draw(st.integers(1, steps + 1))
    asyncio.run(replay(steps, after))


async def replay(steps: int, after: int) -> None:
    log = BadLog()
    world = stage(log)
    token = token_of(world)
    payloads = [b"data: %d\n\n" % number for number in range(steps)]
    hold = await begin(log, token, *payloads)
    await log.append(hold, steps + 2, [RESULT], is_final=True)
    client = await run(world, resume(token, after))
    rest = [FIRST, *payloads, RESULT][after:]
    assert client.body == numbered(after, EMPTY) + b"".join(
        numbered(seq, payload) for seq, payload in enumerate(rest, start=after + 1)
    )


# ---- polling (SEP-1699: a backend closes its stream, having said after how long to come back)


async def test_a_backend_that_wants_to_be_polled_is_polled_and_its_client_polls_us() -> None:
    log = BadLog()
    polled, answer = sse_answer(b"id: 9\n" + FINAL), sse_answer(b"retry: 40\n" + PRIMER)
    world = stage(log).will_answer(answer, polled)
    token = token_of(world)
    client = await run(world, legacy_post(token=token), CALL)
    assert client.body == numbered(1, b"retry: 40\n" + EMPTY)
    assert await log.payloads() == [b"retry: 40\n" + EMPTY, RESULT]
    assert (await run_again(world, resume(token, 1))).body == numbered(1, EMPTY) + numbered(2, RESULT)
    assert [sent.header(b"last-event-id") for sent in world.upstream.sent] == [None, b"7"]


async def test_a_backend_that_closes_again_and_again_is_asked_as_long_as_a_call_may_take() -> None:
    log, now = BadLog(), [NOW]
    world = stage(log).will_answer(sse_answer(PRIMER), sse_answer(b""))
    world.gateway.wall_clock = lambda: now[0]
    token, client = token_of(world), FakeClient(CALL)
    async with running(world, legacy_post(token=token), client):
        await client.until(lambda: client.body)
        await until(log, lambda _: len(world.upstream.sent) == 2)
        now[0] += ECHO.timeouts.total_seconds + 1
    identified, _, error = client.body.split(b"\n\n", 1)[1].partition(b"\n")
    assert identified == b"id: %s.2" % NAME.encode()
    assert event_error(error)[0] == 1
    assert "within the time allowed" in event_error(error)[2]


@proves("DUR-9")
async def test_a_call_has_no_more_time_for_changing_hands() -> None:
    log = BadLog()
    world = stage(log)
    world.gateway.wall_clock = lambda: NOW
    token = token_of(world)
    began_at = NOW - ECHO.timeouts.total_seconds
    await log.release(await begin(log, token, STEP, owner=Owner("another"), began_at=began_at))
    client = await run(world, resume(token, 2))
    assert "within the time allowed" in event_error(client.body.split(b"\n\n", 1)[1].partition(b"\n")[2])[2]
    assert world.upstream.sent == []


@proves("DUR-9")
async def test_who_takes_a_call_over_gives_it_the_rest_of_its_time() -> None:
    log = BadLog()
    world = stage(log).will_answer(sse_answer(b"id: 9\n" + FINAL))
    world.gateway.wall_clock = lambda: NOW
    token = token_of(world)
    await log.release(await begin(log, token, STEP, owner=Owner("another"), began_at=NOW - 600))
    await run(world, resume(token, 2))
    assert world.sent.timeouts.total_seconds == 3000


async def run_again(world: World, inbound: Inbound) -> FakeClient:
    client = FakeClient()
    async with asyncio.timeout(BOUND_SECONDS):
        await serve(world.gateway, inbound, client)
    return client
