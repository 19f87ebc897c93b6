"""Who may share one `subscriptions/listen` of a backend, and what is asked on their behalf. Pure."""

from typing import NamedTuple

from gateway.policy.backends import Backend
from gateway.policy.caches import Asker
from gateway.policy.forwarding import configured_headers
from gateway.protocol import headers as h
from gateway.protocol.subscriptions import LISTEN, encode_listen


class HubKey(NamedTuple):
    """What listeners must have in common: all by which the backend could tell them apart."""

    backend: Backend
    asker: Asker
    version: str
    uris: frozenset[str]

    def headers(self, request_id: str) -> h.Headers:
        """Of the gateway's request, but for those that belong to its connection."""
        own = configured_headers(self.backend)
        return [
            *(header for header in self.asker.headers if header[0] not in own),
            *own.items(),
            (b"content-type", h.JSON),
            (b"accept", b"application/json, text/event-stream"),
            (b"accept-encoding", b"identity"),
            (h.VERSION, self.version.encode("latin-1")),
            (h.METHOD, LISTEN.encode()),
            (h.REQUEST_ID, request_id.encode("ascii")),
        ]

    def body(self) -> bytes:
        return encode_listen(sorted(self.uris), self.version)
