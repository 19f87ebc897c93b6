"""Names and addresses, with a resolver that says what the test wants."""

import socket

from gateway.policy.backends import Tls
from gateway.upstream.names import Names, resolve_by_system
from tests.upstream.calls import backend_at


class Dns:
    """Answers for names; an exception is raised."""

    def __init__(self, **answers: list[str] | OSError) -> None:
        self.answers = answers

    async def __call__(self, host: str, port: int) -> list[str]:
        answer = self.answers[host]
        if isinstance(answer, OSError):
            raise answer
        return answer


async def test_every_address_is_an_endpoint_with_the_configured_host_in_its_headers() -> None:
    dns = Dns(math=["10.0.0.2", "10.0.0.1", "fd00::1"])
    backend = backend_at("https://math:9000/mcp?x=1", resolve="dns", tls=Tls(server_name="math.example"))
    found = await Names(dns).find_endpoints(backend)
    assert [endpoint.address for endpoint in found] == [
        "https://10.0.0.1:9000/mcp?x=1",
        "https://10.0.0.2:9000/mcp?x=1",
        "https://[fd00::1]:9000/mcp?x=1",
    ]
    assert {(e.host_header, e.server_name, e.target) for e in found} == {(b"math:9000", "math.example", b"/mcp?x=1")}
    assert [endpoint.host for endpoint in found] == ["10.0.0.1", "10.0.0.2", "fd00::1"]


async def test_the_last_good_answer_is_kept_while_dns_fails_name_by_name() -> None:
    dns = Dns(a=["10.0.0.1"], b=["10.0.1.1"])
    names, backend = Names(dns), backend_at("http://a:1/", "http://b:1/", resolve="dns")
    await names.find_endpoints(backend)
    dns.answers = {"a": socket.gaierror(-3, "try again"), "b": ["10.0.1.2"]}
    assert [e.host for e in await names.find_endpoints(backend)] == ["10.0.0.1", "10.0.1.2"]
    dns.answers = {"a": ["10.0.0.9"], "b": []}
    assert [e.host for e in await names.find_endpoints(backend)] == ["10.0.0.9", "10.0.1.2"]


async def test_a_name_that_never_resolved_gives_no_endpoint() -> None:
    names = Names(Dns(a=socket.gaierror(-2, "unknown")))
    assert await names.find_endpoints(backend_at("http://a:1/", resolve="dns")) == []


async def test_one_address_under_two_urls_is_one_endpoint() -> None:
    names = Names(Dns(a=["10.0.0.1"], b=["10.0.0.1"]))
    found = await names.find_endpoints(backend_at("http://a:1/", "http://b:1/", resolve="dns"))
    assert [endpoint.host_header for endpoint in found] == [b"a:1"]


async def test_the_system_resolves_numbers_to_themselves() -> None:
    assert await resolve_by_system("127.0.0.1", 80) == ["127.0.0.1"]
