"""`mcp-gateway explain` names the rule that decides, and ends with 0 where it allows, 1 where it denies, 2 where it can't tell."""

import json
import shlex
from pathlib import Path

import pytest

from gateway.__main__ import main
from tests.requirements import proves

CONFIGURATION = """\
public_url: http://127.0.0.1:8080
auth:
  api_keys:
    - {name: nightly, sha256: b0c4de7d7c7a4d4a3b5c9ef1f0d2d5c8e6a7b8c9d0e1f2a3b4c5d6e7f8091a2b, groups: [support]}
backends:
  math: {endpoints: [http://localhost:1]}
  echo: {endpoints: [http://localhost:2]}
aggregates:
  all: {mount: /}
  own: {backends: [{name: math, prefix: off}, {name: echo, prefix: e}], deny: [math__get_b]}
grants:
  - to: {groups: [support]}
    backends: [math]
    allow: {tools: ["get_*", add], resources: ["docs://*"]}
  - to: {scopes: [mcp:write]}
    allow: {tools: [say, sub], methods: [x/y]}
  - to: anybody
    deny: ["*drop*"]
"""


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MCPGW_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(CONFIGURATION)


def explain(words: str) -> int:
    return main(["explain", "--config", "gateway.yaml", *shlex.split(words)])


@proves("GRANT-4")
def test_the_rule_that_decides_is_named_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--principal 'https://idp.test alice' --group support --group eu --tool math__add") == 0
    assert capsys.readouterr().out.splitlines() == [
        "allowed: grants[0] allows the tool 'add': 'add' stands in its `allow.tools`",
        "  rule     grants[0].allow.tools: add",
        "  at       gateway.yaml:12:5",
        "  who      https://idp.test alice",
        "  groups   eu, support",
        "  what     tools/call, the tool add",
        "  backend  math",
    ]


@proves("GRANT-4")
def test_a_denial_says_which_scopes_would_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--principal p --tool say --backend echo") == 1
    assert capsys.readouterr().out.splitlines() == [
        "denied: grants[2] is the only grant to them at echo, and what no grant allows is denied",
        "  who      p",
        "  what     tools/call, the tool say",
        "  backend  echo",
        "it would be allowed with the scopes mcp:write",
    ]


def test_it_is_told_as_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--principal p --scope mcp:write --prompt drop_all --mount /echo --json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "allowed": False,
        "reason": "grants[2] denies the prompt 'drop_all': '*drop*' stands in its `deny.prompts`",
        "rule": "grants[2].deny.prompts: *drop*",
        "place": "gateway.yaml:17:5",
        "needed_scopes": [],
        "principal": "p",
        "groups": [],
        "scopes": ["mcp:write"],
        "backend": "echo",
        "method": "prompts/get",
        "kind": "prompt",
        "name": "drop_all",
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--group support --tool math__get_x", 0, "backend  math"),
        ("--group support --mount / --tool math__get_x", 0, "backend  math"),
        ("--group support --mount /mcp --tool math__get_x", 0, "backend  math"),
        ("--group support --mount /own --tool get_x", 0, "backend  math"),
        ("--group support --mount /own --tool get_b", 1, "denied: the aggregate doesn't show it, whoever asks"),
        ("--group support --mount / --resource math+docs://a", 0, "what     resources/read, the resource docs://a"),
        (
            "--group support --backend math --resource docs://a --method resources/subscribe",
            0,
            "allows resources/subscribe of",
        ),
        ("--group support --backend math --prompt p --method completion/complete", 1, "what no grant allows is denied"),
        (
            "--group support --backend math --method ping",
            0,
            "ping belongs to the protocol itself, and grants[0] allows them",
        ),
        ("--scope mcp:write --backend math --method x/y", 0, "grants[1] allows the method x/y"),
        ("--principal 'key nightly' --tool math__add", 0, "groups   support"),
        ("--principal 'key nightly' --group none --tool math__add", 1, "groups   none"),
        ("--tool math__add", 1, "nobody is let in without saying who they are: `auth` has no `anonymous: true`"),
    ],
)
def test_who_what_and_where_are_found_from_what_is_told(
    capsys: pytest.CaptureFixture[str], words: str, code: int, said: str
) -> None:
    assert explain(words) == code
    assert said in capsys.readouterr().out


def test_without_grants_everything_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gateway.yaml").write_text("backends: {echo: {endpoints: [http://localhost:2]}}\n")
    assert explain("--tool say") == 0
    assert capsys.readouterr().out.splitlines() == [
        "allowed: there are no `grants:`: whoever is let in may do everything",
        "  who      somebody without a name",
        "  what     tools/call, the tool say",
        "  backend  echo",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--principal p", "say what is to be done: --tool, --prompt, --resource or --method"),
        ("--principal p --tool say", "say at which backend, with --backend or --mount: known are math, echo"),
        ("--principal p --method ping", "say at which backend"),
        ("--principal p --method ping --mount /", "all is an aggregate: say of which of its backends, with --backend"),
        ("--principal p --method tools/call --backend math", "tools/call is about something: add --tool"),
        ("--principal p --method completion/complete --backend math", "is about something: add --prompt or --resource"),
        ("--principal p --method tools/call --prompt a --backend math", "tools/call is not about a prompt: leave one"),
        ("--principal p --tool a --backend mth", "'mth' is no backend: did you mean 'math'?"),
        ("--principal p --tool a --backend zzz", "'zzz' is no backend: known are math, echo"),
        ("--principal p --tool a --mount /x", "nothing is mounted at /x: known are /, /echo, /math, /own"),
        ("--principal p --tool a --mount /", "'a' has no prefix of all's: they are math__, echo__"),
        ("--principal p --resource a:b --mount /", "'a:b' may be that of math, echo: say whose, with --backend"),
        (
            f"--principal p --tool math__{'a' * 33}_0123abcd --mount /",
            "is a shortened name: give the backend's own one",
        ),
        ("--principal 'key nightli' --tool math__a", "there is no API key 'nightli': known are nightly"),
    ],
)
def test_what_can_not_be_told_ends_with_2(capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    assert explain(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.startswith("mcp-gateway explain: ")


def test_a_wrong_configuration_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gateway.yaml").write_text("prot: 1\n")
    assert explain("--tool a") == 2
    assert capsys.readouterr().err.endswith("1 problem found\n")


def test_two_things_at_once_are_a_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as ended:
        explain("--tool a --prompt b")
    assert ended.value.code == 2


def test_check_sums_up_who_may_do_what(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gateway.yaml").write_text(
        CONFIGURATION + "  - {to: {principals: ['key a'], groups: [b], scopes: [c, d]}, allow: all}\n"
    )
    assert main(["check", "--config", "gateway.yaml"]) == 0
    cells = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    start = cells.index("grant to backends allow deny")
    assert cells[start + 1 : start + 6] == [
        "grants[0] group support math tools get_*, add; resources docs://* -",
        "grants[1] scope mcp:write * tools say, sub; methods x/y -",
        "grants[2] anybody * - tools *drop*; prompts *drop*; resources *drop*",
        "grants[3] key a or group b with scope c d * methods * -",
        "",
    ]
