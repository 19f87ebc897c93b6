"""What is examined: a URL, taken apart, and the headers to send along. Pure."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec

_PORTS: Final = {"http": 80, "https": 443}
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Target(msgspec.Struct, frozen=True):
    """An MCP endpoint, as a client would be given it."""

    url: str
    host: str  # IPv6 without brackets
    port: int
    is_tls: bool
    parts: SplitResult
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        """The URL without its query, which may be a secret."""
        return self.at(self.parts.path) + ("?…" if self.parts.query else "")

    @property
    def secrets(self) -> list[str]:
        return [value for _, value in self.headers] + [part for part in (self.parts.query,) if part]

    def at(self, path: str, *, with_query: bool = False) -> str:
        """The URL of another path on the same origin."""
        return urlunsplit((self.parts.scheme, self.parts.netloc, path, self.parts.query if with_query else "", ""))


def parse_target(url: str, headers: Iterable[str] = ()) -> Target:
    """The target. Raises ValueError, with a sentence, for a URL or a `Name: value` that is none."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        hint = f": did you mean https://{url}?" if "://" not in url else ""
        raise ValueError(f"{url!r} is not an http:// or https:// URL{hint}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL carries credentials, which clients refuse or drop: use --header 'Authorization: ...'")
    if parts.fragment:
        raise ValueError(f"the URL has a fragment (#{parts.fragment}), which is never sent: leave it out")
    port = parts.port or _PORTS[parts.scheme]  # .port raises ValueError itself when it isn't a number
    return Target(url, parts.hostname, port, parts.scheme == "https", parts, tuple(map(_parse_header, headers)))


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not _HEADER_NAME.fullmatch(name.strip()):
        raise ValueError("a --header is not of the form 'Name: value'")  # its text isn't repeated: it may be a secret
    value = value.strip()
    if any(ord(character) < 0x20 or ord(character) > 0x7E for character in value):
        raise ValueError(f"the value of --header {name.strip()!r} holds other than printable ASCII characters")
    return name.strip(), value
