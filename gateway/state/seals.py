"""Sealed tokens: what a client holds for us, that any replica with the same keys opens and nobody else reads or forges.

AES-256-GCM with a random 96-bit nonce. Each purpose has a key of its own, derived once per process (HKDF-SHA256), so that
a token made for one thing is nothing for another. The ring's first key seals, all of them open: rotation is "add last
everywhere, move first, wait, drop".
"""

import base64
import binascii
import hmac
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # NIST SP 800-38D §8.2.2: random nonces are good for 2^32 messages a key
_TAG_BYTES: Final = 16

MAX_TOKEN_CHARS: Final = 6144
"""Longer strings are not tried: an HTTP header line holds 8 KiB in most proxies."""

STREAM_CIPHERS: Final = 4096
"""Streams whose ciphers are kept, least recently used dropped first: deriving them costs about 7 µs for each key of the ring."""

OPENED_TOKENS: Final = 4096
"""Opened tokens kept, least recently used dropped first: opening one of 400 characters costs 3 µs, finding it 0.15."""


class Keyring:
    """The `Seals` port, over a ring of keys of 32 bytes or more."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys: tuple[bytes, ...] = ()
        self._ciphers: dict[bytes, tuple[AESGCM, ...]] = {}
        self._opened: OrderedDict[tuple[bytes, str], bytes] = OrderedDict()
        self._of_streams: OrderedDict[bytes, tuple[AESGCM, ...]] = OrderedDict()
        self._digest_key = b""
        self._digest_key_id = ""
        self.change(keys)

    def change(self, keys: Sequence[bytes]) -> None:
        """From now on these keys, for all who hold the ring. What only a dropped key opens is opened no more."""
        if not keys:
            raise ValueError("a key ring needs at least one key")
        if any(len(key) < KEY_BYTES for key in keys):
            raise ValueError(f"a session key has at least {KEY_BYTES} bytes")
        self._keys = tuple(keys)
        self._digest_key = b""
        self._ciphers.clear()
        self._opened.clear()
        self._of_streams.clear()

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"

    def seal(self, plain: bytes, purpose: bytes) -> str:
        """base64url without padding of nonce and ciphertext, 38 + 4/3 × the length of `plain` characters."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._for(purpose)[0].encrypt(nonce, plain, purpose)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode("ascii")

    def open(self, token: str, purpose: bytes) -> bytes | None:
        """What was sealed for this purpose by a key of the ring; None for anything else."""
        opened = self._opened
        key = (purpose, token)
        if (plain := opened.get(key)) is not None:
            opened.move_to_end(key)
            return plain
        if (plain := self._decrypt(token, purpose)) is not None:
            opened[key] = plain
            if len(opened) > OPENED_TOKENS:
                opened.popitem(last=False)
        return plain

    def encrypt(self, plain: bytes, stream: bytes, place: bytes) -> bytes:
        """The nonce and ciphertext of something that belongs to a stream, 28 bytes longer than `plain`.

        Each stream has keys of its own, so that a fleet's events don't use up what random nonces of one key are good for. It
        opens at its `place` in its stream only: entries of a log can't be swapped.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._for_stream(stream)[0].encrypt(nonce, plain, place)

    def decrypt(self, sealed: bytes, stream: bytes, place: bytes) -> bytes | None:
        """What was encrypted for that place of that stream by a key of the ring; None for anything else."""
        for cipher in self._for_stream(stream):
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
            except (InvalidTag, ValueError):  # a nonce cut short is a ValueError
                continue
        return None

    def digest(self, plain: bytes) -> str:
        """The id of the first key, `:`, and HMAC-SHA256 by a key that is derived of it for this alone, hexadecimal.

        For what can be guessed, and so must have no digest that just anyone can make.
        """
        if not self._digest_key:
            self._digest_key = HKDF(SHA256(), KEY_BYTES, None, b"mcp-gateway audit").derive(self._keys[0])
            self._digest_key_id = hmac.digest(self._digest_key, b"key id", "sha256").hex()[:8]
        return f"{self._digest_key_id}:{hmac.digest(self._digest_key, plain, 'sha256').hex()}"

    def _decrypt(self, token: str, purpose: bytes) -> bytes | None:
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        # One token has one spelling: trailing bits that base64 ignores would make a second one.
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES or base64.urlsafe_b64encode(sealed).rstrip(b"=") != token.encode():
            return None
        for cipher in self._for(purpose):
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
            except InvalidTag:
                continue
        return None

    def _for_stream(self, stream: bytes) -> tuple[AESGCM, ...]:
        kept = self._of_streams
        if (ciphers := kept.get(stream)) is not None:
            kept.move_to_end(stream)
            return ciphers
        ciphers = kept[stream] = self._derive(b"event " + stream)
        if len(kept) > STREAM_CIPHERS:
            kept.popitem(last=False)
        return ciphers

    def _derive(self, purpose: bytes) -> tuple[AESGCM, ...]:
        return tuple(
            AESGCM(HKDF(SHA256(), KEY_BYTES, None, b"mcp-gateway " + purpose).derive(key)) for key in self._keys
        )

    def _for(self, purpose: bytes) -> tuple[AESGCM, ...]:
        if (ciphers := self._ciphers.get(purpose)) is None:
            ciphers = self._ciphers[purpose] = self._derive(purpose)
        return ciphers
