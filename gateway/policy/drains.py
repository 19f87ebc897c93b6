"""How a replica ends when it is told to: for how long it goes on as before, and for how long with what is under way."""

from typing import Final

import msgspec

DELAY_SECONDS: Final = 5.0
"""Until no load balancer sends anything here any more. Health checks that see `/readyz` come every one to three seconds, and
Kubernetes takes one or two to tell every node that an endpoint is gone."""

GRACE_SECONDS: Final = 30.0
"""From then on, for what is under way to end. Longer calls that nobody can resume are lost in a deploy."""


class Drain(msgspec.Struct, frozen=True):
    """The two waits between SIGTERM and the end; both may be 0."""

    delay_seconds: float = DELAY_SECONDS
    grace_seconds: float = GRACE_SECONDS
