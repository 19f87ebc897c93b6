"""The ledger is complete both ways. Read from the sources, so that it holds whichever tests are run."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.requirements import GATEWAY, REQUIREMENTS


def named_ids() -> Iterator[str]:
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "proves":
                yield from (ast.literal_eval(argument) for argument in node.args)


def test_every_requirement_is_proved_and_every_named_one_stands_in_the_ledger() -> None:
    named = set(named_ids())
    assert named - REQUIREMENTS.keys() == set(), "tests name these, the ledger doesn't"
    assert REQUIREMENTS.keys() - named == set(), "no test proves these"


def test_every_requirement_says_where_it_comes_from() -> None:
    for requirement in REQUIREMENTS.values():
        assert requirement.source == GATEWAY or requirement.source.startswith("https://")
        assert requirement.sentence.endswith(".")
