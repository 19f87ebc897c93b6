"""Which paths serve which backend."""

from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.backends import Backend
from gateway.policy.sites import compile_routes
from tests.requirements import proves


def at(name: str, mount: str | None) -> Backend:
    return Backend(name, ("http://10.0.0.1/mcp",), mount)


@proves("ROUTE-1")
def test_a_mount_is_served_at_four_spellings() -> None:
    echo = at("echo", "/echo")
    assert compile_routes([echo]) == {"/echo": echo, "/echo/": echo, "/echo/mcp": echo, "/echo/mcp/": echo}


@proves("ROUTE-1")
def test_a_mount_may_be_deep_and_a_hidden_backend_has_none() -> None:
    deep = at("deep", "/team/deep/")
    assert sorted(compile_routes([deep, at("hidden", None)])) == [
        "/team/deep",
        "/team/deep/",
        "/team/deep/mcp",
        "/team/deep/mcp/",
    ]


@proves("ROUTE-1")
def test_the_root_is_served_at_mcp_alone() -> None:
    assert sorted(compile_routes([at("all", "/")])) == ["/mcp", "/mcp/"]


@proves("ROUTE-1")
def test_an_aggregate_is_served_as_a_backend_is() -> None:
    echo, members = at("echo", "/echo"), (Member("echo", "echo"),)
    everything, support = Aggregate("all", "/", members), Aggregate("support", "/support", members)
    assert compile_routes([echo], [everything, support]) == {
        **dict.fromkeys(("/echo", "/echo/", "/echo/mcp", "/echo/mcp/"), echo),
        **dict.fromkeys(("/mcp", "/mcp/"), everything),
        **dict.fromkeys(("/support", "/support/", "/support/mcp", "/support/mcp/"), support),
    }
