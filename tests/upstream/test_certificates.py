"""TLS to backends: who is trusted, who we are, and what a cut connection means."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from gateway.policy.backends import Timeouts, Tls
from gateway.protocol.outcomes import Outcome
from gateway.upstream.clients import PooledClient
from tests.upstream.calls import backend_at, call, failure, send
from tests.upstream.servers import WITHIN_SECONDS, Peer, always, raw, serve


class Authority:
    """A certificate authority with its file, and server contexts that it has signed."""

    def __init__(self, folder: Path) -> None:
        self.signer = trustme.CA()
        self.folder = folder
        self.file = str(folder / "ca.pem")
        self.signer.cert_pem.write_to_path(self.file)

    def server(self, name: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.signer.issue_cert(name).configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def client_files(self) -> tuple[str, str]:
        issued = self.signer.issue_cert("gateway@example.com")
        certificate, key = self.folder / "client.pem", self.folder / "client.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_a_backend_with_a_certificate_of_the_given_authority_is_called(
    client: PooledClient, authority: Authority
) -> None:
    async with serve(always, tls=authority.server()) as server:
        backend = backend_at(server.url, tls=Tls(ca_file=authority.file))
        for _ in range(3):
            assert await call(client, backend) == (200, b"{}")
        chosen = server.peers[0].writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert (len(server.peers), chosen) == (1, "http/1.1")


async def test_a_certificate_of_an_unknown_authority_is_unreachable(client: PooledClient, authority: Authority) -> None:
    async with serve(always, tls=authority.server()) as server:
        message = await failure(call(client, backend_at(server.url)), Outcome.UNREACHABLE)
    assert message == "Backend 'echo' can't be reached: its certificate is not trusted (see the backend's `tls:`)."


async def test_a_certificate_for_another_name_is_unreachable_unless_that_name_is_configured(
    client: PooledClient, authority: Authority
) -> None:
    async with serve(always, tls=authority.server("backend.example")) as server:
        other = backend_at(server.url, name="other", tls=Tls(ca_file=authority.file))
        named = backend_at(server.url, tls=Tls(ca_file=authority.file, server_name="backend.example"))
        message = await failure(call(client, other), Outcome.UNREACHABLE)
        assert "certificate" in message
        assert "127.0.0.1" not in message
        assert await call(client, named) == (200, b"{}")
    assert server.requests[0].headers[0] == (b"host", b"127.0.0.1:%d" % server.port)


async def test_a_backend_that_wants_to_know_who_calls_is_shown_the_client_certificate(
    client: PooledClient, authority: Authority
) -> None:
    context = authority.server()
    context.verify_mode = ssl.CERT_REQUIRED
    authority.signer.configure_trust(context)
    certificate, key = authority.client_files()
    async with serve(always, tls=context) as server:
        nameless = backend_at(server.url, name="nameless", tls=Tls(ca_file=authority.file))
        named = backend_at(server.url, tls=Tls(ca_file=authority.file, client_cert=certificate, client_key=key))
        assert await call(client, named) == (200, b"{}")
        with pytest.raises(Exception, match="'nameless'"):  # TLS 1.3: refused with the handshake, or just after it
            await call(client, nameless)
    assert len(server.requests) == 1


async def test_files_that_are_missing_or_not_pem_make_the_backend_unreachable(
    client: PooledClient, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "no.pem").write_text("not PEM")
    async with serve(always, tls=authority.server()) as server:
        missing = backend_at(server.url, name="missing", tls=Tls(ca_file=str(tmp_path / "missing.pem")))
        broken = backend_at(server.url, name="broken", tls=Tls(ca_file=str(tmp_path / "no.pem")))
        for backend in (missing, broken):
            message = await failure(call(client, backend), Outcome.UNREACHABLE)
            assert "`tls:`" in message
            assert str(tmp_path) not in message


async def test_one_context_serves_all_connections_of_a_backend_until_its_tls_changes(
    client: PooledClient, authority: Authority
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(headers=b"Connection: close\r\n")

    async with serve(script, tls=authority.server()) as server:
        backend = backend_at(server.url, tls=Tls(ca_file=authority.file))
        await asyncio.gather(*(call(client, backend) for _ in range(3)))
        first = client._lines["echo"].dialler._context
        client.reconcile({"echo": backend_at(server.url, tls=backend.tls, timeouts=Timeouts())})
        await call(client, backend)
        assert first is not None
        assert client._lines["echo"].dialler._context is first
        renewed = backend_at(server.url, tls=Tls(ca_file=authority.file, digest="renewed"))
        client.reconcile({"echo": renewed})
        await call(client, renewed)
        assert client._lines["echo"].dialler._context is not first


async def test_a_handshake_that_never_ends_is_unreachable(client: PooledClient, authority: Authority) -> None:
    async with serve(lambda peer: peer.wait_closed()) as server:
        backend = backend_at(
            f"https://127.0.0.1:{server.port}/", tls=Tls(ca_file=authority.file), timeouts=Timeouts(connect_seconds=0.3)
        )
        message = await failure(call(client, backend), Outcome.UNREACHABLE)
        await server.wait_left()
    assert message == "Backend 'echo' can't be reached: it did not answer in time."


async def test_a_backend_that_speaks_no_tls_is_unreachable(client: PooledClient, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with serve(script) as server:
        backend = backend_at(f"https://127.0.0.1:{server.port}/", tls=Tls(ca_file=authority.file))
        message = await failure(call(client, backend), Outcome.UNREACHABLE)
    assert "TLS handshake" in message


async def test_a_body_without_a_length_needs_a_proper_end_of_tls(client: PooledClient, authority: Authority) -> None:
    async def cut(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await go_on.wait()
        peer.finish_at_once()  # FIN without close_notify: anyone on the way could have sent it
        await peer.wait_closed()

    go_on = asyncio.Event()
    async with serve(cut, tls=authority.server()) as server:
        backend = backend_at(server.url, tls=Tls(ca_file=authority.file))
        answer = await send(client, backend)
        go_on.set()
        await failure(answer.read(100), Outcome.BROKEN)
        server.script = raw(b"HTTP/1.1 200 OK\r\n\r\nwhole", close=True)
        assert await call(client, backend) == (200, b"whole")


async def test_a_large_body_goes_through_tls_whole_both_ways(client: PooledClient, authority: Authority) -> None:
    body = bytes(range(256)) * 20_000

    async def echo(peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body)

    async with serve(echo, tls=authority.server()) as server:
        backend = backend_at(server.url, tls=Tls(ca_file=authority.file))
        for _ in range(2):
            assert (await call(client, backend, body))[1] == body
    assert len(server.peers) == 1


async def test_leaving_a_call_closes_its_tls_connection(client: PooledClient, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.wait_closed()

    async with serve(script, tls=authority.server()) as server:
        answer = await send(client, backend_at(server.url, tls=Tls(ca_file=authority.file)))
        answer.close()
        await server.wait_left()


async def test_a_close_still_in_the_kernel_is_noticed_under_tls_too(client: PooledClient, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await asyncio.sleep(WITHIN_SECONDS)

    async with serve(script, tls=authority.server()) as server:
        backend = backend_at(server.url, tls=Tls(ca_file=authority.file))
        await call(client, backend, b"first")
        server.peers[0].finish_at_once()
        assert await call(client, backend, b"second") == (200, b"{}")
    assert [request.body for request in server.requests] == [b"first", b"second"]
