"""Where Redis is: the four kinds of URL, parsed. Nothing is dialled here.

    redis://[user:password@]host[:6379][/db]            one server; rediss:// with TLS
    redis+sentinel://[user:password@]host[:26379],…/service[/db]
    redis+cluster://[user:password@]host[:6379],…

Options stand behind `?`: `tls=true` (for the two that have no letter for it), `ca_file`, `cert_file`, `key_file`,
`check_hostname=false`, and for Sentinels `sentinel_username` and `sentinel_password` where they ask for their own.
"""

from typing import Any, Final, Literal, NoReturn
from urllib.parse import parse_qsl, unquote

import msgspec

Kind = Literal["single", "sentinel", "cluster"]
Address = tuple[str, int]

_SCHEMES: Final[dict[str, tuple[Kind, int]]] = {
    "redis": ("single", 6379),
    "rediss": ("single", 6379),
    "redis+sentinel": ("sentinel", 26379),
    "redis+cluster": ("cluster", 6379),
}
_TLS_OPTIONS: Final = frozenset({"ca_file", "cert_file", "key_file", "check_hostname"})
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One Redis, however many servers it is. `addresses`: of the server, of the Sentinels, or of some cluster nodes."""

    kind: Kind
    addresses: tuple[Address, ...]
    service: str = ""  # what Sentinel calls it
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    def __repr__(self) -> str:  # without the secrets
        where = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"Target({self.kind} {where}{f' {self.service}' if self.service else ''})"


def parse_target(url: str) -> Target:
    """Raises ValueError with a sentence that says what is wrong; it quotes nothing that could hold a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        _refuse(f"must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}")
    kind, default_port = _SCHEMES[scheme]
    rest, _, query = rest.partition("?")
    if "#" in rest or "#" in query:
        _refuse("must have no fragment: write # in a password as %23")
    authority, _, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    username, password = _parse_credentials(credentials)
    service, db = _parse_path(kind, path)
    options = _parse_options(kind, scheme == "rediss", query)
    addresses = tuple(_parse_address(host, default_port) for host in hosts.split(","))
    if kind == "single" and len(addresses) > 1:
        _refuse("names several hosts: use redis+sentinel:// or redis+cluster://")
    return Target(
        kind=kind, addresses=addresses, service=service, db=db, username=username, password=password, **options
    )


def _refuse(why: str) -> NoReturn:
    raise ValueError(f"the Redis URL {why}")


def _parse_credentials(text: str) -> tuple[str | None, str | None]:
    username, separator, password = text.partition(":")
    if "/" in text or "@" in text:
        _refuse("must write / and @ in a password as %2F and %40")
    if not separator:  # redis://secret@host: nobody means a user without a password
        if username:
            _refuse("must write a password behind a colon, as in redis://:password@host")
        return None, None
    return unquote(username) or None, unquote(password) or None


def _parse_address(text: str, default_port: int) -> Address:
    host, port = text, ""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            _refuse("has an IPv6 address that isn't written [address]:port")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:
        _refuse("has an IPv6 address that isn't written [address]:port")
    if not host or any(c.isspace() for c in host):
        _refuse("lacks a host")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        _refuse("has a port that isn't a number from 1 to 65535")
    return host, int(port or default_port)


def _parse_path(kind: Kind, path: str) -> tuple[str, int]:
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            _refuse("must name Sentinel's service, as in redis+sentinel://host:26379/mymaster")
    path = path.rstrip("/")
    if path and not (path.isascii() and path.isdigit()):
        _refuse("has a database that isn't a number")
    if kind == "cluster" and path not in ("", "0"):
        _refuse("names a database: a cluster has only database 0")
    return service, int(path or 0)


def _parse_options(kind: Kind, has_tls: bool, query: str) -> dict[str, Any]:
    allowed = {"tls"} | _TLS_OPTIONS | (_SENTINEL_OPTIONS if kind == "sentinel" else frozenset())
    options: dict[str, Any] = {"tls": has_tls}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            _refuse(f"has an unknown option; there are {', '.join(sorted(allowed))}")
        if name in ("tls", "check_hostname"):
            if value not in ("true", "false"):
                _refuse(f"must say true or false for {name}")
            options[name] = value == "true"
        else:
            options[name] = value
    if not options["tls"]:
        if has_tls:
            _refuse("says rediss:// and tls=false")
        if _TLS_OPTIONS & options.keys():
            _refuse("has options for TLS, but no TLS: use rediss://, or tls=true")
    return options
