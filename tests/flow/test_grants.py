"""Who calls, and whether it may: on mounts and through aggregates, for calls, lists, streams and sessions."""

import json
from typing import Any

import msgspec
import pytest

from gateway.policy.admissions import Admission, Issuer
from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.grants import Audience, Grant, Grants
from gateway.policy.identities import Identity
from gateway.policy.rules import Rules
from gateway.protocol.credentials import CredentialHeaders, Credentials
from gateway.protocol.outcomes import Denied, Outcome
from gateway.protocol.sessions import Part
from tests.fakes import FakeAnswer, FakeClient, Sent, World
from tests.flow.scenes import JSON, error_of, request, run
from tests.flow.test_aggregates import (
    DOCS_PART,
    INITIALIZE,
    MATH_PART,
    Server,
    ask,
    ask_modern,
    introduces,
    legacy,
    lists,
    modern,
    reply_of,
    token_of,
    world_of,
)

ADA = Identity("https://login.example ada", frozenset({"devs"}), frozenset({"mcp"}))
BOB = Identity("https://login.example bob", frozenset({"ops"}), frozenset({"mcp"}))
ROOT = Identity(ADA.principal, frozenset({"devs", "ops"}), frozenset({"mcp"}))
"""The same person, with another token."""

TOKENS = {b"Bearer ada": ADA, b"Bearer bob": BOB, b"Bearer root": ROOT}

GRANTS = Grants(
    (
        Grant(Audience(groups=("devs",)), backends=("math",), allow=Rules(tools=("add", "sub"), resources=("pi://*",))),
        Grant(Audience(groups=("devs",)), backends=("math",), deny=Rules(tools=("sub",))),
        Grant(Audience(groups=("ops",)), allow=Rules(methods=("*",))),
    )
)
TOOLS = lists(
    tools=[{"name": "add"}, {"name": "sub"}, {"name": "div"}], resources=[{"uri": "pi://3"}, {"uri": "file:///etc"}]
)


class FakeGate:
    """`Gate`: knows two tokens."""

    def __init__(self) -> None:
        self.asked: list[Credentials] = []

    def recall(self, credentials: Credentials) -> Identity | None:
        return None

    async def identify(self, credentials: Credentials) -> Identity:
        self.asked.append(credentials)
        if (identity := TOKENS.get(credentials.authorization)) is None:
            raise Denied(Outcome.UNAUTHENTICATED, "who is it?", headers=((b"www-authenticate", b"Bearer"),))
        return identity


def gated(grants: Grants | None = GRANTS, aggregate: Aggregate | None = None, **servers: Server) -> World:
    """`world_of`, with a gate; `TOOLS` behind both mounts unless told otherwise."""
    every: dict[str, Server] = {"docs": TOOLS, "math": TOOLS, **servers}
    world = world_of(**every) if aggregate is None else world_of(aggregate, **every)
    site = msgspec.structs.replace(
        world.gateway.site,
        admission=Admission(
            issuers=(Issuer("https://login.example"),), headers=CredentialHeaders(api_key=b"x-api-key")
        ),
        grants=grants,
        public_url="https://mcp.example",
    )
    world.gateway.site = site
    world.gateway.gate = FakeGate()
    return world


def of(who: bytes) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + who)


def call_at(path: str, who: bytes, name: str) -> Any:
    inbound = modern("tools/call", (b"mcp-name", name.encode()), of(who))
    return msgspec.structs.replace(inbound, path=path), ask_modern("tools/call", name=name, arguments={})


class TestTheGate:
    async def test_whoever_is_not_known_is_refused_before_the_body_is_read(self) -> None:
        world = gated()
        client = FakeClient(unreadable=AssertionError("read"))  # type: ignore[arg-type]
        await run(world, modern("tools/list"), client=client)
        assert (client.status, client.header(b"www-authenticate")) == (401, b"Bearer")
        assert world.upstream.sent == []
        assert world.record.outcome is Outcome.UNAUTHENTICATED

    async def test_a_token_is_asked_of_for_the_mount_that_is_called_and_never_forwarded(self) -> None:
        world = gated(None)
        inbound, body = call_at("/math/mcp", b"ada", "add")
        inbound.headers.append((b"x-api-key", b"k"))
        client = await run(world, inbound, body)
        assert client.status == 200
        gate = world.gateway.gate
        assert isinstance(gate, FakeGate)
        assert [credentials.resource for credentials in gate.asked] == ["https://mcp.example/math/mcp"]
        assert world.sent.header(b"authorization") is None
        assert world.sent.header(b"x-api-key") is None

    async def test_preflights_are_answered_to_anybody(self) -> None:
        world = gated()
        client = await run(world, request("OPTIONS", path="/math/mcp"))
        assert client.status == 204

    async def test_a_session_is_its_principal_s_alone(self) -> None:
        world = gated(None)
        token = token_of(world, MATH_PART, principal=ADA.principal)
        mine = await run(world, legacy(token, "POST", of(b"ada")), ask("tools/call", name="math__add"))
        assert mine.status == 200
        other = await run(world, legacy(token, "POST", of(b"bob")), ask("tools/call", 2, name="math__add"))
        assert error_of(other)[:1] == (404,)

    async def test_a_cursor_is_its_principal_s_alone(self) -> None:
        many = lists(tools=[{"name": f"t{n}"} for n in range(1001)])
        world = gated(None, math=many)
        page = reply_of(await run(world, modern("tools/list", of(b"ada")), ask_modern("tools/list")))
        body = ask_modern("tools/list", cursor=page["nextCursor"])
        assert (await run(world, modern("tools/list", of(b"ada")), body)).status == 200
        other = await run(world, modern("tools/list", of(b"bob")), body)
        assert error_of(other)[2:] == (-32602, "`params.cursor` is none that this server gave for this list")


class TestMembers:
    BARE = Aggregate("all", "/", (Member("docs", "docs", True), Member("math", "math", True)))

    async def test_a_name_is_looked_up_in_what_this_token_may_see_and_not_in_what_another_did(self) -> None:
        world = gated(
            Grants(
                (Grant(Audience(groups=("devs",)), backends=("math",), allow=Rules(tools=("add",))), GRANTS.grants[2])
            ),
            self.BARE,
            docs=lists(),
        )
        await run(world, modern("tools/list", of(b"ada")), ask_modern("tools/list"))
        for who, status in ((b"ada", 400), (b"root", 200), (b"ada", 400)):
            inbound, body = call_at("/mcp", who, "div")
            assert (await run(world, inbound, body)).status == status

    async def test_a_further_page_is_of_what_this_token_may_see_though_the_first_was_another_s(self) -> None:
        many = lists(tools=[{"name": f"t{n}"} for n in range(1002)])
        grants = (
            Grant(Audience(groups=("devs",)), allow=Rules(tools=("t?", "t??", "t???", "t1000"))),
            GRANTS.grants[2],
        )
        for era in ("modern", "legacy"):
            world = gated(Grants(grants), docs=lists(), math=many)
            token = token_of(world, MATH_PART, DOCS_PART, principal=ADA.principal)
            shown = []
            cursor: dict[str, str] = {}
            for who in (b"root", b"ada"):
                if era == "modern":
                    inbound, body = modern("tools/list", of(who)), ask_modern("tools/list", **cursor)
                else:
                    inbound, body = legacy(token, "POST", of(who)), ask("tools/list", who.decode(), **cursor)
                page = reply_of(await run(world, inbound, body))
                shown.append([tool["name"] for tool in page["tools"]])
                cursor = {"cursor": page.get("nextCursor", "")}
            assert shown[1] == ["math__t1000"], era


class TestGrants:
    @pytest.mark.parametrize(
        ("path", "prefix"), [("/math/mcp", ""), ("/mcp", "math__")], ids=["at its mount", "through an aggregate"]
    )
    async def test_a_tool_is_called_by_whom_it_is_granted_to_whichever_way(self, path: str, prefix: str) -> None:
        statuses = {}
        for who, name in ((b"ada", "add"), (b"ada", "sub"), (b"ada", "div"), (b"bob", "sub")):
            world = gated()
            inbound, body = call_at(path, who, prefix + name)
            client = await run(world, inbound, body)
            statuses[who, name] = client.status
            if client.status != 200:
                assert error_of(client)[2:] == (-32602, f"Unknown tool: {prefix}{name}")
                assert world.upstream.sent == []
        assert statuses == {(b"ada", "add"): 200, (b"ada", "sub"): 400, (b"ada", "div"): 400, (b"bob", "sub"): 200}

    async def test_a_backend_at_which_nothing_is_granted_is_closed_at_its_mount_and_absent_elsewhere(self) -> None:
        world = gated()
        inbound, body = call_at("/docs/mcp", b"ada", "add")
        assert error_of(await run(world, inbound, body))[0] == 403
        inbound, body = call_at("/mcp", b"ada", "docs__add")
        assert error_of(await run(world, inbound, body))[3] == "Unknown tool: docs__add"
        assert world.upstream.sent == []

    async def test_at_an_aggregate_of_which_nothing_is_granted_nothing_is_served(self) -> None:
        world = gated(aggregate=Aggregate("all", "/", (Member("docs", "docs"),)))
        client = await run(world, modern("tools/list", of(b"ada")), ask_modern("tools/list"))
        assert error_of(client)[0] == 403

    @pytest.mark.parametrize("era", ["legacy", "modern"])
    async def test_lists_show_what_may_be_called_and_nothing_else(self, era: str) -> None:
        shown = {}
        for who in (b"ada", b"bob"):
            world = gated()
            for path in ("/math/mcp", "/mcp"):
                if era == "modern":
                    inbound = msgspec.structs.replace(modern("tools/list", of(who)), path=path)
                    client = await run(world, inbound, ask_modern("tools/list"))
                else:
                    mount = "/math" if path == "/math/mcp" else "/"
                    fields: dict[str, Any] = {"mount": mount, "principal": TOKENS[b"Bearer " + who].principal}
                    if mount == "/math":
                        fields |= {"address": "http://10.0.0.2:9000/mcp", "upstream_id": "m-1"}
                    token = token_of(world, *([] if mount == "/math" else [DOCS_PART, MATH_PART]), **fields)
                    inbound = msgspec.structs.replace(legacy(token, "POST", of(who)), path=path)
                    client = await run(world, inbound, ask("tools/list"))
                shown[who, path] = [tool["name"] for tool in reply_of(client)["tools"]]
        every = ["add", "sub", "div"]
        assert shown == {
            (b"ada", "/math/mcp"): ["add"],
            (b"ada", "/mcp"): ["math__add"],
            (b"bob", "/math/mcp"): every,
            (b"bob", "/mcp"): [f"docs__{name}" for name in every] + [f"math__{name}" for name in every],
        }

    async def test_a_filtered_list_is_private_and_never_given_to_another(self) -> None:
        def math(_: Sent, message: dict[str, Any]) -> FakeAnswer:
            content = {"tools": [{"name": "add"}, {"name": "sub"}], "ttlMs": 60000, "cacheScope": "public"}
            body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": content}).encode()
            return FakeAnswer(200, [JSON], body, whole=True)

        world = gated(math=math)
        inbound = msgspec.structs.replace(modern("tools/list", of(b"ada")), path="/math/mcp")
        first = reply_of(await run(world, inbound, ask_modern("tools/list")))
        assert ([tool["name"] for tool in first["tools"]], first["cacheScope"]) == (["add"], "private")
        inbound = msgspec.structs.replace(modern("tools/list", of(b"bob")), path="/math/mcp")
        second = reply_of(await run(world, inbound, ask_modern("tools/list")))
        assert [tool["name"] for tool in second["tools"]] == ["add", "sub"]
        inbound = msgspec.structs.replace(modern("tools/list", of(b"ada")), path="/math/mcp")
        third = reply_of(await run(world, inbound, ask_modern("tools/list")))
        assert [tool["name"] for tool in third["tools"]] == ["add"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (ask("resources/read", uri="file:///etc"), "Unknown resource: file:///etc"),
            (ask("resources/subscribe", uri="file:///etc"), "Unknown resource: file:///etc"),
            (ask("prompts/get", name="p"), "Unknown prompt: p"),
            (
                ask(
                    "completion/complete", ref={"type": "ref/prompt", "name": "p"}, argument={"name": "a", "value": ""}
                ),
                "Unknown prompt: p",
            ),
        ],
    )
    async def test_every_method_that_names_something_is_judged_by_that_name(self, body: bytes, message: str) -> None:
        world = gated()
        token = token_of(world, mount="/math", principal=ADA.principal)
        inbound = msgspec.structs.replace(legacy(token, "POST", of(b"ada")), path="/math/mcp")
        client = await run(world, inbound, body)
        assert error_of(client)[3] == message
        assert world.upstream.sent == []

    async def test_each_member_of_a_batch_is_judged(self) -> None:
        world = gated()
        token = token_of(world, mount="/math", principal=ADA.principal, version="2025-03-26")
        headers = [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", b"2025-03-26"), of(b"ada")]
        inbound = request("POST", JSON, *headers, path="/math/mcp")
        batch = b"[" + ask("tools/call", 1, name="add") + b"," + ask("tools/call", 2, name="sub") + b"]"
        client = await run(world, inbound, batch)
        assert error_of(client)[3] == "Unknown tool: sub"
        batch = b"[" + ask("tools/call", 1, name="add") + b"," + ask("tools/list", 2) + b"]"
        client = await run(world, inbound, batch)
        assert error_of(client)[3] == "ask for lists one at a time, not in a batch"
        assert world.upstream.sent == []

    async def test_a_session_is_begun_only_where_something_is_granted(self) -> None:
        world = gated(math=introduces(session=b"m-1"), docs=introduces(session=b"d-1"))
        client = await run(world, request("POST", JSON, of(b"ada"), path="/mcp"), INITIALIZE)
        assert client.status == 200
        assert {sent.backend for sent in world.upstream.sent} == {"math"}

    async def test_a_watched_resource_must_be_granted(self) -> None:
        world = gated()
        inbound = msgspec.structs.replace(modern("subscriptions/listen", of(b"ada")), path="/math/mcp")
        body = ask_modern("subscriptions/listen", notifications={"resourceSubscriptions": ["file:///etc"]})
        client = await run(world, inbound, body)
        assert error_of(client)[3] == "Unknown resource: file:///etc"
        assert world.upstream.sent == []

    async def test_an_answer_to_a_backend_that_was_never_granted_is_refused(self) -> None:
        world = gated()
        token = token_of(world, MATH_PART, Part("docs", "", "", "2025-11-25"), principal=ADA.principal)
        body = b'{"jsonrpc":"2.0","id":"docs:7","result":{}}'
        client = await run(world, legacy(token, "POST", of(b"ada")), body)
        assert client.status == 400
        assert world.upstream.sent == []

    async def test_who_lacks_only_a_scope_is_told_which_scopes_it_takes(self) -> None:
        writers = Audience(groups=("devs",), scopes=("math:write",))
        world = gated(Grants((*GRANTS.grants, Grant(writers, backends=("math",), allow=Rules(tools=("div",))))))
        inbound, body = call_at("/math/mcp", b"ada", "div")
        client = await run(world, inbound, body)
        assert error_of(client)[0] == 403
        challenge = client.header(b"www-authenticate") or b""
        assert b'error="insufficient_scope"' in challenge
        assert b'scope="math:write mcp"' in challenge
        assert b'resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/math/mcp"' in challenge

    async def test_where_nobody_gives_scopes_there_is_no_challenge(self) -> None:
        writers = Audience(groups=("devs",), scopes=("math:write",))
        world = gated(Grants((*GRANTS.grants, Grant(writers, backends=("math",), allow=Rules(tools=("div",))))))
        keys_alone = msgspec.structs.replace(world.gateway.site.admission, issuers=())
        world.gateway.site = msgspec.structs.replace(world.gateway.site, admission=keys_alone)
        inbound, body = call_at("/math/mcp", b"ada", "div")
        client = await run(world, inbound, body)
        assert error_of(client)[3] == "Unknown tool: div"
        assert client.header(b"www-authenticate") is None
