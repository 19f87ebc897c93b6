"""What a single value of the configuration may be. Each check returns the value, tidied, or raises ValueError with a
sentence that says how to mend it. Sentences quote a value only where it can't hold a secret.
"""

import ipaddress
import re
import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.policy.absences import MAX_HEARTBEAT_SECONDS, MIN_HEARTBEAT_SECONDS
from gateway.policy.addresses import is_metadata
from gateway.policy.backends import parse_endpoint
from gateway.policy.sites import RESERVED_PATHS
from gateway.settings.session_keys import split_keys

_SEGMENT: Final = re.compile(r"[a-z0-9._~-]+")
_BACKEND_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HOST_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_REDIS_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "redis+cluster")
_OWN_HEADERS: Final = frozenset({
    "accept", "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive",
    "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "origin", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Headers whose value the gateway or the protocol decides for each request: one fixed value would break it."""

AGGREGATE_MOUNT: Final = "/mcp"
_METADATA_HOSTS: Final = frozenset({"metadata.google.internal", "metadata.goog", "metadata"})


def none_as_empty(value: object) -> object:
    """`backends:` with all its entries commented out is an empty mapping."""
    return {} if value is None else value


def refuse_flags(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def refuse_numbers(value: object) -> object:
    if not isinstance(value, bool | str):
        raise ValueError("must be true or false")
    return value


def split_commas(value: object) -> object:
    """A single text is a list too, its items apart by commas: how an environment variable holds a list."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def split_session_keys(value: object) -> object:
    return split_keys(value) if isinstance(value, str) else value


def check_endpoint(url: str) -> str:
    try:
        parse_endpoint(url)
    except ValueError as error:
        if "credentials" in str(error):
            raise
        raise ValueError(
            "must be an http:// or https:// URL with a host, and with no fragment or white space"
        ) from None
    return url


def is_link_local(url: str) -> bool:
    """Whether the URL's host is, literally, a link-local address or one where a cloud serves instance credentials."""
    host = (urlsplit(url).hostname or "").rstrip(".").partition("%")[0]
    address = _parse_address(host)
    if address is None:
        return host in _METADATA_HOSTS
    return is_metadata(address)


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]+(\.(0[xX])?[0-9a-fA-F]+){0,3}", host):
            return None
        try:  # 0xa9fea9fe, 2852039166 and 169.254.43518 are addresses for getaddrinfo too
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return address


def check_mount(mount: str) -> str:
    """`none`, or a path without a last slash."""
    if mount == "none":
        return mount
    if not mount.startswith("/"):
        raise ValueError('must begin with "/" (or be `none`, which hides the backend)')
    path = mount.rstrip("/")
    if not path or path == AGGREGATE_MOUNT or path.startswith(f"{AGGREGATE_MOUNT}/"):
        raise ValueError("is kept for the aggregate of all backends: choose a mount such as /name")
    return _check_path_of_mount(path)


def check_aggregate_mount(mount: str) -> str:
    """`/`, or a path without a last slash."""
    if not mount.startswith("/"):
        raise ValueError('must begin with "/"')
    path = mount.rstrip("/")
    if path == AGGREGATE_MOUNT or path.startswith(f"{AGGREGATE_MOUNT}/"):
        raise ValueError("is where `mount: /` is served: write that, or choose a mount such as /name")
    return _check_path_of_mount(path) if path else "/"


def _check_path_of_mount(path: str) -> str:
    for segment in path[1:].split("/"):
        if not _SEGMENT.fullmatch(segment) or set(segment) == {"."}:
            raise ValueError("may hold only a-z, 0-9, '.', '_', '~' and '-' between single slashes")
    for reserved in RESERVED_PATHS:
        if path == reserved or path.startswith(f"{reserved}/"):
            raise ValueError(f"would hide the gateway's own {reserved}: choose another mount")
    return path


def check_backend_name(name: str) -> str:
    if not _BACKEND_NAME.fullmatch(name):
        raise ValueError("a backend's name begins with a-z or 0-9 and holds only those, '.', '_' and '-', at most 63")
    return name


def check_aggregate_name(name: str) -> str:
    if not _BACKEND_NAME.fullmatch(name):
        raise ValueError(
            "an aggregate's name begins with a-z or 0-9 and holds only those, '.', '_' and '-', at most 63"
        )
    return name


def check_header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("is no HTTP header name")
    if name.lower() in _OWN_HEADERS or name.lower().startswith("mcp-param-"):
        raise ValueError("is set by the gateway for each request: remove it")
    return name.lower()


def check_header_value(text: str) -> str:
    text = text.strip(" \t")
    if not all(" " <= character <= "~" or character == "\t" for character in text):
        raise ValueError("must be one line of visible ASCII characters")  # RFC 9110, 5.5
    return text


def check_network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or a network such as 10.0.0.0/8") from None
    raise ValueError(f"has host bits set: write {meant}, or a single address without /{meant.prefixlen}")


def check_origin(text: str) -> str:
    if text == "*":
        return text
    parts = _split_url(text)
    if parts is None or not parts.scheme or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError('must be an origin such as https://app.example.com, or "*"')
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _split_url(text: str) -> SplitResult | None:
    """The URL's parts, None unless it is plain ASCII with a host, without credentials, and its port a number."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        parts = urlsplit(text)
        sound = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return None
    return parts if sound else None


def check_public_url(text: str) -> str:
    parts = _split_url(text)
    if parts is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError("must be an http(s) URL such as https://mcp.example.com")
    if parts.path not in ("", "/"):
        raise ValueError("must have no path: mounts stand directly below the host")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def check_host_name(text: str) -> str:
    host = text.lower().rstrip(".")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if _is_address(bare) or (_HOST_NAME.fullmatch(host) and len(host) <= 253):
        return bare
    raise ValueError("must be a host name without scheme, port and path, such as mcp.internal")


def check_bind(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return check_host_name(bare)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a socket bound to `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def check_path(text: str) -> str:
    if not text.startswith("/") or not all("!" <= character <= "~" for character in text) or "#" in text:
        raise ValueError('must be a path that begins with "/", without white space')
    return text


def check_proxy(text: str) -> str:
    bare = re.sub(r"^(http://)[^/@]*@", r"\1", text)
    parts = _split_url(bare)
    if parts is None or parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be http://[user:password@]host:port")
    return text.rstrip("/")


def check_redis(text: str) -> str:
    if text in ("memory", "none"):
        return text
    scheme, _, rest = text.partition("://")
    if scheme not in _REDIS_SCHEMES or not rest.partition("/")[0].rpartition("@")[2] or any(c.isspace() for c in text):
        raise ValueError("must be a redis://, rediss://, redis+sentinel:// or redis+cluster:// URL, `memory` or `none`")
    return text


def host_of(url: str) -> str:
    """The URL's host: lower case, without port and brackets, "" where there is none."""
    return urlsplit(url).hostname or ""


def check_heartbeat(seconds: float) -> float:
    if not MIN_HEARTBEAT_SECONDS <= seconds <= MAX_HEARTBEAT_SECONDS:
        raise ValueError(
            "must be between 1s and 1m: shorter, replicas doubt each other at every hiccup; longer, clients give up"
        )
    return seconds
