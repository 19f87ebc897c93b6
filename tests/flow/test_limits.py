"""Who asks for too much is told so; everyone else goes by."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import pytest

from gateway.exchange.allowances import Allowances
from gateway.exchange.reservations import Reservations
from gateway.flow import serve
from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.identities import Identity
from gateway.policy.quotas import Lease, Rate, Rates
from gateway.policy.reservations import Reservation
from gateway.policy.sites import Limits, Site, compile_routes, is_limited
from gateway.policy.streams import LogAway, Owner, Trouble
from gateway.ports import BucketName, Inbound, Quotas
from gateway.protocol.outcomes import Outcome
from gateway.state.quotas import MemoryQuotas
from tests.fakes import BOUND_SECONDS, ECHO, MATH, FakeAnswer, FakeClient, World, site_of
from tests.flow.scenes import (
    CALL,
    FINAL,
    INITIALIZE,
    INITIALIZED,
    error_of,
    json_answer,
    legacy_post,
    let_others_run,
    modern_body,
    modern_post,
    request,
    run,
    session_headers,
    sse_answer,
    token_of,
)
from tests.requirements import proves

TWO: Final = Rate(2, 60.0, 2)


class Counted:
    """`Quotas` that counts questions, and can be away."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self.asked: list[tuple[int, int]] = []
        self.reserved: list[int] = []
        self.is_away = False
        self.workers = 1

    async def lease(self, bucket: BucketName, rate: Rate, needed: int, wanted: int) -> Lease:
        self.asked.append((needed, wanted))
        await asyncio.sleep(0)
        if self.is_away:
            raise LogAway(Trouble.AWAY, "gone")
        return await self._quotas.lease(bucket, rate, needed, wanted)

    async def reserve(self, bucket: BucketName, worker: Owner, wanted: int, limit: int) -> Reservation:
        if self.is_away:
            raise LogAway(Trouble.AWAY, "gone")
        self.reserved.append(wanted)
        return await self._quotas.reserve(bucket, worker, wanted, limit)

    async def count(self, worker: Owner) -> int:
        return self.workers


class Stage(World):
    """A world whose callers are held to limits."""

    def __init__(self, rates: Rates, **own: Rates) -> None:
        backends = [msgspec.structs.replace(b, rates=own.get(b.name, Rates())) for b in (ECHO, MATH)]
        super().__init__(site_of(*backends, limits=Limits(rates=rates), trusted_proxies=("192.0.2.9/32",)))
        self.quotas = Counted(MemoryQuotas(lambda: self.now))
        own_quotas = MemoryQuotas(lambda: self.now)
        self.reservations = self.reserve_as(Owner("me"))
        self.gateway.reservations = self.reservations
        self.gateway.allowances = Allowances(self.quotas, own_quotas, self.telemetry, lambda: self.now)

    def reserve_as(self, worker: Owner) -> Reservations:
        return Reservations(self.quotas, worker, lambda: self.now)

    async def call(self, inbound: Inbound | None = None, body: bytes = b"") -> FakeClient:
        self.will_answer(json_answer())
        client = await run(self, inbound or modern_post(), body or modern_body())
        self.upstream.answers.clear()
        return client


@proves("LIMIT-2")
async def test_who_has_asked_too_often_is_told_which_limit_and_when_to_come_back() -> None:
    stage = Stage(Rates(requests=TWO))
    assert [(await stage.call()).status for _ in range(2)] == [200, 200]
    client = await stage.call()
    assert error_of(client) == (
        429,
        1,
        -32603,
        (
            "too many requests: wait 30 s and call again. Each caller has 2 in 60 s and 2 at once; "
            "whoever runs this gateway can raise `limits.requests`"
        ),
    )
    assert client.header(b"retry-after") == b"30"
    data = json.loads(client.body)["error"]["data"]
    assert (data["limit"], data["retryAfterSeconds"]) == ("requests", 30)
    assert stage.telemetry.limits == ["requests"]
    assert stage.telemetry.finished[-1].outcome is Outcome.LIMITED
    assert len(stage.upstream.sent) == 2


@proves("LIMIT-2")
async def test_it_is_served_again_when_it_comes_back_then() -> None:
    stage = Stage(Rates(requests=TWO))
    for _ in range(3):
        await stage.call()
    stage.now += 30
    assert (await stage.call()).status == 200


@proves("LIMIT-1")
async def test_a_refusal_is_repeated_without_asking_anybody() -> None:
    stage = Stage(Rates(requests=TWO))
    for _ in range(3):
        await stage.call()
    asked = len(stage.quotas.asked)
    assert [(await stage.call()).status for _ in range(50)] == [429] * 50
    assert len(stage.quotas.asked) == asked


@proves("LIMIT-1")
async def test_most_calls_ask_nobody() -> None:
    stage = Stage(Rates(requests=Rate(1000, 1.0, 1000)))
    for _ in range(200):
        stage.now += 0.001
        assert (await stage.call()).status == 200
    assert len(stage.quotas.asked) < 20


@proves("LIMIT-1")
async def test_those_who_wait_share_one_question() -> None:
    stage = Stage(Rates(requests=Rate(1000, 1.0, 1000)))
    stage.will_answer(*(json_answer() for _ in range(20)))
    clients = [FakeClient(modern_body()) for _ in range(20)]
    await asyncio.gather(*(serve(stage.gateway, modern_post(), client) for client in clients))
    assert [client.status for client in clients] == [200] * 20
    assert len(stage.quotas.asked) <= 3


@proves("LIMIT-3")
async def test_callers_are_held_apart_by_their_addresses_as_proxies_tell_them() -> None:
    stage = Stage(Rates(requests=TWO))

    def post(peer: str, told: bytes) -> Inbound:
        return msgspec.structs.replace(modern_post((b"x-forwarded-for", told)), peer=peer)

    statuses = [(await stage.call(post("192.0.2.9", b"203.0.113.%d" % n))).status for n in (1, 1, 1, 2)]
    assert statuses == [200, 200, 429, 200]
    # What a stranger says of itself changes nothing.
    assert [(await stage.call(post("192.0.2.7", b"203.0.113.%d" % n))).status for n in (5, 6, 7)] == [200, 200, 429]


@proves("LIMIT-3")
async def test_principals_are_held_apart_wherever_they_call_from(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(Rates(requests=TWO))
    who = [Identity(principal="idp alice")]

    async def authenticate(exchange: object, mount: str) -> None:
        exchange.identity = who[0]  # type: ignore[attr-defined]

    monkeypatch.setattr("gateway.flow.authenticate", authenticate)
    near, far = modern_post(), msgspec.structs.replace(modern_post(), peer="198.51.100.1")
    assert [(await stage.call(inbound)).status for inbound in (near, far, near)] == [200, 200, 429]
    who[0] = Identity(principal="idp bob")
    assert (await stage.call(near)).status == 200


@proves("LIMIT-1")
async def test_a_backends_own_limit_stands_in_the_place_of_the_general_one() -> None:
    stage = Stage(Rates(requests=TWO), math=Rates(requests=Rate(3, 60.0, 3)))
    at_math = modern_post(path="/math/mcp")
    assert [(await stage.call(at_math)).status for _ in range(4)] == [200, 200, 200, 429]
    assert "`backends.math.limits.requests`" in error_of(await stage.call(at_math))[3]
    assert [(await stage.call()).status for _ in range(3)] == [200, 200, 429]


def with_aggregate(stage: Stage) -> Site:
    site = stage.gateway.site
    both = Aggregate("all", "/all", (Member("echo", "echo"), Member("math", "math")))
    routes = compile_routes(site.backends.values(), [both])
    return msgspec.structs.replace(site, routes=routes, aggregates={"all": both})


@proves("LIMIT-1")
async def test_an_aggregate_is_no_way_past_a_backends_own_limit() -> None:
    stage = Stage(Rates(), math=Rates(requests=TWO))
    stage.gateway.site = with_aggregate(stage)
    call = modern_body(name="math__add")
    inbound = request(
        "POST",
        (b"content-type", b"application/json"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", b"math__add"),
        path="/all/mcp",
    )
    assert [(await stage.call(inbound, call)).status for _ in range(2)] == [200, 200]
    assert error_of(await stage.call(inbound, call))[0] == 429
    assert (await stage.call(modern_post(path="/math/mcp"))).status == 429


@proves("LIMIT-1")
async def test_a_batch_counts_as_all_its_messages() -> None:
    stage = Stage(Rates(requests=Rate(5, 60.0, 5)))
    batch = b"[" + b",".join([CALL.replace(b'"id":1', b'"id":%d' % n) for n in range(4)]) + b"]"
    version = (b"mcp-protocol-version", b"2025-03-26")
    assert (await run(stage.will_answer(json_answer(b"[]")), legacy_post(version), batch)).status != 429
    assert (await run(stage, legacy_post(version), batch)).status == 429


@proves("LIMIT-2")
async def test_sessions_begun_have_a_limit_of_their_own() -> None:
    stage = Stage(Rates(initialize=TWO))
    for _ in range(2):
        stage.will_answer(json_answer(INITIALIZED))
        assert (await run(stage, legacy_post(), INITIALIZE)).status == 200
    status, rpc_id, _, message = error_of(await run(stage, legacy_post(), INITIALIZE))
    assert (status, rpc_id) == (429, 0)
    assert message.startswith("too many sessions begun: wait 30 s and call again.")
    assert message.endswith("can raise `limits.initialize`")
    assert (await stage.call()).status == 200
    assert stage.telemetry.limits == ["initialize"]


@proves("LIMIT-4")
async def test_while_the_common_memory_is_away_each_worker_holds_its_share() -> None:
    stage = Stage(Rates(requests=Rate(60, 60.0, 60)))
    allowances = stage.gateway.allowances
    assert allowances is not None
    stage.quotas.workers = 3
    counting = asyncio.create_task(allowances.run(Owner("me"), lambda: is_limited(stage.gateway.site)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    counting.cancel()
    stage.quotas.is_away = True
    statuses = [(await stage.call()).status for _ in range(30)]
    assert statuses == [200] * 20 + [429] * 10
    assert stage.telemetry.apart == [True]
    stage.quotas.is_away = False
    stage.now += 30
    assert (await stage.call()).status == 200
    assert stage.telemetry.apart == [True, False]


@asynccontextmanager
async def calls_under_way(stage: Stage, calls: int) -> AsyncIterator[None]:
    """So many calls that go on until the block is left."""
    answers = [sse_answer(live=True) for _ in range(calls)]
    stage.will_answer(*answers)
    clients = [FakeClient(modern_body()) for _ in range(calls)]
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(serve(stage.gateway, modern_post(), client))
        await let_others_run()
        assert len(stage.upstream.sent) == calls
        yield
        for answer in answers:
            answer.push(FINAL)
            answer.push(b"")
    assert [client.status for client in clients] == [200] * calls


@proves("LIMIT-5", "LIMIT-2")
async def test_no_more_calls_at_once_than_the_limit() -> None:
    stage = Stage(Rates(concurrent_calls=2))
    async with calls_under_way(stage, 2):
        refused = FakeClient(modern_body())
        await serve(stage.gateway, modern_post(), refused)
        assert error_of(refused) == (
            429,
            1,
            -32603,
            (
                "too many calls at once: end one, or wait for it to end, then try again. Each caller has 2; "
                "whoever runs this gateway can raise `limits.concurrent_calls`"
            ),
        )
        assert refused.header(b"retry-after") == b"1"
        other = msgspec.structs.replace(modern_post(), peer="198.51.100.1")
        stage.will_answer(json_answer())
        served = FakeClient(modern_body())
        await serve(stage.gateway, other, served)
        assert served.status == 200
    assert [(await stage.call()).status for _ in range(3)] == [200] * 3
    assert stage.telemetry.limits == ["concurrent_calls"]


@proves("LIMIT-5")
async def test_a_notification_needs_no_place() -> None:
    stage = Stage(Rates(concurrent_calls=1))
    async with calls_under_way(stage, 1):
        stage.will_answer(FakeAnswer(202, [], b"", whole=True))
        told = FakeClient(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        await serve(stage.gateway, legacy_post(), told)
        assert told.status == 202


@proves("LIMIT-5")
async def test_standing_streams_have_a_limit_of_their_own() -> None:
    stage = Stage(Rates(concurrent_streams=1))
    get = request("GET", (b"accept", b"text/event-stream"), *session_headers(token_of(stage)))
    place = await stage.reservations.enter("concurrent_streams", "", "address 192.0.2.7", 1)
    assert place is not None
    refused = FakeClient(b"")
    await serve(stage.gateway, get, refused)
    assert refused.status == 429
    assert json.loads(refused.body)["error"]["data"]["limit"] == "concurrent_streams"
    assert (await stage.call()).status == 200
    stage.reservations.leave(place)


@proves("LIMIT-5")
async def test_calls_one_after_the_other_ask_nobody_while_most_places_are_free() -> None:
    stage = Stage(Rates(concurrent_calls=10))
    assert [(await stage.call()).status for _ in range(50)] == [200] * 50
    assert stage.quotas.reserved == [1]


@proves("LIMIT-5")
async def test_a_place_left_is_free_for_other_workers_at_once_where_places_are_few() -> None:
    stage = Stage(Rates(concurrent_calls=1))
    other = stage.reserve_as(Owner("other"))
    for _ in range(3):
        assert (await stage.call()).status == 200
        place = await other.enter("concurrent_calls", "", "address 192.0.2.7", 1)
        assert place is not None
        other.leave(place)


@proves("LIMIT-5")
async def test_what_is_kept_unused_is_given_back_after_a_while() -> None:
    stage = Stage(Rates(concurrent_calls=10))
    other = stage.reserve_as(Owner("other"))
    await stage.call()
    await stage.reservations.renew()
    places = [await other.enter("concurrent_calls", "", "address 192.0.2.7", 10) for _ in range(10)]
    assert None not in places
    assert stage.quotas.reserved[:2] == [1, 0]


@proves("LIMIT-5", "LIMIT-4")
async def test_places_are_renewed_and_those_of_the_dead_free_again() -> None:
    stage = Stage(Rates(concurrent_calls=1))
    other = stage.reserve_as(Owner("other"))
    async with calls_under_way(stage, 1):
        for _ in range(4):
            stage.now += 10
            await stage.reservations.renew()
        assert await other.enter("concurrent_calls", "", "address 192.0.2.7", 1) is None
        stage.now += 15  # as if this worker had died
        assert await other.enter("concurrent_calls", "", "address 192.0.2.7", 1) is not None


@proves("LIMIT-4", "LIMIT-5")
async def test_while_the_common_memory_is_away_a_worker_has_its_share_of_the_places() -> None:
    stage = Stage(Rates(concurrent_calls=6))
    alone = Reservations(stage.quotas, Owner("alone"), lambda: stage.now, lambda: 3)
    stage.quotas.is_away = True
    places = [await alone.enter("concurrent_calls", "", "address 192.0.2.7", 6) for _ in range(3)]
    assert [place is not None for place in places] == [True, True, False]
    stage.quotas.is_away = False
    assert await alone.enter("concurrent_calls", "", "address 192.0.2.7", 6) is not None


@proves("LIMIT-5")
async def test_a_batch_that_begins_with_a_notification_needs_a_place_all_the_same() -> None:
    stage = Stage(Rates(concurrent_calls=1))
    async with calls_under_way(stage, 1):
        refused = FakeClient(b'[{"jsonrpc":"2.0","method":"notifications/progress","params":{}},' + CALL + b"]")
        await serve(stage.gateway, legacy_post((b"mcp-protocol-version", b"2025-03-26")), refused)
        assert refused.status == 429


@proves("LIMIT-4")
async def test_where_there_is_no_limit_nobody_is_counted_and_nothing_told() -> None:
    stage = Stage(Rates())
    stage.quotas.is_away = True
    stage.quotas.workers = 3
    allowances = stage.gateway.allowances
    assert allowances is not None
    counting = asyncio.create_task(allowances.run(Owner("me"), lambda: is_limited(stage.gateway.site)))
    await let_others_run()
    counting.cancel()
    assert (await stage.call()).status == 200
    assert (allowances.workers, stage.telemetry.apart, stage.quotas.asked) == (1, [], [])
