"""Which headers are read, which stand alone, which travel on."""

import pytest

from gateway.protocol import headers as h
from tests.requirements import proves


@proves("HDR-3")
def test_the_first_of_each_header_is_indexed_and_a_doubled_deciding_one_named() -> None:
    pairs = [(b"accept", b"a"), (b"accept", b"b"), (b"mcp-name", b"x"), (b"mcp-name", b"y")]
    assert h.index_headers(pairs[:3]) == ({b"accept": b"a", b"mcp-name": b"x"}, None)
    assert h.index_headers(pairs) == ({b"accept": b"a", b"mcp-name": b"x"}, b"mcp-name")


@proves("ERR-2")
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"abc-123_x.y:z+/=", "abc-123_x.y:z+/="),
        (b"a" * 128, "a" * 128),
        (b"a" * 129, None),
        (b"", None),
        (b"a b", None),
        (b"a\n", None),
        (b"\xe4", None),
        (None, None),
    ],
)
def test_a_clients_request_id_is_kept_where_it_is_harmless(value: bytes | None, kept: str | None) -> None:
    assert h.request_id_of({} if value is None else {b"x-request-id": value}) == kept


@proves("FWD-5")
@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        (b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-holds", True),
        (b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", False),
        (b"00-0af7-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n", False),
    ],
)
def test_a_trace_context_is_kept_where_it_is_well_formed(value: bytes, is_kept: bool) -> None:
    assert h.traceparent_of({b"traceparent": value}) == (value if is_kept else None)


@proves("FWD-1", "FWD-2")
def test_only_end_to_end_headers_of_the_client_go_on() -> None:
    headers = [
        (b"accept", b"application/json"),
        (b"mcp-param-region", b"eu"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"tracestate", b"a=b"),
        (b"user-agent", b"x"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"x"),
        (b"keep-alive", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"proxy-authorization", b"Basic x"),
        (b"authorization", b"Bearer x"),
        (b"cookie", b"a=b"),
        (b"origin", b"http://x"),
        (b"referer", b"http://x"),
        (b"host", b"x"),
        (b"content-length", b"3"),
        (b"expect", b"100-continue"),
        (b"accept-encoding", b"gzip"),
        (b"mcp-session-id", b"token"),
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"forwarded", b"for=6.6.6.6"),
        (b"x-real-ip", b"6.6.6.6"),
        (b"x-original-url", b"/admin"),
    ]
    assert h.forwardable(headers, h.index_headers(headers)[0]) == headers[:5]


@proves("FWD-2")
def test_what_connection_nominates_stays_on_its_hop_also_when_it_stands_twice() -> None:
    headers = [(b"connection", b"close, X-One"), (b"x-one", b"1"), (b"connection", b"x-two"), (b"x-two", b"2")]
    headers.append((b"x-three", b"3"))
    assert h.forwardable(headers, h.index_headers(headers)[0]) == [(b"x-three", b"3")]
    assert h.relayable(headers) == [(b"x-three", b"3")]


@proves("FWD-1")
def test_what_a_backend_says_of_its_own_connection_and_host_stays_there() -> None:
    kept = [(b"content-type", b"application/json"), (b"x-own", b"1"), (b"cache-control", b"no-store")]
    dropped = [
        (b"server", b"x"),
        (b"date", b"x"),
        (b"content-length", b"2"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"keep-alive"),
        (b"set-cookie", b"a=b"),
        (b"location", b"http://10.0.0.7/"),
        (b"www-authenticate", b"Bearer"),
        (b"strict-transport-security", b"x"),
        (b"access-control-allow-origin", b"*"),
        (b"mcp-session-id", b"upstream"),
        (b"x-request-id", b"theirs"),
    ]
    assert h.relayable([*dropped, *kept]) == kept


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], b""),
        ([(b"content-type", b"Text/Event-Stream; charset=utf-8")], b"text/event-stream"),
        ([(b"content-type", b" application/json ")], b"application/json"),
    ],
)
def test_the_media_type_is_told_without_parameters(headers: h.Headers, found: bytes) -> None:
    assert h.media_type(headers) == found
