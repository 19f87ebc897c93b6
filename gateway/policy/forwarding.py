"""The headers of an upstream request: what the client sent and may be passed on, and what the gateway adds."""

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from gateway.policy.backends import Backend
from gateway.protocol import headers as h

_IDENTITY: Final = (b"accept-encoding", b"identity")
"""A compressed stream can be cut between events only after unpacking it; so none is asked for."""

_FORWARDED: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")


@lru_cache(maxsize=4096)
def is_trusted(peer: str, proxies: tuple[str, ...]) -> bool:
    """Whether the peer is one of the proxies (CIDR) whose X-Forwarded-* headers count."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in ip_network(proxy) for proxy in proxies)


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
    if replaced := _replaced(backend) if backend.headers else None:
        forwarded = [header for header in forwarded if header[0] not in replaced]
    forwarded += (
        _IDENTITY,
        (h.REQUEST_ID, request_id.encode("ascii")),
        (h.TRACEPARENT, traceparent),
        *_forwarded(index, peer, scheme, trusted),
    )
    if replaced:
        forwarded += replaced.items()
    if upstream_session:
        forwarded.append((h.SESSION, upstream_session.encode("latin-1")))
    return forwarded


@lru_cache(maxsize=1024)
def _replaced(backend: Backend) -> dict[bytes, bytes]:
    return {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in backend.headers}


def _forwarded(index: dict[bytes, bytes], peer: str, scheme: str, trusted: bool) -> h.Headers:
    """X-Forwarded-*: a trusted proxy's word with the peer appended, else what we saw ourselves."""
    told_for, told_proto, told_host = (index.get(name) if trusted else None for name in _FORWARDED)
    here = peer.encode("latin-1")
    host = told_host or index.get(b"host", b"")
    return [
        (b"x-forwarded-for", told_for + b", " + here if told_for else here),
        (b"x-forwarded-proto", told_proto or scheme.encode("ascii")),
        (b"x-forwarded-host", host),
    ]
