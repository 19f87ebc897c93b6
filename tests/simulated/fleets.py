"""Several simulated replicas and their clients: what may befall a fleet is a method here, and takes no time to happen.

fleet = Fleet(3)
fleet.call(0)
fleet.kill(0)
fleet.end()  # all is well again, and every call must have come to its end
"""

import asyncio
import json
from typing import Any, Final

from tests.simulated.backends import Job, Server
from tests.simulated.callers import Caller
from tests.simulated.clients import ACCEPTED, RETRY_SECONDS, Wire
from tests.simulated.clocks import FakeTimeLoop
from tests.simulated.hosts import HostDied
from tests.simulated.replicas import Replica
from tests.simulated.rooms import Mood, SharedRoom
from tests.simulated.verdicts import check_all_was_told, check_nothing_is_left

BEGIN_SECONDS: Final = 0.25  # after so long without an answer a call has its stream

ABSENT_SECONDS: Final = 20.0
"""After so long without a heartbeat a replica's streams have been taken over."""

LONG_SECONDS: Final = 70.0
"""Longer than a resume is held, or a pump keeps what waits."""

END_SECONDS: Final = 200.0
"""What a fleet in which all is well again may need at most: absence, takeover, and the resumes that were held."""


class Fleet:
    """Replicas that share a memory and a backend, on a loop of their own. A number too large is taken modulo."""

    def __init__(self, size: int) -> None:
        self.loop = FakeTimeLoop()
        self.loop.set_exception_handler(self._note_bug)
        self.server = Server()
        self.bugs: list[str] = []
        self.broken: list[str] = []
        """Rules that were broken, in words."""
        self.callers: list[Caller] = []
        self.twins: list[Caller] = []  # further connections of those
        self._lives = 0
        self._traces = 0
        self._calls: list[asyncio.Task[None]] = []
        self.room = SharedRoom(self.loop.time)
        self.replicas = [self._make_replica() for _ in range(size)]
        self.loop.settle()

    def new_trace(self) -> str:
        self._traces += 1
        return f"{self._traces:024x}{0:08x}"  # its last bits may come to mean something

    def _make_replica(self) -> Replica:
        self._lives += 1
        return Replica(self, f"life-{self._lives}")

    def _note_bug(self, _: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        if not isinstance(told.get("exception"), HostDied):
            self.bugs.append(f"{told['message']}: {told.get('exception')!r}")

    def _note_hazard(self, hazard: str) -> None:
        for caller in self.everybody:
            if not caller.is_over:
                caller.hazards.add(hazard)

    @property
    def everybody(self) -> list[Caller]:
        return [*self.callers, *self.twins]

    def replica(self, number: int) -> Replica:
        return self.replicas[number % len(self.replicas)]

    def caller(self, number: int) -> Caller:
        return self.callers[number % len(self.callers)]

    # ---- what clients and the backend do

    def call(self, seat: int, *, keeps: bool = True, version: str = "2025-11-25") -> None:
        """One more client calls, and waits long enough to have its stream."""
        caller = Caller(self, len(self.callers), version)
        caller.seat = seat
        if not keeps:
            caller.hazards.add("forgets")
        if self.room.moods:
            caller.hazards |= {"outage", "partial"}
        self.server.jobs[caller.rpc_id] = Job(caller.rpc_id, keeps=keeps)
        self.callers.append(caller)
        self._calls.append(self.loop.create_task(caller.run()))
        self.loop.pass_time(BEGIN_SECONDS)

    def step(self, number: int, times: int = 1, size: int = 0) -> None:
        job = self.caller(number).job
        for _ in range(times):
            if not job.is_finished and not job.is_cancelled:
                job.step(size)
        self.loop.settle()

    def whisper(self, number: int) -> None:
        job = self.caller(number).job
        if not job.is_finished:
            job.whisper()
        self.loop.settle()

    def double(self, number: int, seat: int) -> None:
        """The client of that call follows it on one connection more."""
        caller = self.caller(number)
        if caller.has_id and not caller.is_over:
            twin = caller.double()
            twin.seat = seat
            self.twins.append(twin)
            self._calls.append(self.loop.create_task(twin.follow()))
        self.loop.settle()

    def finish(self, number: int) -> None:
        job = self.caller(number).job
        if not job.is_finished and not job.is_cancelled:
            job.finish()
        self.loop.settle()

    def cut(self, number: int, *, quietly: bool) -> None:
        """The client's connection breaks; `quietly`: and its replica isn't told."""
        caller = self.caller(number)
        if caller.wire is not None and not caller.is_over:
            caller.hazards.add("cut")
            caller.wire.leave(quietly=quietly)
        self.loop.settle()

    def cut_upstream(self, number: int) -> None:
        self._note_upstream(number).cut()
        self.loop.settle()

    def _note_upstream(self, number: int) -> Job:
        for same in self.everybody:
            if same.rpc_id == self.caller(number).rpc_id:
                same.hazards.add("cut upstream")
        return self.caller(number).job

    def rest(self, number: int) -> None:
        """The backend closes the stream, and wants to be asked for more in a while; one that can't be asked breaks off."""
        self._note_upstream(number).rest()
        self.loop.settle()

    def dawdle(self, number: int) -> None:
        """The client doesn't read, until `end`, or until its connection is cut."""
        wire = self.caller(number).wire
        if wire is not None:
            wire.stop_reading()

    def cancel(self, number: int, seat: int, *, deletes: bool) -> None:
        """The client cancels its call, or ends its session, through a replica that runs; its stream stays open."""
        caller, replica = self.caller(number), self.replica(seat)
        if caller.is_over or not caller.job.is_called or replica.host.is_dead or replica.host.is_stopped:
            return
        params = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": caller.rpc_id}}
        inbound = caller.ask("DELETE" if deletes else "POST")
        wire = Wire(replica.host, b"" if deletes else json.dumps(params).encode(), lambda _: None)
        # A replica that is stopped may be about to ask, and will when it wakes.
        is_known = not self.room.moods and not any(other.host.is_stopped for other in self.replicas)
        replica.serve(inbound, wire)
        self.loop.settle()
        assert wire.status == (200 if deletes else ACCEPTED)
        caller.job.is_cancelled = True
        for same in self.everybody:
            if same.rpc_id == caller.rpc_id:
                same.is_cancelled = True
                same.resumes_allowed = caller.job.resumes if is_known else None

    # ---- what befalls replicas

    def kill(self, number: int) -> None:
        self._note_hazard("death")
        self.replica(number).die()
        self.loop.settle()

    def stop(self, number: int) -> None:
        self._note_hazard("death")
        self.replica(number).host.stop()

    def wake(self, number: int) -> None:
        self.replica(number).host.wake()
        self.loop.settle()

    def drain(self, number: int) -> None:
        """SIGTERM, to the end of the process."""
        replica = self.replica(number)
        if replica.host.is_dead or replica.host.is_stopped:
            return
        self._note_hazard("death")
        replica.standing.drain()
        replica.pumps.release()
        self.loop.settle()
        closing = self.loop.create_task(replica.pumps.close())
        self.loop.settle()
        replica.die()
        closing.cancel()
        self.loop.settle()

    def restart(self, number: int) -> None:
        if self.replica(number).host.is_dead:
            self.replicas[number % len(self.replicas)] = self._make_replica()
            self.loop.settle()

    def freeze(self, number: int, *, notices: bool) -> None:
        """A replica stops, until it is thought dead; its clients notice or don't. What was under way goes on meanwhile."""
        self.stop(number)
        replica = self.replica(number)
        for caller in self.everybody:
            if notices and caller.wire in replica.wires:
                caller.hazards.add("cut")
                caller.wire.leave()
        for job in self.server.jobs.values():
            if not job.is_finished and not job.is_cancelled:
                job.whisper()
                job.step()
        self.loop.pass_time(ABSENT_SECONDS)
        self.wake(number)

    # ---- what befalls the memory

    def suffer(self, mood: Mood, number: int | None = None) -> None:
        """From now on the memory is in that mood, for all or for one replica."""
        self._note_hazard("outage")
        self._forgive_resumes()
        if number is not None:
            self._note_hazard("partial")
        sufferers = self.replicas if number is None else [self.replica(number)]
        self.room.moods = {replica.host: mood for replica in sufferers}

    def endure(self, mood: Mood, number: int | None = None) -> None:
        """It is in that mood for longer than anybody waits for it."""
        self.suffer(mood, number)
        self._note_hazard("long outage")
        self.loop.pass_time(LONG_SECONDS)
        self.recover()

    def recover(self) -> None:
        self.room.moods = {}
        self.loop.settle()

    def fail_over(self, *, empty: bool) -> None:
        """The memory is replaced by what was saved, or by nothing."""
        self._note_hazard("amnesia")
        if empty:
            self.room.empty()
            self._forgive_resumes()
        else:
            self.room.fail_over()

    def lag(self, number: int, times: int, dying: int | None = None) -> None:
        """The memory is replaced by one that lags behind it by so many steps of a call, and a replica may die with it."""
        self.room.save()
        self.whisper(number)
        self.step(number, times)
        if dying is not None:
            self.kill(dying)
        self.fail_over(empty=False)

    def _forgive_resumes(self) -> None:
        """From now on not every replica may learn what was cancelled."""
        for caller in self.everybody:
            caller.resumes_allowed = None

    # ---- the end

    def check(self) -> None:
        """What must hold at all times."""
        assert not (found := self.broken + self.room.broken + self.bugs), "; ".join(found)

    def end(self) -> None:
        """All is well again, every call is finished: each client must have had all of it, or been told that it can't."""
        self.recover()
        for number, replica in enumerate(self.replicas):
            replica.host.wake()
            self.restart(number)
        self.loop.pass_time(2 * RETRY_SECONDS)
        for caller in self.everybody:
            if caller.wire is not None:
                caller.wire.go_on_reading()
        for number, caller in enumerate(self.callers):
            self.finish(number)
            if caller.is_cancelled:
                caller.job.give_up()
        self.loop.pass_time(END_SECONDS)
        self.check()
        for call in self._calls:
            assert call.done()
            call.result()
        check_all_was_told(self.everybody)
        check_nothing_is_left(self.replicas)

    def close(self) -> None:
        """Lets go of everything, whatever state it is in."""
        for one in (*self.replicas, *self._calls):
            one.die() if isinstance(one, Replica) else one.cancel()
        self.loop.settle()
        self.loop.close()
