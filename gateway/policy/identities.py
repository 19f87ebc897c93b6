"""Who somebody is, as far as anything here is decided by it. How that was found out is `identity/`'s business."""

from typing import Final

import msgspec

FOREVER: Final = float("inf")


class Identity(msgspec.Struct, frozen=True):
    """One who calls. Two calls are one principal's where `principal` is the same."""

    principal: str = ""  # issuer and subject, `key {name}`, `proxy {user}`; empty: nobody was asked
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    expires_at: float = FOREVER  # seconds since 1970


ANONYMOUS: Final = Identity()
"""Who calls where nobody is asked who they are (`auth: none`), or where that is allowed (`anonymous: true`)."""
