"""Addresses that no backend is at unless the operator says so: whoever answers there hands out credentials of the machine."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

METADATA_NETWORKS: Final = tuple(
    map(ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32"))
)
"""Link-local (RFC 3927, RFC 4291), and where EC2 and Alibaba Cloud serve instance credentials beyond it."""


def is_metadata(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is link-local, or one where a cloud serves instance credentials; also in its IPv6 spelling."""
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in METADATA_NETWORKS if network.version == address.version)


@lru_cache(maxsize=4096)
def leads_to_metadata(resolved: str) -> bool:
    """The same of an address as the resolver gives it."""
    return is_metadata(ip_address(resolved.partition("%")[0]))
