"""Ports that can be had, and sentences about those that can't."""

import socket
from collections.abc import Iterator

import pytest

from gateway.downstream.listeners import Place, Unavailable, close, listen, port_of


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder.getsockname()[1]


def test_a_listener_takes_connections_at_once() -> None:
    listeners = listen(Place("127.0.0.1", 0))
    with socket.create_connection(("127.0.0.1", port_of(listeners)), timeout=10) as client:
        assert client.getpeername() == ("127.0.0.1", port_of(listeners))
    close(listeners)


def test_a_name_with_several_addresses_listens_on_one_port_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: both)
    listeners = listen(Place("localhost", 0))
    port = port_of(listeners)
    assert [listener.getsockname()[:2] for listener in listeners] == [("::1", port), ("127.0.0.1", port)]
    close(listeners)


def test_a_busy_port_is_a_sentence_that_says_what_to_do(taken: int) -> None:
    with pytest.raises(Unavailable) as caught:
        listen(Place("127.0.0.1", taken))
    assert str(caught.value) == (
        f"port {taken} of 127.0.0.1 is in use: stop what listens there "
        f"(`ss -ltnp 'sport = :{taken}'` names it), or choose another port with --port"
    )


def test_a_busy_port_of_the_configuration_names_its_key(taken: int) -> None:
    with pytest.raises(Unavailable, match=r"choose another port with `admin\.port`"):
        listen(Place("127.0.0.1", taken, "`admin.host`", "`admin.port`"))


@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 64, "::1%nowhere"])
def test_a_host_that_is_not_here_is_a_sentence_too(host: str) -> None:
    with pytest.raises(Unavailable) as caught:
        listen(Place(host, 0))
    assert str(caught.value) == f"{host} is no address of this machine: choose another with --host"


def test_a_port_that_needs_more_rights_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:80 needs more rights: choose a port from 1024 on with --port"):
        listen(Place("127.0.0.1", 80))
