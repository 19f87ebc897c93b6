"""`mcp-gateway check` says all that is wrong and exits 2, or sums up what is right and exits 0."""

from pathlib import Path

import pytest

from gateway.__main__ import main

FINE = """\
public_url: https://mcp.example.com
auth: none
backends:
  echo: {endpoints: [http://localhost:9001/mcp, http://localhost:9002/mcp?key=hunter2]}
  mathematics: {endpoints: [http://math.localhost/mcp], mount: none}
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MCPGW_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_configuration_without_mistakes_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text(FINE)
    assert main(["check", "--config", "gateway.yaml"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[:5] == [
        "backend      url                               endpoints",
        "echo         https://mcp.example.com/echo/mcp  http://localhost:9001/mcp http://localhost:9002/mcp",
        "mathematics  (hidden)                          http://math.localhost/mcp",
        "",
        "listens on 127.0.0.1:8080 with 1 worker",
    ]
    assert lines[5].startswith("session keys: made at start; digest: ")
    assert lines[6:] == ["ok"]
    assert said.err == ""


def test_aggregates_are_summed_up_beside_the_backends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = "[{name: echo, prefix: off}, {name: mathematics, prefix: m}]"
    (tmp_path / "gateway.yaml").write_text(
        f"{FINE}aggregates:\n  all: {{mount: /}}\n  support: {{backends: {several}}}\n"
    )
    assert main(["check", "--config", "gateway.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[4:8] == [
        "aggregate  url                                  backends",
        "all        https://mcp.example.com/mcp          echo, mathematics",
        "support    https://mcp.example.com/support/mcp  echo (no prefix), mathematics as m",
        "",
    ]


def test_every_mistake_is_a_line_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text("port: x\nredis: ${NOT_SET_ANYWHERE}\n")
    assert main(["check", "--config", "gateway.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "gateway.yaml:1:7: port: 'x' must be a whole number",
        "gateway.yaml:2:8: redis: the variable NOT_SET_ANYWHERE is not set: set it, or write ${NOT_SET_ANYWHERE:-default}",
        "2 problems found",
    ]


def test_the_environment_counts_as_it_does_for_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gateway.yaml").write_text(FINE)
    monkeypatch.setenv("MCPGW_CONFIG", "gateway.yaml")
    monkeypatch.setenv("MCPGW_PORT", "8001")
    assert main(["check", "--host", "::1"]) == 0
    assert "listens on [::1]:8001 with 1 worker" in capsys.readouterr().out


def test_what_serve_would_demand_off_loopback_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.yaml").write_text(FINE)
    assert main(["check", "--config", "gateway.yaml", "--host", "0.0.0.0"]) == 2
    assert "session_keys: is required because `host` is 0.0.0.0" in capsys.readouterr().err


def test_what_is_hardly_meant_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text("backends:\n")
    assert main(["check", "--config", "gateway.yaml"]) == 0
    assert "warning: there are no backends" in capsys.readouterr().out


def test_without_a_file_it_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert "give --config FILE, or set MCPGW_CONFIG" in capsys.readouterr().err
