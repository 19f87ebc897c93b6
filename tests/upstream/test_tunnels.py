"""Outgoing proxies: tunnels for https, absolute form for http."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from gateway.policy.backends import Timeouts, Tls, parse_endpoint
from gateway.protocol.outcomes import Outcome
from gateway.upstream.clients import PooledClient
from gateway.upstream.tunnels import encode_connect, name_origin, parse_proxy
from tests.upstream.calls import backend_at, call, failure
from tests.upstream.servers import Peer, always, raw, serve


async def forward(peer: Peer, heads: list[bytes]) -> None:
    """A CONNECT proxy: opens the tunnel and copies both ways until one side ends."""
    head = await peer.read_head()
    heads.append(head)
    host, _, port = head.split(b" ")[1].rpartition(b":")
    reader, writer = await asyncio.open_connection(host.decode().strip("[]"), int(port))
    peer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    try:
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
    finally:
        writer.close()


async def test_https_goes_through_a_tunnel_with_credentials_that_the_backend_never_sees(
    client: PooledClient, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    heads: list[bytes] = []
    async with serve(always, tls=context) as server, serve(lambda peer: forward(peer, heads)) as proxy:
        backend = backend_at(
            server.url,
            tls=Tls(ca_file=str(tmp_path / "ca.pem")),
            proxy=f"http://us%40er:p%3Ass@127.0.0.1:{proxy.port}",
        )
        for _ in range(2):
            assert await call(client, backend) == (200, b"{}")
    (head,) = heads
    assert head == (
        b"CONNECT 127.0.0.1:%(port)d HTTP/1.1\r\nhost: 127.0.0.1:%(port)d\r\n"
        b"proxy-authorization: Basic dXNAZXI6cDpzcw==\r\n\r\n"
    ) % {b"port": server.port}
    assert [name for name, _ in server.requests[0].headers] == [b"host", b"content-length"]


async def test_http_is_asked_of_the_proxy_in_absolute_form(client: PooledClient) -> None:
    async with serve(always) as proxy:
        backend = backend_at("http://backend.example:8000/mcp?a=b", proxy=f"http://u:p@127.0.0.1:{proxy.port}")
        assert await call(client, backend, headers=[(b"accept", b"x")]) == (200, b"{}")
    (request,) = proxy.requests
    assert request.line == b"POST http://backend.example:8000/mcp?a=b HTTP/1.1"
    assert request.headers == [
        (b"host", b"backend.example:8000"),
        (b"proxy-authorization", b"Basic dTpw"),
        (b"accept", b"x"),
        (b"content-length", b"2"),
    ]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "its proxy wants other credentials"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "its proxy refused"),
        (b"HTTP/1.1 200 OK\r\n\r\nbytes before any of ours", "its proxy refused"),
        (b"SSH-2.0\r\n\r\n", "its proxy refused"),
        (b"\r\n\r\n", "its proxy refused"),
        (b"x" * 20_000, "its proxy's reply is too long"),
        (b"", "its proxy closed the connection"),
    ],
)
async def test_a_proxy_that_does_not_let_us_through_makes_the_backend_unreachable(
    client: PooledClient, reply: bytes, why: str
) -> None:
    async with serve(raw(reply, close=True)) as proxy:
        backend = backend_at("https://backend.example/mcp", proxy=f"http://127.0.0.1:{proxy.port}")
        message = await failure(call(client, backend), Outcome.UNREACHABLE)
    assert message == f"Backend 'echo' can't be reached: {why}."


async def test_a_proxy_that_never_replies_makes_the_backend_unreachable(client: PooledClient) -> None:
    async with serve(lambda peer: peer.wait_closed()) as proxy:
        backend = backend_at(
            "https://backend.example/mcp",
            proxy=f"http://127.0.0.1:{proxy.port}",
            timeouts=Timeouts(connect_seconds=0.2),
        )
        assert "in time" in await failure(call(client, backend), Outcome.UNREACHABLE)
        await proxy.wait_left()


def test_ipv6_hosts_stand_in_brackets() -> None:
    endpoint = parse_endpoint("https://[::1]:8443/mcp")
    assert encode_connect(parse_proxy("http://[::2]:3128"), endpoint).startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\n")
    assert name_origin(parse_endpoint("http://[::1]/mcp")) == b"http://[::1]"
    assert parse_proxy("http://[::2]:3128").host == "::2"


@pytest.mark.parametrize("url", ["https://proxy:1", "socks5://proxy:1", "http://", "proxy:3128", "http://proxy:1/path"])
def test_what_is_no_http_proxy_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match=r"must look like http://\[user:password@\]host:port"):
        parse_proxy(url)
