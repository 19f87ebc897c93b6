"""The headers of an upstream request: what the client sent and may be passed on, and what the gateway adds."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from gateway.policy.backends import Backend
from gateway.protocol import headers as h

_IDENTITY: Final = (b"accept-encoding", b"identity")
"""A compressed stream can be cut between events only after unpacking it; so none is asked for."""


@lru_cache(maxsize=4096)
def is_trusted(peer: str, proxies: tuple[str, ...]) -> bool:
    """Whether the peer is one of the proxies (CIDR) whose X-Forwarded-* headers count."""
    address = _read_address(peer)
    return address is not None and any(address in ip_network(proxy) for proxy in proxies)


def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:  # of an IPv4 peer, on a dual-stack socket
        return address.ipv4_mapped
    return address


def read_hops(headers: h.Headers, proxies: tuple[str, ...]) -> tuple[bytes, ...]:
    """What X-Forwarded-For tells, line by line; nothing where no proxy's word counts."""
    return tuple(value for name, value in headers if name == b"x-forwarded-for") if proxies else ()


def find_address(peer: str, told: tuple[bytes, ...], proxies: tuple[str, ...]) -> str:
    """The address that calls, as its nearest proxies tell it: from the last hop of X-Forwarded-For back, the first that is
    none of them.

    `told`: the header's values, in their order; a stranger's are not believed, nor what is no address.
    """
    hops = [hop.strip().decode("latin-1") for value in told for hop in value.split(b",")]
    caller = peer
    while hops and is_trusted(caller, proxies):
        if _read_address(hop := hops.pop()) is None:
            break
        caller = hop
    return caller


@lru_cache(maxsize=4096)
def find_caller(peer: str, told: tuple[bytes, ...], proxies: tuple[str, ...]) -> str:
    """Who calls, as limits count: of an IPv6 address the /64, which is one network's to choose from (RFC 4291 §2.5.4)."""
    caller = find_address(peer, told, proxies)
    address = _read_address(caller)
    return (
        str(ip_network((int(address), 64), strict=False))
        if isinstance(address, IPv6Address)
        else str(address or caller)
    )


def upstream_headers(
    headers: h.Headers,
    index: dict[bytes, bytes],
    backend: Backend,
    *,
    peer: str,
    scheme: str,
    trusted: bool,
    request_id: str,
    traceparent: bytes,
    upstream_session: str,
) -> h.Headers:
    """End-to-end headers for the backend, in the client's order, then ours. Nothing here can spoof another's."""
    forwarded = h.forwardable(headers, index)
    forwarded += (
        _IDENTITY,
        (h.REQUEST_ID, request_id.encode("ascii")),
        (h.TRACEPARENT, traceparent),
        *_forwarded(headers if trusted else [], index, peer, scheme),
    )
    if backend.headers:
        replaced = configured_headers(backend)
        forwarded = [header for header in forwarded if header[0] not in replaced]
        forwarded += replaced.items()
    if upstream_session:
        forwarded.append((h.SESSION, upstream_session.encode("latin-1")))
    return forwarded


@lru_cache(maxsize=1024)
def configured_headers(backend: Backend) -> dict[bytes, bytes]:
    """What the operator sets on every request to the backend, credentials among it."""
    return {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in backend.headers}


def _forwarded(told: h.Headers, index: dict[bytes, bytes], peer: str, scheme: str) -> h.Headers:
    """X-Forwarded-*: a trusted proxy's word (`told`) with the peer appended, else what we saw ourselves."""
    hops, proto, host = [], scheme.encode("ascii"), index.get(b"host", b"")
    for name, value in told:
        # A proxy may append a line of its own where the client sent one (HAProxy does): the last is the nearest's.
        if name == b"x-forwarded-for":
            hops.append(value)
        elif name == b"x-forwarded-proto":
            proto = value
        elif name == b"x-forwarded-host":
            host = value
    return [
        (b"x-forwarded-for", b", ".join((*hops, peer.encode("latin-1")))),
        (b"x-forwarded-proto", proto),
        (b"x-forwarded-host", host),
    ]
