"""The command line itself: its commands, their help, and how it ends when nobody listens."""

import base64
import hashlib
import json
import subprocess
import sys

import pytest

from gateway.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert f"mcp-gateway {command}" in said


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(f"\n    {command} " in said for command in COMMANDS)


@pytest.mark.parametrize("argv", [[], ["chek"], ["check", "--conifg", "x"]])
def test_a_wrong_command_line_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: mcp-gateway" in capsys.readouterr().err


def test_help_answers_without_what_is_heavy() -> None:
    code = (
        "import sys, gateway.__main__ as m; m.make_parser(); "
        "print(sorted({'pydantic', 'yaml', 'uvicorn', 'mcp', 'redis'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_keygen_prints_32_random_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["keygen"]), main(["keygen"])] == [0, 0]
    one, other = capsys.readouterr().out.split()
    assert len(base64.urlsafe_b64decode(f"{one}=")) == 32
    assert one != other


def test_keygen_prints_an_api_key_and_beside_it_what_the_configuration_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["keygen", "--api-key", "nightly-report"]) == 0
    out, err = capsys.readouterr()
    key = out.strip()
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert err == f"# for `auth.api_keys`:\n- name: nightly-report\n  sha256: {digest}\n"
    assert key not in err
    assert len(base64.urlsafe_b64decode(f"{key.removeprefix('mcpgw_')}=")) == 32


def test_keygen_refuses_a_name_that_no_configuration_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", "--api-key", "a b"]) == 2
    assert capsys.readouterr() == (
        "",
        "mcp-gateway keygen: a key's name holds only letters, digits, '.', '_', '@' and '-', at most 63\n",
    )


def test_schema_prints_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "MCP gateway configuration"


def test_a_reader_that_leaves_early_gets_no_trace() -> None:
    command = [sys.executable, "-m", "gateway", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout
        assert started.stderr
        started.stdout.close()
        assert started.stderr.read() == b""
    assert started.returncode == 141
