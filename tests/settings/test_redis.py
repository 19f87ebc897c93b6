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


def test_room_for_streams_is_as_told_and_what_there_is_where_it_is_not() -> None:
    default = from_mapping({"backends": BACKENDS})
    assert (default.budget_bytes, default.max_orphans) == (None, 4096)
    told = from_mapping({"backends": BACKENDS, "streams": {"budget": "2GiB", "max_orphans": 100}})
    assert (told.budget_bytes, told.max_orphans) == (2 * 1024**3, 100)


@pytest.mark.parametrize("streams", [{"budget": "0"}, {"budget": "much"}, {"max_orphans": 0}, {"max_orphans": True}])
def test_no_room_at_all_is_refused(streams: dict[str, object]) -> None:
    with pytest.raises(ConfigurationInvalid):
        from_mapping({"backends": BACKENDS, "streams": streams})


def test_a_call_is_run_again_only_where_that_is_said() -> None:
    assert from_mapping({"backends": BACKENDS}).site.backends["echo"].reexecute == "never"
    with pytest.raises(ConfigurationInvalid):
        from_mapping({"backends": {"echo": {**BACKENDS["echo"], "reexecute": "always"}}})
