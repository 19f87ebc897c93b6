"""The ring of session keys: how a key is made, written and read. What is sealed with them is told elsewhere.

The first key of the ring seals, all of them open. A replica that lacks a key that another seals with would answer 404
to that one's sessions, hence the order of a rotation: add the new key last everywhere, move it first, wait, drop the old.
"""

import base64
import binascii
import re
import secrets
from typing import Final

from gateway.settings.masks import MaskedBytes

KEY_BYTES: Final = 32
"""The least a key may have: AES-256's own key size (NIST SP 800-38D), and what `make_key` makes."""

_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}){32,}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}")


def make_key() -> str:
    """A new random key, as one writes it: base64url without padding."""
    return encode_key(secrets.token_bytes(KEY_BYTES))


def encode_key(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode("ascii")


def parse_key(text: str) -> MaskedBytes:
    """The key's bytes, from base64url or hexadecimal. Raises ValueError with a sentence that doesn't show the key."""
    text = text.strip()
    if _HEX.fullmatch(text):
        return MaskedBytes(bytes.fromhex(text))
    if not _BASE64URL.fullmatch(text):
        raise ValueError("is not base64url or hexadecimal: make one with `mcp-gateway keygen`")
    try:
        bare = text.rstrip("=")
        key = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        raise ValueError("is not base64url: was a part of it cut off? Make one with `mcp-gateway keygen`") from None
    if len(key) < KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes, {KEY_BYTES} are needed: make one with `mcp-gateway keygen`")
    return MaskedBytes(key)


def split_keys(text: str) -> list[str]:
    """The keys of a file or a variable: apart by commas, white space or newlines; a line may be a `#` comment."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    return [key for line in lines for key in re.split(r"[,\s]+", line) if key]
