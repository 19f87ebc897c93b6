"""Which address calls, where nobody is asked who they are."""

from typing import Final

import pytest

from gateway.policy.forwarding import find_caller
from tests.requirements import proves

PROXIES: Final = ("10.0.0.0/8", "fd00::/8")


@proves("LIMIT-3")
@pytest.mark.parametrize(
    ("peer", "told", "caller"),
    [
        ("192.0.2.7", (), "192.0.2.7"),
        ("192.0.2.7", (b"203.0.113.1",), "192.0.2.7"),  # a stranger's word
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", (b"203.0.113.1",), "203.0.113.1"),
        ("10.0.0.1", (b"198.51.100.9, 203.0.113.1",), "203.0.113.1"),  # what stands before it is the caller's own word
        ("10.0.0.1", (b"203.0.113.1, 10.0.0.2",), "203.0.113.1"),
        ("10.0.0.1", (b"198.51.100.9", b"203.0.113.1"), "203.0.113.1"),
        ("10.0.0.1", (b"203.0.113.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", (b"",), "10.0.0.1"),
        ("::ffff:10.0.0.1", (b"203.0.113.1",), "203.0.113.1"),
        ("2001:db8:1:2:3:4:5:6", (), "2001:db8:1:2::/64"),
        ("fd00::1", (b"2001:db8::9",), "2001:db8::/64"),
        ("", (), ""),
    ],
)
def test_the_caller_is_the_last_hop_that_no_proxy_of_ours_is(peer: str, told: tuple[bytes, ...], caller: str) -> None:
    assert find_caller(peer, told, PROXIES) == caller
