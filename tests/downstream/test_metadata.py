"""Metadata as clients fetch them, those in browsers too."""

import json

import pytest
from starlette.responses import PlainTextResponse

from gateway.downstream.metadata import MetadataApp
from gateway.policy.admissions import Admission, Issuer
from gateway.policy.backends import Backend
from gateway.policy.sites import Site, compile_routes
from tests.downstream.test_operations import ask

ECHO = Backend("echo", ("http://e/mcp",), "/echo")
SITE = Site(
    backends={"echo": ECHO},
    routes=compile_routes([ECHO]),
    public_url="https://mcp.test",
    admission=Admission(issuers=(Issuer("https://login.test"),)),
)
PATH = "/.well-known/oauth-protected-resource/echo/mcp"
APP = MetadataApp(lambda: SITE, PlainTextResponse("other"))


async def test_anyone_may_read_the_metadata_from_any_page() -> None:
    reply = await ask(APP, PATH)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert json.loads(reply.body)["resource"] == "https://mcp.test/echo/mcp"


async def test_a_browser_may_ask_with_the_headers_of_the_sdks() -> None:
    reply = await ask(APP, PATH, "OPTIONS")
    assert reply.status == 204
    assert reply.headers["access-control-allow-headers"] == "*"
    assert reply.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"


async def test_a_page_can_read_that_there_are_none() -> None:
    reply = await ask(APP, "/.well-known/oauth-protected-resource/nothing")
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (404, "*")


async def test_they_are_read_only() -> None:
    reply = await ask(APP, PATH, "POST")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/health", "/.well-known/oauth-protected-resources", "/.well-known/x"])
async def test_all_else_is_passed_on(path: str) -> None:
    assert (await ask(APP, path)).body == b"other"
