"""What was found: one finding a check, and the chart that collects them. What the user keeps secret never gets in."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

import msgspec


class Verdict(StrEnum):
    FINE = "fine"
    DOUBTFUL = "doubtful"  # some clients, or some day, will have trouble with it
    FAULTY = "faulty"  # a client fails by it


SIGNS: Final = {Verdict.FINE: "✓", Verdict.DOUBTFUL: "!", Verdict.FAULTY: "✗"}

HIDDEN: Final = "[hidden]"

_SECRET_CHARACTERS: Final = 6
"""Shorter words of a header's value ("Bearer", "en") stay readable: they stand in too many harmless places."""


class Finding(msgspec.Struct, frozen=True):
    """`mend` is one sentence, empty where there is nothing to mend."""

    check: str
    verdict: Verdict
    seen: str
    mend: str = ""


class Chart:
    """The findings in the order of the checks. `tell` hears of each at once."""

    def __init__(self, secrets: Iterable[str], tell: Callable[[Finding], None]) -> None:
        self.findings: list[Finding] = []
        self._tell = tell
        words = {word for secret in secrets for word in (secret, *secret.split())}
        self._secrets = sorted((word for word in words if len(word) > _SECRET_CHARACTERS), key=len, reverse=True)

    def fine(self, check: str, seen: str) -> None:
        self._add(check, Verdict.FINE, seen, "")

    def doubt(self, check: str, seen: str, mend: str) -> None:
        self._add(check, Verdict.DOUBTFUL, seen, mend)

    def fault(self, check: str, seen: str, mend: str) -> None:
        self._add(check, Verdict.FAULTY, seen, mend)

    def count(self, verdict: Verdict) -> int:
        return sum(finding.verdict is verdict for finding in self.findings)

    def _add(self, check: str, verdict: Verdict, seen: str, mend: str) -> None:
        finding = Finding(check, verdict, self._hide(seen), self._hide(mend))
        self.findings.append(finding)
        self._tell(finding)

    def _hide(self, text: str) -> str:
        """Without secrets, and without what could steer a terminal: a server's words are in it."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return "".join(character if character.isprintable() else " " for character in text)
