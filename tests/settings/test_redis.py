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
