"""For whom an answer is kept, and for how long."""

import msgspec
import pytest

from gateway.policy.backends import Backend, Caching
from gateway.policy.caches import Asker, key_for, lifetime_seconds, material_headers, may_share
from gateway.protocol.cacheables import Cacheable
from tests.requirements import proves

ECHO = Backend("echo", ("http://10.0.0.1/mcp",), "/echo")
TRUSTED = msgspec.structs.replace(ECHO, trust_public=True)


@proves("CACHE-4")
@pytest.mark.parametrize(
    ("backend", "asker", "expected"),
    [
        (TRUSTED, Asker("alice"), True),
        (TRUSTED, Asker(""), True),
        (ECHO, Asker("alice"), False),
        (TRUSTED, Asker("alice", credential="token"), False),
        (TRUSTED, Asker("alice", is_filtered=True), False),
    ],
)
def test_only_who_asks_a_trusted_backend_with_nothing_of_its_own_shares(
    backend: Backend, asker: Asker, expected: bool
) -> None:
    assert may_share(backend, asker) is expected


@proves("CACHE-4")
def test_a_key_is_one_principals_unless_it_is_everybodys() -> None:
    alice, bob = (key_for(TRUSTED, Asker(name), "tools/list", b"{}") for name in ("alice", "bob"))
    assert alice != bob
    assert alice.shared == bob.shared
    anonymous = key_for(TRUSTED, Asker(""), "tools/list", b"{}")
    assert anonymous != anonymous.shared


@proves("CACHE-7")
@pytest.mark.parametrize(
    ("cap", "ttl_ms", "seconds"),
    [(None, 1500, 1.5), (None, 10**12, 86400.0), (30.0, 60000, 30.0), (30.0, 10000, 10.0), (10.0**6, 10**12, 86400.0)],
)
def test_an_answer_lives_as_long_as_its_backend_says_and_no_longer_than_it_may(
    cap: float | None, ttl_ms: int, seconds: float
) -> None:
    backend = msgspec.structs.replace(ECHO, caching=Caching(max_ttl_seconds=cap))
    assert lifetime_seconds(backend, Cacheable(b"", b"", ttl_ms, "private")) == seconds


@proves("CACHE-1")
def test_of_the_clients_headers_those_count_that_may_matter_to_a_backend() -> None:
    headers = [(b"host", b"a"), (b"x-api-key", b"k"), (b"user-agent", b"u"), (b"x-tenant", b"t"), (b"cookie", b"c")]
    assert material_headers(headers) == ((b"x-api-key", b"k"), (b"x-tenant", b"t"))
