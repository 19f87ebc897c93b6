"""The environment stands over the file, and the command line over both."""

from pathlib import Path

import pytest

from gateway.settings.configurations import load
from gateway.settings.environments import export_session_keys
from gateway.settings.problems import ConfigurationInvalid
from tests.settings.files import ECHO, KEY, OTHER_KEY, mistakes, read, write


def test_file_then_environment_then_flag(tmp_path: Path) -> None:
    text = f"{ECHO}port: 8001\n"
    assert read(tmp_path, ECHO).port == 8080
    assert read(tmp_path, text).port == 8001
    assert read(tmp_path, text, {"MCPGW_PORT": "8002"}).port == 8002
    assert read(tmp_path, text, {"MCPGW_PORT": "8002"}, port=8003).port == 8003
    assert read(tmp_path, text, {"MCPGW_PORT": "8002"}, port=None).port == 8002


def test_every_setting_but_the_backends_has_a_variable(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        ECHO,
        {
            "MCPGW_HOST": "0.0.0.0",
            "MCPGW_PUBLIC_URL": "https://mcp.example.com/",
            "MCPGW_AUTH": "none",
            "MCPGW_SESSION_KEYS": f"{KEY},{OTHER_KEY}",
            "MCPGW_REDIS": "rediss://cache:6380/1",
            "MCPGW_WORKERS": "3",
            "MCPGW_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "MCPGW_ALLOWED_HOSTS": "mcp.internal",
            "MCPGW_CORS__ORIGINS": "https://a.example,https://b.example",
            "MCPGW_EXPOSE_MOUNTS": "true",
            "MCPGW_TIMEOUTS__IDLE": "10m",
            "MCPGW_LIMITS__BODY": "1MiB",
            "MCPGW_ADMIN_PORT": "9090",
            "MCPGW_LOG_LEVEL": "debug",
            "MCPGW_LOG__FORMAT": "json",
        },
    )
    site = settings.site
    assert (settings.host, settings.workers, settings.redis) == ("0.0.0.0", 3, "rediss://cache:6380/1")
    assert (settings.admin_host, settings.admin_port) == ("0.0.0.0", 9090)
    assert (settings.log_level, settings.log_format, settings.auth) == ("debug", "json", "none")
    assert settings.session_keys == (bytes(range(32)), bytes(range(32, 64)))
    assert (site.public_url, site.hosts) == ("https://mcp.example.com", {"mcp.example.com", "mcp.internal"})
    assert site.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert site.cors.origins == {"https://a.example", "https://b.example"}
    assert (site.expose_mounts, site.limits.body_bytes) == (True, 1048576)
    assert site.backends["echo"].timeouts.idle_seconds == 600.0


def test_a_wrong_value_names_the_variable_or_the_flag(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, ECHO, {"MCPGW_PORT": "http"})
    assert str(found) == "MCPGW_PORT: port: 'http' must be a whole number"
    (found,) = mistakes(tmp_path, ECHO, {}, **{"log.level": "loud"})
    assert str(found) == "--log-level: log.level: 'loud' must be 'debug', 'info', 'warning' or 'error'"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MCPGW_PUBLICURL", "x", "unknown variable: did you mean MCPGW_PUBLIC_URL?"),
        ("MCPGW_TIMEOUTS_IDLE", "1s", "unknown variable: did you mean MCPGW_TIMEOUTS__IDLE?"),
        ("MCPGW_BACKENDS__ECHO__ENDPOINTS", "http://a", "backends, aggregates and grants are told in the file"),
        ("MCPGW_AGGREGATES__ALL__MOUNT", "/", "backends, aggregates and grants are told in the file"),
        ("MCPGW_QQQQQQQQQQ", "x", "unknown variable: remove it"),
        ("MCPGW_PORT", "tcp://10.0.0.1:80", "Kubernetes injects for a Service named `mcpgw`"),
        ("MCPGW_SERVICE_HOST", "10.0.0.1", "set `enableServiceLinks: false`"),
        ("MCPGW_PORT_80_TCP_PROTO", "tcp", "set `enableServiceLinks: false`"),
    ],
)
def test_an_unknown_variable_is_a_mistake_with_a_hint(tmp_path: Path, name: str, value: str, message: str) -> None:
    (found,) = mistakes(tmp_path, ECHO, {name: value})
    assert found.file == name
    assert message in found.message


def test_other_programs_variables_are_none_of_our_business(tmp_path: Path) -> None:
    assert read(tmp_path, ECHO, {"GATEWAY_PORT": "tcp://10.0.0.1:80", "PORT": "x", "mcpgw_port": "x"}).port == 8080


def test_mcpgw_config_names_the_file_where_no_flag_does(tmp_path: Path) -> None:
    path = write(tmp_path, f"{ECHO}port: 8001\n")
    assert load(None, {"MCPGW_CONFIG": str(path)}).port == 8001
    other = write(tmp_path, f"{ECHO}port: 8002\n", "other.yaml")
    assert load(other, {"MCPGW_CONFIG": str(path)}).port == 8002


def test_without_any_file_the_flag_and_the_variable_are_named() -> None:
    with pytest.raises(ConfigurationInvalid, match="give --config FILE, or set MCPGW_CONFIG"):
        load(None, {})


def test_keys_from_the_environment_stand_over_a_key_file(tmp_path: Path) -> None:
    write(tmp_path, f"# the ring\n{KEY}\n\n{OTHER_KEY}  # being rotated in\n", "keys")
    text = f"{ECHO}session_keys_file: keys\n"
    assert read(tmp_path, text).session_keys == (bytes(range(32)), bytes(range(32, 64)))
    assert read(tmp_path, text, {"MCPGW_SESSION_KEYS": OTHER_KEY}).session_keys == (bytes(range(32, 64)),)


def test_a_variable_may_mend_what_the_file_leaves_wrong(tmp_path: Path) -> None:
    assert read(tmp_path, f"{ECHO}log: quiet\nport: x\n", {"MCPGW_LOG_LEVEL": "error", "MCPGW_PORT": "1"}).port == 1


def test_a_key_made_at_start_can_be_handed_to_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPGW_SESSION_KEYS", "")  # so that it is taken back at the end
    monkeypatch.delenv("MCPGW_SESSION_KEYS")
    parent = load(write(tmp_path, ECHO))
    export_session_keys(parent.session_keys)
    worker = load(write(tmp_path, ECHO))
    assert (worker.session_keys, worker.session_keys_generated) == (parent.session_keys, False)


def test_port_0_twice_is_two_free_ports(tmp_path: Path) -> None:
    told = read(tmp_path, f"{ECHO}port: 0\nadmin: {{host: '::1', port: 0}}\n")
    assert (told.port, told.admin_host, told.admin_port) == (0, "::1", 0)
