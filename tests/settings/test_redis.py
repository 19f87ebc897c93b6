"""Where streams are kept: what `redis` may say."""

import pytest

from gateway.settings.configurations import from_mapping
from gateway.settings.problems import ConfigurationInvalid

BACKENDS = {"echo": {"endpoints": ["http://127.0.0.1:9000/mcp"]}}


def test_nothing_is_kept_unless_it_is_said_where() -> None:
    assert from_mapping({"backends": BACKENDS}).redis == "none"


def test_one_worker_may_keep_streams_in_its_memory() -> None:
    assert from_mapping({"backends": BACKENDS, "redis": "memory"}).redis == "memory"


def test_several_workers_cannot_share_a_memory() -> None:
    with pytest.raises(ConfigurationInvalid) as raised:
        from_mapping({"backends": BACKENDS, "redis": "memory", "workers": 2})
    (problem,) = raised.value.problems
    assert problem.message == "`memory` is one worker's own: name a Redis, or set `workers: 1`, or `redis: none`"


def test_a_heartbeat_is_as_told_and_six_seconds_where_it_is_not() -> None:
    assert from_mapping({"backends": BACKENDS}).heartbeat_seconds == 6.0
    assert from_mapping({"backends": BACKENDS, "streams": {"heartbeat": "1500ms"}}).heartbeat_seconds == 1.5


@pytest.mark.parametrize("heartbeat", ["500ms", "61s"])
def test_a_heartbeat_that_helps_nobody_is_refused(heartbeat: str) -> None:
    with pytest.raises(ConfigurationInvalid) as raised:
        from_mapping({"backends": BACKENDS, "streams": {"heartbeat": heartbeat}})
    (problem,) = raised.value.problems
    assert "between 1s and 1m" in problem.message
