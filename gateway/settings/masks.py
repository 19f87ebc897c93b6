"""Secrets that don't show in a repr, so that no log line, trace or error that prints a `Settings` gives them away.

They are ordinary text and bytes otherwise: equal, hashable, and sent as they are. `str()` and f-strings show them.
"""

import re

_USERINFO = re.compile(r"//\S*@")


class MaskedText(str):
    """Text whose repr is `'***'`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class MaskedUrl(str):
    """A URL whose repr leaves its credentials out."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(hide_credentials(str(self)))


class MaskedBytes(bytes):
    """Bytes whose repr is `b'***'`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "b'***'"


def hide_credentials(text: str) -> str:
    """`text` with every `//user:password@` in it as `//***@`."""
    return _USERINFO.sub("//***@", text)
