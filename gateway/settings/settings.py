"""What was told, ready for use: one frozen value. How it was told is forgotten, except which files to watch."""

import hashlib
from collections.abc import Iterator
from typing import Literal

import msgspec

from gateway.policy.absences import HEARTBEAT_SECONDS
from gateway.policy.backends import Tls
from gateway.policy.drains import Drain
from gateway.policy.sites import Site, is_limited
from gateway.policy.streams import MAX_ORPHANS
from gateway.settings.admissions import list_crossings
from gateway.settings.grant_checks import doubts_of_grants
from gateway.settings.grants import without_places
from gateway.settings.values import host_of, is_loopback


class Settings(msgspec.Struct, frozen=True):
    """The whole configuration. Its repr shows no secret: they are masked texts and bytes."""

    site: Site
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None  # None: what is the operator's is on the main port
    redis: str = "none"
    heartbeat_seconds: float = HEARTBEAT_SECONDS  # of each worker, for the others
    budget_bytes: int | None = None  # for the logs of streams; None: what there is
    max_orphans: int = MAX_ORPHANS  # calls of each worker whose clients have left
    drain: Drain = Drain()
    auth: Literal["none", "required"] | None = None  # `site.admission` says what is required; None: not told
    session_keys: tuple[bytes, ...] = ()  # the first seals, all open
    session_keys_generated: bool = False  # made at start, because none were given on loopback
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"
    files: tuple[str, ...] = ()  # absolute paths that were read, and directories in which `include` looked


_FIXED_AT_START = {
    "host": "host",
    "port": "port",
    "workers": "workers",
    "admin.host": "admin_host",
    "admin.port": "admin_port",
    "log.format": "log_format",
    "redis": "redis",
    "streams.heartbeat": "heartbeat_seconds",
    "streams.budget": "budget_bytes",
    "streams.max_orphans": "max_orphans",
    "drain": "drain",
}


def restart_needed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that changed and that a running gateway can't take over."""
    return tuple(key for key, field in _FIXED_AT_START.items() if getattr(old, field) != getattr(new, field))


def doubts(settings: Settings) -> Iterator[str]:
    """What is allowed, and probably not meant: a sentence each."""
    if not settings.site.backends:
        yield "there are no backends: every request will be answered with 404"
    yield from _doubts_of_aggregates(settings.site)
    yield from doubts_of_grants(settings.site)
    exposed = not is_loopback(settings.host)
    if exposed and settings.auth == "none":
        yield "auth is `none`: whoever reaches this gateway may call every tool behind it"
    if exposed and (settings.site.public_url or "").startswith("http://"):
        yield "public_url is http://: unless the network is trusted, let a load balancer end TLS before it"
    for issuer, url in list_crossings(settings.site.admission) if settings.site.admission else ():
        yield f"auth: whoever is on the way to {host_of(url)} can let anyone in as a user of {issuer}: use https://"
    if settings.redis == "none" and is_limited(settings.site):
        yield "limits: without `redis` each worker counts for itself, and lets through as much as all should together"
    for backend in settings.site.backends.values():
        if backend.reexecute != "never" and settings.redis == "none":
            yield f"backends.{backend.name}: its `reexecute` has no effect without `redis`, no call is kept"
        if backend.tls != Tls() and not any(url.startswith("https://") for url in backend.endpoints):
            yield f"backends.{backend.name}: its `tls` has no effect, no endpoint is an https:// URL"
        for url in backend.endpoints:
            if backend.headers and url.startswith("http://") and not is_loopback(host_of(url)):
                yield f"backends.{backend.name}: its `headers` cross the network in the clear to {host_of(url)}"


def _doubts_of_aggregates(site: Site) -> Iterator[str]:
    for aggregate in site.aggregates.values():
        other = {"legacy": "modern", "modern": "legacy"}.get(aggregate.era)
        for member in aggregate.members:
            if other is not None and site.backends[member.backend].era == other:
                yield f"aggregates.{aggregate.name}: {member.backend} is never there, it speaks only {other} versions"


def with_digest(settings: Settings) -> Settings:
    """The settings with their site's digest: equal on all replicas that run the same configuration.

    Session keys given by the operator are part of what is hashed, so that a rotation shows, and so that nobody without
    them can guess a weaker secret from the digest. Keys made at start, and files' names, are not.
    """
    told = {field: getattr(settings, field) for field in settings.__struct_fields__ if field not in ("site", "files")}
    if settings.session_keys_generated:
        del told["session_keys"]
    site = msgspec.structs.replace(settings.site, routes={}, digest="", grants=without_places(settings.site.grants))
    told["backends"] = list(site.backends)  # their order is part of what was told
    canonical = msgspec.json.encode([told, site], order="deterministic", enc_hook=_encode_masked)
    digest = hashlib.sha256(canonical).hexdigest()[:12]
    return msgspec.structs.replace(settings, site=msgspec.structs.replace(settings.site, digest=digest))


def _encode_masked(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no rule for {type(value).__name__}")
