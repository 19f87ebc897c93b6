"""`mcp-gateway serve` as a program: what it prints, how it ends, and how several workers are one replica."""

import argparse
import http.client
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.commands import serve
from gateway.settings.configurations import from_mapping
from gateway.settings.problems import ConfigurationInvalid
from gateway.settings.settings import Settings
from tests.fleet.processes import Child

CONFIG = "backends:\n  echo: {endpoints: ['http://127.0.0.1:9/mcp']}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


@contextmanager
def started(*arguments: object, module: str = "tests.commands.stand_in", **environ: str) -> Iterator[Child]:
    env = {"MCPGW_DRAIN__DELAY": "0s", **environ}
    child = Child([sys.executable, "-m", module, *map(str, arguments)], env=env, name="serve")
    try:
        yield child
    finally:
        child.end()


def free_port() -> int:
    """A port that the kernel has just given and taken back: a configuration has no way to say "any"."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_of(child: Child, key: str = "url") -> int:
    return int(child.wait_for_line(rf'"event":"listening".*"{key}":"http://127\.0\.0\.1:(\d+)"').group(1))


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def workers_of(gateway: Child) -> tuple[int, int]:
    """The process ids of its first two workers, once both of them serve."""
    first = gateway.wait_for_line(r"Started server process \[(\d+)\]").group(1)
    second = gateway.wait_for_line(rf"Started server process \[(?!{first}\])(\d+)\]").group(1)
    return int(first), int(second)


def ask_each(port: int, first: int, second: int) -> None:
    """One exchange with each of two workers: the kernel is free to give one of them all, unless the other is stopped."""
    for asked, stopped in ((first, second), (second, first)):
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert get(port, "/pid") == (200, str(asked))
        finally:
            os.kill(stopped, signal.SIGCONT)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_one_worker_serves_in_its_own_process_until_it_is_told_to_end(config: Path, how: signal.Signals) -> None:
    with started("--config", config, "--port", free_port()) as gateway:
        port = port_of(gateway)
        assert get(port, "/pid") == (200, str(gateway.process.pid))
        assert json.loads(get(port, "/health")[1])["status"] == "healthy"
        assert gateway.end(how) == 0
    assert "Traceback" not in gateway.output


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_several_workers_serve_one_port_and_show_their_numbers_together(
    config: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with started("--config", config, "--port", free_port(), "--workers", 2, TMPDIR=str(tmp_path)) as gateway:
        port = port_of(gateway)
        first, second = workers_of(gateway)
        assert gateway.process.pid not in (first, second)
        ask_each(port, first, second)
        assert calls(port) == 2.0
        assert "mcp_gateway_workers 2.0" in get(port, "/metrics")[1]
        assert len(list(tmp_path.glob("mcp-gateway-metrics-*"))) == 1
        assert gateway.end(how) == 0
    assert "Traceback" not in gateway.output
    assert list(tmp_path.glob("mcp-gateway-metrics-*")) == []


def calls(port: int) -> float:
    found = re.search(r"^mcp_gateway_tool_calls_total\{.*\} (\S+)$", get(port, "/metrics")[1], re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_a_worker_that_dies_is_replaced_and_counts_no_longer_as_running(config: Path) -> None:
    with started("--config", config, "--port", free_port(), "--workers", 2) as gateway:
        port = port_of(gateway)
        victim, survivor = workers_of(gateway)
        ask_each(port, victim, survivor)
        os.kill(victim, signal.SIGKILL)
        new = int(gateway.wait_for_line(rf"Started server process \[(?!{victim}\]|{survivor}\])(\d+)\]").group(1))
        ask_each(port, survivor, new)
        assert calls(port) == 4.0
        assert "mcp_gateway_workers 2.0" in get(port, "/metrics")[1]


def test_workers_do_not_outlive_their_parent(config: Path) -> None:
    with started("--config", config, "--port", free_port(), "--workers", 2) as gateway:
        workers_of(gateway)
        gateway.process.kill()
        gateway.wait_for_line("the parent process is gone: ending")
        assert gateway.end() == -signal.SIGKILL  # it waits for the end of the output, which the workers hold open


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_under_way_ends_before_the_process_does(config: Path, workers: int) -> None:
    with started("--config", config, "--port", free_port(), "--workers", workers) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(gateway), timeout=30)
        connection.request("GET", "/slow")
        response = connection.getresponse()
        assert response.readline() == b"begun\n"
        gateway.process.send_signal(signal.SIGTERM)
        assert response.read() == b"ended\n"
        connection.close()
        assert gateway.end(signal.SIGCONT) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_ends_nothing(config: Path, workers: int) -> None:
    with started("--config", config, "--port", free_port(), "--workers", workers) as gateway:
        port = port_of(gateway)
        both = workers_of(gateway) if workers == 2 else None
        gateway.wait_for_line("Application startup complete")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for_line("SIGHUP changes nothing: the configuration is watched")
        if both:
            ask_each(port, *both)
        else:
            assert get(port, "/pid") == (200, str(gateway.process.pid))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_admin_port_takes_all_but_the_plain_probes(config: Path, workers: int) -> None:
    config.write_text(CONFIG + f"admin: {{port: {free_port()}}}\n")
    with started("--config", config, "--port", free_port(), "--workers", workers) as gateway:
        main, admin = port_of(gateway), port_of(gateway, "admin_url")
        assert main != admin
        assert [get(main, path)[0] for path in ("/livez", "/readyz", "/health", "/metrics")] == [200, 200, 404, 404]
        assert [get(admin, path)[0] for path in ("/livez", "/readyz", "/health", "/metrics")] == [200, 200, 200, 200]
        assert get(main, "/readyz?verbose")[1] == "ready\n"
        assert get(admin, "/readyz?verbose")[1].startswith("[+] configuration ")
        assert get(admin, "/pid")[0] == 404
        assert gateway.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_busy_port_is_told_in_a_sentence_and_exits_2(config: Path, tmp_path: Path, workers: int) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as holder,
        started(
            *("--config", config, "--port", holder.getsockname()[1], "--workers", workers), TMPDIR=str(tmp_path)
        ) as gateway,
    ):
        assert gateway.process.wait(30) == 2
        gateway.end()
        assert gateway.output == (
            f"mcp-gateway: port {holder.getsockname()[1]} of 127.0.0.1 is in use: stop what listens there "
            f"(`ss -ltnp 'sport = :{holder.getsockname()[1]}'` names it), or choose another port with --port"
        )
    assert list(tmp_path.glob("mcp-gateway-metrics-*")) == []


def test_several_workers_without_a_place_to_share_metrics_are_told_where_to_put_one(
    config: Path, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")
    with started("--config", config, "--workers", 2, PROMETHEUS_MULTIPROC_DIR=nowhere) as gateway:
        assert gateway.process.wait(30) == 2
        gateway.end()
    assert "Traceback" not in gateway.output
    assert "set PROMETHEUS_MULTIPROC_DIR or TMPDIR to a folder that can be written to" in gateway.output


def test_a_busy_admin_port_names_its_key(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        config.write_text(CONFIG + f"admin: {{port: {holder.getsockname()[1]}}}\n")
        with started("--config", config, "--port", free_port()) as gateway:
            assert gateway.process.wait(30) == 2
            gateway.end()
            assert gateway.output.endswith("or choose another port with `admin.port`")


def test_an_invalid_configuration_is_told_in_full_and_exits_2(config: Path) -> None:
    config.write_text("backends: {echo: {endpoints: [nonsense]}}\nnonsense: 1\n")
    with started("--config", config, "--log-level", "loud") as gateway:
        assert gateway.process.wait(30) == 2
        gateway.end()
    assert "gateway.yaml:1:" in gateway.output
    assert "gateway.yaml:2:1: nonsense:" in gateway.output
    assert "--log-level" in gateway.output
    assert gateway.output.endswith("3 problems found")


def test_one_worker_keeps_its_numbers_in_memory_whatever_the_environment_says(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with started("--config", config, "--port", free_port(), PROMETHEUS_MULTIPROC_DIR=str(folder)) as gateway:
        assert "mcp_gateway_workers 1.0" in get(port_of(gateway), "/metrics")[1]
    assert not folder.exists()


def test_several_workers_never_count_what_another_run_left(config: Path, tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"what another run left")
    with started(
        "--config", config, "--port", free_port(), "--workers", 2, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)
    ) as gateway:
        port = port_of(gateway)
        workers_of(gateway)
        assert "mcp_gateway_workers 2.0" in get(port, "/metrics")[1]
        assert gateway.end() == 0
    assert [path.name for path in tmp_path.glob("*.db")] == ["counter_1.db"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_real_gateway_starts_is_healthy_and_ends(config: Path, workers: int) -> None:
    arguments = ("serve", "--config", config, "--port", free_port(), "--workers", workers)
    with started(*arguments, module="gateway") as gateway:
        port = port_of(gateway)
        status, body = get(port, "/health")
        assert (status, json.loads(body)["mcp"]) == (200, "ready")
        assert get(port, "/readyz") == (200, "ready\n")
        assert f"mcp_gateway_workers {workers}.0" in get(port, "/metrics")[1]
        assert gateway.end() == 0
    assert "Traceback" not in gateway.output


def make_settings() -> Settings:
    return from_mapping({"backends": {"echo": {"endpoints": ["http://127.0.0.1:9/mcp"]}}})


def test_a_worker_that_starts_later_reads_the_configuration_anew_and_keeps_the_session_key() -> None:
    at_start, now = make_settings(), make_settings()
    assert at_start.session_keys != now.session_keys
    assert serve._refresh(at_start, lambda: now).session_keys == at_start.session_keys


def test_a_worker_that_starts_while_the_configuration_is_invalid_takes_the_one_of_the_start() -> None:
    at_start = make_settings()

    def fail() -> Settings:
        raise ConfigurationInvalid([])

    assert serve._refresh(at_start, fail) is at_start


def test_metrics_that_could_not_be_shared_are_a_bug_that_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", sys)
    with pytest.raises(RuntimeError, match="imported too early"):
        serve._share_metrics(2)


def test_its_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    parse: Callable[[list[str]], object] = parser.parse_args
    with pytest.raises(SystemExit) as ended:
        parse(["serve", "--help"])
    assert ended.value.code == 0
    assert "mcp-gateway serve --config gateway.yaml --host 0.0.0.0 --port 8080 --workers 4" in capsys.readouterr().out
