"""What a request is about: both eras, every method, and each rung of the modern ladder with its words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.headers import index_headers
from gateway.protocol.intents import End, Intent, Listen, Resume, Send, classify
from gateway.protocol.outcomes import Outcome, Rejected
from gateway.protocol.versions import Era
from tests.requirements import proves

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
META: dict[str, object] = {VERSION_KEY: "2026-07-28", CAPABILITIES_KEY: {}}
JSON = ("content-type", "application/json")
MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "add"}


def call(meta: object = META, name: str = "add", method: str = "tools/call") -> bytes:
    params = {"name": name, "arguments": {}, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def notification(meta: object = META) -> bytes:
    params = {"requestId": 1, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).encode()


def ask(method: str, body: bytes = b"", *headers: tuple[str, str], **named: str) -> Intent:
    pairs = [*headers, *((name.replace("_", "-"), value) for name, value in named.items())]
    return classify(method, *index_headers((k.encode(), v.encode("latin-1")) for k, v in pairs), body)


def post(body: bytes, headers: dict[str, str | None]) -> Intent:
    return ask("POST", body, JSON, *((k, v) for k, v in headers.items() if v is not None))


def rejection(*args: Any, **kwargs: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        ask(*args, **kwargs)
    return caught.value


def post_rejection(body: bytes, headers: dict[str, str | None]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        post(body, headers)
    return caught.value


@proves("HDR-1")
def test_a_modern_call_whose_headers_agree_is_sent_on() -> None:
    intent = post(call(), MODERN)
    assert isinstance(intent, Send)
    assert (intent.era, intent.version, intent.token, intent.is_batch) == (Era.MODERN, "2026-07-28", None, False)
    assert (intent.first.method, intent.first.name, intent.first.id) == ("tools/call", "add", 1)
    assert intent.expects_answer
    assert intent.is_cut_with_client
    assert intent.opens_era


VERSION_DISAGREES = "mcp-protocol-version header does not match the request envelope's protocol version"
METHOD_DISAGREES = "mcp-method header does not match the request body's method"
NAME_DISAGREES = "mcp-name header does not match the request body's 'name' parameter"
NO_META = f"params._meta must be an object carrying the required '{VERSION_KEY}' and '{CAPABILITIES_KEY}' envelope keys"
MISSES = "params._meta is missing the required envelope key(s): "


@proves("HDR-1", "HDR-2")
@pytest.mark.parametrize(
    ("meta", "changes", "code", "message"),
    [
        (META, {"mcp-protocol-version": None}, -32020, VERSION_DISAGREES),
        (META, {"mcp-protocol-version": ""}, -32020, VERSION_DISAGREES),
        (META, {"mcp-protocol-version": "2099-01-01"}, -32020, VERSION_DISAGREES),
        (META, {"mcp-method": None}, -32020, METHOD_DISAGREES),
        (META, {"mcp-method": "tools/list"}, -32020, METHOD_DISAGREES),
        (META, {"mcp-method": "TOOLS/CALL"}, -32020, METHOD_DISAGREES),
        (META, {"mcp-name": None}, -32020, NAME_DISAGREES),
        (META, {"mcp-name": "drop"}, -32020, NAME_DISAGREES),
        (META, {"mcp-name": "=?base64?!?="}, -32020, NAME_DISAGREES),
        (None, {}, -32602, NO_META),
        (5, {}, -32602, NO_META),
        ({}, {}, -32602, f"{MISSES}{VERSION_KEY}, {CAPABILITIES_KEY}"),
        ({VERSION_KEY: "2026-07-28"}, {}, -32602, f"{MISSES}{CAPABILITIES_KEY}"),
        ({**META, VERSION_KEY: "2025-11-25"}, {}, -32020, VERSION_DISAGREES),
        (
            {**META, VERSION_KEY: "2099-01-01"},
            {"mcp-protocol-version": "2099-01-01"},
            -32022,
            "Unsupported protocol version",
        ),
    ],
)
def test_a_modern_call_that_disagrees_gets_the_specifications_error_on_its_id(
    meta: object, changes: dict[str, str | None], code: int, message: str
) -> None:
    refused = post_rejection(call(meta), {**MODERN, **changes})
    assert (refused.code, refused.message, refused.http_status, refused.request_id) == (code, message, 400, 1)


@proves("HDR-2")
def test_an_unknown_version_is_told_which_are_supported() -> None:
    refused = post_rejection(
        call({**META, VERSION_KEY: "2099-01-01"}), {**MODERN, "mcp-protocol-version": "2099-01-01"}
    )
    assert refused.data == {"supported": ["2026-07-28"], "requested": "2099-01-01"}
    refused = post_rejection(notification(), {"mcp-protocol-version": "2099-01-01"})
    assert (refused.code, refused.data) == (-32022, {"supported": ["2026-07-28"], "requested": "2099-01-01"})


@proves("HDR-1")
def test_a_name_that_is_no_ascii_travels_in_base64() -> None:
    intent = post(call(name="größe"), {**MODERN, "mcp-name": "=?base64?Z3LDtsOfZQ==?="})
    assert isinstance(intent, Send)
    assert intent.first.name == "größe"


@proves("HDR-1")
def test_a_resource_is_named_by_its_uri() -> None:
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "x://y", "_meta": META}}
    ).encode()
    headers = {**MODERN, "mcp-method": "resources/read"}
    assert isinstance(post(body, {**headers, "mcp-name": "x://y"}), Send)
    assert post_rejection(body, {**headers, "mcp-name": "x://z"}).code == -32020


@proves("HDR-4")
def test_a_modern_notification_needs_no_method_header_but_may_not_lie() -> None:
    for headers in ({"mcp-protocol-version": "2026-07-28"}, {}, {"mcp-method": "notifications/cancelled"}):
        intent = post(notification(), headers)
        assert isinstance(intent, Send)
        assert (intent.era, intent.expects_answer, intent.is_cut_with_client) == (Era.MODERN, False, False)
    assert post_rejection(notification(), {"mcp-method": "tools/call"}).code == -32020


@proves("HDR-1")
@pytest.mark.parametrize(
    "body", [b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', b'{"jsonrpc":"2.0","id":1,"result":{}}']
)
def test_modern_bodies_are_one_request_or_notification(body: bytes) -> None:
    refused = post_rejection(body, {"mcp-protocol-version": "2026-07-28"})
    assert (refused.code, refused.message) == (
        -32600,
        "the body must be a single JSON-RPC request or notification",
    )


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@proves("ERA-1")
@pytest.mark.parametrize(
    ("version", "meta", "era"),
    [
        (None, None, Era.LEGACY),
        ("2025-03-26", None, Era.LEGACY),
        ("2025-06-18", None, Era.LEGACY),
        ("2025-11-25", None, Era.LEGACY),
        ("2025-11-25", {"progressToken": 1}, Era.LEGACY),
        ("2026-07-28", META, Era.MODERN),
    ],
)
def test_the_era_is_the_headers_else_the_bodys_else_legacy(version: str | None, meta: object, era: Era) -> None:
    params = {} if meta is None else {"params": {"_meta": meta}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", **params}).encode()
    headers = {"mcp-protocol-version": version, "mcp-method": "ping" if era is Era.MODERN else None}
    assert post(body, headers).era is era


@proves("ERA-1")
@pytest.mark.parametrize(
    ("version", "meta", "outcome"),
    [
        (None, META, Outcome.HEADER_MISMATCH),  # the body names it: the client forgot the header
        ("2099-01-01", None, Outcome.INVALID_PARAMS),  # unknown is modern, so that the refusal is a structured one
        ("latest", None, Outcome.INVALID_PARAMS),
        ("2025-11-25", META, Outcome.HEADER_MISMATCH),
    ],
)
def test_a_request_between_the_eras_is_told_so(version: str | None, meta: object, outcome: Outcome) -> None:
    refused = post_rejection(call(meta), {"mcp-protocol-version": version})
    assert (refused.outcome, refused.request_id) == (outcome, 1)


@proves("ERA-1")
@pytest.mark.parametrize(
    ("method", "opens"), [("initialize", True), ("ping", False), ("notifications/initialized", False)]
)
def test_of_legacy_messages_only_initialize_shows_the_era(method: str, opens: bool) -> None:
    intent = post(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode(), {"mcp-session-id": "s"})
    assert isinstance(intent, Send)
    assert (intent.opens_era, intent.is_cut_with_client, intent.token) == (opens, False, "s")


@proves("MSG-5")
def test_batches_belong_to_one_version() -> None:
    batch = b'[{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":2,"method":"ping"}]'
    for headers in ({}, {"mcp-protocol-version": "2025-03-26"}):
        intent = post(batch, headers)
        assert isinstance(intent, Send)
        assert (intent.is_batch, intent.first.id, len(intent.messages)) == (True, 2, 2)
    refused = post_rejection(batch, {"mcp-protocol-version": "2025-06-18"})
    assert (refused.outcome, refused.message) == (
        Outcome.INVALID_REQUEST,
        "protocol version 2025-06-18 has no batches: send one message at a time",
    )
    refused = post_rejection(b'[{"jsonrpc":"2.0","id":2,"method":"initialize"}]', {})
    assert refused.message == "`initialize` must not be part of a batch"


@proves("ERR-1")
@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/json5", "application/jsonx; charset=utf-8"]
)
def test_only_json_is_read(content_type: str | None) -> None:
    headers = () if content_type is None else (("content-type", content_type),)
    refused = rejection("POST", b"\xff", *headers)
    assert (refused.http_status, refused.message) == (415, "the content-type must be application/json")


@proves("ERR-1")
@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON ; charset=utf-8"])
def test_json_may_have_parameters(content_type: str) -> None:
    assert isinstance(ask("POST", PING, ("content-type", content_type)), Send)


@proves("HDR-5")
def test_get_and_delete_are_about_a_session() -> None:
    assert ask("GET", mcp_session_id="s") == Listen("s")
    assert ask("GET") == Listen(None)
    assert ask("GET", mcp_session_id="s", last_event_id="7") == Resume("s", last_event_id=b"7")
    assert ask("GET", mcp_session_id="s", last_event_id="") == Listen("s")
    assert ask("DELETE", mcp_session_id="s", mcp_protocol_version="2025-11-25") == End("s")


@proves("HDR-5")
@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "TRACE", "BREW"])
def test_other_methods_get_405_with_those_that_are_allowed(method: str) -> None:
    refused = rejection(method)
    assert refused.http_status == 405
    assert refused.headers == ((b"allow", b"GET, POST, DELETE, OPTIONS"),)
    assert refused.message == f"{method} is not allowed here: use GET, POST, DELETE, OPTIONS"


@proves("HDR-5")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_modern_mcp_has_post_alone(method: str) -> None:
    refused = rejection(method, mcp_protocol_version="2026-07-28")
    assert (refused.http_status, refused.headers) == (405, ((b"allow", b"POST, OPTIONS"),))


@proves("HDR-3")
@pytest.mark.parametrize(
    "name",
    ["mcp-protocol-version", "mcp-session-id", "content-type", "authorization", "host", "origin", "x-request-id"],
)
def test_a_deciding_header_that_stands_twice_is_refused_in_the_legacy_era(name: str) -> None:
    values = {"content-type": "application/json", "mcp-protocol-version": "2025-11-25"}
    headers = [JSON, (name, values.get(name, "a")), (name, values.get(name, "b"))]
    refused = rejection("POST", PING, *headers)
    assert (refused.outcome, refused.message) == (Outcome.AMBIGUOUS, f"{name} header appears more than once")
    assert refused.request_id == 1
    assert rejection("GET", b"", (name, "2025-11-25"), (name, "2025-11-25")).outcome is Outcome.AMBIGUOUS


@proves("HDR-3")
@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name"])
def test_a_doubled_routing_header_is_a_mismatch_in_the_modern_era(name: str) -> None:
    refused = rejection("POST", call(), JSON, *MODERN.items(), (name, MODERN[name]))
    assert (refused.code, refused.request_id) == (-32020, 1)


names = st.sampled_from([*MODERN, "mcp-session-id", "last-event-id", "content-type", "x"])
texts = st.sampled_from(
    ["2026-07-28", "2025-11-25", "tools/call", "add", "application/json", "", "\xff", "=?base64?!?="]
)
some_bodies = st.binary(max_size=60) | st.sampled_from(
    [PING, call(), call({}), notification(), b"[" + PING + b"]", b"{}"]
)


@proves("MSG-4")
@given(
    st.sampled_from(["GET", "POST", "POST", "POST", "DELETE", "HEAD", "PUT", ""]),
    st.lists(st.tuples(names, texts | st.text(st.characters(max_codepoint=255), max_size=9)), max_size=6),
    st.booleans(),
    some_bodies,
)
def test_any_request_is_an_intent_or_a_rejection(
    method: str, headers: list[tuple[str, str]], is_json: bool, body: bytes
) -> None:
    try:
        intent = ask(method, body, *([JSON] if is_json else []), *headers)
    except Rejected as refused:
        status = refused.http_status
    else:
        status = 200
        assert isinstance(intent, Intent)
    assert status in {200, 400, 405, 415}
