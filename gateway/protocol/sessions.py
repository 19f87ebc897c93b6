"""The content of a session token: all that any replica must know of a legacy session, and nothing else.

Sealing it is `state/`'s job. The bytes begin with a format version, so that releases N and N-1 read each other's tokens
while a fleet is rolled.
"""

from functools import lru_cache
from typing import Final

import msgspec

FORMAT: Final = 1
PURPOSE: Final = b"session"

MAX_PARAMS_BYTES: Final = 1024
"""`initialize` parameters up to this size travel in the token, so that the session can be healed. Real clients send
150–400 bytes; a header line holds 8 KiB in most proxies, and base64 makes 4 bytes of 3."""


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One backend's session within an aggregate's."""

    backend: str
    address: str
    upstream_id: str
    version: str  # what that backend settled on


class Session(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A legacy session. `upstream_id` is empty where the backend keeps none; `address` then is, too: any endpoint will do.

    An aggregate's has neither, but a part for each backend that was there when it began.
    """

    mount: str
    address: str  # of the endpoint
    upstream_id: str
    principal: str
    version: str  # the protocol version that `initialize` settled on
    params: bytes = b""  # of `initialize`, as JSON; empty where they were too large
    client_name: str = ""  # what the client called itself then: legacy requests don't say
    parts: tuple[Part, ...] = ()
    shown_version: str = ""  # what the client was told, where that isn't `version` (a part's)

    @property
    def client_version(self) -> str:
        """The version by which the client reads what it gets."""
        return self.shown_version or self.version


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Session).decode


def encode_session(session: Session) -> bytes:
    """The bytes to seal."""
    return bytes((FORMAT,)) + _encode(session)


@lru_cache(maxsize=4096)  # a session's bytes come again with each of its requests
def parse_session(plain: bytes) -> Session | None:
    """The session in what was sealed; None for another format, as for anything that isn't one."""
    if plain[:1] != bytes((FORMAT,)):
        return None
    try:
        return _decode(plain[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
