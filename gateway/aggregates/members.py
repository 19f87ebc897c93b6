"""One member of an aggregate within an exchange: its part of the session, and the exchange turned to it alone."""

import msgspec

from gateway.exchange.exchanges import Exchange
from gateway.exchange.parts import find_begun, find_part
from gateway.exchange.sessions import digest_session
from gateway.exchange.views import View
from gateway.policy.aggregates import Aggregate, Member
from gateway.policy.backends import Backend
from gateway.ports import Record


def turn_to(exchange: Exchange, aggregate: Aggregate, member: Member) -> Backend:
    """The member's backend; from now on the exchange is one with it."""
    exchange.view = View(aggregate, member)
    if (whole := exchange.session) is not None:
        exchange.session = find_begun(whole, member) or find_part(whole, digest_session(exchange.token), member)
    exchange.record.backend = member.backend
    return exchange.site.backends[member.backend]


def copy_for(exchange: Exchange, aggregate: Aggregate, member: Member) -> tuple[Exchange, Backend]:
    """An exchange of its own with that member, for what several are asked at once. Nothing is told of it."""
    record = exchange.record
    own = Record(record.request_id, record.http_method, record.path, record.started, record.mount, era=record.era)
    copy = msgspec.structs.replace(exchange, record=own)
    return copy, turn_to(copy, aggregate, member)
