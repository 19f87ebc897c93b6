"""YAML is read as YAML 1.2 has it, with places, and never as anything but text, numbers, flags, lists and mappings."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.nodes import node_of, parse
from gateway.settings.problems import Place, spell


def plain(text: str) -> Any:
    node, problems = parse(text.encode(), "f")
    assert problems == []
    return node.plain() if node else None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-7", -7),
        ("1:30", "1:30"),
        ("2026-07-28", "2026-07-28"),
        ("1.5", 1.5),
        (".5e1", 5.0),
        (".inf", ".inf"),
        ("~", None),
        ("", None),
        ("'7'", "7"),
        ('"true"', "true"),
        ("!!str 7", "7"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("1_000", "1_000"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    assert plain(f"a: {text}") == {"a": value}


def test_anchors_and_merges_work_and_what_is_said_itself_wins() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 9}\nw: {c: *x}\n"
    assert plain(text) == {
        "x": {"a": 1, "b": 2},
        "y": {"b": 3, "c": 4},
        "z": {"a": 9, "b": 2, "c": 4},
        "w": {"c": {"a": 1, "b": 2}},
    }


def test_a_byte_order_mark_and_windows_line_ends_are_harmless() -> None:
    assert plain("\ufeffa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert plain("1: a\nno: b\n") == {"1": "a", "no": "b"}


def test_each_value_and_each_key_knows_its_place() -> None:
    node, _ = parse(b"a:\n  b: [x, yy]\n", "f")
    assert node is not None
    assert node.find(("a", "b", 1)).place == Place("f", 2, 10)
    assert node.find(("a",)).keys["b"] == Place("f", 2, 3)


def test_what_is_not_utf_8_is_told_with_its_line() -> None:
    node, (problem,) = parse(b"a: 1\nb: \xff\n", "f")
    assert node is None
    assert str(problem) == "f:2:1: this is not UTF-8: save the file as UTF-8"


def test_an_unclosed_bracket_is_told_where_it_opens() -> None:
    _, (problem,) = parse(b"a: 1\nb: [x\n", "f")
    assert problem.message.endswith("while parsing a flow sequence that begins in line 2")


def test_a_password_that_reads_as_an_alias_is_not_shown() -> None:
    _, problems = parse(b"password: *hunter2\n", "f")
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("loc", "spelt"),
    [
        (("a", "b", 0, "c"), "a.b[0].c"),
        ((), ""),
        (("a\nb",), r"'a\nb'"),
        (("",), "''"),
        (("x" * 80,), f"{'x' * 61}..."),
    ],
)
def test_a_key_is_spelt_on_one_line(loc: tuple[str | int, ...], spelt: str) -> None:
    assert spell(loc) == spelt


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(plain_values)
def test_what_another_writer_wrote_is_read_as_it_was(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=False, default_style='"' if isinstance(value, str) else None)
    node, problems = parse(text.encode(), "f")
    assert problems == []
    assert (node.plain() if node else None) == node_of(value, Place("f")).plain()


@given(st.binary(max_size=200) | st.text("{}[]:-,&*!|>'\"%@`#<? \n\tab0", max_size=60).map(str.encode))
def test_any_bytes_are_a_tree_or_problems(raw: bytes) -> None:
    node, problems = parse(raw, "f")
    assert node is not None or problems or not raw.decode("utf-8-sig").strip(" \n\t") or b"#" in raw or b"%" in raw
