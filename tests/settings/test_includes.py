"""One file per team: included files bring backends, and every mistake names its own file."""

from pathlib import Path

import pytest

from gateway.settings.configurations import load
from tests.settings.files import mistakes, read, write


def team(name: str, mount: str = "") -> str:
    mounted = f", mount: {mount}" if mount else ""
    return f"backends:\n  {name}: {{endpoints: [http://{name}.localhost:1/mcp]{mounted}}}\n"


def test_included_backends_join_in_the_order_of_the_files_names(tmp_path: Path) -> None:
    write(tmp_path, team("b"), "conf.d/20-b.yaml")
    write(tmp_path, team("a"), "conf.d/10-a.yaml")
    write(tmp_path, "not: [read", "conf.d/notes.txt")
    settings = read(tmp_path, f"include: conf.d/*.yaml\n{team('own')}")
    assert list(settings.site.backends) == ["own", "a", "b"]
    assert settings.site.routes["/a/mcp"].name == "a"
    assert settings.files == (
        f"{tmp_path}/gateway.yaml",
        f"{tmp_path}/conf.d",
        f"{tmp_path}/conf.d/10-a.yaml",
        f"{tmp_path}/conf.d/20-b.yaml",
    )


def test_a_pattern_may_match_nothing_and_the_main_file_need_not_have_backends(tmp_path: Path) -> None:
    assert read(tmp_path, "include: [conf.d/*.yaml, '${DIR}/*.yaml']\n", {"DIR": "more"}).site.backends == {}
    write(tmp_path, team("a"), "more/a.yaml")
    write(tmp_path, "", "more/empty.yaml")
    write(tmp_path, "x-note: 1\nbackends:\n  # none yet\n", "more/none.yaml")
    settings = read(tmp_path, "include: [conf.d/*.yaml, '${DIR}/*.yaml']\nbackends:\n", {"DIR": "more"})
    assert list(settings.site.backends) == ["a"]


def test_a_file_that_two_patterns_match_or_that_includes_itself_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, team("a"), "a.yaml")
    assert list(read(tmp_path, f"include: [a.yaml, '*.yaml']\n{team('own')}").site.backends) == ["own", "a"]


def test_a_backend_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, team("same"), "conf.d/a.yaml")
    write(tmp_path, f"# of another team\n{team('same')}", "conf.d/b.yaml")
    (found,) = mistakes(tmp_path, "include: conf.d/*.yaml")
    assert (found.file, found.line, found.key) == ("conf.d/b.yaml", 3, "backends.same")
    assert found.message == f"this backend is defined in {tmp_path}/conf.d/a.yaml:2:3 already: rename or remove one"


def test_an_included_aggregate_may_name_any_backend_and_stands_in_one_file(tmp_path: Path) -> None:
    write(tmp_path, f"{team('a')}aggregates:\n  both: {{backends: [a, own]}}\n", "conf.d/a.yaml")
    site = read(tmp_path, f"include: conf.d/*.yaml\n{team('own')}aggregates: {{all: {{mount: /}}}}\n").site
    assert [[m.backend for m in aggregate.members] for aggregate in site.aggregates.values()] == [
        ["own", "a"],
        ["a", "own"],
    ]
    write(tmp_path, "aggregates:\n  both: {}\n", "conf.d/b.yaml")
    (found,) = mistakes(tmp_path, f"include: conf.d/*.yaml\n{team('own')}")
    assert (found.file, found.line, found.key) == ("conf.d/b.yaml", 2, "aggregates.both")
    assert found.message == f"this aggregate is defined in {tmp_path}/conf.d/a.yaml:4:3 already: rename or remove one"


def test_a_mount_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, team("a", "/x"), "conf.d/a.yaml")
    write(tmp_path, team("b", "/x"), "conf.d/b.yaml")
    (found,) = mistakes(tmp_path, "include: conf.d/*.yaml")
    assert (found.file, found.line, found.key) == ("conf.d/b.yaml", 2, "backends.b.mount")
    assert f"/x is served by `a` already ({tmp_path}/conf.d/a.yaml:2:3)" in found.message


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (
            "redis: memory\n",
            "redis",
            "an included file may hold only `backends:`, `aggregates:` and `grants:`; move it to the main",
        ),
        ("backend: {}\n", "backend", "`backends:`, `aggregates:` and `grants:`; did you mean `backends:`?"),
        ("aggregate: {}\n", "aggregate", "`backends:`, `aggregates:` and `grants:`; did you mean `aggregates:`?"),
        ("include: more.yaml\n", "include", "may hold only `backends:`"),
        ("aggregates: [a]\n", "aggregates", "must be a mapping"),
        ("backends: [a]\n", "backends", "must be a mapping"),
        ("[a]\n", "", "the file must be a mapping"),
        ("a: b: c\n", "", "this is not YAML"),
    ],
)
def test_an_included_file_holds_backends_and_aggregates_only(tmp_path: Path, text: str, key: str, message: str) -> None:
    write(tmp_path, text, "conf.d/a.yaml")
    (found,) = mistakes(tmp_path, "include: conf.d/*.yaml")
    assert (found.file, found.line, found.key) == ("conf.d/a.yaml", 1, key)
    assert message in found.message


def test_mistakes_in_several_files_are_told_at_once_each_in_its_own(tmp_path: Path) -> None:
    write(tmp_path, "backends:\n  a: {endpoints: [ftp://a]}\n", "conf.d/a.yaml")
    write(tmp_path, "backends:\n  b: {endpoints: [http://b], heel: true}\n", "conf.d/b.yaml")
    found = mistakes(tmp_path, "include: conf.d/*.yaml\nport: x\n")
    assert [(p.file, p.line, p.key) for p in found] == [
        ("conf.d/a.yaml", 2, "backends.a.endpoints[0]"),
        ("conf.d/b.yaml", 2, "backends.b.heel"),
        ("gateway.yaml", 2, "port"),
    ]


def test_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    write(tmp_path, "s3cret", "conf.d/token")
    write(
        tmp_path,
        "backends: {a: {endpoints: [http://localhost:1], headers: {x: {file: token}}}}\n",
        "conf.d/a.yaml",
    )
    assert read(tmp_path, "include: conf.d/*.yaml").site.backends["a"].headers == (("x", "s3cret"),)


def test_a_relative_configuration_file_gives_absolute_paths_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, team("a"))
    monkeypatch.chdir(tmp_path)
    assert load(Path("gateway.yaml"), {}).files == (f"{tmp_path}/gateway.yaml",)
