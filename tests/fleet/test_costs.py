"""What is asked of Redis: nothing for a call that is answered at once, and one script an event for one that isn't."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving
from tests.fleet.requests import legacy, modern, open_session
from tests.fleet.resumable import Caller
from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
from tests.redis.servers import RedisServer

CONFIG = """
redis: {redis}
backends:
  echo: {{endpoints: ['{echo}']}}
  keeps: {{endpoints: ['{keeps}']}}
"""
CALLS = 300
STEPS = 50
OF_THE_WORKERS = {"eval", "evalsha", "pexpire", "set", "exists", "info", "ping"}
"""What heartbeats and measuring come to. Redis counts the commands inside scripts too, so that a script of the log shows:
each asks HMGET."""


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer) -> Iterator[Fleet]:
    with ExitStack() as cleanup:
        echo = cleanup.enter_context(serving("backends.echo"))
        keeps = cleanup.enter_context(serving("tests.fleet.resumable", "--store"))
        yield cleanup.enter_context(running_fleet(CONFIG.format(redis=redis_server.url, echo=echo, keeps=keeps)))


def count_commands(redis: RedisServer) -> Counter[str]:
    """How often each command has been run, by clients and by scripts, as Redis itself counts."""
    told = redis.tell("INFO", "commandstats")
    return Counter({name.removeprefix("cmdstat_"): stats["calls"] for name, stats in told.items()})


async def test_calls_that_are_answered_at_once_touch_no_redis(
    fleet: Fleet, redis_server: RedisServer, http: httpx2.AsyncClient, table: list[str]
) -> None:
    url = f"{fleet.url}/echo/mcp"
    before = count_commands(redis_server)
    session = await open_session(http, url)
    for number in range(CALLS):
        call = {"name": "echo", "arguments": {"text": str(number)}}
        for request in (legacy("tools/call", call, session=session), modern("tools/call", call)):
            answer = await http.post(url, **request)
            assert (answer.status_code, f'"{number}"' in answer.text) == (200, True)
    grown = count_commands(redis_server) - before
    table.append(f"{2 * CALLS} calls answered at once: Redis commands of the log: {grown['hmget'] + grown['xadd']}")
    assert grown.keys() <= OF_THE_WORKERS


async def test_an_event_of_a_long_call_costs_one_script(
    fleet: Fleet, redis_server: RedisServer, http: httpx2.AsyncClient, table: list[str]
) -> None:
    url = f"{fleet.url}/keeps/mcp"
    caller = Caller(url, await open_session(http, url), "costs")
    before = count_commands(redis_server)
    report = await caller.run(STEPS, delay_ms=20)
    grown = count_commands(redis_server) - before
    assert report.faults(STEPS) == []
    events = STEPS + 1
    assert grown["xadd"] == events + 1, "the events, and the primer"
    # A script that writes to a stream asks HMGET once and PEXPIRE twice; a heartbeat is PEXPIRE alone. A script that Redis
    # doesn't know yet is asked for twice.
    beats = grown["pexpire"] - 2 * grown["hmget"]
    scripts = grown["eval"] + grown["evalsha"] - beats
    table.append(f"{events} events of a long call: {scripts} scripts, {scripts / events:.2f} an event")
    assert scripts <= 1.1 * events
