"""At which backend something is called, from what one knows of it: a mount, or a name as an aggregate shows it. Pure."""

import difflib
from typing import NamedTuple

from gateway.policy.aggregates import Aggregate, Member, permits, read_prefix
from gateway.policy.backends import Backend
from gateway.policy.sites import Site, spell_mount
from gateway.protocol.catalogues import Kind


class Way(NamedTuple):
    """A backend, and its own name for what is called there. `aggregate`: the one through which it is called, if one is told."""

    backend: str
    name: str | None
    aggregate: Aggregate | None = None

    def is_hidden(self, kind: Kind) -> bool:
        """Whether the aggregate itself doesn't show it."""
        if self.aggregate is None or self.name is None:
            return False
        members = (member for member in self.aggregate.members if member.backend == self.backend)
        return not all(permits(self.aggregate, member, kind, self.name) for member in members)


class Unclear(Exception):
    """It can't be said which backend is meant; the message says what to add."""


def find_way(site: Site, kind: Kind | None, name: str | None, backend: str | None, mount: str | None) -> Way:
    """The one way that is meant. Raises `Unclear`."""
    if backend is not None:
        return Way(_find_backend(site, backend), name)
    if mount is not None:
        place = _find_place(site, mount)
        return Way(place.name, name) if isinstance(place, Backend) else _enter(place, kind, name)
    return _guess(site, kind, name)


def _find_backend(site: Site, name: str) -> str:
    if name in site.backends:
        return name
    near = difflib.get_close_matches(name, site.backends, 1, 0.6)
    raise Unclear(f"{name!r} is no backend: {f'did you mean {near[0]!r}?' if near else _known(site)}")


def _find_place(site: Site, mount: str) -> Backend | Aggregate:
    for path in (mount, *spell_mount(mount)):
        if (place := site.routes.get(path)) is not None:
            return place
    mounts = sorted({place.mount for place in site.routes.values() if place.mount})
    raise Unclear(f"nothing is mounted at {mount}: known are {', '.join(mounts) or 'none'}")


def _enter(aggregate: Aggregate, kind: Kind | None, name: str | None) -> Way:
    """The member that a name is about, as far as the name says it."""
    if kind is None or name is None:
        raise Unclear(f"{aggregate.name} is an aggregate: say of which of its backends, with --backend")
    if (local := read_prefix(aggregate, kind, name)) is not None:
        if local.is_shortened:
            raise Unclear(
                f"{name!r} is a shortened name: give the backend's own one, and --backend {local.member.backend}"
            )
        return Way(local.member.backend, local.name, aggregate)
    bare = [member for member in aggregate.members if member.is_bare or kind.is_uri]
    return Way(_only(bare, aggregate, name).backend, name, aggregate)


def _only(members: list[Member], aggregate: Aggregate, name: str) -> Member:
    if len(members) == 1:
        return members[0]
    if not members:
        prefixes = ", ".join(f"{member.prefix}__" for member in aggregate.members)
        raise Unclear(f"{name!r} has no prefix of {aggregate.name}'s: they are {prefixes}")
    several = ", ".join(member.backend for member in members)
    raise Unclear(f"{name!r} may be that of {several}: say whose, with --backend")


def _guess(site: Site, kind: Kind | None, name: str | None) -> Way:
    """Where no place is told: the only backend there is, or what a prefix says."""
    if kind is not None and name is not None:
        read = (read_prefix(aggregate, kind, name) for aggregate in site.aggregates.values())
        ways = {Way(local.member.backend, local.name) for local in read if local is not None and not local.is_shortened}
        if len(ways) == 1:
            return ways.pop()
    if len(site.backends) == 1:
        return Way(next(iter(site.backends)), name)
    raise Unclear(f"say at which backend, with --backend or --mount: {_known(site)}")


def _known(site: Site) -> str:
    return f"known are {', '.join(site.backends) or 'none'}"
