"""Aggregates only narrow: what their clients may not see they can't reach either, whichever way they ask for it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aggregates.targets import find_name
from gateway.policy.aggregates import Aggregate, Globs, Member
from gateway.protocol.splices import find
from tests.fakes import FakeAnswer, Sent
from tests.flow.scenes import error_of, run
from tests.flow.test_aggregates import Server, ask_modern, lists, modern, refusal, reply_of, result, world_of
from tests.requirements import proves

MEMBERS = (Member("docs", "docs"), Member("math", "math"))
NO_SECRETS = Aggregate("all", "/", MEMBERS, deny=Globs(resources=("docs__file:///secret*",), prompts=("docs__*",)))
DOCS: Server = lists(resources=[{"name": "s", "uri": "file:///secret"}], prompts=[{"name": "greet"}])


def nothing(_: Sent, message: dict[str, Any]) -> FakeAnswer:
    return refusal(message, -32601 if message["method"].endswith("list") else -32002)


@proves("AGG-7")
@pytest.mark.parametrize("uri", ["file:///secret", "file:///secret/unlisted", "docs+file:///secret"])
async def test_a_denied_resource_is_unknown_whether_it_is_listed_or_not(uri: str) -> None:
    world = world_of(NO_SECRETS, docs=DOCS, math=nothing)
    body = ask_modern("resources/read", uri=uri)
    client = await run(world, modern("resources/read", (b"mcp-name", uri.encode())), body)
    assert error_of(client)[3] == f"Unknown resource: {uri}"
    read = [sent.backend for sent in world.upstream.sent if json.loads(sent.body)["method"] == "resources/read"]
    assert "docs" not in read


async def test_a_resource_that_nobody_lists_is_read_from_whoever_may_have_it() -> None:
    world = world_of(NO_SECRETS, docs=DOCS, math=lists())
    client = await run(
        world,
        modern("resources/read", (b"mcp-name", b"file:///open")),
        ask_modern("resources/read", uri="file:///open"),
    )
    assert reply_of(client)["of"]["uri"] == "file:///open"


async def test_a_completion_may_be_asked_of_a_resource_that_is_no_template() -> None:
    world = world_of(NO_SECRETS, docs=lists(resources=[{"name": "a", "uri": "x://a"}]), math=lists())
    reference = {"type": "ref/resource", "uri": "x://a"}
    body = ask_modern("completion/complete", ref=reference, argument={"name": "n", "value": "v"})
    assert reply_of(await run(world, modern("completion/complete"), body))["of"]["ref"] == reference
    assert world.upstream.sent[-1].backend == "docs"


def page(scope: str, *names: str) -> Server:
    """A server that has tools, however few, and says for how long and for whom."""

    def answer(_: Sent, message: dict[str, Any]) -> FakeAnswer:
        tools = [{"name": name} for name in names]
        return result(message, {"tools": tools, "ttlMs": 60000, "cacheScope": scope, "resultType": "complete"})

    return answer


@pytest.mark.parametrize(
    ("docs", "math", "told"),
    [
        (page("public", "a"), page("public", "b"), (60000, "public")),
        (page("public", "a"), page("private"), (60000, "private")),  # another user may see more than nothing there
        (page("public", "a"), nothing, (60000, "public")),  # it has no tools at all, for nobody
        (nothing, nothing, (0, "public")),
    ],
)
async def test_a_list_is_for_all_only_if_every_member_says_so(
    docs: Server, math: Server, told: tuple[int, str]
) -> None:
    reply = reply_of(await run(world_of(docs=docs, math=math), modern("tools/list"), ask_modern("tools/list")))
    assert (reply["ttlMs"], reply["cacheScope"]) == told


texts = st.text(max_size=8) | st.sampled_from(["math__add", "name", '"', "\\", "é", "\u2028"])


@proves("AGG-7")
@given(texts, st.dictionaries(texts, texts | st.lists(texts, max_size=2), max_size=3), st.booleans())
def test_a_name_is_found_at_a_glance_where_an_exact_look_finds_it(name: str, arguments: Any, ascii_only: bool) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": arguments, "name": name}}
    body = json.dumps(message, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    span, shown = find_name(body, name, ("params", "name"))
    assert span == find(body, "params", "name")
    assert shown == name
