"""Takeover: a call's stream whose worker is gone, or has given it up, becomes this worker's, who goes on with it."""

import contextlib

import msgspec

from gateway.exchange.durables import DurablePump
from gateway.exchange.exchanges import Gateway
from gateway.exchange.journals import Journal
from gateway.exchange.reexecutions import Reexecution
from gateway.exchange.reopens import make_reopen
from gateway.exchange.watches import Watch, is_ended
from gateway.policy.streams import LogAway, Refusal, Takeover
from gateway.ports import EventLog, StreamTurn
from gateway.protocol.cursors import StreamName
from gateway.protocol.sessions import Session
from gateway.protocol.streams import StreamReader


async def take_over(
    gateway: Gateway, log: EventLog, stream: StreamName, epoch: int, session: Session | None, exchange_id: str
) -> None:
    """Makes the stream this worker's and goes on with it, unless another was first; also when its follower leaves meanwhile.

    `session`: as its client's token has it.
    """
    if gateway.pumps.reserve(stream):  # else another follower of ours is at it, or has done it
        await gateway.pumps.finish(_take_over(gateway, log, stream, epoch, session, exchange_id))


async def _take_over(
    gateway: Gateway, log: EventLog, stream: StreamName, epoch: int, session: Session | None, exchange_id: str
) -> None:
    assert gateway.owners is not None
    taken: Takeover | Refusal = Refusal.FENCED
    try:
        with contextlib.suppress(LogAway):
            taken = await log.take_over(stream, epoch, gateway.owners.me)
    finally:
        if not isinstance(taken, Takeover):
            gateway.pumps.forget(stream)
    if isinstance(taken, Takeover):
        if await is_ended(gateway, taken.facts):
            with contextlib.suppress(LogAway):
                await log.finish(taken.hold)
            gateway.pumps.forget(stream)
        else:
            go_on(gateway, log, taken, session, exchange_id)


def go_on(gateway: Gateway, log: EventLog, taken: Takeover, session: Session | None, exchange_id: str) -> None:
    """Pumps what is left of a stream that has become ours: the backend is asked to resume it."""
    stream, facts = taken.hold.stream, taken.facts
    awaited = [msgspec.json.decode(facts.request_id, type=int | str)] if facts.request_id else []
    reader = StreamReader(gateway.site.limits.event_bytes, awaited)
    reader.on_change = gateway.caches.noting(facts.backend)
    reader.cursor, reader.is_resumable = taken.upstream_cursor, bool(taken.upstream_cursor)
    journal = Journal(log, taken.hold, taken.head.seq + 1)
    gateway.telemetry.stream_turned(StreamTurn.TAKEN_OVER)
    pump = DurablePump(
        gateway.telemetry,
        log,
        journal,
        reader,
        None,
        make_reopen(gateway, facts, exchange_id),
        exchange_id,
    )
    pump.hand_over.detach()  # its client follows from the log
    pump.end_when(Watch(log.wake, facts.session, lambda: is_ended(gateway, facts)))
    pump.may_run_again(Reexecution(gateway, log, facts, session, exchange_id))
    gateway.pumps.start(pump, ends_with_client=False, stream=stream)
