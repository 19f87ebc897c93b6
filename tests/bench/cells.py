"""What stands in a cell of a table: numbers, ratios within a round, marks for errors. Pure."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import TypeVar

from tests.bench.rows import Calls, Events, Merged, Row, Run

BASE = "nginx"

Measured = TypeVar("Measured", Calls, Merged, Events)


def ratio_within_rounds(
    rows: Iterable[Measured], base: Iterable[Measured], figure: Callable[[Measured], float]
) -> float | None:
    """The median, over the rounds that both have, of row / base: what else the machine did in a round cancels out."""
    bases = {row.round: figure(row) for row in base if not row.errors and figure(row) > 0}
    ratios = [figure(row) / bases[row.round] for row in rows if row.round in bases and not row.errors]
    return median(ratios) if ratios else None


def difference_within_rounds(
    rows: Iterable[Measured], base: Iterable[Measured], figure: Callable[[Measured], float]
) -> float | None:
    """The median, over the rounds that both have, of row - base."""
    bases = {row.round: figure(row) for row in base if not row.errors}
    differences = [figure(row) - bases[row.round] for row in rows if row.round in bases and not row.errors]
    return median(differences) if differences else None


def count_errors(rows: Iterable[Measured]) -> str:
    """Nothing where all went well, else a mark with how many calls, or events, failed and how many didn't."""
    rows = list(rows)
    errors = sum(row.errors for row in rows)
    if not errors:
        return ""
    right = sum(row.delivered if isinstance(row, Events) else row.calls for row in rows)
    return f"**✗ {errors:,} errors**, {right:,} right"


def note_errors(rows: Sequence[Measured], where: str) -> list[str]:
    """One line with the first error, where there is one."""
    first = next((row.error for row in rows if row.errors), "")
    return [f"{where}, first error: `{first.replace('`', chr(39))}`"] if first else []


def names_of(rows: Iterable[Row]) -> list[str]:
    """The contenders in the order of their first rows."""
    return list(dict.fromkeys(row.contender for row in rows if not isinstance(row, Run)))


def number(figure: float) -> str:
    """Three significant digits are all that such a measurement has."""
    digits = 2 if figure < 10 else 1 if figure < 100 else 0
    return f"{figure:,.{digits}f}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def times(ratio: float | None) -> str:
    return "–" if ratio is None else f"× {number(ratio)}"


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def rule(columns: int) -> str:
    return "|" + " --- |" + " ---: |" * (columns - 1)
