"""`${NAME}` and `{file: PATH}` stand for what they name, and nowhere else."""

from pathlib import Path

import pytest

from tests.settings.files import KEY, mistakes, read, write


def header(directory: Path, value: str, environ: dict[str, str]) -> str:
    text = f"backends: {{echo: {{endpoints: [http://127.0.0.1:1/mcp], headers: {{x: {value}}}}}}}\n"
    return str(read(directory, text, environ).site.backends["echo"].headers[0][1])


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("'${A}'", "alpha"),
        ("'Bearer ${A}-${B}'", "Bearer alpha-beta"),
        ("'${EMPTY}'", ""),
        ("'${EMPTY:-d}'", "d"),
        ("'${NOT_SET:-d e}'", "d e"),
        ("'${NOT_SET:-}'", ""),
        ("'${A:-d}'", "alpha"),
        ("'$${A}'", "${A}"),
        ("'$A $ {A} $'", "$A $ {A} $"),
        ("'${RECURSIVE}'", "${A}"),
    ],
)
def test_a_reference_in_a_string_is_replaced_once(tmp_path: Path, value: str, expanded: str) -> None:
    environ = {"A": "alpha", "B": "beta", "EMPTY": "", "RECURSIVE": "${A}"}
    assert header(tmp_path, value, environ) == expanded


def test_numbers_flags_and_durations_may_come_from_the_environment(tmp_path: Path) -> None:
    text = (
        "port: ${P}\nexpose_mounts: ${E}\ntimeouts: {idle: '${SECONDS}s'}\n"
        "backends: {a: {endpoints: ['http://${HOST}:${P}/mcp']}}\n"
    )
    settings = read(tmp_path, text, {"P": "8123", "E": "true", "SECONDS": "7", "HOST": "localhost"})
    assert (settings.port, settings.site.expose_mounts) == (8123, True)
    assert settings.site.backends["a"].timeouts.idle_seconds == 7.0
    assert settings.site.backends["a"].endpoints == ("http://localhost:8123/mcp",)


def test_a_list_may_come_from_one_variable(tmp_path: Path) -> None:
    settings = read(
        tmp_path, "backends: {a: {endpoints: '${URLS}'}}", {"URLS": "http://localhost:1, http://localhost:2"}
    )
    assert settings.site.backends["a"].endpoints == ("http://localhost:1", "http://localhost:2")


def test_a_secret_file_is_read_beside_the_file_that_names_it(tmp_path: Path) -> None:
    write(tmp_path, "s3cret\n", "secrets/one")
    assert header(tmp_path, "{file: secrets/one}", {}) == "s3cret"
    assert header(tmp_path, "{file: 'secrets/${WHICH}'}", {"WHICH": "one"}) == "s3cret"


def test_what_a_secret_file_holds_is_taken_literally(tmp_path: Path) -> None:
    write(tmp_path, "${A}\r\n", "one")
    assert header(tmp_path, "{file: one}", {}) == "${A}"


def test_a_secret_file_is_watched_even_if_it_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, KEY, "one")
    text = "session_keys: [{file: one}]\nbackends: {}\n"
    assert read(tmp_path, text).files == (f"{tmp_path}/gateway.yaml", f"{tmp_path}/one")


def test_a_secret_file_that_is_a_directory_or_too_large_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "large").write_text("x" * 65537)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    text = "redis: {file: d}\npublic_url: {file: large}\nhost: {file: binary}\n"
    assert [p.message.replace(f"{tmp_path}/", "") for p in mistakes(tmp_path, text)] == [
        "can't read d: is a directory",
        "large is larger than 65536 bytes: is it the right file?",
        "can't read binary: it is not UTF-8 text",
    ]


def test_what_could_not_be_expanded_is_told_once(tmp_path: Path) -> None:
    text = "redis: ${NOT_SET}\nbackends: {a: {endpoints: ['${NOT_SET}']}}\n"
    assert [p.key for p in mistakes(tmp_path, text)] == ["redis", "backends.a.endpoints[0]"]


def test_a_backend_may_be_called_file(tmp_path: Path) -> None:
    assert list(read(tmp_path, "backends: {file: {endpoints: [http://localhost:1]}}").site.backends) == ["file"]
