"""Whether one more request of its caller's is admitted, by the limits that hold for it.

A caller is a principal; where nobody was asked who they are, the address that calls, as `trusted_proxies` tell it. A backend's
own limit stands in the place of the general one. Through an aggregate both hold: the general one for what the aggregate is
asked, the member's own for what goes on to it.
"""

import math

from gateway.exchange.exchanges import Exchange
from gateway.policy.aggregates import Aggregate
from gateway.policy.backends import Backend
from gateway.policy.forwarding import find_caller, read_hops
from gateway.policy.quotas import NO_RATES, Rate
from gateway.protocol.intents import Intent, Listen, Resume, Send
from gateway.protocol.outcomes import Denied, Outcome
from gateway.protocol.subscriptions import LISTEN


async def admit(exchange: Exchange, place: Backend | Aggregate, intent: Intent) -> None:
    """Raises `Denied` (LIMITED) where its caller has asked for more than it may in this time."""
    general = exchange.site.limits.rates
    own = place.rates if isinstance(place, Backend) else NO_RATES
    if general == NO_RATES and own == NO_RATES:
        return
    caller = caller_of(exchange)
    if (rate := own.requests or general.requests) is not None:
        await spend(exchange, caller, "requests", place.name if own.requests else "", rate, count_messages(intent))
    if is_initialize(intent) and (rate := own.initialize or general.initialize) is not None:
        await spend(exchange, caller, "initialize", place.name if own.initialize else "", rate, 1)
    if kind := kind_of(intent):
        mine: int | None = getattr(own, kind)
        if (most := mine or getattr(general, kind)) is not None:
            await enter(exchange, caller, kind, place.name if mine else "", most)


async def admit_to_member(exchange: Exchange, backend: Backend, intent: Intent) -> None:
    """The same for what goes on to one member of an aggregate, by that one's own limits."""
    if backend.rates == NO_RATES:
        return
    caller = caller_of(exchange)
    if (rate := backend.rates.requests) is not None:
        await spend(exchange, caller, "requests", backend.name, rate, count_messages(intent))
    if (kind := kind_of(intent)) and (most := getattr(backend.rates, kind)) is not None:
        await enter(exchange, caller, kind, backend.name, most)


def kind_of(intent: Intent) -> str:
    """Which limit holds for how many of these there are at once; "" where none does."""
    if not isinstance(intent, Send):
        return "concurrent_streams" if isinstance(intent, Listen | Resume) else ""
    if not (any(m.is_request for m in intent.messages) if intent.is_batch else intent.expects_answer):
        return ""
    return "concurrent_streams" if intent.first.method == LISTEN else "concurrent_calls"


async def enter(exchange: Exchange, caller: str, kind: str, backend: str, most: int) -> None:
    """Takes a place until the exchange ends. Raises `Denied` where its caller has filled all."""
    if (reservations := exchange.gateway.reservations) is None:
        return
    if (desk := await reservations.enter(kind, backend, caller, most)) is None:
        exchange.gateway.telemetry.limited(kind)
        raise full(kind, backend, most)
    exchange.desks += (desk,)


def leave_places(exchange: Exchange) -> None:
    """The exchange has ended."""
    if exchange.desks and (reservations := exchange.gateway.reservations) is not None:
        for desk in exchange.desks:
            reservations.leave(desk)
        exchange.desks = ()


def count_messages(intent: Intent) -> int:
    """A batch is as many requests as it holds messages: else a batch would be the way past every limit."""
    return len(intent.messages) if isinstance(intent, Send) else 1


def is_initialize(intent: Intent) -> bool:
    return isinstance(intent, Send) and intent.first.method == "initialize"


async def spend(exchange: Exchange, caller: str, limit: str, backend: str, rate: Rate, tokens: int) -> None:
    """Takes so many tokens of the caller's. `backend` is empty for the general limit."""
    if (allowances := exchange.gateway.allowances) is None:
        return
    purse = allowances.find(limit, backend, caller, rate)
    if (wait_seconds := allowances.take(purse, tokens)) is None:
        wait_seconds = await allowances.ask(purse, tokens)
    if wait_seconds:
        exchange.gateway.telemetry.limited(limit)
        raise refusal(limit, backend, rate, wait_seconds)


def caller_of(exchange: Exchange) -> str:
    """Whom the limits hold: principals are told from addresses by how they begin."""
    if exchange.principal:
        return f"principal {exchange.principal}"
    inbound, proxies = exchange.inbound, exchange.site.trusted_proxies
    return f"address {find_caller(inbound.peer, read_hops(inbound.headers, proxies), proxies)}"


def refusal(limit: str, backend: str, rate: Rate, wait_seconds: float) -> Denied:
    """Which limit it was, and how it is mended."""
    seconds = max(1, math.ceil(wait_seconds))
    key = f"backends.{backend}.limits.{limit}" if backend else f"limits.{limit}"
    allowed = f"{rate.count} in {rate.period_seconds:g} s and {rate.burst} at once"
    message = (
        f"too many {'sessions begun' if limit == 'initialize' else 'requests'}: wait {seconds} s and call again. "
        f"Each caller has {allowed}; whoever runs this gateway can raise `{key}`"
    )
    data = {"limit": limit, "retryAfterSeconds": seconds}
    return Denied(Outcome.LIMITED, message, data=data, headers=((b"retry-after", b"%d" % seconds),))


def full(kind: str, backend: str, most: int) -> Denied:
    """The same of what goes on at once."""
    key = f"backends.{backend}.limits.{kind}" if backend else f"limits.{kind}"
    what = kind.removeprefix("concurrent_")
    message = (
        f"too many {what} at once: end one, or wait for it to end, then try again. Each caller has {most}; "
        f"whoever runs this gateway can raise `{key}`"
    )
    data = {"limit": kind, "retryAfterSeconds": 1}
    return Denied(Outcome.LIMITED, message, data=data, headers=((b"retry-after", b"1"),))
