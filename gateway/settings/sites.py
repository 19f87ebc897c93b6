"""From the file's shapes to the policy's: defaults filled in, paths made absolute, secrets masked."""

from gateway.policy.backends import Address, Backend, Ejection, HealthCheck, Timeouts, Tls
from gateway.policy.grants import Grants
from gateway.policy.sites import Cors, Limits, Site, compile_routes
from gateway.settings.admissions import compile_admission
from gateway.settings.aggregates import compile_aggregates
from gateway.settings.audits import compile_auditing
from gateway.settings.caches import compile_bounds, compile_caching
from gateway.settings.limits import compile_rates
from gateway.settings.masks import MaskedText, MaskedUrl
from gateway.settings.shapes import BackendShape, FileShape, LimitsShape, TimeoutsShape
from gateway.settings.values import host_of, is_loopback

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def compile_site(shape: FileShape, tls: dict[str, Tls], issuers_tls: dict[int, Tls], grants: Grants | None) -> Site:
    """The site of a configuration without mistakes; the TLS settings are of those that have any."""
    backends = {
        name: compile_backend(name, backend, shape.timeouts, tls.get(name, Tls()))
        for name, backend in shape.backends.items()
    }
    aggregates = compile_aggregates(shape.aggregates, shape.backends)
    return Site(
        backends=backends,
        routes=compile_routes(backends.values(), aggregates.values()),
        aggregates=aggregates,
        public_url=shape.public_url,
        admission=compile_admission(shape.auth, issuers_tls),
        hosts=compile_hosts(shape),
        cors=Cors(origins=frozenset(shape.cors.origins)),
        trusted_proxies=tuple(shape.trusted_proxies),
        expose_mounts=shape.expose_mounts,
        limits=compile_limits(shape.limits),
        grants=grants,
        cache=compile_bounds(shape.cache),
        audit=compile_auditing(shape.audit),
    )


def compile_backend(name: str, shape: BackendShape, timeouts: TimeoutsShape, tls: Tls) -> Backend:
    check = shape.health_check
    return Backend(
        name=name,
        endpoints=tuple(map(Address, shape.endpoints)),
        mount=mount_of(name, shape.mount),
        era=shape.era,
        resolve=shape.resolve,
        resolve_seconds=shape.resolve_interval,
        timeouts=Timeouts(
            connect_seconds=shape.timeouts.connect or timeouts.connect,
            idle_seconds=shape.timeouts.idle or timeouts.idle,
            total_seconds=shape.timeouts.total or timeouts.total,
        ),
        tls=tls,
        proxy=MaskedUrl(shape.proxy) if shape.proxy else None,
        headers=tuple((header, MaskedText(value)) for header, value in shape.headers.items()),
        ejection=Ejection(shape.ejection.failures, shape.ejection.rest, shape.ejection.max_rest),
        health_check=HealthCheck(check.path, check.interval, check.timeout) if check else None,
        max_connections=shape.max_connections,
        heal=shape.heal,
        allow_link_local=shape.allow_link_local,
        reexecute=shape.reexecute,
        caching=compile_caching(shape.cache),
        rates=compile_rates(shape.limits),
        trust_public=shape.trust_public,
    )


def mount_of(name: str, mount: str | None) -> str | None:
    """`/name` unless another one is told; None hides it."""
    return None if mount == "none" else mount or f"/{name}"


def compile_limits(shape: LimitsShape) -> Limits:
    return Limits(
        body_bytes=shape.body,
        answer_bytes=shape.answer,
        event_bytes=shape.event,
        body_seconds=shape.body_timeout,
        rates=compile_rates(shape),
    )


def compile_hosts(shape: FileShape) -> frozenset[str]:
    """Names without port, IPv6 addresses without brackets. Never derived from a request's Host header."""
    hosts = set(shape.allowed_hosts)
    if shape.public_url:
        hosts.add(host_of(shape.public_url))
    if is_loopback(shape.host):
        hosts |= _LOOPBACK_NAMES | {shape.host}
    return frozenset(hosts)
