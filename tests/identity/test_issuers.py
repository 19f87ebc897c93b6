"""Issuers as real servers on loopback, well and ill behaved, asked by the client that production has."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.identity.gates import IdentityGate
from gateway.policy.admissions import Admission, Issuer
from gateway.policy.backends import Timeouts, Tls
from gateway.protocol.credentials import Credentials
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.clients import PooledClient
from tests.identity.authorities import bearing, claims, issue, key_set, public_jwk, rsa_key
from tests.requirements import proves
from tests.upstream.servers import Peer, Server, serve


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    made = PooledClient()
    yield made
    made.close()


class Authority:
    """Answers requests for metadata and keys from what it holds now."""

    def __init__(self) -> None:
        self.keys = key_set()
        self.issuer = ""

    async def script(self, peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            path = request.line.split(b" ")[1]
            body, status = json.dumps(self.keys).encode(), b"200 OK"
            if path == b"/.well-known/openid-configuration":
                body = json.dumps({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}).encode()
            elif path != b"/keys":
                body, status = b"nothing here", b"404 Not Found"
            peer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


def origin(server: Server) -> str:
    return server.url.removesuffix("/mcp")


def trusting(client: PooledClient, issuer: str, **changes: Any) -> IdentityGate:
    return IdentityGate(Admission(issuers=(Issuer(issuer, **changes),)), client)


def token_of(issuer: str, subject: str = "alice", **told: Any) -> Credentials:
    now = int(time.time())
    return bearing(issue(claims(iss=issuer, sub=subject, exp=now + 600, iat=now), **told))


async def test_a_real_authority_is_discovered_and_believed(client: PooledClient) -> None:
    authority = Authority()
    async with serve(authority.script) as server:
        authority.issuer = origin(server)
        gate = trusting(client, authority.issuer)
        identity = await gate.identify(token_of(authority.issuer))
        assert identity.principal == f"{authority.issuer} alice"
        assert [request.line.split(b" ")[1] for request in server.requests] == [
            b"/.well-known/oauth-authorization-server",
            b"/.well-known/openid-configuration",
            b"/keys",
        ]


async def test_a_real_authority_rotates_its_keys(client: PooledClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.identity.rings.COOLDOWN_SECONDS", 0.0)
    authority = Authority()
    async with serve(authority.script) as server:
        authority.issuer = origin(server)
        gate = trusting(client, authority.issuer)
        await gate.identify(token_of(authority.issuer))
        authority.keys = {"keys": [public_jwk(rsa_key("next"), kid="next")]}
        rotated = token_of(authority.issuer, "bob", kid="next", key=rsa_key("next"))
        assert (await gate.identify(rotated)).principal == f"{authority.issuer} bob"


async def test_an_authority_proves_itself_by_its_certificate(
    client: PooledClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    authority = Authority()
    async with serve(authority.script, tls=context) as server:
        authority.issuer = origin(server)
        assert authority.issuer.startswith("https://")
        stranger = trusting(client, authority.issuer)
        with pytest.raises(Failed) as caught:
            await stranger.identify(token_of(authority.issuer))
        assert caught.value.outcome is Outcome.ISSUER_AWAY
        assert "its certificate is not trusted" in caplog.text
        client.reconcile({})
        gate = trusting(client, authority.issuer, tls=Tls(ca_file=str(tmp_path / "ca.pem")))
        assert await gate.identify(token_of(authority.issuer))


def answering(raw: bytes, *, close: bool = False) -> Any:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(raw)
        if not close:
            await peer.wait_closed()

    return script


async def endless(peer: Peer) -> None:
    """Keys without end."""
    await peer.read_request()
    peer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b'{"keys":[')
    while True:
        peer.write(b'{"kty":"oct"},' * 1000)
        await peer.writer.drain()


async def endless_head(peer: Peer) -> None:
    await peer.read_request()
    peer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.write(b"x-more: " + b"a" * 1000 + b"\r\n")
        await peer.writer.drain()


HUGE = b'{"keys":[%b]}' % (b" " * 600_000)
ILL: dict[str, Any] = {
    "silent": answering(b""),
    "silent after its head": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
    "cut off": answering(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"keys":', close=True),
    "no HTTP": answering(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
    "huge": answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(HUGE), HUGE)),
    "huge by its own word": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{"),
    "endless": endless,
    "an endless head": endless_head,
    "nested": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000),
    "redirecting": answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "failing": answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
    "compressed": answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"),
    "no text": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc"),
}


@proves("AUTH-3")
@pytest.mark.parametrize("manner", ILL)
async def test_an_ill_behaved_authority_is_an_outage(
    client: PooledClient, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    monkeypatch.setattr("gateway.identity.fetches.TIMEOUTS", Timeouts(2.0, 0.2, 2.0))
    async with serve(ILL[manner]) as server:
        issuer = origin(server)
        gate = trusting(client, issuer, jwks_url=f"{issuer}/keys")
        async with asyncio.timeout(10):
            with pytest.raises(Failed) as caught:
                await gate.identify(token_of(issuer))
        assert (caught.value.outcome, caught.value.http_status) == (Outcome.ISSUER_AWAY, 503)
        assert "127.0.0.1" not in caught.value.message
        assert len(server.requests) <= 1


async def test_an_authority_where_nothing_listens_is_an_outage(client: PooledClient) -> None:
    async with serve(Authority().script) as server:
        issuer = origin(server)
    gate = trusting(client, issuer)
    with pytest.raises(Failed, match="try again"):
        await gate.identify(token_of(issuer))


@proves("AUTH-8")
async def test_what_is_logged_of_an_outage_names_the_issuer_and_nothing_of_the_token(
    client: PooledClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(ILL["failing"]) as server:
        issuer = origin(server)
        sent = token_of(issuer)
        gate = trusting(client, issuer, jwks_url=f"{issuer}/keys")
        for _ in range(3):
            with pytest.raises(Failed):
                await gate.identify(sent)
    assert [record.message for record in caplog.records] == [
        f"issuer's keys can't be fetched: {issuer}: {issuer}/keys answered 503"
    ]
    token = sent.authorization.decode().removeprefix("Bearer ")
    assert not any(part in caplog.text for part in token.split("."))
