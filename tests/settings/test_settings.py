"""What was told becomes one frozen value: defaults filled in, secrets masked, equal on every replica."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy import backends, sites
from gateway.policy.caches import CacheBounds
from gateway.policy.drains import Drain
from gateway.settings.configurations import from_mapping, load
from gateway.settings.problems import ConfigurationInvalid
from gateway.settings.settings import Settings, doubts, restart_needed
from tests.requirements import proves
from tests.settings.files import ECHO, KEY, OTHER_KEY, mistakes, read

ALL_OF_A_BACKEND = """
backends:
  all:
    endpoints: [http://a.localhost:9000/mcp, https://b.localhost/mcp?x=1]
    mount: /team/all/
    era: dual
    resolve: dns
    resolve_interval: 7s
    timeouts: {connect: 500ms, total: 10m}
    headers: {Authorization: Bearer x, x-b: " y "}
    tls: {server_name: c.localhost}
    proxy: http://u:p@proxy.localhost:3128/
    max_connections: 7
    ejection: {failures: 3, rest: 2s, max_rest: 4s}
    health_check: {path: /up, interval: 20s, timeout: 1s}
    heal: no
    reexecute: read_only
    cache: {max_ttl: 30s}
    trust_public: yes
timeouts: {connect: 4s, idle: 2m}
"""


def test_the_least_file_means_the_defaults(tmp_path: Path) -> None:
    told = read(tmp_path, ECHO)
    echo = backends.Backend("echo", ("http://127.0.0.1:9001/mcp",), mount="/echo")
    assert told == Settings(
        site=sites.Site(
            backends={"echo": echo},
            routes={"/echo": echo, "/echo/": echo, "/echo/mcp": echo, "/echo/mcp/": echo},
            hosts=frozenset({"localhost", "127.0.0.1", "::1"}),
            digest=told.site.digest,
        ),
        session_keys=told.session_keys,
        session_keys_generated=True,
        files=(f"{tmp_path}/gateway.yaml",),
    )


def test_every_key_of_a_backend_arrives(tmp_path: Path) -> None:
    assert read(tmp_path, ALL_OF_A_BACKEND).site.backends["all"] == backends.Backend(
        name="all",
        endpoints=("http://a.localhost:9000/mcp", "https://b.localhost/mcp?x=1"),
        mount="/team/all",
        era="dual",
        resolve="dns",
        resolve_seconds=7.0,
        timeouts=backends.Timeouts(connect_seconds=0.5, idle_seconds=120.0, total_seconds=600.0),
        tls=backends.Tls(server_name="c.localhost"),
        proxy="http://u:p@proxy.localhost:3128",
        headers=(("authorization", "Bearer x"), ("x-b", "y")),
        ejection=backends.Ejection(3, 2.0, 4.0),
        health_check=backends.HealthCheck("/up", 20.0, 1.0),
        max_connections=7,
        heal=False,
        reexecute="read_only",
        caching=backends.Caching(max_ttl_seconds=30.0),
        trust_public=True,
    )


def test_a_hidden_backend_has_no_route(tmp_path: Path) -> None:
    site = read(tmp_path, "backends: {a: {endpoints: [http://localhost:1], mount: none}}").site
    assert (site.backends["a"].mount, site.routes) == (None, {})


@proves("CACHE-7")
@pytest.mark.parametrize(
    ("told", "caching"),
    [
        ("off", backends.Caching(is_on=False)),
        ("false", backends.Caching(is_on=False)),
        ("on", backends.Caching()),
        ("{}", backends.Caching()),
        ("{max_ttl: 500ms}", backends.Caching(max_ttl_seconds=0.5)),
    ],
)
def test_what_is_kept_of_a_backend_may_be_capped_or_forbidden(
    tmp_path: Path, told: str, caching: backends.Caching
) -> None:
    site = read(tmp_path, f"backends: {{a: {{endpoints: [http://localhost:1], cache: {told}}}}}").site
    assert site.backends["a"].caching == caching


@proves("CACHE-7")
def test_the_bounds_of_what_is_kept_arrive(tmp_path: Path) -> None:
    assert read(tmp_path, f"{ECHO}cache: {{max_entries: 7, max_size: 1MiB}}").site.cache == CacheBounds(7, 1024 * 1024)


def test_all_limits_arrive(tmp_path: Path) -> None:
    site = read(tmp_path, f"{ECHO}limits: {{body: 1KiB, answer: 2KiB, event: 3KiB, body_timeout: 4s}}").site
    assert site.limits == sites.Limits(1024, 2048, 3072, 4.0)


@pytest.mark.parametrize(
    ("told", "hosts"),
    [
        ("public_url: https://MCP.example.com:8443", {"mcp.example.com", "localhost", "127.0.0.1", "::1"}),
        ("host: 127.0.0.9", {"127.0.0.9", "localhost", "127.0.0.1", "::1"}),
        ("allowed_hosts: ['[fd00::1]', Other.Example.]", {"fd00::1", "other.example", "localhost", "127.0.0.1", "::1"}),
        (f"host: '::'\nauth: none\npublic_url: 'http://[fd00::2]:80'\nsession_keys: {KEY}", {"fd00::2"}),
    ],
)
def test_allowed_hosts_derive_from_what_was_told(tmp_path: Path, told: str, hosts: set[str]) -> None:
    assert read(tmp_path, f"{ECHO}{told}\n").site.hosts == hosts


def test_keys_are_read_from_base64url_and_hexadecimal(tmp_path: Path) -> None:
    told = read(tmp_path, f"{ECHO}session_keys: [{KEY}=, {bytes(range(32)).hex()}, {OTHER_KEY}]\n")
    assert told.session_keys == (bytes(range(32)), bytes(range(32)), bytes(range(32, 64)))
    assert not told.session_keys_generated


SECRET = "hunter2-hunter2"
SECRETS = f"""
session_keys: [{KEY}]
redis: redis://user:{SECRET}@localhost:6379/0
backends:
  a:
    endpoints: [http://localhost:1]
    headers: {{authorization: Bearer {SECRET}}}
    proxy: http://user:{SECRET}@localhost:3128
"""


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    told = read(tmp_path, SECRETS)
    assert told.site.backends["a"].headers == (("authorization", f"Bearer {SECRET}"),)
    for value in (told, told.site, told.site.backends["a"], told.session_keys, [told.redis], told.site.routes):
        assert SECRET not in repr(value)
        assert repr(bytes(range(32)))[2:20] not in repr(value)
    assert repr(told.redis) == "'redis://***@localhost:6379/0'"


@pytest.mark.parametrize(
    "text",
    [
        f"backends: {{a: {{endpoints: [ftp://u:{SECRET}@localhost]}}}}",
        f"backends: {{a: {{endpoints: ['u:{SECRET}@localhost']}}}}",
        f"backends: {{a: {{endpoints: ['ftp://localhost/?key={SECRET}']}}}}",
        f"backends: {{a: {{endpoints: [http://localhost], proxy: 'https://u:{SECRET}@localhost'}}}}",
        f'backends: {{a: {{endpoints: [http://localhost], headers: {{x: "{SECRET}\\n"}}}}}}',
        f"backends: {{a: {{endpoints: [http://localhost], headers: {SECRET}}}}}",
        f"backends: {{a: {{endpoints: [http://localhost], headers: [{SECRET}]}}}}",
        f"redis: http://u:{SECRET}@localhost",
        f"redis: [{SECRET}]",
        f"session_keys: [{SECRET}]",
        f"session_keys: {{a: {SECRET}}}",
        f"port: {SECRET}@1",
        "port: ${PASSWORD}",
        "auth: ${PASSWORD}",
        "timeouts: {idle: '${PASSWORD}'}",
        "trusted_proxies: '10.0.0.0/8,${PASSWORD}'",
        "public_url: ${PASSWORD}",
        "backends: {a: {endpoints: ['${PASSWORD}'], mount: '${PASSWORD}', era: '${PASSWORD}'}}",
        "backends: {a: '${PASSWORD}'}",
        "log: {level: {file: password}}",
        "allowed_hosts: [{file: password}]",
    ],
)
def test_no_mistake_shows_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "password").write_text(f"{SECRET}!")
    found = mistakes(tmp_path, text, {"PASSWORD": f"{SECRET}!"})
    assert SECRET not in "\n".join(map(str, found))


def test_no_wrong_variable_shows_a_secret(tmp_path: Path) -> None:
    environ = {"MCPGW_SESSION_KEYS": SECRET, "MCPGW_REDIS": f"http://u:{SECRET}@a", "MCPGW_SESION_KEYS": SECRET}
    found = mistakes(tmp_path, ECHO, environ)
    assert [p.file for p in found] == ["MCPGW_REDIS", "MCPGW_SESION_KEYS", "MCPGW_SESSION_KEYS"]
    assert SECRET not in "\n".join(map(str, found))


def test_the_digest_is_the_same_wherever_the_same_is_told(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    text = f"{ALL_OF_A_BACKEND}session_keys: [{KEY}]\nallowed_hosts: [a, b, c]\n"
    one, other = read(tmp_path, text), read(tmp_path / "other", f"# a comment\n{text}")
    assert one.site.digest == other.site.digest
    assert len(one.site.digest) == 12
    assert read(tmp_path, ECHO).site.digest == read(tmp_path, ECHO).site.digest  # a key made at start doesn't count


@pytest.mark.parametrize(
    "text",
    [
        f"{ECHO}port: 8081",
        f"{ECHO}expose_mounts: true",
        f"{ECHO}session_keys: [{KEY}]",
        ECHO.replace("9001", "9002"),
        ECHO.replace("]}", "], headers: {x: one}}"),
        ECHO.replace("]}", "], headers: {x: two}}"),
        "backends: {}",
    ],
)
def test_the_digest_changes_with_what_is_told(tmp_path: Path, text: str) -> None:
    others = {read(tmp_path, ECHO).site.digest, read(tmp_path, f"{ECHO}port: 8082").site.digest}
    assert read(tmp_path, text).site.digest not in others


def test_how_a_replica_ends_is_as_told_and_gives_load_balancers_time_where_it_is_not(tmp_path: Path) -> None:
    assert read(tmp_path, ECHO).drain == Drain(delay_seconds=5.0, grace_seconds=30.0)
    told = read(tmp_path, f"{ECHO}drain: {{delay: 0s, grace: 1m}}\n")
    assert told.drain == Drain(delay_seconds=0.0, grace_seconds=60.0)


def test_settings_are_frozen(tmp_path: Path) -> None:
    told: Any = read(tmp_path, ECHO)
    with pytest.raises(AttributeError):
        told.port = 1


def test_what_a_running_gateway_cannot_take_over_is_named(tmp_path: Path) -> None:
    old = read(tmp_path, ECHO)
    new = read(tmp_path, f"{ECHO}port: 1\nworkers: 2\nlog: {{level: debug, format: json}}\nadmin: {{port: 9}}\n")
    assert restart_needed(old, new) == ("port", "workers", "admin.port", "log.format")
    assert restart_needed(old, msgspec.structs.replace(old, log_level="debug")) == ()
    assert restart_needed(old, msgspec.structs.replace(old, redis="redis://a")) == ("redis",)
    assert restart_needed(old, msgspec.structs.replace(old, drain=Drain(0.0))) == ("drain",)


def test_a_mapping_is_taken_literally_and_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPGW_PORT", "8001")
    told = from_mapping({"backends": {"a": {"endpoints": ["http://localhost:1"], "headers": {"x": "${A}"}}}})
    assert (told.port, told.files) == (8080, ())
    assert told.site.backends["a"].headers == (("x", "${A}"),)
    assert from_mapping({}, {"MCPGW_PORT": "8001"}, {"workers": 2}).port == 8001


def test_a_mapping_with_mistakes_names_their_keys() -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        from_mapping({"backends": {"a": {"endpoint": "http://localhost:1"}}, "port": None})
    assert [str(problem) for problem in caught.value.problems] == [
        "configuration: backends.a.endpoint: unknown key: did you mean `endpoints`?",
        "configuration: backends.a.endpoints: is missing: give at least one URL, such as [http://echo:9000/mcp]",
        "configuration: port: has no value: give it one, or remove the key",
    ]


def test_what_is_allowed_but_hardly_meant_is_doubted(tmp_path: Path) -> None:
    text = (
        f"host: 0.0.0.0\nauth: none\npublic_url: http://a.example\nsession_keys: {KEY}\n"
        "backends: {a: {endpoints: [http://a.example], headers: {x: y}}, b: {endpoints: [http://localhost], headers: {x: y}}}"
    )
    assert list(doubts(read(tmp_path, text))) == [
        "auth is `none`: whoever reaches this gateway may call every tool behind it",
        "public_url is http://: unless the network is trusted, let a load balancer end TLS before it",
        "backends.a: its `headers` cross the network in the clear to a.example",
    ]
    assert list(doubts(read(tmp_path, ECHO.replace("]}", "], tls: {server_name: a}}")))) == [
        "backends.echo: its `tls` has no effect, no endpoint is an https:// URL"
    ]
    trusting = ECHO.replace("]}", "], reexecute: read_only}")
    assert list(doubts(read(tmp_path, trusting))) == [
        "backends.echo: its `reexecute` has no effect without `redis`, no call is kept"
    ]
    assert list(doubts(read(tmp_path, f"{trusting}redis: memory\n"))) == []
    assert list(doubts(read(tmp_path, ECHO))) == []
    assert list(doubts(read(tmp_path, "{}"))) == ["there are no backends: every request will be answered with 404"]


def is_told(attempt: Callable[[], Settings]) -> bool:
    """Whether there are settings, or at least one mistake; anything else is raised."""
    try:
        return isinstance(attempt(), Settings)
    except ConfigurationInvalid as invalid:
        return bool(invalid.problems)


snippets = st.sampled_from(
    [
        b"backends:\n",
        b"  a:\n",
        b"    endpoints: [http://b]\n",
        b"include: '*.yaml'\n",
        b"port: ",
        b"${A}",
        b"{file: x}",
    ]
)
punctuation = st.sampled_from([b"<<: *a\n", b"&a ", b"{idle: ", b"}\n", b"session_keys: ", b"? ", b"- ", b": ", b"!!"])


@given(raw=st.binary(max_size=80) | st.lists(snippets | punctuation | st.binary(max_size=4), max_size=8).map(b"".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_settings_or_mistakes(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(raw)
    assert is_told(lambda: load(path, {}))


keys = st.sampled_from(
    ["backends", "a", "endpoints", "mount", "headers", "tls", "timeouts", "idle", "port", "log", "x"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("http://b"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
)


@given(st.dictionaries(keys, values, max_size=5))
def test_any_mapping_is_settings_or_mistakes(told: dict[str, object]) -> None:
    assert is_told(lambda: from_mapping(told))
