"""What the members of an aggregate list, as one list: under which names its clients see it, and whose each of them is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.policy.aggregates import Aggregate, Local, Member, expose_all, permits, read_prefix
from gateway.protocol.catalogues import Item, Kind, rename_item
from gateway.protocol.pages import Entry


class Catalogue(NamedTuple):
    """A merged list. `doubled`: names that two members have, shown under their prefixes; `dropped`: entries not shown
    because the same member listed the name before."""

    entries: tuple[Entry, ...]
    locals: Mapping[str, Local]  # by the name that is shown
    doubled: frozenset[str]
    dropped: int


def merge_lists(aggregate: Aggregate, kind: Kind, lists: Iterable[tuple[Member, Sequence[Item]]]) -> Catalogue:
    """What the members list, in the order in which they are given, less what the aggregate doesn't permit."""
    permitted = [(member, [i for i in items if permits(aggregate, member, kind, i.name)]) for member, items in lists]
    shown, doubled = expose_all(aggregate, kind, ((member, [i.name for i in items]) for member, items in permitted))
    entries: list[Entry] = []
    locals_: dict[str, Local] = {}
    for member, items in permitted:
        for item in items:
            name = shown[member.backend, item.name]
            if name not in locals_:
                locals_[name] = Local(member, item.name)
                entries.append(Entry(member.backend, item.name, name, rename_item(item, name)))
    return Catalogue(tuple(entries), locals_, doubled, sum(len(items) for _, items in permitted) - len(entries))


def find_shown(aggregate: Aggregate, kind: Kind, shown: str, catalogue: Catalogue) -> Local | None:
    """Whose a shown name is, and what its member calls it; None where nobody has it.

    A whole name under a prefix needs no list: what its member doesn't list may still be called.
    """
    local = read_prefix(aggregate, kind, shown)
    return local if local is not None and not local.is_shortened else catalogue.locals.get(shown)


def match_template(catalogue: Catalogue, uri: str) -> Local | None:
    """Whose resource a URI is that nobody lists: of the templates that could make it, the one with most text of its own.

    A template shown under a prefix makes URIs with that prefix, which need no looking up.
    """
    plain = (entry for entry in catalogue.entries if entry.shown == entry.name and _can_make(entry.name, uri))
    best = max(plain, key=lambda entry: sum(map(len, _split_template(entry.name))), default=None)
    return None if best is None else Local(catalogue.locals[best.shown].member, uri)


_EXPRESSION: Final = re.compile(r"\{[^{}]*\}")


def _split_template(template: str) -> list[str]:
    """The text around the expressions of a URI template (RFC 6570 §2)."""
    return _EXPRESSION.split(template)


def _can_make(template: str, uri: str) -> bool:
    """Whether the URI is the template with any text for each expression, which is more than RFC 6570 §3.2 lets them be."""
    first, *rest = _split_template(template)
    if not rest:
        return uri == template
    *middle, last = rest
    place, end = len(first), len(uri) - len(last)
    if place > end or not uri.startswith(first) or not uri.endswith(last):
        return False
    for text in middle:
        place = uri.find(text, place, end)
        if place < 0:
            return False
        place += len(text)
    return True
