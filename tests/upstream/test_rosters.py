"""The endpoints of each backend: picked, begun, finished, ejected, exchanged."""

import pytest

from gateway.policy.backends import Ejection, parse_endpoint
from gateway.protocol.outcomes import Failed, Outcome
from gateway.upstream.rosters import EndpointReport, Rosters, State
from tests.requirements import proves
from tests.upstream.calls import backend_at
from tests.upstream.witnesses import Memory

A, B = "http://a:1/mcp", "http://b:1/mcp"
RULE = Ejection(failures=2, rest_seconds=1.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_go_to_the_least_loaded_endpoint() -> None:
    rosters = Rosters(clock=Clock())
    backend = backend_at(A, B)
    first = rosters.pick(backend)
    rosters.begin(first)
    second = rosters.pick(backend)
    rosters.begin(second)
    assert {first.address, second.address} == {A, B}
    rosters.finish(first, Outcome.OK)
    assert rosters.pick(backend) is first


@proves("FAIL-1")
def test_an_endpoint_that_was_tried_is_not_picked_again_though_it_is_idle() -> None:
    rosters = Rosters(clock=Clock())
    backend = backend_at(A, B)
    busy = rosters.find(backend, B)
    assert busy is not None
    for _ in range(5):
        rosters.begin(busy)
    assert rosters.pick(backend).address == A
    assert rosters.pick(backend, {A}) is busy
    with pytest.raises(Failed) as caught:
        rosters.pick(backend, {A, B})
    assert caught.value.outcome is Outcome.UNREACHABLE


def test_an_endpoint_is_found_by_its_address_while_it_is_configured() -> None:
    rosters = Rosters(clock=Clock())
    backend = backend_at(A)
    found = rosters.find(backend, A)
    assert found is not None
    assert (found.host, found.port) == ("a", 1)
    assert rosters.find(backend, B) is None


def test_a_failing_endpoint_rests_is_tried_and_is_back_and_each_step_is_told() -> None:
    clock, memory = Clock(), Memory()
    rosters = Rosters(memory, clock)
    backend = backend_at(A, B, ejection=RULE)
    bad = rosters.find(backend, A)
    assert bad is not None
    for _ in range(2):
        rosters.begin(bad)
        rosters.finish(bad, Outcome.UNREACHABLE)
    assert [rosters.pick(backend).address for _ in range(4)] == [B] * 4
    assert rosters.report()["echo"] == [
        EndpointReport(A, State.EJECTED, 0, 2),
        EndpointReport(B, State.HEALTHY, 0, 0),
    ]
    clock.now = 1.0
    assert rosters.report()["echo"][0].state is State.PROBING
    rosters.begin(bad)
    assert [rosters.pick(backend).address for _ in range(4)] == [B] * 4
    rosters.finish(bad, Outcome.OK)
    assert {rosters.pick(backend).address for _ in range(4)} == {A, B}
    assert memory.told == [
        ("counted", "echo", 2, 0),
        ("ejected", "echo", A),
        ("counted", "echo", 1, 1),
        ("restored", "echo", A),
        ("counted", "echo", 2, 0),
    ]


def test_a_trial_that_fails_is_told_as_another_ejection() -> None:
    clock, memory = Clock(), Memory()
    rosters = Rosters(memory, clock)
    backend = backend_at(A, B, ejection=Ejection(failures=1))
    bad = rosters.find(backend, A)
    assert bad is not None
    for clock.now in (0.0, 1.0):
        rosters.begin(bad)
        rosters.finish(bad, Outcome.BROKEN)
    assert memory.told.count(("ejected", "echo", A)) == 2


def test_the_only_endpoint_is_never_ejected() -> None:
    memory = Memory()
    rosters = Rosters(memory, Clock())
    backend = backend_at(A, ejection=RULE)
    for _ in range(9):
        endpoint = rosters.pick(backend)
        rosters.begin(endpoint)
        rosters.finish(endpoint, Outcome.UNREACHABLE)
    assert rosters.report()["echo"] == [EndpointReport(A, State.HEALTHY, 0, 9)]
    assert memory.told == [("counted", "echo", 1, 0)]


def test_before_dns_has_answered_there_is_no_endpoint_and_the_failure_says_so() -> None:
    rosters = Rosters(clock=Clock())
    backend = backend_at(A, resolve="dns")
    with pytest.raises(Failed, match="'echo' has no address") as caught:
        rosters.pick(backend)
    assert caught.value.outcome is Outcome.UNREACHABLE
    rosters.fill(backend, [parse_endpoint(A, ip="10.0.0.1")])
    assert rosters.pick(backend).address == "http://10.0.0.1:1/mcp"


def test_addresses_that_stay_keep_their_standing_when_others_come_and_go() -> None:
    rosters = Rosters(clock=Clock())
    backend = backend_at(A, resolve="dns")
    rosters.fill(backend, [parse_endpoint(A, ip="10.0.0.1"), parse_endpoint(A, ip="10.0.0.2")])
    kept = rosters.find(backend, "http://10.0.0.1:1/mcp")
    gone = rosters.find(backend, "http://10.0.0.2:1/mcp")
    assert kept is not None
    assert gone is not None
    rosters.begin(kept)
    rosters.begin(gone)
    rosters.fill(backend, [parse_endpoint(A, ip="10.0.0.1"), parse_endpoint(A, ip="10.0.0.3")])
    assert rosters.find(backend, "http://10.0.0.1:1/mcp") is kept
    assert rosters.find(backend, "http://10.0.0.2:1/mcp") is None
    assert [report.outstanding for report in rosters.report()["echo"]] == [1, 0]
    rosters.finish(gone, Outcome.BROKEN)
    rosters.finish(kept, Outcome.OK)
    assert [report.outstanding for report in rosters.report()["echo"]] == [0, 0]


def test_a_changed_configuration_keeps_the_standing_of_endpoints_that_are_the_same() -> None:
    memory = Memory()
    rosters = Rosters(memory, Clock())
    before, gone = backend_at(A, B, ejection=RULE), backend_at(A, name="gone")
    rosters.reconcile({"echo": before, "gone": gone})
    failing = rosters.find(before, A)
    assert failing is not None
    rosters.begin(failing)
    rosters.finish(failing, Outcome.BROKEN)
    after = backend_at(A, "http://c:1/", ejection=Ejection(failures=9))
    rosters.reconcile({"echo": after})
    assert rosters.find(after, A) is failing
    assert [(r.address, r.failures) for r in rosters.report()["echo"]] == [(A, 1), ("http://c:1/", 0)]
    assert list(rosters.report()) == ["echo"]
    assert ("counted", "gone", 0, 0) in memory.told


def test_what_an_active_check_shows_counts_whatever_calls_do() -> None:
    memory = Memory()
    rosters = Rosters(memory, Clock())
    backend = backend_at(A, B)
    down = rosters.find(backend, A)
    assert down is not None
    for _ in range(2):
        rosters.note_check(down, is_down=True)
    rosters.begin(down)
    rosters.finish(down, Outcome.OK)
    assert {rosters.pick(backend).address for _ in range(4)} == {B}
    rosters.note_check(down, is_down=False)
    assert {rosters.pick(backend).address for _ in range(4)} == {A, B}
    assert [said[0] for said in memory.told] == ["counted", "ejected", "counted", "restored", "counted"]


def test_an_endpoint_from_elsewhere_is_refused() -> None:
    with pytest.raises(TypeError, match="pick"):
        Rosters(clock=Clock()).begin(parse_endpoint(A))


def test_an_address_that_now_belongs_to_another_name_is_another_endpoint() -> None:
    rosters = Rosters(clock=Clock())
    backend = backend_at(A, resolve="dns")
    rosters.fill(backend, [parse_endpoint(A, ip="10.0.0.1")])
    rosters.fill(backend, [parse_endpoint("http://b:1/mcp", ip="10.0.0.1")])
    assert rosters.pick(backend).host_header == b"b:1"
