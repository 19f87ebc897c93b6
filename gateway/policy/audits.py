"""What the audit log is told of calls, and where it is kept: what `audit:` in the configuration comes to."""

from typing import Final

import msgspec

from gateway.policy.globs import Globs

STDOUT: Final = "stdout"


class ArgumentRule(msgspec.Struct, frozen=True):
    """Of these tools of these backends, these arguments are told as they are."""

    tools: Globs
    keys: frozenset[str]
    backends: Globs = Globs(is_all=True)


class Auditing(msgspec.Struct, frozen=True):
    """How calls are audited."""

    file: str  # an absolute path, or `stdout`
    is_required: bool = False  # whether calls are refused that couldn't be told of
    rules: tuple[ArgumentRule, ...] = ()

    def shown_keys(self, backend: str, tool: str) -> frozenset[str]:
        """The arguments of that tool that may be told as they are."""
        fitting = (rule.keys for rule in self.rules if rule.tools.fits(tool) and rule.backends.fits(backend))
        return frozenset().union(*fitting)
