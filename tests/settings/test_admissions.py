"""`auth:`: what it comes to, what is wrong with it, and that its secrets show nowhere."""

from pathlib import Path

import pytest

from gateway.policy.admissions import ALGORITHMS, Admission, ApiKey, Introspection, Issuer, ProxyIdentity
from gateway.protocol.credentials import CredentialHeaders
from gateway.settings.settings import doubts, restart_needed
from tests.settings.files import ECHO, mistakes, read

SECRET = "hunter2-hunter2"
DIGEST = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789"
URL = "public_url: https://mcp.test\n"
FULL = f"""{ECHO}{URL}trusted_proxies: 10.0.0.0/8
auth:
  issuers:
    - issuer: https://login.test/realms/mcp
      jwks_url: https://login.test/keys
      audiences: api://a, api://b
      algorithms: [ES256]
      introspection: {{url: https://login.test/introspect, client_id: gw, client_secret: {SECRET}, cache: 5s}}
      groups_claim: realm_access.roles
    - issuer: https://other.test
  api_keys:
    - {{name: nightly, sha256: {DIGEST}, groups: [a], scopes: [x, y]}}
  proxy: {{user_header: X-Forwarded-User, groups_header: X-Groups}}
  anonymous: true
  scopes: [mcp:tools]
  clock_skew: 5s
"""


def test_auth_says_who_may_call(tmp_path: Path) -> None:
    told = read(tmp_path, FULL)
    assert told.auth == "required"
    assert told.site.admission == Admission(
        issuers=(
            Issuer(
                "https://login.test/realms/mcp",
                "https://login.test/keys",
                frozenset({"api://a", "api://b"}),
                frozenset({"ES256"}),
                Introspection("https://login.test/introspect", "gw", SECRET, 5.0),
                "realm_access.roles",
            ),
            Issuer("https://other.test"),
        ),
        api_keys=(ApiKey("nightly", DIGEST.lower(), frozenset({"a"}), frozenset({"x", "y"})),),
        proxy=ProxyIdentity("x-forwarded-user", "x-groups"),
        anonymous=True,
        scopes=("mcp:tools",),
        clock_skew_seconds=5.0,
        headers=CredentialHeaders(b"x-api-key", b"x-forwarded-user", b"x-groups"),
    )


@pytest.mark.parametrize(("text", "auth"), [("", None), ("auth: none\n", "none")])
def test_without_auth_nobody_is_asked(tmp_path: Path, text: str, auth: str | None) -> None:
    told = read(tmp_path, ECHO + text)
    assert (told.auth, told.site.admission) == (auth, None)


def test_every_algorithm_is_one_of_public_keys() -> None:
    assert Issuer("x").algorithms == frozenset(ALGORITHMS)
    assert not {name for name in ALGORITHMS if name[0] not in "RPE"}


ISSUER = "{issuer: https://login.test}"
MISTAKES = {
    "nothing": (f"{ECHO}auth: {{}}\n", 2, "auth", "lets nobody in"),
    "a wrong word": (f"{ECHO}auth: basic\n", 2, "auth", "must be `none`, or a mapping"),
    "an issuer without a URL": (f"{ECHO}{URL}auth: {{issuers: [{{}}]}}\n", 3, "auth.issuers[0].issuer", "is missing"),
    "an issuer that is no URL": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: login.test}}]}}\n",
        3,
        "auth.issuers[0].issuer",
        "http",
    ),
    "an issuer with a query": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: 'https://a.test/?b'}}]}}\n",
        3,
        "auth.issuers[0].issuer",
        "no query",
    ),
    "an issuer twice": (
        f"{ECHO}{URL}auth: {{issuers: [{ISSUER}, {ISSUER}]}}\n",
        3,
        "auth.issuers[1].issuer",
        "stands twice",
    ),
    "HMAC": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: https://a.test, algorithms: [HS256]}}]}}\n",
        3,
        "auth.issuers[0].algorithms[0]",
        "'HS256' must be 'RS256'",
    ),
    "none": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: https://a.test, algorithms: none}}]}}\n",
        3,
        "auth.issuers[0].algorithms[0]",
        "must be 'RS256'",
    ),
    "no algorithms": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: https://a.test, algorithms: []}}]}}\n",
        3,
        "auth.issuers[0].algorithms",
        "at least 1",
    ),
    "no public URL": (f"{ECHO}auth: {{issuers: [{ISSUER}]}}\n", 1, "public_url", "is required with `auth.issuers`"),
    "introspection without a secret": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: https://a.test, introspection: {{url: https://a.test/i}}}}]}}\n",
        3,
        "auth.issuers[0].introspection.client_secret",
        "is missing",
    ),
    "a client certificate without a key": (
        f"{ECHO}{URL}auth: {{issuers: [{{issuer: https://a.test, tls: {{client_key: gateway.yaml}}}}]}}\n",
        3,
        "auth.issuers[0].tls.client_key",
        "needs `client_cert:` beside it",
    ),
    "a key instead of its digest": (
        f"{ECHO}auth: {{api_keys: [{{name: a, sha256: mcpgw_hunter2}}]}}\n",
        2,
        "auth.api_keys[0].sha256",
        "SHA-256",
    ),
    "a key without a digest": (
        f"{ECHO}auth: {{api_keys: [{{name: a}}]}}\n",
        2,
        "auth.api_keys[0].sha256",
        "is missing",
    ),
    "a key without a name": (
        f"{ECHO}auth: {{api_keys: [{{sha256: {DIGEST}}}]}}\n",
        2,
        "auth.api_keys[0].name",
        "is missing",
    ),
    "a key's name with a space": (
        f"{ECHO}auth: {{api_keys: [{{name: a b, sha256: {DIGEST}}}]}}\n",
        2,
        "auth.api_keys[0].name",
        "letters, digits",
    ),
    "a digest twice": (
        f"{ECHO}auth: {{api_keys: [{{name: a, sha256: {DIGEST}}}, {{name: b, sha256: {DIGEST}}}]}}\n",
        2,
        "auth.api_keys[1].sha256",
        "stands twice",
    ),
    "a scope with a space": (f"{ECHO}auth: {{anonymous: true, scopes: ['a b']}}\n", 2, "auth.scopes", "without spaces"),
    "a proxy that nobody trusts": (
        f"{ECHO}auth: {{proxy: {{user_header: x-user}}}}\n",
        2,
        "auth.proxy",
        "without `trusted_proxies`",
    ),
    "a proxy without a header": (
        f"{ECHO}trusted_proxies: 10.0.0.1\nauth: {{proxy: {{}}}}\n",
        3,
        "auth.proxy.user_header",
        "is missing",
    ),
    "a header of our own": (
        f"{ECHO}trusted_proxies: 10.0.0.1\nauth: {{proxy: {{user_header: host}}}}\n",
        3,
        "auth.proxy.user_header",
        "set by the gateway",
    ),
    "an unknown key": (f"{ECHO}auth: {{issuer: https://a.test}}\n", 2, "auth.issuer", "did you mean `issuers`?"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_auth_is_told_with_line_key_and_mend(tmp_path: Path, name: str) -> None:
    text, line, key, said = MISTAKES[name]
    told = [problem for problem in mistakes(tmp_path, text) if problem.key == key]
    assert [problem.line for problem in told] == [line]
    assert said in told[0].message
    assert "hunter2" not in told[0].message


def test_secrets_of_auth_show_in_no_repr(tmp_path: Path) -> None:
    told = read(tmp_path, FULL)
    assert SECRET not in repr(told)
    introspection = told.site.admission and told.site.admission.issuers[0].introspection
    assert introspection is not None
    assert introspection.client_secret == SECRET


def test_a_secret_may_come_from_a_file_and_is_never_quoted(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    text = FULL.replace(SECRET, "{file: secret}")
    told = read(tmp_path, text)
    assert told.site.admission == read(tmp_path, FULL).site.admission
    assert str(tmp_path / "secret") in told.files


def test_a_changed_way_in_changes_the_digest_and_needs_no_restart(tmp_path: Path) -> None:
    before = read(tmp_path, FULL)
    for changed in (
        FULL.replace("anonymous: true", "anonymous: false"),
        FULL.replace(SECRET, SECRET + "2"),
        FULL.replace(DIGEST, DIGEST[::-1]),
    ):
        after = read(tmp_path, changed)
        assert after.site.digest != before.site.digest
        assert restart_needed(before, after) == ()


def test_an_issuer_in_the_clear_is_doubted(tmp_path: Path) -> None:
    text = f"{ECHO}{URL}auth: {{issuers: [{{issuer: http://login.test}}, {{issuer: http://localhost:8081}}]}}\n"
    assert list(doubts(read(tmp_path, text))) == [
        "auth: whoever is on the way to login.test can let anyone in as a user of http://login.test: use https://"
    ]


def test_a_variable_can_switch_auth_off_and_no_more(tmp_path: Path) -> None:
    assert read(tmp_path, FULL, {"MCPGW_AUTH": "none"}).site.admission is None
    (problem,) = mistakes(tmp_path, FULL, {"MCPGW_AUTH__ANONYMOUS": "true"})
    assert "unknown variable" in problem.message
