"""How much of the room for streams is used."""

import msgspec
import pytest

from gateway.policy.streams import Facts, LogAway, Trouble, share_of_room
from tests.requirements import proves


@proves("LOG-8")
@pytest.mark.parametrize(
    ("used", "limit", "fleet", "budget", "share"),
    [
        (500, 0, 1500, None, 0.0),  # neither bound: nothing is refused
        (450, 1000, 1500, None, 0.5),
        (900, 1000, 1500, None, 1.0),  # a tenth before Redis itself refuses
        (500, 0, 1500, 3000, 0.5),
        (450, 1000, 3000, 3000, 1.0),  # the fuller of the two counts
        (900, 1000, 300, 3000, 1.0),
    ],
)
def test_the_fuller_of_server_and_fleet_counts(
    used: int, limit: int, fleet: int, budget: int | None, share: float
) -> None:
    assert share_of_room(used, limit, fleet, budget) == pytest.approx(share)


@proves("REDIS-2")
def test_an_absent_log_says_why() -> None:
    assert str(LogAway(Trouble.FULL, "over the budget")) == "full: over the budget"
    assert str(LogAway(Trouble.AWAY)) == "away"


class OldFacts(msgspec.Struct, frozen=True, array_like=True):
    """Facts as the release before wrote and read them."""

    session: str
    principal: str
    mount: str
    backend: str
    endpoint: str
    upstream_session: str
    version: str
    request_id: bytes = b""


OLD = OldFacts("5e55", "alice", "/echo", "echo", "http://10.0.0.7:9000/mcp", "up-7", "2025-11-25", b"1")


@proves("DUR-9")
def test_two_releases_read_each_other_s_facts() -> None:
    facts = msgspec.msgpack.decode(msgspec.msgpack.encode(OLD), type=Facts)
    assert (facts.request_id, facts.began_at) == (b"1", 0.0)
    newer = msgspec.structs.replace(facts, began_at=1000.0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=OldFacts) == OLD
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=Facts) == newer
