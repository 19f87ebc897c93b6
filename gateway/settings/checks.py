"""What several keys can get wrong together, and what only a look at a file or at the whole can tell.

A check says nothing about what is already known to be wrong: those keys were cut off, and stand in `cut`.
"""

from collections.abc import Callable, Iterable, Iterator

from gateway.policy.sites import spell_mount
from gateway.settings import aggregates
from gateway.settings.admissions import check_auth, is_asking
from gateway.settings.grant_checks import GrantChecks
from gateway.settings.memberships import Memberships
from gateway.settings.nodes import Node
from gateway.settings.problems import Loc, Problem, problem_at
from gateway.settings.quantities import encode_duration
from gateway.settings.shapes import BackendShape, FileShape
from gateway.settings.sites import mount_of
from gateway.settings.values import check_aggregate_mount, check_mount, is_link_local, is_loopback


class Checks:
    """All checks over one configuration."""

    def __init__(self, shape: FileShape, root: Node, cut: Iterable[Loc]) -> None:
        self.shape = shape
        self.root = root
        self.cut = frozenset(cut)

    def run(self) -> list[Problem]:
        found = [*self.check_exposure(), *self.check_ports(), *self.check_redis(), *self.check_mounts()]
        found += self.check_admission()
        for name, backend in self.shape.backends.items():
            found += self.check_backend(("backends", name), backend)
        for name, aggregate in self.shape.aggregates.items():
            loc: Loc = ("aggregates", name)
            checked = Memberships(loc, aggregate, self.shape.backends, self.cut).run()
            found += (self.problem((*loc, *key), message) for key, message in checked)
        for number, grant in enumerate(self.shape.grants or ()):
            mistakes = GrantChecks(number, grant, self.root, self.cut).run()
            found += (self.problem(("grants", number, *key), message) for key, message in mistakes)
        return found

    def problem(self, loc: Loc, message: str) -> Problem:
        """A problem with the value at `loc`, or with the deepest key on the way that was told."""
        return problem_at(self.root.find(loc).place, loc, message)

    def check_exposure(self) -> Iterator[Problem]:
        """Off loopback nothing that guards the gateway is left to a default."""
        host = self.shape.host
        if is_loopback(host) or ("host",) in self.cut:
            return
        why = f"is required because `host` is {host}, which others can reach"
        if not self.shape.public_url and ("public_url",) not in self.cut:
            yield self.problem(("public_url",), f"{why}: say what clients call it, such as https://mcp.example.com")
        if not self.shape.auth and ("auth",) not in self.cut:
            yield self.problem(("auth",), f"{why}: write `auth: none` if that is what you want")
        keys = {("session_keys",), ("session_keys_file",)}
        if not self.shape.session_keys and not self.shape.session_keys_file and not keys & self.cut:
            mend = "make a key with `mcp-gateway keygen` and give it as MCPGW_SESSION_KEYS, the same to every replica"
            yield self.problem(("session_keys",), f"{why}: {mend}")

    def check_admission(self) -> Iterator[Problem]:
        """Who may call; where a key was cut, nothing is said to be missing there."""
        auth = self.shape.auth
        if auth is None or not is_asking(auth) or any(loc[:1] == ("auth",) for loc in self.cut):
            return
        has_proxies = bool(self.shape.trusted_proxies) or any(loc[:1] == ("trusted_proxies",) for loc in self.cut)
        for key, message in check_auth(auth, has_proxies=has_proxies):
            yield self.problem(("auth", *key), message)
        is_told = self.shape.public_url or ("public_url",) in self.cut or not is_loopback(self.shape.host)
        if auth.issuers and not is_told:
            why = "is required with `auth.issuers`: tokens are made for the URLs below it"
            yield self.problem(("public_url",), f"{why}; say what clients call the gateway")

    def check_redis(self) -> Iterator[Problem]:
        if self.shape.redis == "memory" and self.shape.workers > 1 and ("workers",) not in self.cut:
            message = "`memory` is one worker's own: name a Redis, or set `workers: 1`, or `redis: none`"
            yield self.problem(("redis",), message)

    def check_ports(self) -> Iterator[Problem]:
        if self.shape.admin.port == self.shape.port != 0:  # 0: any free one
            yield self.problem(("admin", "port"), f"{self.shape.port} is the main port: choose another")
        if self.shape.admin.host and self.shape.admin.port is None and ("admin", "port") not in self.cut:
            yield self.problem(
                ("admin", "host"), "has no effect without `admin.port`: add the port, or remove the host"
            )
        both = self.shape.session_keys and self.shape.session_keys_file
        if both:
            yield self.problem(("session_keys_file",), "stands beside `session_keys`: remove one of them")

    def check_mounts(self) -> Iterator[Problem]:
        """Each path serves one backend or aggregate. `/x` and `/x/mcp` are the same path: a mount serves both spellings."""
        owners: dict[str, Loc] = {}
        for loc, mount, is_default in self.list_mounts():
            check = check_mount if loc[0] == "backends" else check_aggregate_mount
            if is_default and (said := _refuse_default(mount, check)):
                yield self.problem((*loc, "mount"), f"{mount} {said}")
                continue
            paths = spell_mount(mount)
            taken = next((path for path in paths if path in owners), None)
            if taken is None:
                owners |= dict.fromkeys(paths, loc)
                continue
            owner = owners[taken]
            place = self.root.mapping[str(owner[0])].keys[str(owner[1])]
            said = f"{taken} is served by `{owner[1]}` already ({place}): give one another `mount:`"
            yield self.problem((*loc, "mount"), said)

    def list_mounts(self) -> Iterator[tuple[Loc, str, bool]]:
        """Of each backend and aggregate that has one: its key, the mount, and whether that is made of its name."""
        for name, backend in self.shape.backends.items():
            mount = mount_of(name, backend.mount)
            if mount and ("backends", name, "mount") not in self.cut:
                yield ("backends", name), mount, backend.mount is None
        for name, aggregate in self.shape.aggregates.items():
            if ("aggregates", name, "mount") not in self.cut:
                yield ("aggregates", name), aggregates.mount_of(name, aggregate), aggregate.mount is None

    def check_backend(self, loc: Loc, backend: BackendShape) -> Iterator[Problem]:
        if not backend.endpoints and (*loc, "endpoints") not in self.cut:
            yield self.problem((*loc, "endpoints"), "is missing: give at least one URL, such as [http://echo:9000/mcp]")
        for index, url in enumerate(backend.endpoints):
            if url in backend.endpoints[:index]:
                yield self.problem((*loc, "endpoints", index), "stands twice: remove one")
            if is_link_local(url) and not backend.allow_link_local:
                why = "is a link-local or cloud-metadata address, which hands out credentials"
                yield self.problem((*loc, "endpoints", index), f"{why}: if you mean it, set `allow_link_local: true`")
        yield from self.check_tls(loc, backend)
        yield from self.check_ejection(loc, backend)

    def check_tls(self, loc: Loc, backend: BackendShape) -> Iterator[Problem]:
        tls = backend.tls
        for given, lacking in (("client_cert", "client_key"), ("client_key", "client_cert")):
            if getattr(tls, given) and not getattr(tls, lacking) and (*loc, "tls", lacking) not in self.cut:
                yield self.problem((*loc, "tls", given), f"needs `{lacking}:` beside it")

    def check_ejection(self, loc: Loc, backend: BackendShape) -> Iterator[Problem]:
        ejection = backend.ejection
        if (
            ejection.rest > ejection.max_rest
            and not {(*loc, "ejection", "rest"), (*loc, "ejection", "max_rest")} & self.cut
        ):
            most = encode_duration(ejection.max_rest)
            yield self.problem((*loc, "ejection", "rest"), f"is longer than `max_rest`, which is {most}")


def _refuse_default(mount: str, check: Callable[[str], str]) -> str:
    """Why a name can't be the mount, "" where it can."""
    try:
        check(mount)
    except ValueError as error:
        return f"{error}; add a `mount:`"
    return ""
