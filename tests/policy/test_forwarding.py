"""The headers of an upstream request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.backends import Backend
from gateway.policy.forwarding import is_trusted, upstream_headers
from gateway.protocol.headers import Headers, index_headers
from tests.fakes import ECHO
from tests.requirements import proves

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OURS = [(b"accept-encoding", b"identity"), (b"x-request-id", b"r1"), (b"traceparent", TRACEPARENT)]


def forward(headers: Headers, *, backend: Backend = ECHO, trusted: bool = False, session: str = "") -> Headers:
    return upstream_headers(
        headers,
        index_headers(headers)[0],
        backend,
        peer="192.0.2.7",
        scheme="http",
        trusted=trusted,
        request_id="r1",
        traceparent=TRACEPARENT,
        upstream_session=session,
    )


def x_forwarded(forwarded: Headers) -> list[bytes]:
    found = dict(forwarded)
    assert len(found) == len(forwarded), "a header was sent twice"
    return [found[b"x-forwarded-for"], found[b"x-forwarded-proto"], found[b"x-forwarded-host"]]


@proves("FWD-3", "FWD-5", "FWD-6")
def test_the_clients_headers_go_first_and_ours_after() -> None:
    headers = [(b"host", b"mcp.example.com"), (b"accept", b"application/json"), (b"mcp-param-region", b"eu")]
    assert forward(headers) == [
        (b"accept", b"application/json"),
        (b"mcp-param-region", b"eu"),
        *OURS,
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-host", b"mcp.example.com"),
    ]


SPOOF = [
    (b"host", b"mcp.example.com"),
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"other.example.com"),
]


@proves("FWD-3")
def test_a_strangers_word_is_replaced_by_what_we_saw() -> None:
    assert x_forwarded(forward(SPOOF)) == [b"192.0.2.7", b"http", b"mcp.example.com"]


@proves("FWD-3")
def test_a_trusted_proxys_word_counts_with_itself_appended() -> None:
    assert x_forwarded(forward(SPOOF, trusted=True)) == [b"6.6.6.6, 192.0.2.7", b"https", b"other.example.com"]
    assert x_forwarded(forward(SPOOF[:1], trusted=True)) == [b"192.0.2.7", b"http", b"mcp.example.com"]


@proves("FWD-3")
def test_a_proxy_that_appends_lines_of_its_own_is_read_to_the_last() -> None:
    proxied = [*SPOOF, (b"x-forwarded-for", b"198.51.100.4"), (b"x-forwarded-proto", b"http")]
    assert x_forwarded(forward(proxied, trusted=True)) == [
        b"6.6.6.6, 198.51.100.4, 192.0.2.7",
        b"http",
        b"other.example.com",
    ]


@proves("FWD-3")
@pytest.mark.parametrize(
    ("peer", "proxies", "is_one"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8",), False),
        ("11.1.2.3", ("10.0.0.0/8", "11.1.2.3/32"), True),
        ("2001:db8::7", ("2001:db8::/32",), True),
        ("2001:db9::7", ("10.0.0.0/8", "2001:db8::/32"), False),
        ("::ffff:10.1.2.3", ("10.0.0.0/8",), True),
        ("", ("0.0.0.0/0",), False),
        ("nonsense", ("0.0.0.0/0",), False),
        ("10.1.2.3", (), False),
    ],
)
def test_a_proxy_is_trusted_by_its_address(peer: str, proxies: tuple[str, ...], is_one: bool) -> None:
    assert is_trusted(peer, proxies) is is_one


@proves("FWD-4")
def test_a_backends_headers_replace_the_clients_and_ours() -> None:
    backend = Backend(
        "echo",
        ECHO.endpoints,
        headers=(("Authorization", "Bearer s3cret"), ("X-Tenant", "blue"), ("X-Forwarded-Proto", "https")),
    )
    headers = [(b"authorization", b"Bearer client"), (b"x-tenant", b"red"), (b"x-tenant", b"green"), (b"x-own", b"1")]
    forwarded = forward(headers, backend=backend)
    assert [header for header in forwarded if header[0] == b"x-tenant"] == [(b"x-tenant", b"blue")]
    assert [header for header in forwarded if header[0] == b"authorization"] == [(b"authorization", b"Bearer s3cret")]
    assert [header for header in forwarded if header[0] == b"x-forwarded-proto"] == [(b"x-forwarded-proto", b"https")]
    assert (b"x-own", b"1") in forwarded


@proves("SESS-3")
def test_the_backends_own_session_id_stands_in_place_of_the_token() -> None:
    forwarded = forward([(b"mcp-session-id", b"token")], session="upstream-7")
    assert [value for name, value in forwarded if name == b"mcp-session-id"] == [b"upstream-7"]
    assert b"mcp-session-id" not in dict(forward([(b"mcp-session-id", b"token")]))


names = st.sampled_from(
    [b"authorization", b"cookie", b"origin", b"connection", b"x-forwarded-for", b"accept-encoding", b"host", b"x-a"]
)


@proves("FWD-1", "FWD-2", "FWD-6")
@given(
    st.lists(st.tuples(names, st.sampled_from([b"evil", b"x-a", b"close, x-a", b"gzip"])), max_size=9), st.booleans()
)
def test_whatever_a_client_sends_its_credentials_and_hops_stay_here(headers: Headers, trusted: bool) -> None:
    forwarded = forward(headers, trusted=trusted)
    sent = [name for name, _ in forwarded]
    assert not {b"authorization", b"cookie", b"origin", b"connection", b"host"} & set(sent)
    assert [value for name, value in forwarded if name == b"accept-encoding"] == [b"identity"]
    assert sent.count(b"x-forwarded-for") == 1
    if any(name == b"connection" and b"x-a" in value for name, value in headers):
        assert b"x-a" not in sent
