"""What the protocol and the policy refuse: status, JSON-RPC error and headers of each, before anything is sent."""

import json

import msgspec
import pytest

from gateway.policy.origins import LOOPBACK_HOSTS
from gateway.policy.sites import Cors
from gateway.ports import ClientLeft, Headers, Inbound
from gateway.protocol.outcomes import Outcome, Rejected
from tests.fakes import ECHO, MATH, TRACE, FakeClient, World, site_of
from tests.flow.scenes import (
    CALL,
    JSON,
    RESULT,
    error_of,
    json_answer,
    legacy_post,
    modern_body,
    modern_post,
    request,
    run,
)
from tests.requirements import proves


def at_host(host: bytes, *headers: tuple[bytes, bytes], method: str = "POST", path: str = "/echo/mcp") -> Inbound:
    return Inbound(method, path, b"", [(b"host", host), JSON, *headers], "192.0.2.7", "http")


@proves("HOST-1", "ERR-1")
async def test_a_strange_host_is_421_before_anything_else_is_told() -> None:
    world = World(site_of(hosts=LOOPBACK_HOSTS, expose_mounts=True))
    for path in ("/echo/mcp", "/nowhere"):
        client = await run(world, at_host(b"evil.example", path=path), CALL)
        assert error_of(client) == (
            421,
            None,
            -32600,
            "this host name is not served here: add it to `allowed_hosts`, or set `public_url`",
        )
        assert b"mounts" not in client.body
    assert world.telemetry.finished[0].outcome is Outcome.HOST_DENIED
    assert world.upstream.sent == []


@proves("HOST-1")
async def test_our_own_hosts_are_served() -> None:
    for host in (b"localhost:8080", b"127.0.0.1", b"[::1]:8080"):
        world = World(site_of(hosts=LOOPBACK_HOSTS)).will_answer(json_answer())
        assert (await run(world, at_host(host), CALL)).status == 200


@proves("HOST-2", "ERR-1")
async def test_a_strange_origin_is_403_and_may_not_even_read_that() -> None:
    world = World(site_of(hosts=LOOPBACK_HOSTS))
    client = await run(world, at_host(b"localhost", (b"origin", b"http://evil.example")), CALL)
    assert error_of(client) == (403, None, -32600, "this origin may not call: add it to `cors.origins`")
    assert client.header(b"access-control-allow-origin") is None
    assert world.upstream.sent == []


APP = (b"origin", b"https://app.example.com")
LISTED = site_of(cors=Cors(frozenset({"https://app.example.com"})))


@proves("CORS-1")
@pytest.mark.parametrize(
    ("inbound", "body", "status"),
    [
        (legacy_post(APP), CALL, 200),
        (legacy_post(APP), b"{", 400),
        (legacy_post(APP, token="x"), CALL, 404),
        (legacy_post(APP, path="/nowhere"), CALL, 404),
        (request("PUT", APP), b"", 405),
        (request("POST", APP), b"", 415),
        (modern_post(APP), CALL, 400),
    ],
)
async def test_an_allowed_page_can_read_every_reply(inbound: Inbound, body: bytes, status: int) -> None:
    client = await run(World(LISTED).will_answer(json_answer()), inbound, body)
    assert client.status == status
    assert client.header(b"access-control-allow-origin") == b"https://app.example.com"
    assert b"X-Request-Id" in (client.header(b"access-control-expose-headers") or b"")
    assert client.header(b"vary") == b"Origin"


@proves("CORS-2", "CORS-1")
async def test_a_preflight_is_answered_here() -> None:
    asked = (b"access-control-request-headers", b"content-type, mcp-param-region")
    world = World(LISTED)
    client = await run(world, request("OPTIONS", APP, asked))
    assert (client.status, client.body) == (204, b"")
    assert client.header(b"allow") == b"GET, POST, DELETE, OPTIONS"
    assert client.header(b"access-control-allow-origin") == b"https://app.example.com"
    assert client.header(b"access-control-allow-methods") == b"GET, POST, DELETE, OPTIONS"
    assert b"mcp-param-region" in (client.header(b"access-control-allow-headers") or b"")
    assert (world.record.outcome, world.upstream.sent) == (Outcome.OK, [])


@proves("CORS-2", "HDR-5")
async def test_options_without_an_origin_tells_the_methods() -> None:
    client = await run(World(LISTED), request("OPTIONS"))
    assert (client.status, client.header(b"allow")) == (204, b"GET, POST, DELETE, OPTIONS")
    assert client.header(b"access-control-allow-methods") is None


@proves("ROUTE-2", "ERR-1")
@pytest.mark.parametrize(
    "path", ["/nowhere", "/", "/ECHO/mcp", "/echo/mcp/x", "/echo//mcp", "/%65cho/mcp", "/echo/../math"]
)
async def test_an_unknown_path_is_404(path: str) -> None:
    world = World()
    client = await run(world, legacy_post(path=path), CALL)
    assert error_of(client) == (404, None, -32600, "nothing is mounted at this path")
    assert b"mounts" not in client.body
    assert (world.record.outcome, world.record.mount) == (Outcome.NOT_FOUND, "")


@proves("ROUTE-2")
async def test_where_they_may_be_known_an_unknown_path_is_told_the_mounts() -> None:
    client = await run(World(site_of(MATH, ECHO, expose_mounts=True)), legacy_post(path="/nowhere"), CALL)
    assert json.loads(client.body)["error"]["data"]["mounts"] == ["/echo", "/math"]


@proves("ROUTE-1")
@pytest.mark.parametrize("path", ["/echo", "/echo/", "/echo/mcp", "/echo/mcp/"])
async def test_all_spellings_of_a_mount_serve_the_same(path: str) -> None:
    world = World().will_answer(json_answer())
    client = await run(world, legacy_post(path=path), CALL)
    assert (client.status, client.body, world.record.mount) == (200, RESULT, "/echo")


@proves("HDR-5")
async def test_head_is_405_without_a_body() -> None:
    client = await run(World(), request("HEAD"))
    assert (client.status, client.body) == (405, b"")
    assert client.header(b"allow") == b"GET, POST, DELETE, OPTIONS"


@proves("ERR-1")
@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ([], CALL, (415, None, -32600, "the content-type must be application/json")),
        ([JSON], b"{", (400, None, -32700, "the body is not valid JSON")),
        ([JSON], b"", (400, None, -32700, "the body is not valid JSON")),
        ([JSON], b"\xff", (400, None, -32700, "the body is not UTF-8")),
        ([JSON], b"5", (400, None, -32600, "the body is not a JSON-RPC message: an object is expected")),
        (
            [JSON],
            b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}',
            (400, None, -32600, "`id` stands twice in the body: send each key once"),
        ),
        (
            [JSON, (b"mcp-session-id", b"a"), (b"mcp-session-id", b"b")],
            CALL,
            (400, 1, -32600, "mcp-session-id header appears more than once"),
        ),
        (
            [JSON, (b"mcp-protocol-version", b"2025-06-18")],
            b"[" + CALL + b"]",
            (400, None, -32600, "protocol version 2025-06-18 has no batches: send one message at a time"),
        ),
        (
            [JSON, (b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"tools/call")],
            modern_body(),
            (400, 1, -32020, "mcp-name header does not match the request body's 'name' parameter"),
        ),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong_on_its_id(
    headers: Headers, body: bytes, expected: tuple[int, object, int, str]
) -> None:
    world = World()
    client = await run(world, request("POST", *headers), body)
    assert error_of(client) == expected
    assert world.upstream.sent == []


@proves("LIM-1")
@pytest.mark.parametrize(("outcome", "status"), [(Outcome.TOO_LARGE, 413), (Outcome.BODY_TIMEOUT, 408)])
async def test_a_body_that_cannot_be_read_is_told_so_and_the_connection_ends(outcome: Outcome, status: int) -> None:
    refusal = Rejected(outcome, "no", headers=((b"connection", b"close"),))
    client = await run(World(), legacy_post(), client=FakeClient(unreadable=refusal))
    assert error_of(client) == (status, None, -32600, "no")
    assert client.header(b"connection") == b"close"


@proves("NET-4")
async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error() -> None:
    world, client = World(), FakeClient(CALL)
    client.leave()
    await run(world, legacy_post(), client=client)
    assert not client.started
    assert (world.record.outcome, world.telemetry.exceptions, world.upstream.sent) == (Outcome.CLIENT_LEFT, [], [])


@proves("ERR-1", "NET-3")
async def test_a_client_that_leaves_before_its_refusal_is_no_error() -> None:
    class Gone(FakeClient):
        async def reply(self, status: int, headers: Headers, body: bytes) -> None:
            raise ClientLeft

    world = World()
    await run(world, legacy_post(), client=Gone(b"{"))
    assert (world.record.outcome, world.telemetry.exceptions) == (Outcome.CLIENT_LEFT, [])


@proves("ERR-2")
async def test_errors_and_preflights_carry_the_request_id_too() -> None:
    for inbound in (request("OPTIONS"), request("HEAD"), legacy_post(path="/nowhere")):
        client = await run(World(), inbound, CALL)
        assert client.header(b"x-request-id") == TRACE.encode()


@proves("FWD-1", "FWD-4")
async def test_credentials_stay_here_and_configured_ones_are_sent() -> None:
    backend = msgspec.structs.replace(ECHO, headers=(("Authorization", "Bearer backend"),))
    world = World(site_of(backend)).will_answer(json_answer())
    secrets = [(b"authorization", b"Bearer client"), (b"cookie", b"a=b")]
    await run(world, legacy_post(*secrets), CALL)
    assert world.sent.header(b"authorization") == b"Bearer backend"
    assert world.sent.header(b"cookie") is None


@proves("FWD-3")
async def test_forwarded_headers_are_believed_of_trusted_proxies_only() -> None:
    spoof = (b"x-forwarded-for", b"6.6.6.6")
    for proxies, told in (((), b"192.0.2.7"), (("192.0.2.0/24",), b"6.6.6.6, 192.0.2.7")):
        world = World(site_of(trusted_proxies=proxies)).will_answer(json_answer())
        await run(world, legacy_post(spoof), CALL)
        assert world.sent.header(b"x-forwarded-for") == told
