"""Aggregates: several backends that a client sees as one server."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.aggregates import subscriptions
from gateway.exchange import gatherings
from gateway.exchange.gatherings import decode_cursors
from gateway.exchange.healers import Healer
from gateway.exchange.sessions import digest_session
from gateway.flow import serve
from gateway.policy.aggregates import Aggregate, Globs, Member
from gateway.policy.backends import Backend, Timeouts
from gateway.policy.caches import CacheBounds
from gateway.policy.sites import compile_routes
from gateway.policy.streams import Bounds
from gateway.ports import Headers, Inbound
from gateway.protocol.changes import Change
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.sessions import PURPOSE, Part, Session, encode_session, parse_session
from gateway.protocol.versions import Era
from gateway.state.healings import MemoryHealings
from gateway.state.memory_marks import MemoryMarks
from gateway.state.wakes import Bells
from tests.fakes import BOUND_SECONDS, FakeAnswer, FakeClient, Sent, World, site_of
from tests.flow.scenes import (
    JSON,
    META,
    error_of,
    json_answer,
    legacy_post,
    let_others_run,
    request,
    run,
    running,
    sse_answer,
)

DOCS = Backend("docs", ("http://10.0.0.1:9000/mcp",), mount="/docs")
MATH = Backend("math", ("http://10.0.0.2:9000/mcp",), mount="/math")
ALL = Aggregate("all", "/", (Member("docs", "docs"), Member("math", "math")))

Server = Callable[[Sent, dict[str, Any]], FakeAnswer | Exception]


def world_of(aggregate: Aggregate = ALL, **servers: Server) -> World:
    """A gateway with that aggregate of `docs` and `math`; each answers as its server does."""
    site = msgspec.structs.replace(
        site_of(DOCS, MATH),
        routes=compile_routes((DOCS, MATH), (aggregate,)),
        aggregates={aggregate.name: aggregate},
    )
    world = World(site)
    world.upstream.respond = lambda sent: servers[sent.backend](sent, json.loads(sent.body or b"{}"))
    return world


def result(message: dict[str, Any], content: dict[str, Any], *headers: tuple[bytes, bytes]) -> FakeAnswer:
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": content}).encode()
    return json_answer(body, *headers)


def refusal(message: dict[str, Any], code: int, text: str = "no") -> FakeAnswer:
    error = {"code": code, "message": text}
    return json_answer(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode())


def lists(**of: list[dict[str, Any]]) -> Server:
    """A server that lists these: `tools`, `prompts`, `resources`, `resourceTemplates`."""
    keys = {"tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources"}
    keys["resources/templates/list"] = "resourceTemplates"

    def answer(_: Sent, message: dict[str, Any]) -> FakeAnswer:
        key = keys.get(message["method"])
        if key is None:
            return result(message, {"content": [], "of": message["params"]})
        return result(message, {key: of[key]}) if key in of else refusal(message, -32601)

    return answer


def away(_: Sent, __: dict[str, Any]) -> Exception:
    return Failed(Outcome.UNREACHABLE, "connection refused")


def modern(method: str, *headers: tuple[bytes, bytes]) -> Inbound:
    named = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", method.encode())]
    return request("POST", JSON, *named, *headers, path="/mcp")


def ask(method: str, request_id: object = 1, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()


def ask_modern(method: str, **params: Any) -> bytes:
    return ask(method, **params, _meta=META)


def token_of(world: World, *parts: Part, **changes: Any) -> str:
    fields: dict[str, Any] = {"mount": "/", "address": "", "upstream_id": "", "principal": "", "version": "2025-11-25"}
    return world.seals.seal(encode_session(Session(**{**fields, "parts": parts, **changes})), PURPOSE)


DOCS_PART = Part("docs", "http://10.0.0.1:9000/mcp", "d-1", "2025-11-25")
MATH_PART = Part("math", "http://10.0.0.2:9000/mcp", "m-1", "2025-11-25")


def legacy(token: str, method: str = "POST", *headers: tuple[bytes, bytes]) -> Inbound:
    if method == "POST":
        return legacy_post(*headers, token=token, path="/mcp")
    named: Headers = [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", b"2025-11-25")]
    return request(method, *named, *headers, path="/mcp")


def reply_of(client: FakeClient) -> Any:
    assert client.status == 200, client.body
    return json.loads(client.body)["result"]


class TestCalls:
    async def test_a_call_goes_to_the_backend_whose_prefix_its_tool_has_body_and_header_rewritten_together(
        self,
    ) -> None:
        world = world_of(math=lists(), docs=lists())
        inbound = modern("tools/call", (b"mcp-name", b"math__add"))
        client = await run(world, inbound, ask_modern("tools/call", name="math__add", arguments={"a": 1.0}))
        assert reply_of(client)["of"]["arguments"] == {"a": 1.0}
        assert world.sent.backend == "math"
        assert json.loads(world.sent.body)["params"]["name"] == "add"
        assert world.sent.header(b"mcp-name") == b"add"
        assert (world.record.mount, world.record.backend, world.record.name) == ("/", "math", "add")

    async def test_every_other_byte_of_the_body_stays_as_the_client_wrote_it(self) -> None:
        world = world_of(math=lists(), docs=lists())
        token = token_of(world, MATH_PART)
        body = (
            b'{ "jsonrpc":"2.0","id" : 1,"method":"tools/call","params":{"arguments":{"n":12345678901234567890.10,'
            b'"name":"math__x"}, "name" : "math__add" ,"_meta":{"progressToken":"t"}}}'
        )
        await run(world, legacy(token), body)
        assert world.sent.body == body.replace(b'"name" : "math__add"', b'"name" : "add"')

    async def test_a_name_that_no_header_can_hold_is_encoded(self) -> None:
        world = world_of(math=lists(), docs=lists())
        inbound = modern("prompts/get", (b"mcp-name", b"=?base64?bWF0aF9fc8O8w58=?="))
        await run(world, inbound, ask_modern("prompts/get", name="math__süß"))
        assert world.sent.header(b"mcp-name") == b"=?base64?c8O8w58=?="

    async def test_the_error_for_an_unknown_name_is_the_same_as_for_a_denied_one(self) -> None:
        aggregate = msgspec.structs.replace(ALL, deny=Globs(tools=("math__d*",)))
        errors = []
        for name in ("nobody__divide", "math__divide", "divide"):
            world = world_of(aggregate, math=lists(), docs=lists())
            client = await run(world, legacy(token_of(world, MATH_PART)), ask("tools/call", name=name))
            errors.append(error_of(client))
            assert world.record.outcome is Outcome.UNKNOWN_NAME
        assert errors == [
            (200, 1, -32602, "Unknown tool: nobody__divide"),
            (200, 1, -32602, "Unknown tool: math__divide"),
            (200, 1, -32602, "Unknown tool: divide"),
        ]

    async def test_a_modern_client_gets_400_for_an_unknown_name_and_404_for_an_unknown_method(self) -> None:
        world = world_of(math=lists(), docs=lists())
        inbound = modern("tools/call", (b"mcp-name", b"x__y"))
        client = await run(world, inbound, ask_modern("tools/call", name="x__y"))
        assert error_of(client) == (400, 1, -32602, "Unknown tool: x__y")
        for method in ("tools/fly", "ping", "resources/subscribe", "logging/setLevel"):  # all but one: not in its era
            client = await run(world, modern(method), ask_modern(method, uri="x://y"))
            assert error_of(client) == (404, 1, -32601, f"Method not found: {method}")

    async def test_a_shortened_name_is_found_in_what_its_backend_lists(self) -> None:
        long = "a_tool_with_a_name_that_is_so_long_that_it_has_to_be_cut"
        world = world_of(math=lists(tools=[{"name": long}]), docs=lists(tools=[]))
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        shown = listed["tools"][0]["name"]
        assert shown == "math__a_tool_with_a_name_that_is_so_lon_4413ff3c"
        world = world_of(math=lists(tools=[{"name": long}]), docs=lists(tools=[]))
        await run(
            world,
            modern("tools/call", (b"mcp-name", shown.encode())),
            ask_modern("tools/call", name=shown, arguments={}),
        )
        assert [sent.header(b"mcp-method") for sent in world.upstream.sent] == [
            b"tools/list",
            b"tools/list",
            b"tools/call",
        ]
        assert json.loads(world.upstream.sent[-1].body)["params"]["name"] == long

    async def test_without_prefixes_a_name_is_looked_up_once_and_then_remembered(self) -> None:
        bare = msgspec.structs.replace(ALL, members=(Member("docs", "docs", True), Member("math", "math", True)))
        world = world_of(bare, math=lists(tools=[{"name": "add"}]), docs=lists(tools=[{"name": "find"}]))
        token = token_of(world, DOCS_PART, MATH_PART)
        for number, (name, of) in enumerate((("add", "math"), ("find", "docs"), ("add", "math"))):
            await run(world, legacy(token), ask("tools/call", number, name=name))
            assert world.upstream.sent[-1].backend == of
        assert len(world.upstream.sent) == 2 + 3

    async def test_a_completion_goes_to_whose_prompt_it_is_about(self) -> None:
        world = world_of(math=lists(), docs=lists())
        body = ask(
            "completion/complete",
            ref={"type": "ref/prompt", "name": "docs__write"},
            argument={"name": "style", "value": "p"},
        )
        await run(world, legacy(token_of(world, DOCS_PART)), body)
        assert world.sent.backend == "docs"
        assert json.loads(world.sent.body)["params"]["ref"] == {"type": "ref/prompt", "name": "write"}

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (ask("tools/call"), "`params.name` must be a string"),
            (ask("tools/call", name=7), "`params.name` must be a string"),
            (ask("completion/complete", ref={"type": "ref/x"}), "`params.ref.type` must be ref/prompt or ref/resource"),
            (ask("tasks/get", taskId="nobody:1"), "`params.taskId` is no id that this server gave"),
            (ask("tasks/get", taskId="7"), "`params.taskId` is no id that this server gave"),
            (ask("tools/list", cursor="forged"), "`params.cursor` is none that this server gave for this list"),
            (ask("tools/list", cursor=7), "`params.cursor` must be a string, once"),
        ],
    )
    async def test_what_names_nothing_is_refused_and_says_how(self, body: bytes, message: str) -> None:
        world = world_of(math=lists(), docs=lists())
        client = await run(world, legacy(token_of(world, MATH_PART)), body)
        assert error_of(client)[2:] == (-32602, message)
        assert world.upstream.sent == []


class TestResources:
    async def test_a_resource_is_read_from_whoever_lists_it(self) -> None:
        world = world_of(math=lists(resources=[{"uri": "pi://3"}]), docs=lists(resources=[{"uri": "file:///a"}]))
        await run(world, legacy(token_of(world, DOCS_PART, MATH_PART)), ask("resources/read", uri="pi://3"))
        assert world.upstream.sent[-1].backend == "math"

    async def test_of_two_that_list_one_uri_each_gets_its_prefix(self) -> None:
        both = lists(resources=[{"uri": "file:///a"}])
        world = world_of(math=both, docs=both)
        token = token_of(world, DOCS_PART, MATH_PART)
        listed = reply_of(await run(world, legacy(token), ask("resources/list")))
        assert [item["uri"] for item in listed["resources"]] == ["docs+file:///a", "math+file:///a"]
        assert world.telemetry.collided == [("all", "resource", ("file:///a",))]
        await run(world, legacy(token), ask("resources/read", 2, uri="math+file:///a"))
        assert world.upstream.sent[-1].backend == "math"
        assert json.loads(world.upstream.sent[-1].body)["params"]["uri"] == "file:///a"

    async def test_a_resource_that_nobody_lists_is_whose_template_it_matches(self) -> None:
        world = world_of(
            math=lists(resources=[], resourceTemplates=[{"uriTemplate": "sum://{a}/{b}"}]),
            docs=lists(resources=[], resourceTemplates=[{"uriTemplate": "doc://{name}"}]),
        )
        await run(world, legacy(token_of(world, DOCS_PART, MATH_PART)), ask("resources/read", uri="sum://1/2"))
        assert world.upstream.sent[-1].backend == "math"

    async def test_else_it_is_read_from_the_first_that_has_it(self) -> None:
        def docs(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            return refusal(message, -32002, "Resource not found")

        def math(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            if message["method"] == "resources/read":
                return result(message, {"contents": [{"uri": "made://1", "text": "x"}]})
            return refusal(message, -32601)

        world = world_of(math=math, docs=docs)
        token = token_of(world, DOCS_PART, MATH_PART)
        client = await run(world, legacy(token), ask("resources/read", uri="made://1"))
        assert reply_of(client) == {"contents": [{"uri": "made://1", "text": "x"}]}
        world = world_of(math=docs, docs=docs)
        client = await run(world, legacy(token), ask("resources/read", uri="made://2"))
        assert error_of(client) == (200, 1, -32602, "Unknown resource: made://2")
        assert json.loads(client.body)["error"]["data"]["uri"] == "made://2"


class TestLists:
    async def test_lists_are_merged_in_the_order_of_the_configuration_and_items_untouched(self) -> None:
        tool = {
            "name": "add",
            "description": "näh",
            "inputSchema": {"type": "object", "x": 10**30},
            "y": {"name": "add"},
        }
        world = world_of(math=lists(tools=[tool, {"name": "sub"}]), docs=lists(tools=[{"name": "find"}]))
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert listed["tools"] == [{"name": "docs__find"}, {**tool, "name": "math__add"}, {"name": "math__sub"}]
        assert (listed["resultType"], listed["ttlMs"], listed["cacheScope"]) == ("complete", 0, "private")

    async def test_a_legacy_list_has_nothing_that_is_of_modern_ones(self) -> None:
        world = world_of(math=lists(tools=[{"name": "add"}]), docs=lists())
        client = await run(world, legacy(token_of(world, MATH_PART, DOCS_PART)), ask("tools/list"))
        assert reply_of(client) == {"tools": [{"name": "math__add"}]}

    async def test_a_backend_that_fails_is_left_out_and_named(self) -> None:
        world = world_of(math=away, docs=lists(tools=[{"name": "find"}]))
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert listed["tools"] == [{"name": "docs__find"}]
        assert listed["_meta"]["mcp-stateless-gateway/leftOut"] == {"math": "unreachable"}
        assert world.telemetry.left_out == [("all", "math", "unreachable")]

    async def test_a_backend_that_is_slow_is_left_out_after_the_deadline(self) -> None:
        quick = msgspec.structs.replace(ALL, deadline_seconds=0.01)
        slow = FakeAnswer(200, [(b"content-type", b"text/event-stream")], live=True)
        world = world_of(quick, math=lambda *_: slow, docs=lists(tools=[{"name": "find"}]))
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert listed["_meta"]["mcp-stateless-gateway/leftOut"] == {"math": "timed_out"}
        assert slow.closings == 1

    @pytest.mark.parametrize("content", [{}, {"tools": 7}, {"tools": [], "nextCursor": 7}])
    async def test_a_backend_whose_list_is_malformed_is_left_out(self, content: dict[str, Any]) -> None:
        world = world_of(math=lambda _, m: result(m, content), docs=lists(tools=[{"name": "find"}]))
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert listed["_meta"]["mcp-stateless-gateway/leftOut"] == {"math": "nonsense"}

    async def test_where_all_fail_the_client_is_told_that(self) -> None:
        world = world_of(math=away, docs=away)
        client = await run(world, modern("tools/list"), ask_modern("tools/list"))
        assert error_of(client) == (503, 1, -32603, "no server behind / can answer now")
        assert json.loads(client.body)["error"]["data"]["leftOut"] == {"docs": "unreachable", "math": "unreachable"}

    async def test_a_backend_of_the_other_era_is_left_out(self) -> None:
        world = world_of(math=lists(tools=[{"name": "add"}]), docs=lists())
        world.eras.known["docs", Era.MODERN] = False
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert listed["tools"] == [{"name": "math__add"}]
        assert {sent.backend for sent in world.upstream.sent} == {"math"}

    async def test_a_backend_s_pages_are_read_to_their_end(self) -> None:
        def paged(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            place = int(message["params"].get("cursor", "0"))
            more = {"nextCursor": str(place + 1)} if place < 3 else {}
            return result(message, {"tools": [{"name": f"t{place}"}], **more})

        world = world_of(math=paged, docs=lists())
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert [tool["name"] for tool in listed["tools"]] == ["math__t0", "math__t1", "math__t2", "math__t3"]
        assert "nextCursor" not in listed

    async def test_a_backend_that_repeats_a_cursor_is_asked_no_further_and_named(self) -> None:
        def endless(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            return result(message, {"tools": [{"name": "t"}], "nextCursor": "again"})

        world = world_of(math=endless, docs=lists())
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert [tool["name"] for tool in listed["tools"]] == ["math__t"]
        assert listed["_meta"]["mcp-stateless-gateway/leftOut"] == {"math": "cut_short"}

    async def test_a_backend_s_pages_may_be_as_large_together_as_one_answer_and_no_more(self) -> None:
        def vast(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            place = int(message["params"].get("cursor", "0"))
            return result(message, {"tools": [{"name": f"t{place}" * 100}], "nextCursor": str(place + 1)})

        world = world_of(math=vast, docs=lists())
        limits = msgspec.structs.replace(world.gateway.site.limits, answer_bytes=1000)
        world.gateway.site = msgspec.structs.replace(world.gateway.site, limits=limits)
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert len(listed["tools"]) == 5
        assert listed["_meta"]["mcp-stateless-gateway/leftOut"] == {"math": "cut_short"}

    async def test_a_list_of_ten_thousand_is_bounded_and_comes_in_pages_that_any_replica_continues(self) -> None:
        names = [{"name": f"t{number}"} for number in range(12_000)]
        server = lists(tools=names)
        seen: list[str] = []
        cursor: dict[str, str] = {}
        pages = 0
        while True:
            world = world_of(math=server, docs=lists(tools=[{"name": "find"}]))  # another replica each time
            page = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list", **cursor)))
            seen += [tool["name"] for tool in page["tools"]]
            pages += 1
            if "nextCursor" not in page:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert seen == ["docs__find", *(f"math__t{number}" for number in range(10_000))]
        assert pages == 11

    async def test_a_cursor_of_another_list_is_refused_and_one_whose_place_is_gone_says_to_begin_anew(self) -> None:
        many = lists(tools=[{"name": f"t{n}"} for n in range(1001)], prompts=[{"name": "p"}])
        world = world_of(math=many, docs=lists())
        page = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        cursor = page["nextCursor"]
        client = await run(world, modern("prompts/list"), ask_modern("prompts/list", cursor=cursor))
        assert error_of(client)[2:] == (-32602, "`params.cursor` is none that this server gave for this list")
        world = world_of(math=lists(tools=[{"name": "t0"}]), docs=lists())
        client = await run(world, modern("tools/list"), ask_modern("tools/list", cursor=cursor))
        assert error_of(client)[2:] == (-32602, "the list has changed: ask for it from its beginning")

    async def test_denied_things_are_not_listed(self) -> None:
        narrow = msgspec.structs.replace(
            ALL, allow=Globs(tools=("math__*", "docs__find")), deny=Globs(tools=("*__sub",))
        )
        world = world_of(
            narrow,
            math=lists(tools=[{"name": "add"}, {"name": "sub"}]),
            docs=lists(tools=[{"name": "find"}, {"name": "drop"}]),
        )
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert [tool["name"] for tool in listed["tools"]] == ["docs__find", "math__add"]


def introduces(**more: Any) -> Server:
    def answer(_: Sent, message: dict[str, Any]) -> FakeAnswer:
        if message["method"] == "server/discover":
            return result(message, {"supportedVersions": ["2026-07-28"], "capabilities": {}, **more})
        version = more.pop("version", message["params"]["protocolVersion"])
        session = more.pop("session", None)
        headers = [(b"mcp-session-id", session)] if session else []
        return result(message, {"protocolVersion": version, "capabilities": {}, **more}, *headers)

    return answer


INITIALIZE = ask(
    "initialize", 0, protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "c", "version": "1"}
)


class TestHandshakes:
    async def test_discover_says_what_all_can_together(self) -> None:
        world = world_of(
            math=introduces(capabilities={"tools": {"listChanged": True}}, instructions="Adds.", ttlMs=5000),
            docs=introduces(capabilities={"tools": {}, "resources": {"subscribe": True}}, ttlMs=0),
        )
        told = reply_of(await run(world, modern("server/discover"), ask_modern("server/discover")))
        assert told["capabilities"] == {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
        assert told["instructions"] == "# math\n\nAdds."
        assert told["supportedVersions"] == ["2026-07-28"]
        assert (told["ttlMs"], told["cacheScope"]) == (5000, "private")

    async def test_initialize_begins_a_session_at_each_backend_and_one_token_names_them_all(self) -> None:
        world = world_of(
            math=introduces(session=b"m-1", version="2025-06-18"), docs=introduces(capabilities={"prompts": {}})
        )
        client = await run(world, request("POST", JSON, path="/mcp"), INITIALIZE)
        told = reply_of(client)
        assert told["protocolVersion"] == "2025-11-25"
        assert told["serverInfo"]["name"] == "mcp-stateless-gateway"
        assert told["capabilities"] == {"prompts": {}}
        token = client.header(b"mcp-session-id")
        assert token is not None
        session = parse_session(world.seals.open(token.decode(), PURPOSE) or b"")
        assert session is not None
        assert (session.mount, session.version, session.client_name) == ("/", "2025-11-25", "c")
        assert session.parts == (
            Part("docs", "", "", "2025-11-25"),
            Part("math", "http://10.0.0.2:9000/mcp", "m-1", "2025-06-18"),
        )

    async def test_each_backend_is_spoken_to_in_its_own_session_and_version(self) -> None:
        world = world_of(math=lists(), docs=lists())
        part = msgspec.structs.replace(MATH_PART, version="2025-06-18")
        await run(world, legacy(token_of(world, DOCS_PART, part)), ask("tools/call", name="math__add"))
        assert world.sent.header(b"mcp-session-id") == b"m-1"
        assert world.sent.header(b"mcp-protocol-version") == b"2025-06-18"
        assert world.sent.address == "http://10.0.0.2:9000/mcp"

    async def test_a_backend_that_is_away_at_initialize_is_left_out_and_named(self) -> None:
        world = world_of(math=introduces(session=b"m-1"), docs=away)
        told = reply_of(await run(world, request("POST", JSON, path="/mcp"), INITIALIZE))
        assert told["_meta"]["mcp-stateless-gateway/leftOut"] == {"docs": "unreachable"}

    async def test_a_session_of_another_mount_or_a_forged_one_is_unknown(self) -> None:
        world = world_of(math=lists(), docs=lists())
        for token in (token_of(world, MATH_PART, mount="/math"), token_of(world, MATH_PART)[:-4] + "AAAA"):
            client = await run(world, legacy(token), ask("tools/list"))
            assert error_of(client) == (404, 1, -32600, "Session not found")

    async def test_the_token_of_32_backends_fits_a_header_line(self) -> None:
        world = world_of(math=lists(), docs=lists())
        parts = [
            Part(f"backend-{n:02}", f"http://backend-{n:02}.tools.svc.cluster.local:9000/mcp", "0" * 32, "2025-11-25")
            for n in range(32)
        ]
        token = token_of(world, *parts, params=b"x" * 400, client_name="claude-ai")
        assert len(token) < 8000

    async def test_an_aggregate_of_one_era_refuses_the_other_s_clients(self) -> None:
        world = world_of(msgspec.structs.replace(ALL, era="legacy"), math=lists(), docs=lists())
        client = await run(world, modern("server/discover"), ask_modern("server/discover"))
        assert error_of(client)[:3] == (400, 1, -32600)
        assert world.record.outcome is Outcome.ERA_MISMATCH


class TestWhatAClientTells:
    async def test_ping_is_answered_at_once(self) -> None:
        world = world_of(math=lists(), docs=lists())
        assert reply_of(await run(world, legacy(token_of(world, MATH_PART)), ask("ping"))) == {}
        assert world.upstream.sent == []

    async def test_a_notification_goes_to_every_backend_of_the_session(self) -> None:
        def take(_: Sent, __: dict[str, Any]) -> FakeAnswer:
            return FakeAnswer(202, [], b"", whole=True)

        world = world_of(math=take, docs=take)
        body = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        client = await run(world, legacy(token_of(world, MATH_PART, DOCS_PART)), body)
        assert client.status == 202
        assert [(sent.backend, sent.body) for sent in world.upstream.sent] == [("docs", body), ("math", body)]

    async def test_the_log_level_is_set_at_all_that_log(self) -> None:
        world = world_of(math=lambda _, m: result(m, {}), docs=lambda _, m: refusal(m, -32601))
        token = token_of(world, MATH_PART, DOCS_PART)
        client = await run(world, legacy(token), ask("logging/setLevel", level="debug"))
        assert reply_of(client) == {}
        assert [json.loads(sent.body)["params"] for sent in world.upstream.sent] == [{"level": "debug"}] * 2
        world = world_of(math=lambda _, m: refusal(m, -32601), docs=lambda _, m: refusal(m, -32601))
        client = await run(world, legacy(token), ask("logging/setLevel", level="debug"))
        assert error_of(client)[2] == -32601

    async def test_the_end_of_the_session_is_told_to_every_backend(self) -> None:
        def take(_: Sent, __: dict[str, Any]) -> FakeAnswer:
            return FakeAnswer(200, [], b"", whole=True)

        world = world_of(math=take, docs=away)
        client = await run(world, legacy(token_of(world, MATH_PART, DOCS_PART), "DELETE"))
        assert client.status == 200
        assert {(sent.backend, sent.method) for sent in world.upstream.sent} == {
            ("docs", b"DELETE"),
            ("math", b"DELETE"),
        }

    async def test_a_session_that_all_have_forgotten_is_over(self) -> None:
        world = world_of(math=lambda *_: json_answer(b"", status=404), docs=lambda *_: json_answer(b"", status=404))
        token = token_of(world, MATH_PART, DOCS_PART)
        for body in (ask("tools/list"), ask("logging/setLevel", level="info"), INITIALIZED):
            client = await run(world, legacy(token), body)
            assert error_of(client)[0::3] == (404, "Session not found")
        one = msgspec.structs.replace(ALL, members=ALL.members[:1])
        world = world_of(one, docs=lambda *_: json_answer(b"", status=404))
        client = await run(world, legacy(token_of(world, DOCS_PART)), ask("tools/call", name="docs__find"))
        assert error_of(client)[0::3] == (404, "Session not found")

    async def test_a_session_that_its_client_ended_is_over_for_all_whoever_notices_first(self) -> None:
        def docs(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            return result(message, {"tools": []}) if "id" in message else FakeAnswer(202, [], b"", whole=True)

        world = world_of(math=lambda *_: json_answer(b"", status=404), docs=docs)
        world.gateway.healer = Healer(MemoryHealings())
        world.gateway.marks = MemoryMarks(Bounds(), lambda: 0.0, Bells())
        token = token_of(world, MATH_PART, DOCS_PART, params=PARAMS)
        await world.gateway.marks.mark_ended(digest_session(token), None)
        for body in (ask("tools/list"), ask("tools/call", name="math__add"), INITIALIZED):
            client = await run(world, legacy(token), body)
            assert error_of(client)[0::3] == (404, "Session not found")

    async def test_a_batch_is_refused(self) -> None:
        world = world_of(math=lists(), docs=lists())
        token = token_of(world, MATH_PART, version="2025-03-26")
        inbound = request(
            "POST",
            JSON,
            (b"mcp-session-id", token.encode()),
            (b"mcp-protocol-version", b"2025-03-26"),
            path="/mcp",
        )
        client = await run(world, inbound, b"[" + ask("ping") + b"," + ask("ping", 2) + b"]")
        assert error_of(client)[3] == "batches are not taken here: send one message at a time"


INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
ELICIT = b'data: {"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"_meta":{"progressToken":3},"message":"?"}}\n\n'


class TestWhatABackendAsks:
    async def test_its_request_s_id_says_whose_it_is_and_the_answer_finds_back_from_any_replica(self) -> None:
        final = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
        world = world_of(math=lambda *_: sse_answer(ELICIT, final), docs=lists())
        token = token_of(world, MATH_PART, DOCS_PART)
        client = await run(world, legacy(token), ask("tools/call", name="math__ask"))
        asked = json.loads(client.body.split(b"data: ")[1])
        assert asked["id"] == "math:7"
        assert asked["params"]["_meta"]["progressToken"] == "math:3"

        taken = FakeAnswer(202, [], b"", whole=True)
        other = world_of(math=lambda *_: taken, docs=lists())
        answer = b'{"jsonrpc":"2.0","id":"math:7","result":{"action":"accept"}}'
        client = await run(other, legacy(token), answer)
        assert client.status == 202
        assert other.sent.backend == "math"
        assert other.sent.body == b'{"jsonrpc":"2.0","id":7,"result":{"action":"accept"}}'

    async def test_a_client_s_progress_goes_to_the_backend_that_asked_for_it(self) -> None:
        other = world_of(math=lambda *_: FakeAnswer(202, [], b"", whole=True), docs=lists())
        body = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"math:3","progress":1}}'
        await run(other, legacy(token_of(other, MATH_PART, DOCS_PART)), body)
        assert [sent.backend for sent in other.upstream.sent] == ["math"]
        assert json.loads(other.sent.body)["params"]["progressToken"] == 3

    async def test_an_answer_to_nothing_that_was_asked_is_refused(self) -> None:
        world = world_of(math=lists(), docs=lists())
        for forged in (7, "7", "nobody:7", "math:x"):
            body = json.dumps({"jsonrpc": "2.0", "id": forged, "result": {}}).encode()
            client = await run(world, legacy(token_of(world, MATH_PART)), body)
            assert client.status == 400
        assert world.upstream.sent == []

    async def test_a_task_is_found_again_by_its_id(self) -> None:
        made = {"task": {"taskId": "t-1", "status": "working"}}
        world = world_of(math=lambda _, m: result(m, made), docs=lists())
        token = token_of(world, MATH_PART)
        shown = reply_of(await run(world, legacy(token), ask("tools/call", name="math__slow", task={})))
        assert shown["task"]["taskId"] == 'math:"t-1"'
        await run(world, legacy(token), ask("tasks/get", 2, taskId='math:"t-1"'))
        assert json.loads(world.upstream.sent[-1].body)["params"]["taskId"] == "t-1"


class TestCaching:
    async def test_a_merged_list_is_kept_as_long_as_its_shortest_lived_part_and_told_how_long_that_still_is(
        self,
    ) -> None:
        asked: list[str] = []

        def keeps(ttl_ms: int) -> Server:
            def answer(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
                asked.append(sent.backend)
                return result(message, {"tools": [{"name": "t"}], "ttlMs": ttl_ms, "cacheScope": "private"})

            return answer

        world = world_of(math=keeps(9000), docs=keeps(5000))
        first = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        world.now += 2
        second = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert (first["ttlMs"], second["ttlMs"]) == (5000, 3000)
        assert second["tools"] == first["tools"]
        assert asked == ["docs", "math"]
        world.now += 3
        await run(world, modern("tools/list"), ask_modern("tools/list"))
        assert asked == ["docs", "math", "docs"]  # the other's own list is still good

    async def test_further_pages_are_of_the_list_that_the_first_was_of_as_long_as_that_is_new(self) -> None:
        def keeps(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            asked.append(message["params"].get("cursor"))
            return result(message, {"tools": [{"name": f"t{n}"} for n in range(1001)], "ttlMs": 9000})

        asked: list[None] = []
        world = world_of(math=keeps, docs=lists())
        world.caches.bounds = CacheBounds(max_bytes=1)  # nothing is kept: a page that is not remembered is asked for
        first = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        for elapsed, asked_in_all, left_ms in ((4.5, 1, 4500), (0.5, 2, 9000)):
            world.now += elapsed
            body = ask_modern("tools/list", cursor=first["nextCursor"])
            rest = reply_of(await run(world, modern("tools/list"), body))
            assert [tool["name"] for tool in rest["tools"]] == ["math__t1000"]
            assert (len(asked), rest["ttlMs"]) == (asked_in_all, left_ms)

    async def test_further_pages_are_of_no_older_list_than_the_first(self) -> None:
        named, numbers = ["old"], range(1001)

        def math(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            return result(message, {"tools": [{"name": f"{named[-1]}{n}" if n > 999 else f"t{n}"} for n in numbers]})

        replicas = [world_of(math=math, docs=lists()) for _ in range(2)]
        await run(replicas[1], modern("tools/list"), ask_modern("tools/list"))
        named.append("new")
        first = reply_of(await run(replicas[0], modern("tools/list"), ask_modern("tools/list")))
        body = ask_modern("tools/list", cursor=first["nextCursor"])
        rest = reply_of(await run(replicas[1], modern("tools/list"), body))
        assert rest["tools"] == [{"name": "math__new1000"}]

    async def test_who_asks_with_other_credentials_gets_no_page_of_another_s_list(self) -> None:
        def of_whom(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
            prefix = (sent.header(b"x-api-key") or b"").decode()
            return result(message, {"tools": [{"name": f"{prefix}{n}"} for n in range(1001)]})

        world = world_of(math=of_whom, docs=lists())
        cursors = {}
        for key in (b"a", b"b"):
            page = reply_of(await run(world, modern("tools/list", (b"x-api-key", key)), ask_modern("tools/list")))
            cursors[key] = page["nextCursor"]
        for key in (b"a", b"b"):
            body = ask_modern("tools/list", cursor=cursors[key])
            page = reply_of(await run(world, modern("tools/list", (b"x-api-key", key)), body))
            assert [tool["name"] for tool in page["tools"]] == [f"math__{key.decode()}1000"]

    async def test_a_change_at_one_backend_drops_the_merged_list(self) -> None:
        names = ["t"]

        def answer(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            return result(message, {"tools": [{"name": name} for name in names], "ttlMs": 5000})

        world = world_of(math=answer, docs=lists(tools=[{"name": "find"}]))
        await run(world, modern("tools/list"), ask_modern("tools/list"))
        names.append("u")
        world.caches.drop("math", Change.TOOLS)
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert [tool["name"] for tool in listed["tools"]] == ["docs__find", "math__t", "math__u"]

    async def test_a_list_that_lacks_a_backend_is_kept_for_seconds_and_for_its_client_alone(self) -> None:
        def answer(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            return result(message, {"tools": [{"name": "t"}], "ttlMs": 60_000, "cacheScope": "public"})

        world = world_of(math=answer, docs=away)
        listed = reply_of(await run(world, modern("tools/list"), ask_modern("tools/list")))
        assert (listed["ttlMs"], listed["cacheScope"]) == (5000, "private")
        before = len(world.upstream.sent)
        for elapsed, asked in ((4.9, []), (0.1, ["docs"])):  # `math` keeps its own word
            world.now += elapsed
            await run(world, modern("tools/list"), ask_modern("tools/list"))
            assert [sent.backend for sent in world.upstream.sent[before:]] == asked

    async def test_so_is_what_all_can_together_where_one_doesn_t_say(self) -> None:
        world = world_of(math=introduces(ttlMs=60_000, cacheScope="public"), docs=away)
        told = reply_of(await run(world, modern("server/discover"), ask_modern("server/discover")))
        assert (told["ttlMs"], told["cacheScope"]) == (5000, "private")
        await run(world, modern("server/discover"), ask_modern("server/discover"))
        assert len(world.upstream.sent) == 2


class TestParts:
    async def test_one_backend_s_forgotten_session_is_healed_and_the_others_don_t_notice(self) -> None:
        known = {"m-1": False, "m-2": True}

        def math(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
            if message["method"] == "initialize":
                return result(
                    message, {"protocolVersion": "2025-11-25", "capabilities": {}}, (b"mcp-session-id", b"m-2")
                )
            if message["method"] == "notifications/initialized":
                return FakeAnswer(202, [], b"", whole=True)
            session = (sent.header(b"mcp-session-id") or b"").decode()
            return result(message, {"content": []}) if known[session] else json_answer(b"", status=404)

        world = world_of(math=math, docs=lists())
        world.gateway.healer = Healer(MemoryHealings())
        token = token_of(world, MATH_PART, DOCS_PART, params=PARAMS)
        for number in range(2):
            client = await run(world, legacy(token), ask("tools/call", number, name="math__add"))
            assert reply_of(client) == {"content": []}
        assert world.telemetry.healed == ["math"]
        assert {sent.backend for sent in world.upstream.sent} == {"math"}

    async def test_one_that_can_t_be_healed_is_that_call_s_error_and_not_the_session_s_end(self) -> None:
        world = world_of(math=lambda *_: json_answer(b"", status=404), docs=lists())
        client = await run(world, legacy(token_of(world, MATH_PART)), ask("tools/call", name="math__add"))
        message = "math has forgotten this session: begin a new one to use it again"
        assert error_of(client) == (200, 1, -32600, message)

    async def test_a_backend_that_was_away_joins_when_it_is_first_needed_in_its_own_version(self) -> None:
        begun: list[bytes] = []

        def docs(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
            if message["method"] == "initialize":
                begun.append(sent.body)
                return result(
                    message, {"protocolVersion": "2025-06-18", "capabilities": {}}, (b"mcp-session-id", b"d-9")
                )
            if message["method"] == "notifications/initialized":
                return FakeAnswer(202, [], b"", whole=True)
            assert (sent.header(b"mcp-session-id"), sent.header(b"mcp-protocol-version")) == (b"d-9", b"2025-06-18")
            return result(message, {"content": []})

        healings = MemoryHealings()
        token = ""
        for number in range(3):
            world = world_of(math=lists(), docs=docs)  # another replica each time, with the same memory
            world.gateway.healer = Healer(healings)
            token = token or token_of(world, MATH_PART, params=PARAMS)
            client = await run(world, legacy(token), ask("tools/call", number, name="docs__find"))
            assert reply_of(client) == {"content": []}
        assert len(begun) == 1
        assert json.loads(begun[0])["params"] == json.loads(PARAMS)

    async def test_a_backend_without_sessions_joins_too(self) -> None:
        def docs(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            if message["method"] == "initialize":
                return result(message, {"protocolVersion": "2025-11-25", "capabilities": {}})
            if message["method"] == "notifications/initialized":
                return FakeAnswer(202, [], b"", whole=True)
            return result(message, {"content": []})

        world = world_of(math=lists(), docs=docs)
        world.gateway.healer = Healer(MemoryHealings())
        token = token_of(world, MATH_PART, params=PARAMS)
        for number in range(2):
            client = await run(world, legacy(token), ask("tools/call", number, name="docs__find"))
            assert reply_of(client) == {"content": []}
        assert sum(b'"initialize"' in sent.body for sent in world.upstream.sent) == 1

    async def test_one_that_is_still_away_is_an_error_of_that_call_alone(self) -> None:
        world = world_of(math=lists(), docs=away)
        world.gateway.healer = Healer(MemoryHealings())
        token = token_of(world, MATH_PART, params=PARAMS)
        client = await run(world, legacy(token), ask("tools/call", name="docs__find"))
        assert client.status == 200
        assert json.loads(client.body)["error"]["code"] == -32600


PARAMS = b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}'


NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%b"}}\n\n'


def refused(*_: object) -> FakeAnswer:
    return FakeAnswer(405, [], b"", whole=True)


class TestStreams:
    async def test_the_streams_of_all_backends_are_one_and_say_whose_what_is(self) -> None:
        docs, math = sse_answer(live=True), sse_answer(live=True)
        world = world_of(math=lambda *_: math, docs=lambda *_: docs)
        token = token_of(world, MATH_PART, DOCS_PART)
        client = FakeClient()
        async with running(world, legacy(token, "GET"), client):
            docs.push(NOTE % b"one")
            math.push(ELICIT)
            await client.until(lambda: client.body.count(b"\n\n") == 2)
            client.leave()
            await docs.closed.wait()
            await math.closed.wait()
        assert client.header(b"content-type") == b"text/event-stream"
        assert b'"data":"one"' in client.body
        assert b'"id":"math:7"' in client.body
        assert [(sent.backend, sent.header(b"mcp-session-id")) for sent in world.upstream.sent] == [
            ("docs", b"d-1"),
            ("math", b"m-1"),
        ]

    async def test_a_backend_without_such_a_stream_is_no_hindrance_and_where_none_has_one_it_is_405(self) -> None:
        math = sse_answer(NOTE % b"one", live=True)
        world = world_of(math=lambda *_: math, docs=refused)
        token = token_of(world, MATH_PART, DOCS_PART)
        client = FakeClient()
        async with running(world, legacy(token, "GET"), client):
            await client.until(lambda: b"one" in client.body)
            client.leave()
            await math.closed.wait()
        world = world_of(math=refused, docs=refused)
        client = await run(world, legacy(token, "GET"))
        assert (client.status, client.header(b"allow")) == (405, b"POST, DELETE, OPTIONS")

    async def test_the_event_ids_say_how_far_each_backend_s_stream_has_come(self) -> None:
        docs, math = sse_answer(b"id: d-5\n" + NOTE % b"one", live=True), sse_answer(live=True)
        world = world_of(math=lambda *_: math, docs=lambda *_: docs)
        token = token_of(world, MATH_PART, DOCS_PART)
        client = FakeClient()
        async with running(world, legacy(token, "GET"), client):
            await client.until(lambda: b"one" in client.body)
            math.push(b"id: m-3\n" + NOTE % b"two")
            await client.until(lambda: b"two" in client.body)
            client.leave()
            await math.closed.wait()
        last = client.body.rpartition(b"id: ")[2].split(b"\n")[0]
        assert decode_cursors(last) == {"docs": b"d-5", "math": b"m-3"}
        docs, math = sse_answer(live=True), sse_answer(live=True)
        client = FakeClient()
        async with running(world, legacy(token, "GET", (b"last-event-id", last)), client):
            await client.until(lambda: client.started)
            client.leave()
            await math.closed.wait()
        assert [sent.header(b"last-event-id") for sent in world.upstream.sent[2:]] == [b"d-5", b"m-3"]

    async def test_a_backend_that_comes_back_is_opened_again_and_its_lists_are_said_to_have_changed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gatherings, "PAUSES_SECONDS", (0.0,))
        answers: list[FakeAnswer | Exception] = [away(*NOTHING), sse_answer(live=True)]
        world = world_of(math=lambda *_: answers.pop(0), docs=refused)
        last = answers[-1]
        client = FakeClient()
        async with running(world, legacy(token_of(world, MATH_PART, DOCS_PART), "GET"), client):
            await client.until(lambda: client.body.count(b"list_changed") == 3)
            client.leave()
            assert isinstance(last, FakeAnswer)
            await last.closed.wait()

    async def test_one_that_restarted_so_quickly_that_nobody_missed_it_is_said_to_have_changed_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gatherings, "PAUSES_SECONDS", (0.0,))
        cut, last = sse_answer(NOTE % b"before"), sse_answer(live=True)
        sessions = {b"m-1": [cut, sse_answer(NOTE % b"again"), json_answer(b"", status=404)], b"m-2": [last]}

        def math(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
            if not message:
                return sessions[sent.header(b"mcp-session-id") or b""].pop(0)
            if message["method"] == "initialize":
                told = {"protocolVersion": "2025-11-25", "capabilities": {}}
                return result(message, told, (b"mcp-session-id", b"m-2"))
            return FakeAnswer(202, [], b"", whole=True)

        world = world_of(math=math, docs=refused)
        world.gateway.healer = Healer(MemoryHealings())
        client = FakeClient()
        async with running(world, legacy(token_of(world, MATH_PART, DOCS_PART, params=PARAMS), "GET"), client):
            await client.until(lambda: client.body.count(b"list_changed") == 3)
            assert client.body.index(b"again") < client.body.index(b"list_changed")
            client.leave()
            await last.closed.wait()

    async def test_what_a_backend_says_has_changed_there_is_shown_to_nobody_as_it_was(self) -> None:
        names, stream = ["t"], sse_answer(live=True)

        def math(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            tools = [{"name": name} for name in names]
            return result(message, {"tools": tools, "ttlMs": 60_000}) if message else stream

        world = world_of(math=math, docs=lambda _, m: refusal(m, -32601) if m else refused())
        client = FakeClient()
        async with running(world, legacy(token_of(world, MATH_PART, DOCS_PART), "GET"), client):
            await run_beside(world, modern("tools/list"), ask_modern("tools/list"))
            names.append("u")
            stream.push(b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n')
            await client.until(lambda: b"list_changed" in client.body)
            listed = reply_of(await run_beside(world, modern("tools/list"), ask_modern("tools/list")))
            assert listed["tools"] == [{"name": "math__t"}, {"name": "math__u"}]
            client.leave()
            await stream.closed.wait()

    async def test_a_changed_resource_is_told_by_each_name_under_which_it_may_be_watched(self) -> None:
        updated = b'data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}\n\n'
        math = sse_answer(updated, live=True)
        world = world_of(math=lambda *_: math, docs=refused)
        client = FakeClient()
        async with running(world, legacy(token_of(world, MATH_PART, DOCS_PART), "GET"), client):
            await client.until(lambda: client.body.count(b"updated") == 2)
            client.leave()
            await math.closed.wait()
        assert b'"uri":"file:///a"' in client.body
        assert b'"uri":"math+file:///a"' in client.body

    async def test_without_a_log_the_rest_of_a_call_is_asked_of_the_backend_whose_event_id_it_is(self) -> None:
        world = world_of(
            math=lambda *_: sse_answer(b"id: m-3\n" + NOTE % b"one", Failed(Outcome.BROKEN, "reset")), docs=lists()
        )
        token = token_of(world, MATH_PART, DOCS_PART)
        client = await run(world, legacy(token), ask("tools/call", name="math__slow"))
        event_id = client.body.partition(b"id: ")[2].split(b"\n")[0]
        assert event_id == b"math:m-3"
        world = world_of(math=lambda *_: sse_answer(NOTE % b"two"), docs=lists())
        await run(world, legacy(token, "GET", (b"last-event-id", event_id)))
        assert (world.sent.backend, world.sent.header(b"last-event-id")) == ("math", b"m-3")


NOTHING: tuple[Sent, dict[str, Any]] = (Sent("", "", b"", [], b"", Timeouts()), {})


class TestListening:
    """2026-07-28: `subscriptions/listen`."""

    @staticmethod
    def acks(**honoured: Any) -> FakeAnswer:
        params = {"_meta": {SUBSCRIPTION: "gateway-listen"}, "notifications": honoured}
        ack = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}
        return sse_answer(b"data: " + json.dumps(ack).encode() + b"\n\n", live=True)

    @staticmethod
    def told(client: FakeClient) -> list[Any]:
        return [json.loads(part.split(b"\n")[0]) for part in client.body.split(b"data: ")[1:]]

    @staticmethod
    def listening(**notifications: Any) -> FakeClient:
        return FakeClient(ask_modern("subscriptions/listen", notifications=notifications))

    async def test_what_each_backend_tells_comes_on_one_stream_under_the_client_s_own_id(self) -> None:
        docs, math = self.acks(toolsListChanged=True), self.acks(toolsListChanged=True, promptsListChanged=True)
        world = world_of(math=lambda *_: math, docs=lambda *_: docs)
        client = self.listening(toolsListChanged=True, promptsListChanged=True)
        async with running(world, modern("subscriptions/listen"), client):
            await client.until(lambda: client.body)
            math.push(TOOLS_CHANGED)
            await client.until(lambda: client.body.count(b"data:") == 2)
            await leave(world, client)
        assert self.told(client) == [
            {
                "jsonrpc": "2.0",
                "method": "notifications/subscriptions/acknowledged",
                "params": {
                    "_meta": {SUBSCRIPTION: 1},
                    "notifications": {"toolsListChanged": True, "promptsListChanged": True},
                },
            },
            {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {SUBSCRIPTION: 1}}},
        ]

    async def test_a_resource_is_watched_at_its_backend_and_told_of_by_the_name_the_client_knows(self) -> None:
        both = lists(resources=[{"uri": "file:///a"}])
        stream = self.acks(resourceSubscriptions=["file:///a"])

        def math(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
            return stream if message["method"] == "subscriptions/listen" else both(sent, message)  # type: ignore[return-value]

        def docs(sent: Sent, message: dict[str, Any]) -> FakeAnswer:
            return self.acks() if message["method"] == "subscriptions/listen" else both(sent, message)  # type: ignore[return-value]

        world = world_of(math=math, docs=docs)
        client = self.listening(resourceSubscriptions=["math+file:///a"])
        async with running(world, modern("subscriptions/listen"), client):
            await client.until(lambda: client.body)
            stream.push(
                b'data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}\n\n'
            )
            await client.until(lambda: client.body.count(b"data:") == 2)
            await leave(world, client)
        acknowledged, updated = self.told(client)
        assert acknowledged["params"]["notifications"] == {"resourceSubscriptions": ["math+file:///a"]}
        assert updated["params"] == {"_meta": {SUBSCRIPTION: 1}, "uri": "math+file:///a"}
        asked = {
            sent.backend: json.loads(sent.body)["params"]["notifications"].get("resourceSubscriptions")
            for sent in world.upstream.sent
            if sent.header(b"mcp-method") == b"subscriptions/listen"
        }
        assert asked == {"docs": None, "math": ["file:///a"]}

    async def test_a_backend_that_was_away_is_listened_to_once_it_is_back_and_said_to_have_changed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "PAUSES_SECONDS", (0.0,))
        answers: list[FakeAnswer | Exception] = [away(*NOTHING), self.acks(toolsListChanged=True)]
        docs = self.acks(toolsListChanged=True)
        world = world_of(math=lambda *_: answers.pop(0), docs=lambda *_: docs)
        client = self.listening(toolsListChanged=True)
        async with running(world, modern("subscriptions/listen"), client):
            await client.until(lambda: b"notifications/tools/list_changed" in client.body)
            await leave(world, client)
        assert client.body.count(b"list_changed") == 1

    async def test_who_is_told_that_one_is_back_is_not_shown_what_was_kept_without_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "PAUSES_SECONDS", (0.0,))
        streams = {"math": self.acks(toolsListChanged=True), "docs": self.acks(toolsListChanged=True)}
        is_back = False

        def server(sent: Sent, message: dict[str, Any]) -> FakeAnswer | Exception:
            if sent.backend == "math" and not is_back:
                return away(sent, message)
            if message["method"] == "subscriptions/listen":
                return streams[sent.backend]
            return result(message, {"tools": [{"name": "t"}], "ttlMs": 60_000})

        world = world_of(math=server, docs=server)
        client = self.listening(toolsListChanged=True)
        async with running(world, modern("subscriptions/listen"), client):
            await client.until(lambda: client.body)
            for shown in ([{"name": "docs__t"}], [{"name": "docs__t"}, {"name": "math__t"}]):
                listed = reply_of(await run_beside(world, modern("tools/list"), ask_modern("tools/list")))
                assert listed["tools"] == shown
                is_back = True
                await client.until(lambda: b"notifications/tools/list_changed" in client.body)
            await leave(world, client)

    async def test_a_draining_worker_ends_the_stream_in_good_order(self) -> None:
        math = self.acks(toolsListChanged=True)
        world = world_of(math=lambda *_: math, docs=lambda *_: self.acks())
        client = self.listening(toolsListChanged=True)
        async with running(world, modern("subscriptions/listen"), client):
            await client.until(lambda: client.body)
            world.standing.drain()
            await client.until(lambda: client.has_ended)
            await world.gateway.hubs.close()
        assert self.told(client)[-1]["result"] == {"resultType": "complete", "_meta": {SUBSCRIPTION: 1}}

    async def test_a_request_that_says_nothing_of_what_is_to_be_told_is_refused(self) -> None:
        world = world_of(math=lists(), docs=lists())
        client = await run(world, modern("subscriptions/listen"), ask_modern("subscriptions/listen"))
        assert error_of(client) == (400, 1, -32602, "`params.notifications` must say what is to be told")


async def run_beside(world: World, inbound: Inbound, body: bytes) -> FakeClient:
    """A whole exchange while another is under way."""
    client = FakeClient(body)
    async with asyncio.timeout(BOUND_SECONDS):
        await serve(world.gateway, inbound, client)
    return client


async def leave(world: World, client: FakeClient) -> None:
    """The client leaves, and the hubs don't wait for another."""
    client.leave()
    await let_others_run()
    await world.gateway.hubs.close()


SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
TOOLS_CHANGED = (
    b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed",'
    b'"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"gateway-listen"}}}\n\n'
)
