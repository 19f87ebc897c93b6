"""API keys: made here, and recognized by their digest.

A key is 256 random bits, so that its plain SHA-256 can't be turned back: nobody can try 2^256 of them, however fast a hash
is. A slow hash helps where people choose secrets, and would cost each worker 50 ms and more a key, to anyone's order. That
a key is random is made sure of by its form: what has another one isn't looked for.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Final

from gateway.policy.admissions import ApiKey

PREFIX: Final = "mcpgw_"
"""By which scanners find a key that was committed somewhere."""

_KEY: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


def make_api_key() -> tuple[str, str]:
    """A new key, and its digest as it stands in the configuration."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, digest_api_key(key)


def digest_api_key(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def is_api_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def find_api_key(keys: Iterable[ApiKey], text: str) -> ApiKey | None:
    """The key that this is. All are compared, each in constant time: how long it takes says nothing."""
    digest = digest_api_key(text)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found
