"""Connecting to names with several addresses: the first that answers wins, and no socket is left behind."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.upstream.dials import AddressesRefused, _interleave, _race, dial
from tests.upstream.servers import WITHIN_SECONDS

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def deaf() -> Iterator[tuple[str, int]]:
    """An address that neither accepts nor refuses: its queue of connections is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()


@pytest.fixture
def open_address() -> Iterator[tuple[str, int]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()


@pytest.fixture
def closed_address() -> tuple[str, int]:
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return once.getsockname()


async def test_an_address_that_hangs_does_not_keep_the_next_from_being_tried(
    deaf: tuple[str, int], open_address: tuple[str, int]
) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        with await _race([(V4, deaf), (V4, open_address)]) as made:
            assert made.getpeername() == open_address


async def test_an_address_that_refuses_is_followed_at_once_by_the_next(
    closed_address: tuple[str, int], open_address: tuple[str, int]
) -> None:
    with await _race([(V4, closed_address), (V4, closed_address), (V4, open_address)]) as made:
        assert made.getpeername() == open_address
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        assert not made.getblocking()


async def test_once_one_has_answered_no_other_is_tried(open_address: tuple[str, int]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.setblocking(False)
        with await _race([(V4, open_address), (V4, other.getsockname())]) as made:
            assert made.getpeername() == open_address
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_when_all_refuse_the_first_refusal_is_told(closed_address: tuple[str, int]) -> None:
    with pytest.raises(ConnectionRefusedError):
        await _race([(V4, closed_address), (V4, closed_address)])


async def test_a_race_that_is_called_off_leaves_no_socket_behind(deaf: tuple[str, int]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await _race([(V4, deaf), (V4, deaf)])


async def test_numbers_need_no_lookup(open_address: tuple[str, int]) -> None:
    with await dial(*open_address) as made:
        assert made.getpeername() == open_address


def test_families_take_turns_beginning_with_the_systems_favourite() -> None:
    a, b, c, d = (V6, ("::1", 1)), (V6, ("::2", 1)), (V4, ("127.0.0.1", 1)), (V4, ("127.0.0.2", 1))
    assert _interleave([a, b, c, d]) == [a, c, b, d]
    assert _interleave([c, a, b]) == [c, a, b]
    assert _interleave([]) == []


async def test_addresses_that_are_refused_are_passed_over_and_where_all_are_nothing_is_dialled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        made = await dial("localhost", port, lambda address: ":" in address)
        assert made.getpeername()[0] == "127.0.0.1"
        made.close()
        with pytest.raises(AddressesRefused):
            await dial("127.0.0.1", port, lambda _: True)
