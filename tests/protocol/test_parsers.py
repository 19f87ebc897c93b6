"""Whatever bytes come, everything that parses bytes says what they mean or refuses them in the words that it has for it: no other
exception. The corpus is what clients and backends send; hypothesis cuts, doubles and mixes it, and puts in what parsers trip over.

`MCPGW_FUZZ_EXAMPLES` says how many inputs each parser is given, besides the few of an ordinary run.
"""

import base64
import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.uris import normalize
from gateway.protocol import headers as h
from gateway.protocol.answers import inspect_messages, negotiated_version
from gateway.protocol.cacheables import find_result, normalize_request, parse_cacheable
from gateway.protocol.credentials import is_bearer, parse_bearer, parse_client_certificate, split_groups
from gateway.protocol.cursors import parse_event_id
from gateway.protocol.events import EventSplitter, EventTooLarge, parse_event
from gateway.protocol.intents import classify
from gateway.protocol.namespaces import find_owner, show_message
from gateway.protocol.outcomes import Rejected
from gateway.protocol.pages import parse_list_cursor
from gateway.protocol.repetitions import name_tool, read_hint
from gateway.protocol.sessions import parse_session
from gateway.protocol.splices import find
from gateway.protocol.subscriptions import cut_id, parse_listen, parse_told, read_filter
from gateway.protocol.tokens import TokenRefused, parse_unproven

EXAMPLES: Final = int(os.environ.get("MCPGW_FUZZ_EXAMPLES", "300"))

META = (
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"a","version":"1"},'
    b'"io.modelcontextprotocol/clientCapabilities":{},"progressToken":"p"}'
)
CORPUS: Final = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1.5e300,"b":[]},'
    + META
    + b"}}",
    b'{"jsonrpc":"2.0","id":"\xc3\xbc","method":"resources/read","params":{"uri":"file:///a%2e%2e/b?c#d"}}',
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":18446744073709551616,"reason":"\\u0000\\ud800"}}',
    b'{"jsonrpc":"2.0","id":2,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["file:///a"]}}}',
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"add","annotations":{"readOnlyHint":true}}],"nextCursor":"x"}}',
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"ttlMs":1000,"cacheScope":"public","resultType":"complete"}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"no","data":null}}',
    b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{}}}',
    b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"}]',
    b"id: 7\r\nretry: 3000\r\nevent: message\r\ndata: {}\ndata:x\r\r\n: comment\n\n",
    b"AAAAAAAAAAAAAAAAAAAAAA.12-3",
    b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL2EifQ.c2ln",
    b'By=spiffe://a;Hash=ab;Subject="CN=a,\\"O=b\\"";URI=spiffe://c,Subject="d"',
    b"support, admin|ops;x",
    b"https://user@EXAMPLE.com:443/a/./b/../%2E%2e/c;d?e=%zz#f",
)
TRAPS: Final = (
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\", b'"', b"\\u006e", b"\r", b"\n", b"\r\n\r\n", b" ", b"\t"),
    *(b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"1e999", b"-0", b"NaN", b"9" * 400, b"[" * 2000, b'{"a":' * 2000),
    *(b'"method":"x",', b'"Method":"x",', b'"params":{},', b'"id":1,', b'"id":null,', b'"name":"x",', b'"_meta":{},', b"__", b".."),
)  # fmt: skip

HEADERS: Final = (
    [],
    [(b"content-type", b"application/json"), (b"mcp-protocol-version", b"2025-11-25"), (b"mcp-session-id", b"x")],
    [
        (b"content-type", b"application/json"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", b"add"),
    ],
)


def classify_all(data: bytes) -> None:
    """As the body, and as each header, of every kind of request."""
    for headers in HEADERS:
        for method in ("POST", "GET", "DELETE", "PUT"):
            _try(Rejected, classify, method, *h.index_headers(headers), data)
        for name, _ in headers:
            changed = [(key, data if key == name else value) for key, value in headers]
            _try(Rejected, classify, "POST", *h.index_headers(changed), CORPUS[0])
    index, _ = h.index_headers([(h.REQUEST_ID, data), (h.TRACEPARENT, data), (b"connection", data)])
    h.request_id_of(index)
    h.traceparent_of(index)
    h.forwardable([(b"connection", data), (b"x", data)], index)


def split(data: bytes) -> None:
    """In one piece and in many: the same events."""
    whole, pieces = EventSplitter(1 << 20), EventSplitter(1 << 20)
    events = [parse_event(block) for block in whole.feed(data)]
    assert [parse_event(block) for at in range(len(data)) for block in pieces.feed(data[at : at + 1])] == events
    _try(EventTooLarge, EventSplitter(16).feed, data)


def read_credentials(data: bytes) -> None:
    is_bearer(data)
    token = parse_bearer(data)
    _try(TokenRefused, parse_unproven, data.decode("latin-1") if token is None else token)
    split_groups(data)
    for field in ("Subject", "URI"):
        parse_client_certificate(data, field)


def read_texts(data: bytes) -> None:
    for text in (data.decode("latin-1"), data.decode("utf-8", "surrogateescape")):
        parse_event_id(text)
        normalize(text)


def read_answers(data: bytes) -> None:
    inspect_messages(data)
    negotiated_version(data)
    find_result(data)
    parse_cacheable(data)
    read_hint(data, "add")
    show_message(data, "p")
    _try((ValueError, RecursionError), parse_told, data)
    _try((ValueError, RecursionError), cut_id, data)


def read_requests(data: bytes) -> None:
    normalize_request(data)
    parse_listen(data)
    read_filter(data)
    name_tool(data)
    _try((ValueError, msgspec.MsgspecError, RecursionError), find_owner, data, "params", "requestId")
    _try((ValueError, msgspec.MsgspecError, RecursionError), find, data, "params", "arguments")


def open_sealed(data: bytes) -> None:
    """What only who has the keys can have made; an older or newer release may have."""
    parse_session(data)
    parse_list_cursor(data, "all", "tools/list")


def _try(refusals: type[Exception] | tuple[type[Exception], ...], parse: Callable[..., Any], *arguments: Any) -> None:
    with contextlib.suppress(refusals):
        parse(*arguments)


@st.composite
def mixtures(draw: st.DrawFn) -> bytes:
    """Parts of the corpus, traps and noise, one behind the other; now and then base64 of it."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        sample = draw(st.sampled_from(CORPUS))
        begin, end = sorted((draw(st.integers(0, len(sample))), draw(st.integers(0, len(sample)))))
        trap = draw(st.sampled_from(TRAPS) | st.binary(max_size=8))
        parts.append(
            draw(
                st.sampled_from(
                    (sample, sample[:begin] + trap + sample[begin:], sample[:begin] + trap + sample[end:], trap)
                )
            )
        )
    mixed = b"".join(parts)
    return base64.urlsafe_b64encode(mixed).rstrip(b"=") if draw(st.integers(0, 15)) == 0 else mixed


PARSERS = [classify_all, split, read_credentials, read_texts, read_answers, read_requests, open_sealed]


@pytest.mark.parametrize("parse", PARSERS)
def test_any_bytes_mean_something_or_are_refused(parse: Callable[[bytes], None]) -> None:
    @settings(max_examples=EXAMPLES, database=None)
    @given(st.one_of(mixtures(), st.binary(max_size=64)))
    def try_all(data: bytes) -> None:
        parse(data)

    for sample in (*CORPUS, *TRAPS):
        parse(sample)
    try_all()
