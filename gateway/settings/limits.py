"""How much one caller may ask for: what the file says of it, and the policy that this becomes."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.policy.quotas import MIN_BURST_SECONDS, Rate, Rates
from gateway.settings import values
from gateway.settings.fields import Shape

_PERIODS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
RATE_PATTERN: Final = r"[1-9][0-9]{0,6}/[smh]( burst [1-9][0-9]{0,6})?"
_RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([smh])(?: burst ([1-9][0-9]{0,6}))?")


def parse_rate(text: str) -> Rate:
    """A rate and its burst, which is the rate's own number unless told. Raises ValueError, with a sentence."""
    match = _RATE.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError("must be a rate such as 100/s, 1000/m or 100/s burst 200, of at most 9999999")
    count, period_seconds, burst = int(match[1]), _PERIODS[match[2]], int(match[3] or match[1])
    least = count / period_seconds * MIN_BURST_SECONDS
    if burst < least:
        raise ValueError(f"the burst must be at least {least:g}, what the rate gives in a tenth of a second")
    return Rate(count, period_seconds, burst)


def check_rate(text: str) -> str:
    parse_rate(text)
    return text


RateText = Annotated[
    str,
    AfterValidator(check_rate),
    WithJsonSchema({"type": "string", "pattern": f"^({RATE_PATTERN})$"}),
]


AtOnce = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(values.refuse_flags)]


class RequestsShape(Shape):
    """How many requests may be sent in a time, by all replicas together."""

    per_principal: RateText | None = Field(
        default=None,
        description="By each principal; by each client address where nobody is asked who they are. `burst`: how many at once; "
        "default: as many as in the period. A batch counts as all its messages. Beyond it 429. Default: no limit.",
        examples=["100/s burst 200", "1000/m"],
    )


class RatesShape(Shape):
    """What each caller may ask for. Needs `redis` to hold for all replicas together."""

    requests: RequestsShape = RequestsShape()
    initialize: RateText | None = Field(
        default=None,
        description="How many legacy sessions each caller may begin in a time; beyond it 429. Default: no limit.",
        examples=["10/m"],
    )
    concurrent_calls: AtOnce | None = Field(
        default=None,
        description="How many calls each caller may have under way; a batch is one. Beyond it 429. Default: no limit.",
        examples=[50],
    )
    concurrent_streams: AtOnce | None = Field(
        default=None,
        description="How many standing streams each caller may have open: legacy GET streams, resumed ones, and "
        "`subscriptions/listen`; beyond it 429. Default: no limit.",
        examples=[20],
    )


def compile_rates(shape: RatesShape) -> Rates:
    requests, initialize = shape.requests.per_principal, shape.initialize
    return Rates(
        requests=parse_rate(requests) if requests else None,
        initialize=parse_rate(initialize) if initialize else None,
        concurrent_calls=shape.concurrent_calls,
        concurrent_streams=shape.concurrent_streams,
    )
