"""What must be so when all is over: nobody waits, nobody was left in the dark, and nothing goes on."""

from collections.abc import Iterable

from gateway.ports import StreamTurn
from tests.simulated.callers import Caller
from tests.simulated.clients import Report
from tests.simulated.replicas import Replica


def check_all_was_told(callers: Iterable[Caller]) -> None:
    """Each had every step and its result; or it cancelled, or was told of a loss that what befell the fleet excuses."""
    for caller in callers:
        assert caller.is_over, f"{caller.rpc_id} hangs: {caller.report}"
        if caller.resumes_allowed is not None:
            assert caller.job.resumes == caller.resumes_allowed, "a call that was cancelled was asked for"
        if not (caller.is_cancelled or (caller.report.is_loss and caller.may_lose)):
            told = f"{caller.report} of {caller.job.steps} steps, {caller.hazards}"
            assert caller.report == Report(caller.job.steps, True), told


def check_nothing_is_left(replicas: Iterable[Replica]) -> None:
    for replica in replicas:
        telemetry = replica.world.telemetry
        assert len(replica.pumps) == 0, "a pump goes on for nobody"
        assert telemetry.exceptions == []
        assert StreamTurn.BROKEN not in telemetry.turns
        assert +telemetry.open_streams == {}
        assert +replica.world.endpoints.outstanding == {}
