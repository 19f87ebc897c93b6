"""Redis URLs: what each kind means, and what is said of a wrong one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.state.targets import Target, parse_target
from tests.requirements import proves


@proves("REDIS-3")
@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://cache", Target(kind="single", addresses=(("cache", 6379),))),
        ("redis://cache:7000/3", Target(kind="single", addresses=(("cache", 7000),), db=3)),
        ("redis://[::1]:7000/", Target(kind="single", addresses=(("::1", 7000),))),
        ("redis://[::1]", Target(kind="single", addresses=(("::1", 6379),))),
        ("redis://:s%40cret@cache", Target(kind="single", addresses=(("cache", 6379),), password="s@cret")),
        ("redis://me:pw@cache", Target(kind="single", addresses=(("cache", 6379),), username="me", password="pw")),
        ("rediss://cache", Target(kind="single", addresses=(("cache", 6379),), tls=True)),
        (
            "rediss://cache?ca_file=/etc/ca.pem&check_hostname=false",
            Target(kind="single", addresses=(("cache", 6379),), tls=True, ca_file="/etc/ca.pem", check_hostname=False),
        ),
        (
            "redis+sentinel://:pw@a,b:7001,[::1]:7002/main/2?sentinel_password=other",
            Target(
                kind="sentinel",
                addresses=(("a", 26379), ("b", 7001), ("::1", 7002)),
                service="main",
                db=2,
                password="pw",
                sentinel_password="other",
            ),
        ),
        (
            "redis+cluster://a,b:7001?tls=true&cert_file=c.pem&key_file=k.pem",
            Target(kind="cluster", addresses=(("a", 6379), ("b", 7001)), tls=True, cert_file="c.pem", key_file="k.pem"),
        ),
    ],
)
def test_a_url_says_where_redis_is(url: str, target: Target) -> None:
    assert parse_target(url) == target


@proves("REDIS-3")
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("cache:6379", "must begin with one of redis://, rediss://, redis\\+sentinel://, redis\\+cluster://"),
        ("http://cache", "must begin with one of"),
        ("redis://", "lacks a host"),
        ("redis://:pw@", "lacks a host"),
        ("redis://a:port", "a port that isn't a number"),
        ("redis://a:70000", "a port that isn't a number from 1 to 65535"),
        ("redis://a:0", "a port that isn't a number from 1"),
        ("redis://a,b", "names several hosts: use redis\\+sentinel:// or redis\\+cluster://"),
        ("redis://::1", "an IPv6 address that isn't written \\[address\\]:port"),
        ("redis://[::1", "an IPv6 address that isn't written"),
        ("redis://a/x", "a database that isn't a number"),
        ("redis://secret@a", "must write a password behind a colon"),
        ("redis://:a@b@host", "must write / and @ in a password as %2F and %40"),
        ("redis://:pw#1@host", "write # in a password as %23"),
        ("redis://a?tsl=true", "an unknown option; there are ca_file, cert_file, check_hostname, key_file, tls"),
        ("redis://a?sentinel_password=x", "an unknown option"),
        ("redis://a?tls=yes", "must say true or false for tls"),
        ("rediss://a?tls=false", "says rediss:// and tls=false"),
        ("redis://a?ca_file=x", "options for TLS, but no TLS"),
        ("redis+sentinel://a", "must name Sentinel's service"),
        ("redis+cluster://a/1", "a cluster has only database 0"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong_without_its_secrets(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refusal:
        parse_target(url)
    assert "secret" not in str(refusal.value)


@proves("REDIS-3")
@given(st.text(alphabet="redisnctl+:/@[]a1?=&#%,. ", max_size=60))
def test_any_text_is_a_target_or_a_sentence(text: str) -> None:
    try:
        said = repr(parse_target(text))
    except ValueError as refusal:
        said = str(refusal)
    assert said.startswith(("Target(", "the Redis URL "))


@proves("REDIS-3")
def test_a_target_shows_no_secret() -> None:
    target = parse_target("redis+sentinel://me:hidden@a,b/main?sentinel_password=hidden")
    assert repr(target) == "Target(sentinel a:26379,b:26379 main)"
