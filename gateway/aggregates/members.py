"""One member of an aggregate within an exchange: its part of the session, and the exchange turned to it alone."""

import msgspec

from gateway.exchange.exchanges import Exchange
from gateway.exchange.sessions import digest_session
from gateway.exchange.views import View
from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.backends import Backend
from gateway.ports import Record
from gateway.protocol.sessions import Session


def turn_to(exchange: Exchange, aggregate: Aggregate, member: Member) -> Backend:
    """The member's backend; from now on the exchange is one with it."""
    exchange.view = View(aggregate, member)
    exchange.session = find_part(exchange, member)
    exchange.record.backend = member.backend
    return exchange.site.backends[member.backend]


def copy_for(exchange: Exchange, aggregate: Aggregate, member: Member) -> tuple[Exchange, Backend]:
    """An exchange of its own with that member, for what several are asked at once. Nothing is told of it."""
    record = exchange.record
    own = Record(record.request_id, record.http_method, record.path, record.started, record.mount, era=record.era)
    copy = msgspec.structs.replace(exchange, record=own)
    return copy, turn_to(copy, aggregate, member)


def find_part(exchange: Exchange, member: Member) -> Session | None:
    """The member's part of the session; None where there is no session.

    A member that was away when the session began has none yet: its part is begun when it is first needed, as one that its
    backend forgot, and found by all replicas under the whole session's digest.
    """
    whole = exchange.session
    if whole is None:
        return None
    for part in whole.parts:
        if part.backend == member.backend:
            return msgspec.structs.replace(
                whole,
                address=part.address,
                upstream_id=part.upstream_id,
                version=part.version,
                parts=(),
                shown_version=whole.version,
            )
    absent = f"absent {digest_session(exchange.token)} {member.backend}"
    return msgspec.structs.replace(whole, upstream_id=absent, version="", parts=(), shown_version=whole.version)
