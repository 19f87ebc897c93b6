"""A simulated client that comes back to its call, on one replica after the other, until there is no more to come."""

import asyncio
import copy
import json
from typing import TYPE_CHECKING

from gateway.policy.streams import Appended
from gateway.ports import Inbound
from gateway.protocol.cursors import parse_event_id
from tests.flow.scenes import JSON, request, token_of
from tests.simulated.backends import Job
from tests.simulated.clients import RETRY_SECONDS, Event, Report, Wire
from tests.simulated.replicas import Replica

if TYPE_CHECKING:
    from tests.simulated.fleets import Fleet


class Caller:
    """One client with one call. It comes back until it has its result, or is told that there will be none."""

    def __init__(self, fleet: "Fleet", number: int, version: str) -> None:
        self._fleet = fleet
        self._version = version.encode()
        self._token = token_of(fleet.replicas[0].world, upstream_id=f"up-{number}", version=version)
        self._last_id = ""
        self._last_seq = 0
        self.rpc_id = f"call-{number}"
        self.report = Report()
        self.hazards: set[str] = set()
        self.is_cancelled = False
        self.resumes_allowed: int | None = None  # of the backend: no more since the cancellation is known
        self.wire: Wire | None = None
        self.seat = 0  # the replica that it turns to next

    def double(self) -> "Caller":
        """The same client, once more: it has what this one has, and follows on a connection of its own."""
        twin = copy.copy(self)
        twin.report = copy.copy(self.report)
        twin.hazards = set(self.hazards)
        twin.wire = None
        return twin

    @property
    def has_id(self) -> bool:
        return bool(self._last_id)

    @property
    def job(self) -> Job:
        return self._fleet.server.jobs[self.rpc_id]

    @property
    def is_over(self) -> bool:
        return self.report.is_over or self.is_cancelled

    async def run(self) -> None:
        message = {"jsonrpc": "2.0", "id": self.rpc_id, "method": "tools/call", "params": {"name": "count"}}
        while (status := await self._connect(self.ask("POST"), json.dumps(message).encode())) is None:  # noqa: ASYNC110  # on a clock of its own
            await asyncio.sleep(RETRY_SECONDS)
        if not self.is_over and not self._last_id:
            self.report.refusal = status if status >= 400 else -1
        await self.follow()

    async def follow(self) -> None:
        """Comes back as long as there may be more."""
        while not self.is_over:
            status = await self._connect(self.ask("GET", (b"last-event-id", self._last_id.encode())), b"")
            if status is not None and 400 <= status < 500 and not self.is_over:
                self.report.refusal = status
            elif not self.is_over:
                await asyncio.sleep(RETRY_SECONDS)

    def ask(self, method: str, *headers: tuple[bytes, bytes]) -> Inbound:
        """A request of this client's session."""
        session = [(b"mcp-session-id", self._token.encode()), (b"mcp-protocol-version", self._version)]
        return request(method, JSON, *session, *headers)

    async def _connect(self, inbound: Inbound, body: bytes) -> int | None:
        """One request to the next replica, to the end of its reply: its status, 0 where none came; None: nobody is there."""
        replica = self._fleet.replicas[self.seat % len(self._fleet.replicas)]
        self.seat += 1
        if replica.host.is_dead:
            return None
        self.wire = wire = Wire(replica.host, body, lambda event: self._take(event, replica))
        replica.serve(inbound, wire)
        await wire.ended.wait()
        wire.leave()
        return wire.status

    def _take(self, event: Event, replica: Replica) -> None:
        try:
            self._read(event, replica)
        except AssertionError as broken:  # told apart from the gateway's own failures, which it answers for
            self._fleet.broken.append(f"{self.rpc_id}: {broken}")

    def _read(self, event: Event, replica: Replica) -> None:
        if self.report.is_over:
            return  # it reads no more
        if event.id and not (event.id == self._last_id and not event.data):
            self._check(event, replica)
            self._last_id = event.id
        if event.data:
            self.report.take(self.rpc_id, event.data)

    def _check(self, event: Event, replica: Replica) -> None:
        """Numbers are dense, and what has one of ours is in the log, unless that is known to be away."""
        ours = parse_event_id(event.id)
        if ours is None:
            return
        assert ours.cursor.seq == self._last_seq + 1, f"{event.id} came after number {self._last_seq}"
        self._last_seq = ours.cursor.seq
        accepted = self._fleet.room.accepted.get(event.id)
        if accepted is None:
            answered = replica.door.answered.get(ours.stream)
            assert answered not in (None, Appended.OK, Appended.FENCED), f"{event.id} is not in the log"
        else:
            assert data_of(accepted) == event.data, f"{event.id} is another event in the log"

    @property
    def may_lose(self) -> bool:
        """Whether what befell the fleet since it called excuses that it is told of a loss."""
        hazards = self.hazards
        if self.report.refusal == -1:
            return bool(hazards & {"death", "cut"})  # before it had an event to resume from
        if "amnesia" in hazards or ("outage" in hazards and hazards & {"death", "partial", "long outage"}):
            return True
        return "forgets" in hazards and bool(hazards & {"death", "cut upstream", "outage"})


def data_of(block: bytes) -> bytes:
    return b"".join(line.removeprefix(b"data: ") for line in block.split(b"\n") if line.startswith(b"data: "))
