"""What the flow needs from the world, as Protocols. The shells implement them; the tests stand fakes at them.

`exchanges` is what one request needs, `gates` who sent it, `memories` what outlives it, `reports` what is told of it.
Header lists are `list[tuple[bytes, bytes]]` with lower-case names, in the order of the wire. Times are seconds of one
monotonic clock, `time.monotonic` in production. Every method that waits is bounded by a time-out that its docstring names.
"""

from gateway.ports.audits import AuditEntry, AuditLog
from gateway.ports.exchanges import Answer, Client, ClientLeft, Endpoints, Eras, Headers, Inbound, Seals, Upstream
from gateway.ports.gates import Gate
from gateway.ports.memories import BucketName, EventLog, Healings, Heartbeats, Invalidations, Marks, Quotas, Remedy
from gateway.ports.reports import Record, StreamTurn, Telemetry

__all__ = [
    "Answer",
    "AuditEntry",
    "AuditLog",
    "BucketName",
    "Client",
    "ClientLeft",
    "Endpoints",
    "Eras",
    "EventLog",
    "Gate",
    "Headers",
    "Healings",
    "Heartbeats",
    "Inbound",
    "Invalidations",
    "Marks",
    "Quotas",
    "Record",
    "Remedy",
    "Seals",
    "StreamTurn",
    "Telemetry",
    "Upstream",
]
