"""`mcp-gateway demo`, as whoever types it sees it: real processes, real sockets, the SDK's real client."""

import json
import os
import re
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.commands import snippets
from gateway.commands.children import ChildEnded, Children
from gateway.commands.demo import Demo, DemoFailed, write_config
from gateway.commands.trials import Sample
from gateway.downstream.listeners import Place, close, listen, port_of
from gateway.settings.configurations import load
from tests.fleet.processes import Child, running

UP = r"Ctrl-C ends it all"
DEMO = [sys.executable, "-m", "gateway", "demo", "--port", "0"]
URLS = {"echo": "http://127.0.0.1:8080/echo/mcp", "math": "http://127.0.0.1:8080/math/mcp"}


@contextmanager
def running_demo(folder: Path) -> Iterator[Child]:
    """The demonstration, with `folder` for its temporary files."""
    with running(DEMO, env={"TMPDIR": str(folder)}, name="demo") as demo:
        yield demo


def children_of(pid: int) -> dict[str, int]:
    """module → process id"""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in pids}
    return {command[command.index("gateway.commands.tethers") + 1]: pid for pid, command in commands.items()}


@contextmanager
def ending(pids: Mapping[str, int], seconds: float = 30.0) -> Iterator[None]:
    """At the end of the block all these processes end within the time."""
    with ExitStack() as stack:
        handles = {os.pidfd_open(pid): name for name, pid in pids.items()}
        for handle in handles:
            stack.callback(os.close, handle)
        yield
        for handle, name in handles.items():
            assert select.select([handle], [], [], seconds)[0], f"{name} goes on"


def test_the_demo_calls_a_tool_of_each_backend_in_both_eras_says_how_to_connect_and_ends_with_all_it_started(
    tmp_path: Path,
) -> None:
    with running_demo(tmp_path) as demo:
        demo.wait_for_line(UP, seconds=90)
        told = demo.output
        pids = children_of(demo.process.pid)
        assert set(pids) == {"backends.echo", "backends.math", "backends.weather", "gateway"}
        with ending(pids):
            assert demo.end(signal.SIGINT) == 0
    rows = re.findall(
        r"^(\w+) +(\d+) +(\S.*\)) +✓ \d+ ms +✓ \d+ ms +(http://127\.0\.0\.1:\d+/(?:\w+/)?mcp)$", told, re.MULTILINE
    )
    assert [(name, tools, called) for name, tools, called, _ in rows] == [
        ("echo", "4", "echo(text='hello')"),
        ("math", "4", "add(a=2, b=3)"),
        ("weather", "2", "get_weather(city='Reykjavik', month=1)"),
        ("all", "10", "echo__echo(text='hello')"),
    ]
    everything = rows[-1][3]
    assert everything.count("/") == 3  # /mcp, no mount before it
    assert f"claude mcp add --transport http gateway {everything}\n" in told
    assert "Traceback" not in demo.output
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_running_when_the_demo_is_killed(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        demo.wait_for_line(UP, seconds=90)
        with ending(children_of(demo.process.pid)):
            demo.process.kill()


def test_a_backend_that_dies_ends_the_demo_with_a_sentence(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        demo.wait_for_line(UP, seconds=90)
        pids = children_of(demo.process.pid)
        with ending(pids):
            os.kill(pids["backends.math"], signal.SIGKILL)
            assert demo.wait_for_line("math was killed by signal 9")
            assert demo.process.wait(30) == 1
    assert "Traceback" not in demo.output


def test_a_taken_port_gets_a_sentence_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running([sys.executable, "-m", "gateway", "demo", "--port", str(port)]) as demo:
            assert demo.process.wait(60) == 2
    assert demo.output.startswith(f"mcp-gateway demo: port {port} of 127.0.0.1 is in use: ")
    assert "choose another port with --port" in demo.output


async def test_a_tool_that_answers_something_else_fails_the_demo_and_says_what(
    capfd: pytest.CaptureFixture[str],
) -> None:
    listeners = listen(Place("127.0.0.1", 0))
    port = port_of(listeners)
    close(listeners)
    demo = Demo("127.0.0.1", port, "info", {"math": Sample("add", {"a": 2, "b": 3}, "6")})
    with pytest.raises(DemoFailed) as failed:
        await demo.play()
    assert "math, modern: add answered '5.0', and '6' was expected" in str(failed.value)
    assert "math, legacy: add answered '5.0', and '6' was expected" in str(failed.value)
    assert "all, modern: math__add answered '5.0', and '6' was expected" in str(failed.value)
    assert "✗ failed" in capfd.readouterr().out


async def test_a_child_that_ends_at_once_is_told_with_what_it_printed() -> None:
    async with Children(lambda _name, _line: None) as children:
        child = await children.start("doomed", "backends.echo", ["--port", "none"])
        with pytest.raises(ChildEnded) as ended:
            await child.find("listens at")
        assert "invalid int value: 'none'" in str(ended.value)
        with pytest.raises(ChildEnded, match="doomed ended with exit code 2"):
            await children.run_until_one_ends()


def test_the_written_configuration_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    write_config(tmp_path / "gateway.yaml", {"echo": "http://127.0.0.1:9001/mcp", "math": "http://127.0.0.1:9002/mcp"})
    site = load(tmp_path / "gateway.yaml", {}).site
    assert site.routes["/mcp"] is site.aggregates["all"]
    assert {name: backend.endpoints for name, backend in site.backends.items()} == {
        "echo": ("http://127.0.0.1:9001/mcp",),
        "math": ("http://127.0.0.1:9002/mcp",),
    }


def test_the_files_for_editors_are_json_with_a_server_for_each_url() -> None:
    assert json.loads("\n".join(snippets.vs_code_file(URLS))) == {
        "servers": {
            "echo": {"type": "http", "url": "http://127.0.0.1:8080/echo/mcp"},
            "math": {"type": "http", "url": "http://127.0.0.1:8080/math/mcp"},
        }
    }
    assert json.loads("\n".join(snippets.cursor_file(URLS))) == {
        "mcpServers": {
            "echo": {"url": "http://127.0.0.1:8080/echo/mcp"},
            "math": {"url": "http://127.0.0.1:8080/math/mcp"},
        }
    }


def test_a_url_that_a_shell_would_take_apart_is_quoted() -> None:
    assert snippets.claude_code({"a": "http://h/mcp?a=1&b=2"}) == [
        "claude mcp add --transport http a 'http://h/mcp?a=1&b=2'"
    ]


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made in this process goes to a folder that is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
