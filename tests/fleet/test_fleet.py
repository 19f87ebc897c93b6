"""The fleet itself: replicas that come, go and come back, each request to the next one, and one set of keys."""

from collections.abc import Iterator

import pytest
from mcp import Client

from tests.fleet.fleet import Fleet, running_fleet
from tests.fleet.processes import serving

MODES = ["auto", "2026-07-28", "legacy"]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with serving("backends.echo") as url, running_fleet(f"backends: {{echo: {{endpoints: ['{url}']}}}}") as fleet:
        yield fleet


async def say(client: Client, text: str) -> object:
    result = await client.call_tool("echo", {"text": text})
    return result.structured_content


@pytest.mark.parametrize("mode", MODES)
async def test_a_clients_requests_are_served_by_every_replica(fleet: Fleet, mode: str) -> None:
    before = fleet.shares()
    async with Client(f"{fleet.url}/echo/mcp", mode=mode) as client:
        said = [await say(client, str(n)) for n in range(6)]
    assert said == [{"result": str(n)} for n in range(6)]
    assert all(after - earlier >= 2 for earlier, after in zip(before, fleet.shares(), strict=True))


@pytest.mark.parametrize("mode", MODES)
async def test_clients_go_on_while_replicas_are_killed_and_come_back(fleet: Fleet, mode: str) -> None:
    async with Client(f"{fleet.url}/echo/mcp", mode=mode) as client:
        assert await say(client, "all are up") == {"result": "all are up"}
        for number in range(3):
            fleet.kill(number)
            said = [await say(client, f"{number} is down") for _ in range(3)]
            assert said == [{"result": f"{number} is down"}] * 3
            fleet.restart(number)
        assert await say(client, "all are back") == {"result": "all are back"}


def test_a_replica_that_is_told_to_end_does_so_without_complaint(fleet: Fleet) -> None:
    status = fleet.terminate(0)
    fleet.restart(0)
    assert status in (0, -15), fleet.describe()


def test_a_replica_that_does_not_come_up_is_shown_with_what_it_said() -> None:
    with pytest.raises(AssertionError) as caught, running_fleet("backends: {echo: {endpoint: 1}}", replicas=1):
        pass
    assert "replica 0: ended with 2" in str(caught.value)
    assert "endpoint" in str(caught.value)
