"""A standing stream whose worker died, or gave it up, goes on at the worker of whoever follows it."""

from gateway.exchange.exchanges import Gateway
from gateway.exchange.journals import Journal
from gateway.exchange.standing_pumps import StandingPump
from gateway.exchange.turns import Turns
from gateway.exchange.watches import is_ended
from gateway.policy.streams import LogAway, Takeover
from gateway.ports import EventLog, StreamTurn
from gateway.protocol.cursors import StreamName
from gateway.protocol.sessions import Session


async def take_over(
    gateway: Gateway,
    log: EventLog,
    turns: Turns,
    stream: StreamName,
    epoch: int,
    session: Session,
    exchange_id: str,
) -> None:
    """Goes on with a stream whose worker is gone, unless another was first. Its name is reserved."""
    assert gateway.owners is not None
    pump: StandingPump | None = None
    try:
        taken = await log.take_over(stream, epoch, gateway.owners.me)
        if isinstance(taken, Takeover):
            if await is_ended(gateway, taken.facts):
                await log.finish(taken.hold)
            else:
                pump = _go_on(gateway, log, turns, taken, session, exchange_id)
                gateway.telemetry.stream_turned(StreamTurn.TAKEN_OVER)
    except LogAway:
        pass  # whoever still follows it tries again
    finally:
        if pump is None:
            gateway.pumps.forget(stream)
    if pump is not None:
        gateway.pumps.start(pump, ends_with_client=False, stream=stream)


def _go_on(
    gateway: Gateway, log: EventLog, turns: Turns, taken: Takeover, session: Session, exchange_id: str
) -> StandingPump:
    journal, cursor = Journal(log, taken.hold, taken.head.seq + 1), taken.upstream_cursor
    return StandingPump(gateway, log, turns, journal, taken.facts, session, taken.head, None, cursor, exchange_id)
