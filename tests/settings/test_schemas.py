"""The published JSON Schema says what the gateway accepts, as far as a schema can; the example shows all of it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import trustme
import yaml

from gateway.policy.aggregates import Aggregate, Globs, Member
from gateway.policy.grants import Audience
from gateway.policy.quotas import NO_RATES
from gateway.policy.rules import NOTHING, Rules
from gateway.settings.admissions import ApiKeyShape, AuthShape, IntrospectionShape, IssuerShape, ProxyShape
from gateway.settings.aggregates import AggregateShape, GlobsShape, MemberShape
from gateway.settings.configurations import load
from gateway.settings.fields import Shape
from gateway.settings.grants import GrantShape
from gateway.settings.schemas import PUBLISHED, encode_schema, make_schema
from gateway.settings.sentences import is_shape, unwrap
from gateway.settings.shapes import BackendShape, FileShape
from tests.settings.files import ECHO, KEY, OTHER_KEY, mistakes, read

EXAMPLE = Path(__file__).parents[2] / "deploy" / "gateway.example.yaml"
SECRETS = {"SESSION_KEY": KEY, "WEATHER_TOKEN": "t", "PROXY_PASSWORD": "p"}


def accepts(text: str) -> bool:
    return jsonschema.Draft202012Validator(make_schema()).is_valid(yaml.safe_load(text))


def test_the_published_schema_is_the_one_that_is_made() -> None:
    assert PUBLISHED.read_text() == encode_schema()


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(encode_schema()))


@pytest.mark.parametrize(
    "text",
    [
        ECHO,
        "timeouts: {connect: 3s, idle: 1h30m, total: 12}",
        "timeouts: {connect: '${CONNECT}', idle: '${N}s'}",
        "backends: {a: {endpoints: [http://b], timeouts: {idle: '${IDLE}'}}}",
        "streams: {budget: '${BUDGET}', max_orphans: '${ORPHANS}'}",
        "limits: {body: 4MiB, answer: 65536, event: {file: size}}",
        "port: ${PORT}",
        "port: 8080",
        "expose_mounts: ${EXPOSE:-false}",
        "auth: none",
        "audit: {to: stdout, required: true, arguments: [{tools: get_*, keys: [city]}]}",
        "audit: {to: /var/log/audit.log}",
        "audit: {to: '${AUDIT_LOG}'}",
        "log: {level: '${LEVEL}', format: json}",
        "session_keys: ['${KEY}', {file: key}]",
        "session_keys: {file: keys}",
        "include: conf.d/*.yaml",
        "backends:",
        "backends: {a: {endpoints: http://b, mount: none}}",
        "backends: {a: {endpoints: ['${URL}'], headers: {x: {file: token}}, health_check: {}}}",
        "backends: {a: {endpoints: http://b, cache: off}, b: {endpoints: http://b, cache: {max_ttl: 30s}}}",
        "backends: {a: {endpoints: http://b, cache: 'off', trust_public: true}, b: {endpoints: http://b, cache: '${CACHE}'}}",
        "aggregates:",
        "aggregates: {all: {mount: /, backends: all}, two: {}}",
        "aggregates: {a: {backends: [echo, {name: b, prefix: off}, {name: c, prefix: false}, {name: '${D}', prefix: d_1}]}}",
        "aggregates: {a: {backends: 'b, c', allow: '*', deny: [x, y], name_limit: 64, era: modern, deadline: 1s}}",
        "aggregates: {a: {allow: {tools: [x], resources: '${GLOBS}'}, mount: /a/}}",
        "grants: []",
        "grants: [{to: anybody, allow: all}, {to: {groups: a, scopes: [b]}, backends: a, allow: '*', deny: [b]}]",
        "grants: [{to: {principals: ['${WHO}']}, backends: [a, 'b*'], deny: {tools: a, methods: [x/y], resources: [x:y]}}]",
        "limits: {requests: {per_principal: 100/s burst 200}, initialize: 10/m, concurrent_calls: 5}",
        "backends: {a: {endpoints: http://b, limits: {requests: {per_principal: '${RATE}'}, initialize: 5/h}}}",
        "x-anything: {a: 1}",
    ],
)
def test_it_accepts_what_the_gateway_accepts(text: str) -> None:
    assert accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "prot: 1",
        "aggregates: [a]",
        "aggregates: {A: {}}",
        "aggregates: {a: {mount: none}}",
        "aggregates: {a: {backends: [{prefix: b}]}}",
        "aggregates: {a: {backends: {b: c}}}",
        "aggregates: {a: {backends: [{name: b, prefix: b__c}]}}",
        "aggregates: {a: {backends: [{name: b, prefix: 7}]}}",
        "aggregates: {a: {allow: [1]}}",
        "aggregates: {a: {deny: {tool: [x]}}}",
        "aggregates: {a: {name_limit: 8}}",
        "aggregates: {a: {era: dual}}",
        "backends: {a: {endpoints: [http://b], cache: never}}",
        "backends: {a: {endpoints: [http://b], cache: {max_ttl: 0}}}",
        "limits: {initialize: 10/d}",
        "limits: {requests: 10/m}",
        "limits: {concurrent_streams: 0}",
        "limits: {requests: {per_principal: 0/s}}",
        "cache: {max_entries: 0}",
        "port: -1",
        "port: http",
        "auth: basic",
        "audit: stdout",
        "audit: {to: audit.log}",
        "audit: {arguments: [{tools: a, values: b}]}",
        "timeouts: {connect: 3 seconds}",
        "timeouts: {conect: 3s}",
        "limits: {body: 4M}",
        "log: {level: loud}",
        "expose_mounts: maybe",
        "backends: {a: {}}",
        "backends: {A: {endpoints: [http://b]}}",
        "backends: {a: {endpoints: [ftp://b]}}",
        "backends: {a: {endpoints: [http://b], mount: b}}",
        "backends: {a: {endpoints: [http://b], headers: {x: 1}}}",
        "backends: {a: {endpoints: [http://b], heal: {file: x, more: y}}}",
        "workers: {fil: x}",
        "grants: {to: anybody}",
        "grants: [{allow: all}]",
        "grants: [{to: everybody, allow: all}]",
        "grants: [{to: {user: a}, allow: all}]",
        "grants: [{to: anybody, allow: [1]}]",
        "grants: [{to: anybody, permit: all}]",
    ],
)
def test_it_refuses_what_the_gateway_refuses(tmp_path: Path, text: str) -> None:
    assert not accepts(text)
    assert mistakes(tmp_path, text)


def keys_of(shape: type[Shape]) -> Iterator[tuple[type[Shape], str]]:
    for name, field in shape.model_fields.items():
        yield shape, name
        inner = unwrap(field.annotation)
        if is_shape(inner):
            yield from keys_of(inner)


ADMISSIONS = (AuthShape, IssuerShape, IntrospectionShape, ApiKeyShape, ProxyShape)
ALL_KEYS = [
    *(
        key
        for shape in (FileShape, BackendShape, AggregateShape, MemberShape, GlobsShape, GrantShape, *ADMISSIONS)
        for key in keys_of(shape)
    )
]


@pytest.mark.parametrize(("shape", "key"), ALL_KEYS, ids=[f"{shape.__name__}.{key}" for shape, key in ALL_KEYS])
def test_every_key_is_described_and_has_a_place_in_the_example(shape: type[Shape], key: str) -> None:
    made = make_schema()
    described: dict[str, Any] = made if shape is FileShape else made["$defs"][shape.__name__]
    value = described["properties"][key]
    assert value.get("description") or made["$defs"][value["$ref"].rpartition("/")[2]]["description"]
    assert re.search(rf"\b{key}:", EXAMPLE.read_text())


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example with the secrets and certificates that it names."""
    shutil.copy(EXAMPLE, tmp_path / "gateway.yaml")
    for directory in ("secrets", "certs"):
        (tmp_path / directory).mkdir()
    (tmp_path / "secrets/old-session-key").write_text(OTHER_KEY)
    (tmp_path / "secrets/weather-api-key").write_text("k")
    (tmp_path / "secrets/introspection-secret").write_text("i")
    authority = trustme.CA()
    client = authority.issue_cert("gateway.test")
    authority.cert_pem.write_to_path(tmp_path / "certs/ca.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "certs/client.pem")
    client.private_key_pem.write_to_path(tmp_path / "certs/client.key")
    return tmp_path / "gateway.yaml"


def test_the_example_is_a_configuration_without_mistakes(example: Path) -> None:
    told = load(example, SECRETS)
    assert list(told.site.backends) == ["echo", "math", "weather"]
    assert told.site.backends["math"].timeouts.idle_seconds == 900.0
    assert told.site.backends["weather"].headers == (("authorization", "Bearer t"), ("x-api-key", "k"))
    assert told.site.routes["/team/weather/mcp"] is told.site.backends["weather"]
    assert told.site.routes["/mcp"] is told.site.aggregates["all"]
    assert told.site.aggregates["all"].members == (
        Member("echo", "echo"),
        Member("math", "math"),
        Member("weather", "weather"),
    )
    assert told.site.aggregates["support"] == Aggregate(
        name="support",
        mount="/support",
        members=(Member("echo", "echo"), Member("math", "math", is_bare=True), Member("weather", "w")),
        allow=Globs(("echo__*", "math__*", "weather__get_*"), ("*",), ("weather__*",)),
        deny=Globs(("*__delete_*",), ("*__delete_*",), ("*__delete_*",)),
        name_limit=48,
        era="auto",
        deadline_seconds=3.0,
    )
    assert told.site.grants is not None
    assert [(one.to, one.backends, one.allow, one.deny) for one in told.site.grants.grants] == [
        (
            Audience(groups=("support",)),
            ("math", "weather"),
            Rules(("get_*", "add"), ("*",), ("weather://*",)),
            NOTHING,
        ),
        (
            Audience(("key nightly-report", "https://login.example.com/realms/mcp *"), (), ("mcp:tools",)),
            ("echo",),
            Rules(methods=("tools/call",)),
            NOTHING,
        ),
        (Audience(is_anybody=True), ("*",), NOTHING, Rules(("*delete_*",), ("*delete_*",), ("*delete_*",))),
    ]
    assert accepts(EXAMPLE.read_text())


def test_the_example_says_the_defaults_where_it_claims_to(example: Path) -> None:
    told = load(example, SECRETS).site
    least = read(example.parent, ECHO).site
    assert msgspec.structs.replace(told.limits, rates=NO_RATES) == least.limits
    assert told.backends["echo"].timeouts == least.backends["echo"].timeouts
    assert told.backends["weather"].ejection == least.backends["echo"].ejection
    assert told.aggregates["support"].name_limit == Aggregate("", "", ()).name_limit
    assert told.aggregates["support"].deadline_seconds == Aggregate("", "", ()).deadline_seconds
    assert told.backends["weather"].max_connections == least.backends["echo"].max_connections
