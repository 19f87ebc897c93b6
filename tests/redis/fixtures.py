"""Fixtures: servers that many tests share, because a cluster takes a second to form. `from tests.redis.fixtures import *`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis.sentinels import Watched
from tests.redis.servers import Cluster, RedisServer, make_server, running
from tests.redis.waiting import until

__all__ = ["own_redis", "redis_cluster", "redis_server", "watched"]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for tests that leave it as they found it."""
    server = make_server(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three for tests that leave it as they found it."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    with running(*cluster.nodes):
        cluster.join(until)
        yield cluster


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for a test that makes it suffer."""
    server = make_server(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Servers behind Sentinel for a test that makes them change places."""
    servers = Watched(tmp_path)
    with running(*servers.servers):
        servers.wait_ready()
        yield servers
