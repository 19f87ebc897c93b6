"""The composition root: builds every real thing of one worker, and owns its lifespan.

Nothing else constructs a port's implementation; whoever wants to know what runs in production reads this page.
"""

import asyncio
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from gateway.downstream.applications import Application
from gateway.downstream.metadata import MetadataApp
from gateway.downstream.operations import DRAINING, BackendState, build_operations, build_probes
from gateway.exchange.allowances import Allowances
from gateway.exchange.caches import Caches
from gateway.exchange.exchanges import Gateway
from gateway.exchange.healers import Healer
from gateway.exchange.hubs import Hubs
from gateway.exchange.orphans import Orphans
from gateway.exchange.owners import Owners
from gateway.exchange.pumps import Pumps
from gateway.exchange.reservations import Reservations
from gateway.exchange.standing import Standing
from gateway.exchange.turns import Turns
from gateway.identity.gates import IdentityGate
from gateway.policy.sites import Site, is_limited
from gateway.policy.streams import MEMORY_BUDGET_BYTES, Ailment, Bounds, Owner
from gateway.ports import Healings
from gateway.protocol.versions import Era
from gateway.settings.problems import ConfigurationInvalid
from gateway.settings.settings import Settings, restart_needed
from gateway.settings.watches import watch
from gateway.state.healings import MemoryHealings, RedisHealings
from gateway.state.memory_marks import MemoryRoom
from gateway.state.quotas import MemoryQuotas, RedisQuotas
from gateway.state.rooms import RedisRoom
from gateway.state.seals import Keyring
from gateway.state.targets import parse_target
from gateway.telemetry.audits import AuditWriter
from gateway.telemetry.logs import Logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reports import Telemetry
from gateway.upstream.rooms import UpstreamRoom

DISTRIBUTION = "mcp-stateless-gateway"
Reload = Callable[[], Settings]


def create_app(settings: Settings, reload: Reload | None = None) -> Application:
    """The ASGI application of one worker. `reload` reads the configuration anew; without it none is watched."""
    return Worker(settings, reload).application


class Worker:
    """One worker: its ports, and what the operations endpoints ask about it."""

    def __init__(self, settings: Settings, reload: Reload | None = None) -> None:
        self.version = find_version()
        self._settings = settings
        self._reload = reload
        self._gateway: Gateway | None = None
        self._room: UpstreamRoom | None = None
        self._redis: RedisRoom | None = None
        self._gate: IdentityGate | None = None
        self._keyring = Keyring(settings.session_keys)
        self._logs = Logs(settings.log_level, settings.log_format)
        self._telemetry = Telemetry(self._logs, Metrics(self.version), time.monotonic)
        self._audit = AuditWriter(settings.site.audit, self._keyring.digest, self._telemetry)
        self.application = self._build_application(settings)

    def _build_application(self, settings: Settings) -> Application:
        if settings.admin_port is not None:
            own = MetadataApp(self.site, build_probes(self))
            return Application(self.run, own, build_operations(self, details=True))
        # `auth: none` says that whoever reaches the port may know all.
        own = MetadataApp(self.site, build_operations(self, details=lambda: self.site().admission is None))
        return Application(self.run, own)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Gateway]:
        """The worker's life: yields its gateway, swaps configurations meanwhile, ends what is left."""
        settings, telemetry = self._settings, self._telemetry
        async with AsyncExitStack() as stack:
            stack.callback(self._logs.route_stdlib())
            stack.push_async_callback(self._audit.close)
            stack.push_async_callback(_stop, asyncio.create_task(self._audit.run()))
            room = await stack.enter_async_context(UpstreamRoom(settings.site.backends, telemetry))
            self._gate = gate = IdentityGate(settings.site.admission, room.client)
            stack.callback(gate.close)
            standing = Standing()
            caches = Caches(telemetry, time.monotonic)
            caches.bounds = settings.site.cache
            hubs = Hubs(room.client, room.endpoints, caches, telemetry)
            orphans = Orphans(settings.max_orphans, telemetry)
            is_shared = settings.redis != "memory"  # which nobody else has
            pumps = Pumps(standing, are_releasable=is_shared, orphans=orphans)
            gateway = Gateway(
                site=settings.site,
                upstream=room.client,
                endpoints=room.endpoints,
                eras=room.eras,
                seals=self._keyring,
                telemetry=telemetry,
                pumps=pumps,
                standing=standing,
                caches=caches,
                hubs=hubs,
                gate=gate,
                audit=self._audit,
                clock=time.monotonic,
                new_trace=new_trace,
            )
            await self._remember(stack, gateway)
            gateway.allowances = allowances = self._limit()
            stack.push_async_callback(allowances.close)
            me = Owner(new_trace())
            stack.push_async_callback(_stop, asyncio.create_task(allowances.run(me, lambda: is_limited(gateway.site))))
            gateway.reservations = reservations = self._reserve(allowances, me)
            stack.push_async_callback(reservations.close)
            stack.push_async_callback(_stop, asyncio.create_task(reservations.run()))
            stack.push_async_callback(caches.tidings.close)
            stack.push_async_callback(hubs.close)
            stack.push_async_callback(pumps.close)  # while the log is there: streams are released in it
            self._gateway, self._room = gateway, room
            if self._reload is not None:
                watcher = asyncio.create_task(self._follow_configuration(gateway, room, self._reload))
                stack.push_async_callback(_stop, watcher)
            telemetry.configuration_applied(settings.site.digest, changed=False)
            telemetry.worker_started(str(os.getpid()))
            # What is here now stays. Unfrozen, each full collection walks all of it, 60 MB of SDK and pydantic.
            gc.collect()
            gc.freeze()
            yield gateway

    async def _remember(self, stack: AsyncExitStack, gateway: Gateway) -> None:
        """What outlives a request: in Redis, in this process's own memory where it is the only one, or nowhere."""
        settings, ttl_seconds = self._settings, self._settings.heartbeat_seconds
        room: RedisRoom | MemoryRoom
        healings: Healings
        match settings.redis:
            case "none":
                return
            case "memory":
                bounds = Bounds(budget_bytes=settings.budget_bytes or MEMORY_BUDGET_BYTES)
                room = await stack.enter_async_context(MemoryRoom(bounds=bounds, heartbeat_seconds=ttl_seconds))
                healings = MemoryHealings()
            case url:
                redis = RedisRoom(
                    parse_target(url),
                    self._keyring,
                    bounds=Bounds(budget_bytes=settings.budget_bytes),
                    witness=self._telemetry,
                    heartbeat_seconds=ttl_seconds,
                )
                room = self._redis = await stack.enter_async_context(redis)
                healings = RedisHealings(redis.store)
                stack.push_async_callback(_stop, asyncio.create_task(warn_of_eviction(redis)))
        gateway.caches.tidings.invalidations = room.invalidations
        gateway.log, gateway.marks, gateway.healer = room.log, room.marks, Healer(healings)
        gateway.owners = owners = Owners(room.heartbeats, Owner(new_trace()), ttl_seconds, time.monotonic)
        stack.push_async_callback(_stop, asyncio.create_task(owners.run()))
        gateway.turns = turns = Turns(room.log, room.marks, owners, time.monotonic)
        stack.push_async_callback(turns.close)
        stack.push_async_callback(_stop, asyncio.create_task(turns.run()))

    def _reserve(self, allowances: Allowances, me: Owner) -> Reservations:
        """What callers may have at once, counted as what they may ask for."""
        quotas = MemoryQuotas(time.monotonic) if self._redis is None else RedisQuotas(self._redis.store)
        return Reservations(quotas, me, time.monotonic, lambda: allowances.workers)

    def _limit(self) -> Allowances:
        """What callers may ask for: of all workers together where there is a Redis, else of this one."""
        own = MemoryQuotas(time.monotonic)
        quotas = own if self._redis is None else RedisQuotas(self._redis.store)
        return Allowances(quotas, own, self._telemetry, time.monotonic)

    async def _follow_configuration(self, gateway: Gateway, room: UpstreamRoom, reload: Reload) -> None:
        async with aclosing(watch(self._settings, reload)) as changes:
            async for found in changes:
                if isinstance(found, ConfigurationInvalid):
                    self._telemetry.configuration_refused([str(problem) for problem in found.problems])
                else:
                    self._swap(gateway, room, found)

    def _swap(self, gateway: Gateway, room: UpstreamRoom, settings: Settings) -> None:
        """One assignment: an exchange under way ends with the site that it began with."""
        if kept := restart_needed(self._settings, settings):
            logging.getLogger("gateway.app").warning("these need a restart to change: %s", ", ".join(kept))
        room.reconcile(settings.site.backends)
        if settings.session_keys != self._settings.session_keys:
            self._keyring.change(settings.session_keys)
        if settings.log_level != self._settings.log_level:
            self._telemetry.change_log_level(settings.log_level)
        if self._gate is not None:
            self._gate.change(settings.site.admission)
        self._audit.change(settings.site.audit)
        gateway.site = settings.site
        gateway.caches.bounds = settings.site.cache
        self._settings = settings
        self._telemetry.configuration_applied(settings.site.digest)

    def site(self) -> Site:
        return self._settings.site

    # what `operations.Replica` asks

    def hindrances(self) -> Sequence[str]:
        if self._gateway is None:
            return ("starting",)
        return (DRAINING,) if self.application.is_leaving else ()

    def digest(self) -> str:
        return self._settings.site.digest

    def backends(self) -> Sequence[BackendState]:
        if self._room is None:
            return ()
        room, reports = self._room, self._room.endpoints.report()
        return [
            BackendState(
                name=backend.name,
                mount=backend.mount,
                endpoints={r.address: "ejected" if r.state == "ejected" else "healthy" for r in reports[backend.name]},
                eras={era: room.eras.speaks(backend, era) for era in Era},
            )
            for backend in self._settings.site.backends.values()
        ]

    def redis_troubles(self) -> Sequence[Ailment] | None:
        return None if self._redis is None else self._redis.ailments()

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        return self._telemetry.render_metrics(accept)


async def warn_of_eviction(redis: RedisRoom) -> None:
    """A Redis that throws keys away when it is full takes streams from under their clients: said once, at the start."""
    for report in await redis.inspect():
        if report.policy not in ("", "noeviction"):
            message = (
                "redis %s has maxmemory-policy %s: set it to noeviction, or resumable streams vanish when it is full"
            )
            logging.getLogger("gateway.app").warning(message, report.name, report.policy)


def new_trace() -> str:
    """32 random hexadecimal digits: a request id, and a W3C trace id."""
    return os.urandom(16).hex()


def find_version() -> str:
    """The installed version; "unknown" where the code runs from a folder that was never installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
