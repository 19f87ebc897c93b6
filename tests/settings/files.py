"""What the tests of this room share: a place to write files, and a way to read them as a configuration."""

from collections.abc import Mapping
from pathlib import Path

from gateway.settings.configurations import load
from gateway.settings.problems import ConfigurationInvalid, Problem
from gateway.settings.settings import Settings

ECHO = "backends: {echo: {endpoints: [http://127.0.0.1:9001/mcp]}}\n"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # bytes 0 to 31
OTHER_KEY = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"  # bytes 32 to 63


def write(directory: Path, text: str, name: str = "gateway.yaml") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(directory: Path, text: str, environ: Mapping[str, str] | None = None, **flags: object) -> Settings:
    return load(write(directory, text), environ or {}, flags)


def mistakes(
    directory: Path, text: str, environ: Mapping[str, str] | None = None, **flags: object
) -> tuple[Problem, ...]:
    """What is wrong with the text, file names without their directory."""
    try:
        settings = read(directory, text, environ, **flags)
    except ConfigurationInvalid as invalid:
        return tuple(
            Problem(p.file.removeprefix(f"{directory}/"), p.line, p.column, p.key, p.message) for p in invalid.problems
        )
    raise AssertionError(f"nothing was wrong: {settings!r}")
