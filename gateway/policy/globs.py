"""Patterns as a shell has them (`*`, `?`, `[a-z]`), many compiled into one look. Knows nothing of what they are about.

Case matters, `*` stands for any text, `/` included, and a character that means something is spelt in brackets: `[*]`.
"""

import re
from fnmatch import translate
from functools import lru_cache
from typing import Final

import msgspec

_MEANINGFUL: Final = re.compile(r"[*?\[]")
_NEVER: Final = "(?!)"  # what `translate` makes of an empty range, such as [z-a]


class Globs(msgspec.Struct, frozen=True, gc=False):
    """Some patterns: those without a character that means something apart, since a look into a set is cheaper."""

    exact: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    is_all: bool = False  # whether `*` is among them

    def fits(self, text: str) -> bool:
        return self.is_all or text in self.exact or (self.pattern is not None and self.pattern.match(text) is not None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing fits."""
        return not self.is_all and not self.exact and self.pattern is None


def is_exact(glob: str) -> bool:
    """Whether it fits one text only, and is spelt like it."""
    return _MEANINGFUL.search(glob) is None


@lru_cache(maxsize=4096)  # lists, and each glob alone: what large configurations have
def compile_globs(globs: tuple[str, ...]) -> Globs:
    """All of them as one; text fits it that fits any."""
    told = frozenset(globs)
    exact = frozenset(filter(is_exact, told))
    patterns = sorted(told - exact)  # in one order, so that two of the same are equal
    is_all = "*" in told
    return Globs(exact, None if is_all or not patterns else re.compile("|".join(map(translate, patterns))), is_all)


def can_match(glob: str) -> bool:
    """Whether any text at all fits it."""
    return bool(glob) and _NEVER not in translate(glob)
