"""Every kind of mistake is told with its line, its key, and how to mend it."""

from pathlib import Path

import pytest

from gateway.settings.configurations import load
from gateway.settings.problems import ConfigurationInvalid
from tests.settings.files import ECHO, KEY, mistakes, read

B = "backends:\n  echo:\n    endpoints: [http://127.0.0.1:9001/mcp]\n"  # four spaces before a key of `echo`, from line 4


def with_endpoint(url: str) -> str:
    return f"backends:\n  echo:\n    endpoints: [{url}]\n"


NOT_URL = "must be an http:// or https:// URL with a host"
LINK_LOCAL = "is a link-local or cloud-metadata address"
MISTAKES = {
    # the text itself
    "no YAML": ("a: [\nb", 2, "", "this is not YAML"),
    "a tab": ("backends:\n\techo: {}\n", 2, "", "this is not YAML"),
    "a list": ("- a\n", 1, "", "the file must be a mapping"),
    "two documents": (f"{ECHO}---\na: 1\n", 2, "", "a second document"),
    "a doubled key": (f"port: 1\n{ECHO}port: 2\n", 3, "port", "this key stands twice; it is also in line 1"),
    "a doubled backend": (f"{B}  echo: {{}}\n", 4, "backends.echo", "this key stands twice"),
    "a tag": (f"{ECHO}redis: !!python/name:os.system x\n", 2, "redis", "YAML tags"),
    "a control character": (f"{ECHO}host: \x07\n", 2, "", "U+0007 is not allowed"),
    "an alias of nothing": (f"{ECHO}redis: *nothing\n", 2, "redis", "an alias (`*…`) without an anchor"),
    "an alias of itself": ("x-a: &a [*a]\n", 1, "x-a[0]", "an alias (`*…`) without an anchor before it"),
    "a key that is a list": ("[a, b]: 1\n", 1, "", "a key must be plain text"),
    "a merge of text": (f"{B}    <<: defaults\n", 4, "backends.echo.<<", "takes a mapping"),
    # keys
    "an unknown key": (f"{ECHO}prot: 80\n", 2, "prot", "unknown key: did you mean `port`?"),
    "an unknown nested key": (f"{B}    timeouts: {{conect: 3s}}\n", 4, "backends.echo.timeouts.conect", "`connect`"),
    "a key far from any": (f"{ECHO}log: {{zzz: 1}}\n", 2, "log.zzz", "known here are format, level"),
    "another word for a key": ("backends:\n  a:\n    url: http://x\n", 3, "backends.a.url", "did you mean `endpoints`?"),
    "a key without value": (f"{ECHO}redis:\n", 2, "redis", "has no value: give it one, or remove the key"),
    "a backend's name": ("backends: {Echo: {endpoints: [http://x]}}\n", 1, "backends.Echo", "a backend's name begins"),
    # types
    "a number for text": (f"{ECHO}host: 12\n", 2, "host", "12 must be text: put it in quotes"),
    "text for a mapping": (f"{ECHO}timeouts: 5s\n", 2, "timeouts", "'5s' must be a mapping"),
    "a mapping for a list": (f"{ECHO}cors: {{origins: {{a: b}}}}\n", 2, "cors.origins", "must be a list"),
    "backends as a list": ("backends: [a]\n", 1, "backends", "must be a mapping"),
    "a backend as text": ("backends: {a: http://x}\n", 1, "backends.a", "must be a mapping"),
    "text for a number": (f"{ECHO}port: http\n", 2, "port", "'http' must be a whole number"),
    "a flag for a number": (f"{ECHO}workers: true\n", 2, "workers", "true must be a whole number"),
    "a number for a flag": (f"{B}    heal: 1\n", 4, "backends.echo.heal", "1 must be true or false"),
    "text for a flag": (f"{B}    heal: maybe\n", 4, "backends.echo.heal", "'maybe' must be true or false"),
    "a negative port": (f"{ECHO}port: -1\n", 2, "port", "-1 must be 0 or more"),
    "port 70000": (f"{ECHO}port: 70000\n", 2, "port", "70000 must be 65535 or less"),
    "no workers": (f"{ECHO}workers: 0\n", 2, "workers", "0 must be 1 or more"),
    "an unknown era": (f"{B}    era: old\n", 4, "backends.echo.era", "'old' must be 'auto', 'legacy', 'modern' or 'dual'"),
    "an unknown auth": (f"{ECHO}auth: basic\n", 2, "auth", "'basic' must be `none`, or a mapping such as {issuers: ["),
    "an unknown log level": (f"{ECHO}log: {{level: loud}}\n", 2, "log.level", "'loud' must be 'debug', 'info'"),
    "no duration": (f"{ECHO}timeouts: {{idle: 5 minutes}}\n", 2, "timeouts.idle", "'5 minutes' must be a duration such as"),
    "no time at all": (f"{ECHO}timeouts: {{idle: 0}}\n", 2, "timeouts.idle", "must be a duration above 0"),
    "no rate": (f"{ECHO}limits: {{initialize: 10 a day}}\n", 2, "limits.initialize", "must be a rate such as 100/s, 1000/m"),
    "a tiny burst": (f"{ECHO}limits: {{initialize: 100/s burst 9}}\n", 2, "limits.initialize", "must be at least 10, what"),
    "no size": (f"{ECHO}limits: {{body: 4 MeB}}\n", 2, "limits.body", "must be a size such as 512KiB, 4MiB"),
    "half a byte": (f"{ECHO}limits: {{body: 0.5}}\n", 2, "limits.body", "must be a whole number of bytes"),
    # values
    "a public_url without scheme": (f"{ECHO}public_url: mcp.example.com\n", 2, "public_url", "must be an http(s) URL"),
    "a public_url with a path": (f"{ECHO}public_url: https://a.b/mcp\n", 2, "public_url", "must have no path"),
    "a public_url with a bad port": (f"{ECHO}public_url: https://a.b:x\n", 2, "public_url", "must be an http(s) URL"),
    "a redis without scheme": (f"{ECHO}redis: localhost:6379\n", 2, "redis", "must be a redis://, rediss://"),
    "a network with host bits": (
        f"{ECHO}trusted_proxies: [10.0.0.1/8]\n", 2, "trusted_proxies[0]", "has host bits set: write 10.0.0.0/8",
    ),
    "no network": (f"{ECHO}trusted_proxies: ['::1', lb]\n", 2, "trusted_proxies[1]", "'lb' must be an IP address"),
    "an origin with a path": (f"{ECHO}cors: {{origins: [https://a.b/c]}}\n", 2, "cors.origins[0]", "must be an origin"),
    "the null origin": (f"{ECHO}cors: {{origins: ['null']}}\n", 2, "cors.origins[0]", "must be an origin such as"),
    "a host name with a port": (f"{ECHO}allowed_hosts: [a.b:80]\n", 2, "allowed_hosts[0]", "without scheme, port"),
    "the admin port again": (f"{ECHO}admin: {{port: 8080}}\n", 2, "admin.port", "8080 is the main port"),
    "an admin host alone": (f"{ECHO}admin: {{host: '::'}}\n", 2, "admin.host", "has no effect without `admin.port`"),
    # backends
    "no endpoints": ("backends:\n  echo: {}\n", 2, "backends.echo.endpoints", "is missing: give at least one URL"),
    "an empty list of endpoints": ("backends:\n  echo: {endpoints: []}\n", 2, "backends.echo.endpoints", "is missing"),
    "an endpoint that is no URL": (with_endpoint("echo:9000"), 3, "backends.echo.endpoints[0]", NOT_URL),
    "an endpoint of another scheme": (with_endpoint("ws://echo"), 3, "backends.echo.endpoints[0]", NOT_URL),
    "an endpoint with a bad port": (with_endpoint("http://a:b/"), 3, "backends.echo.endpoints[0]", NOT_URL),
    "an endpoint with half a bracket": (with_endpoint("'http://[::1/'"), 3, "backends.echo.endpoints[0]", NOT_URL),
    "credentials in an endpoint": (
        with_endpoint("http://u:hunter2@a/mcp"), 3, "backends.echo.endpoints[0]", "must not carry credentials",
    ),
    "an endpoint twice": (with_endpoint("http://a, http://a"), 3, "backends.echo.endpoints[1]", "stands twice"),
    "instance metadata": (with_endpoint("http://169.254.169.254/"), 3, "backends.echo.endpoints[0]", LINK_LOCAL),
    "instance metadata as a number": (with_endpoint("http://2852039166/"), 3, "backends.echo.endpoints[0]", LINK_LOCAL),
    "instance metadata mapped": (
        with_endpoint("'http://[::ffff:169.254.169.254]/'"), 3, "backends.echo.endpoints[0]", LINK_LOCAL,
    ),
    "instance metadata of EC2": (with_endpoint("'http://[fd00:ec2::254]/'"), 3, "backends.echo.endpoints[0]", LINK_LOCAL),
    "a link-local IPv6": (with_endpoint("'http://[fe80::1%25eth0]/'"), 3, "backends.echo.endpoints[0]", LINK_LOCAL),
    "metadata by name": (
        with_endpoint("http://metadata.google.internal./"), 3, "backends.echo.endpoints[0]", LINK_LOCAL,
    ),
    "a relative mount": (f"{B}    mount: echo\n", 4, "backends.echo.mount", "'echo' must begin with"),
    "a capital in a mount": (f"{B}    mount: /Echo\n", 4, "backends.echo.mount", "may hold only a-z"),
    "an empty segment": (f"{B}    mount: /a//b\n", 4, "backends.echo.mount", "between single slashes"),
    "dots in a mount": (f"{B}    mount: /a/../b\n", 4, "backends.echo.mount", "may hold only a-z"),
    "the aggregate's mount": (f"{B}    mount: /\n", 4, "backends.echo.mount", "is kept for the aggregate"),
    "the aggregate's path": (f"{B}    mount: /mcp/\n", 4, "backends.echo.mount", "is kept for the aggregate"),
    "a mount that hides a path": (f"{B}    mount: /health\n", 4, "backends.echo.mount", "would hide the gateway's own /health"),
    "a mount below a path": (f"{B}    mount: /.well-known/x\n", 4, "backends.echo.mount", "own /.well-known"),
    "a name that hides a path": (
        "backends:\n  metrics: {endpoints: [http://a]}\n", 2, "backends.metrics.mount", "own /metrics: choose another mount",
    ),
    "one mount twice": (f"{B}  b: {{endpoints: [http://b], mount: /echo/}}\n", 4, "backends.b.mount", "served by `echo` already"),
    "a mount inside a mount's paths": (
        f"{B}  b: {{endpoints: [http://b], mount: /echo/mcp}}\n", 4, "backends.b.mount", "/echo/mcp is served by `echo`",
    ),
    "no header name": (f"{B}    headers: {{'x y': z}}\n", 4, "backends.echo.headers.x y", "is no HTTP header name"),
    "a header of the gateway's": (f"{B}    headers: {{Host: z}}\n", 4, "backends.echo.headers.Host", "set by the gateway"),
    "a header of two lines": (f'{B}    headers: {{x: "a\\nb"}}\n', 4, "backends.echo.headers.x", "must be one line"),
    "a header that is a number": (f"{B}    headers: {{x: 7}}\n", 4, "backends.echo.headers.x", "put it in quotes"),
    "a proxy of another scheme": (f"{B}    proxy: socks5://a:1\n", 4, "backends.echo.proxy", "must be http://[user"),
    "a health check's path": (f"{B}    health_check: {{path: x}}\n", 4, "backends.echo.health_check.path", "must be a path"),
    "a switch that is none": (f"{B}    cache: never\n", 4, "backends.echo.cache", "'never' must be `off`, or a mapping such as"),
    "a cache for no time": (f"{B}    cache: {{max_ttl: 0}}\n", 4, "backends.echo.cache.max_ttl", "must be a duration above 0"),
    "a key the cache lacks": (f"{B}    cache: {{ttl: 1s}}\n", 4, "backends.echo.cache.ttl", "did you mean `max_ttl`?"),
    "no entries": (f"{ECHO}cache: {{max_entries: 0}}\n", 2, "cache.max_entries", "must be 1 or more"),
    "a rest too long": (f"{B}    ejection: {{rest: 2m}}\n", 4, "backends.echo.ejection.rest", "than `max_rest`, which is 1m"),
    # keys and secrets
    "a session key too short": (f"{ECHO}session_keys: [{KEY[:40]}]\n", 2, "session_keys[0]", "key 1 has 30 bytes, 32 are"),
    "a session key cut off": (f"{ECHO}session_keys: [{KEY}, {KEY[:41]}]\n", 2, "session_keys[1]", "key 2 is not base64url"),
    "no session key": (f"{ECHO}session_keys: ['correct+horse']\n", 2, "session_keys[0]", "key 1 is not base64url"),
    "two rings": (
        f"{ECHO}session_keys: [{KEY}]\nsession_keys_file: k\n", 3, "session_keys_file", "stands beside `session_keys`",
    ),
    "no such key file": (f"{ECHO}session_keys_file: nowhere\n", 2, "session_keys_file", "no such file or directory"),
    "an unset variable": (f"{ECHO}redis: ${{NOT_SET}}\n", 2, "redis", "the variable NOT_SET is not set"),
    "a broken reference": (f"{ECHO}redis: '${{A-b}}'\n", 2, "redis", "write `$${` for a literal"),
    "no such secret": (f"{ECHO}redis: {{file: nowhere}}\n", 2, "redis", "no such file or directory"),
    "an include that isn't there": (f"{ECHO}include: nowhere.yaml\n", 0, "", "can't be read: no such file"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_line_key_and_mend(tmp_path: Path, text: str, line: int, key: str, message: str) -> None:
    found = mistakes(tmp_path, text)
    assert any(p.line == line and p.key == key and message in p.message for p in found), found


def test_the_column_is_that_of_the_value_or_of_an_unknown_key(tmp_path: Path) -> None:
    found = mistakes(tmp_path, f"{B}    heal: maybe\n    heel: 1\n")
    assert [(p.line, p.column, p.key) for p in found] == [(4, 11, "backends.echo.heal"), (5, 5, "backends.echo.heel")]


def test_all_mistakes_of_one_file_are_told_at_once(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        "port: http\n"
        "redis: ${NOT_SET}\n"
        "host: 0.0.0.0\n"
        "backends:\n"
        "  a: {endpoints: [ftp://a], mount: /x, heal: maybe}\n"
        "  b: {endpoints: [http://169.254.169.254/mcp], mount: /x/mcp}\n"
        "  c: {endpoint: http://c, tls: {client_cert: nowhere.pem}}\n",
    )
    assert [(p.line, p.key) for p in found] == [
        (1, "auth"),
        (1, "public_url"),
        (1, "session_keys"),
        (1, "port"),
        (2, "redis"),
        (5, "backends.a.endpoints[0]"),
        (5, "backends.a.heal"),
        (6, "backends.b.endpoints[0]"),
        (6, "backends.b.mount"),
        (7, "backends.c.endpoints"),
        (7, "backends.c.endpoint"),
        (7, "backends.c.tls.client_cert"),
        (7, "backends.c.tls.client_cert"),
    ]


def test_a_problem_reads_as_one_line_an_editor_can_jump_to(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, f"{ECHO}prot: 80\n")
    assert str(found) == "gateway.yaml:2:1: prot: unknown key: did you mean `port`?"


def test_a_file_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path / "nowhere.yaml", {})
    assert [(p.line, p.message) for p in caught.value.problems] == [(0, "can't be read: no such file or directory")]


def test_an_alias_bomb_is_refused_where_it_explodes(tmp_path: Path) -> None:
    lines = ["x-0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (found,) = mistakes(tmp_path, "\n".join(lines))
    assert (found.line, found.message) == (5, "more than 100000 values, aliases counted: use fewer aliases")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, "x: " + "[" * 5000)
    assert found.message == "nested deeper than 32 levels"


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, "#" * (1024 * 1024 + 1))
    assert found.message == "the file is larger than 1048576 bytes: split it"


def test_a_link_local_endpoint_may_be_meant(tmp_path: Path) -> None:
    settings = read(tmp_path, with_endpoint("http://169.254.1.1/mcp") + "    allow_link_local: true\n")
    assert settings.site.backends["echo"].endpoints == ("http://169.254.1.1/mcp",)


def test_off_loopback_all_that_is_missing_is_demanded_and_says_how_to_make_it(tmp_path: Path) -> None:
    found = {p.key: p for p in mistakes(tmp_path, ECHO, host="0.0.0.0")}
    assert sorted(found) == ["auth", "public_url", "session_keys"]
    assert "`mcp-gateway keygen`" in found["session_keys"].message
    assert "`host` is 0.0.0.0, which others can reach" in found["public_url"].message
    assert "write `auth: none`" in found["auth"].message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "[::1]"])
def test_on_loopback_nothing_is_demanded(tmp_path: Path, host: str) -> None:
    settings = read(tmp_path, ECHO, host=host)
    assert settings.session_keys_generated
    assert len(settings.session_keys[0]) == 32
