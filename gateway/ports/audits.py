"""Who called what: the port of the audit log, and what one line of it says."""

from typing import Any, Protocol

import msgspec


class AuditEntry(msgspec.Struct, omit_defaults=True):
    """One message of a client, or one request that has none. Fields that say nothing are left out of the line."""

    request_id: str
    principal: str
    client: str  # the caller's address
    http_method: str
    mount: str
    backend: str = ""
    method: str = ""  # the JSON-RPC method
    name: str = ""  # tool, prompt or resource, as the backend calls it
    session: str = ""  # as in the log: the first 8 characters
    outcome: str = ""
    status: int = 0
    arguments_hmac: str = ""  # the key's id, `:`, HMAC-SHA256
    is_doubled: bool = False  # two readers could find two values: the HMAC is the whole message's
    arguments: dict[str, Any] = {}  # those that are listed as harmless


class AuditLog(Protocol):
    """Takes lines without making anyone wait."""

    @property
    def is_accepting(self) -> bool:
        """Whether what is told now will be written, as far as one knows."""

    def tell(self, entry: AuditEntry) -> None:
        """One more line."""

    def digest(self, plain: bytes) -> str:
        """The keyed digest of what may be guessed, and so isn't shown."""
