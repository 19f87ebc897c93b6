"""Which metadata are at which path."""

import json
from typing import Any

import msgspec
import pytest

from gateway.policy.admissions import Admission, ApiKey, Issuer
from gateway.policy.aggregates import Aggregate
from gateway.policy.backends import Backend
from gateway.policy.metadata import describe_resource
from gateway.policy.sites import Site, compile_routes
from tests.requirements import proves

ECHO, HIDDEN = Backend("echo", ("http://e/mcp",), "/echo"), Backend("hidden", ("http://h/mcp",))
ALL = Aggregate("all", "/", ())
WELL_KNOWN = "/.well-known/oauth-protected-resource"
SITE = Site(
    backends={"echo": ECHO, "hidden": HIDDEN},
    routes=compile_routes([ECHO, HIDDEN], [ALL]),
    public_url="https://mcp.test",
    admission=Admission(issuers=(Issuer("https://login.test"), Issuer("https://b.test")), scopes=("mcp:tools",)),
)


def described(path: str, site: Site = SITE) -> Any:
    document = describe_resource(site, path)
    return None if document is None else json.loads(document)


@proves("AUTH-4")
@pytest.mark.parametrize(
    ("suffix", "resource", "name"),
    [
        ("/echo/mcp", "https://mcp.test/echo/mcp", "echo"),
        ("/echo/mcp/", "https://mcp.test/echo/mcp/", "echo"),
        ("/echo", "https://mcp.test/echo", "echo"),
        ("/echo/", "https://mcp.test/echo/", "echo"),
        ("/mcp", "https://mcp.test/mcp", "all"),
        ("", "https://mcp.test/mcp", "all"),
        ("/", "https://mcp.test/mcp", "all"),
    ],
)
def test_each_spelling_has_metadata_of_its_own(suffix: str, resource: str, name: str) -> None:
    assert described(WELL_KNOWN + suffix) == {
        "resource": resource,
        "authorization_servers": ["https://login.test", "https://b.test"],
        "bearer_methods_supported": ["header"],
        "resource_name": name,
        "scopes_supported": ["mcp:tools"],
    }


@pytest.mark.parametrize("path", ["/hidden/mcp", "/nothing", "x", "/echo/mcp/x", "/health"])
def test_what_is_not_mounted_has_none(path: str) -> None:
    assert described(WELL_KNOWN + path) is None


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/echo/mcp", "/health", ""])
def test_another_path_is_no_metadatas(path: str) -> None:
    assert described(path) is None


@pytest.mark.parametrize(
    "changes",
    [{"admission": None}, {"admission": Admission(api_keys=(ApiKey("a", "0"),))}, {"public_url": None}],
)
def test_without_an_issuer_or_a_public_url_there_are_none(changes: dict[str, Any]) -> None:
    assert described(f"{WELL_KNOWN}/echo/mcp", msgspec.structs.replace(SITE, **changes)) is None


def test_the_root_is_nobodys_without_an_aggregate_there() -> None:
    assert described(WELL_KNOWN, msgspec.structs.replace(SITE, routes=compile_routes([ECHO]))) is None
