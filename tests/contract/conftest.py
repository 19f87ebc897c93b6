"""The `worlds` that a contract is tried in: `async with worlds(bounds) as world`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.policy.streams import Bounds
from tests.contract.worlds import KINDS, World, memory_world, redis_world
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import Cluster, RedisServer

OpenWorld = Callable[[Bounds], AbstractAsyncContextManager[World]]


@pytest.fixture(params=KINDS)
def open_world(request: pytest.FixtureRequest) -> OpenWorld:
    """Opens a world with bounds of the test's own, empty."""
    if request.param == "memory":
        return memory_world
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        nodes, url = [server], server.url
    else:
        cluster: Cluster = request.getfixturevalue("redis_cluster")
        nodes, url = cluster.nodes, cluster.url
    for node in nodes:
        node.tell("FLUSHALL")

    def pass_time(seconds: float) -> None:
        for node in nodes:
            node.pass_time(seconds)

    return lambda bounds: redis_world(bounds, url, pass_time)
