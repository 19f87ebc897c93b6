"""Where no backend is unless the operator says so."""

import pytest

from gateway.policy.addresses import leads_to_metadata


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
    ],
)
def test_link_local_and_metadata_addresses_are_known_in_each_spelling(address: str) -> None:
    assert leads_to_metadata(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.7", "::1", "fd00:ec2::253", "100.100.100.201", "169.253.255.255"]
)
def test_others_are_not(address: str) -> None:
    assert not leads_to_metadata(address)
