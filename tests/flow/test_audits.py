"""What the audit log is told: every message of a client, whatever became of it, and of arguments only what may be shown."""

import json
from typing import Any

import msgspec
import pytest

from gateway.policy.audits import ArgumentRule, Auditing
from gateway.policy.globs import compile_globs
from gateway.ports import AuditEntry
from gateway.state.seals import Keyring
from tests.fakes import World, site_of
from tests.flow.scenes import CALL, RESULT, error_of, json_answer, legacy_post, request, run, token_of

SECRET = "correct horse battery staple"


class FakeAudit:
    """`AuditLog`: keeps everything."""

    def __init__(self) -> None:
        self.is_accepting = True
        self.entries: list[AuditEntry] = []
        self.digest = Keyring([b"k" * 32]).digest

    def tell(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


def make(*, is_required: bool = False) -> tuple[World, FakeAudit]:
    rule = ArgumentRule(compile_globs(("get_*",)), frozenset({"city", "more"}))
    site = msgspec.structs.replace(site_of(), audit=Auditing("stdout", is_required, (rule,)))
    world, audit = World(site), FakeAudit()
    world.gateway.audit = audit
    return world, audit


def call(name: str, arguments: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    return json.dumps(message).encode()


async def send(body: bytes, answer: bytes = RESULT) -> AuditEntry:
    world, audit = make()
    await run(world.will_answer(json_answer(answer)), legacy_post(token=token_of(world)), body)
    (entry,) = audit.entries
    return entry


async def test_a_call_is_told_with_its_caller_backend_and_outcome() -> None:
    entry = await send(call("add", {"a": 1}))
    assert (entry.method, entry.name, entry.mount, entry.backend) == ("tools/call", "add", "/echo", "echo")
    assert (entry.principal, entry.client, entry.outcome, entry.status) == ("anonymous", "192.0.2.7", "ok", 200)
    assert len(entry.session) == 8
    assert entry.request_id


async def test_arguments_are_told_as_a_keyed_digest_alone() -> None:
    entry = await send(call("add", {"password": SECRET, "a": 1}))
    assert SECRET not in repr(entry)
    assert entry.arguments == {}
    assert entry.arguments_hmac == Keyring([b"k" * 32]).digest(b'{"a":1,"password":"%b"}' % SECRET.encode())


async def test_only_what_is_listed_of_a_tool_is_shown_and_not_more_than_a_line_can_hold() -> None:
    entry = await send(call("get_weather", {"city": "Berlin", "password": SECRET, "more": ["x" * 1000]}))
    assert entry.arguments == {"city": "Berlin", "more": '["' + "x" * 509 + "…"}
    assert (await send(call("add", {"city": "Berlin"}))).arguments == {}


async def test_arguments_that_stand_twice_are_told_so() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_it","arguments":{"city":"a"},"arguments":{}}}'
    entry = await send(body)
    assert entry.is_doubled
    assert entry.arguments == {}
    assert entry.arguments_hmac == Keyring([b"k" * 32]).digest(body)


async def test_no_member_of_a_batch_is_left_out() -> None:
    world, audit = make()
    batch = [json.loads(call(name, {})) | {"id": number} for number, name in enumerate(("add", "subtract"), 1)]
    answers = json.dumps([{"jsonrpc": "2.0", "id": n, "result": {}} for n in (1, 2)]).encode()
    token = token_of(world, version="2025-03-26")
    world.will_answer(json_answer(answers))
    post = request(
        "POST",
        (b"content-type", b"application/json"),
        (b"mcp-session-id", token.encode()),
        (b"mcp-protocol-version", b"2025-03-26"),
    )
    await run(world, post, json.dumps(batch).encode())
    assert [(entry.name, entry.outcome) for entry in audit.entries] == [("add", "ok"), ("subtract", "ok")]


@pytest.mark.parametrize(
    ("body", "outcome"), [(b"{", "parse_error"), (CALL, "unknown_session")], ids=["nonsense", "no session"]
)
async def test_what_is_refused_is_told_too(body: bytes, outcome: str) -> None:
    world, audit = make()
    await run(world, legacy_post(token="forged"), body)
    assert [entry.outcome for entry in audit.entries] == [outcome]


async def test_what_is_at_no_mount_is_not_told_nor_is_a_preflight() -> None:
    world, audit = make()
    await run(world, request("POST", path="/nowhere"), CALL)
    await run(world, request("OPTIONS"))
    assert audit.entries == []


async def test_where_the_audit_is_required_no_call_is_served_that_it_could_not_tell_of() -> None:
    world, audit = make(is_required=True)
    audit.is_accepting = False
    client = await run(world, legacy_post(token=token_of(world)), CALL)
    status, _, _, message = error_of(client)
    assert status == 503
    assert message.startswith("the audit log can't be written")
    assert client.header(b"retry-after") == b"1"
    assert world.upstream.answered == []
    assert audit.entries == []
