"""Protocol versions and the two eras they fall into.

legacy: versions with an `initialize` handshake; modern: versions whose requests each carry their own metadata.
The lists are the SDK's, so that an SDK update is all it takes to learn a new version.
"""

from enum import StrEnum
from typing import Final

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

__all__ = [
    "HANDSHAKE_VERSIONS",
    "LATEST_HANDSHAKE",
    "LATEST_MODERN",
    "MODERN_VERSIONS",
    "VERSION_WITH_BATCHES",
    "Era",
]


class Era(StrEnum):
    LEGACY = "legacy"
    MODERN = "modern"


HANDSHAKE_VERSIONS: Final = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)
MODERN_VERSIONS: Final = tuple(MODERN_PROTOCOL_VERSIONS)
LATEST_HANDSHAKE: Final = HANDSHAKE_PROTOCOL_VERSIONS[-1]
LATEST_MODERN: Final = LATEST_MODERN_VERSION

VERSION_WITH_BATCHES: Final = "2025-03-26"
"""The one version that has JSON-RPC batches over Streamable HTTP: 2025-06-18 removed them."""
