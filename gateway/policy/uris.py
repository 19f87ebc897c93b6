"""URIs that backends may take for the same one, made alike, so that a rule about one binds every spelling of it.

`file:///public/%2e%2e/secret` begins like what is public and is read as what is secret. So whoever decides by a URI looks at
two: as it is spelt, and in its normal form, of which RFC 3986 §6.2.2 has the most, and what servers are known to do besides
the rest: escapes undone (twice, too), `\\` and `//` for `/`, control characters left out, compatible characters made one (NFKC).
"""

import re
import unicodedata
from typing import Final
from urllib.parse import unquote

MAX_URI_CHARACTERS: Final = 8192
"""As RFC 9110 §4.1 would have servers take at least. Nobody judges a longer one."""

_MAX_ROUNDS: Final = 5
"""Steps, the last of which changes nothing: an escape may be escaped four times. Nobody judges what isn't normal then."""

_SEGMENT: Final = r"[!-$&-\-0-\[\]-~][!-$&-.0-\[\]-~]*"  # printable, but for % and \\, and not beginning with a dot
_NORMAL: Final = re.compile(
    r"[a-z][a-z0-9+.-]*:(?://(?!localhost)[a-z0-9_-]*(?:\.[a-z0-9_-]+)*(?=/|\Z))?"
    rf"/?(?:{_SEGMENT}/)*(?:{_SEGMENT})?\Z"
)
"""Most URIs, of which it is known at one look that they are normal."""

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_PORTS: Final = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


def normalize(uri: str) -> str | None:
    """The URI as all its spellings are judged; None for one that nobody can judge. A glob is made alike with its URIs."""
    if len(uri) > MAX_URI_CHARACTERS:
        return None
    return uri if _NORMAL.match(uri) is not None else _normalize(uri)


def _normalize(uri: str) -> str | None:
    """Until there is nothing left to make alike: what one step leaves may be the next one's to undo."""
    for _ in range(_MAX_ROUNDS):
        made = _make_alike(uri)
        if made is None or made == uri:
            return made
        uri = made
    return None


def _make_alike(uri: str) -> str | None:
    plain = _CONTROLS.sub("", unicodedata.normalize("NFKC", unquote(uri))).strip().replace("\\", "/")
    head, has_authority, rest = plain.partition("://")
    if has_authority and "/" not in head:
        scheme = head.lower()
        authority, slash, path = rest.partition("/")
        if _is_dots(authority.rpartition("@")[2]):
            return None  # no host is called so, but to a server that joins paths it is a way up
        start, path = f"{scheme}://{_normalize_authority(scheme, authority)}", slash + path
    else:
        head, colon, rest = plain.partition(":")
        start, path = (f"{head.lower()}:", rest) if colon and "/" not in head else ("", plain)
    walked = _walk(path)
    return None if walked is None else start + walked


def normalize_glob(glob: str) -> str | None:
    """The same of a pattern over URIs: an escaped `*`, `?` or `[` in it means itself."""
    for escape, literal in (("%2a", "[*]"), ("%3f", "[?]"), ("%5b", "[[]")):
        glob = glob.replace(escape, literal).replace(escape.upper(), literal)
    return normalize(glob)


def strip(normal: str) -> str:
    """Without query, fragment and a slash at the end, which many a server doesn't look at."""
    return normal.partition("#")[0].partition("?")[0].rstrip("/")


def has_dots(uri: str) -> bool:
    """Whether it goes up or stays on its way (`..`, `.`): a pattern that does fits nothing in its normal form."""
    return any(_is_dots(segment) for segment in re.split(r"[/:\\]", uri))


def _normalize_authority(scheme: str, authority: str) -> str:
    host = authority.rpartition("@")[2].lower().removesuffix(_PORTS.get(scheme, "@")).rstrip(".")
    return "" if scheme == "file" and host == "localhost" else host


def _walk(path: str) -> str | None:
    """RFC 3986 §5.2.4, and without empty segments. None for a way up beyond the root.

    There the RFC stays at the root. But of `docs://public/../secret` many a server takes `public` for a directory.
    """
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if _is_dots(segment):
            if segment.startswith("..") and not kept:
                return None
            if segment.startswith(".."):
                kept.pop()
        elif segment:
            kept.append(segment)
    lead = "/" if path.startswith("/") else ""
    is_open = segments[-1] == "" or _is_dots(segments[-1])
    return lead + "/".join(kept) + ("/" if is_open and kept else "")


def _is_dots(segment: str) -> bool:
    """`.` or `..`, also with parameters, which some servers drop (`..;a=b`)."""
    return segment[:1] == "." and segment.partition(";")[0] in (".", "..")
