"""The calls that this worker goes on reading though no client follows them here: how many there may be, and who goes first.

For legacy MCP a client that leaves has cancelled nothing, so its call goes on, and what comes is kept for it. Beyond the bound
the oldest is given up: released where its backend can resume it, so that it goes on when its client comes back, and at once
where one follows it on another replica; else ended with an error, which is told to whoever comes back. A worker knows its own
followers alone: a call that is followed on another replica counts as an orphan here.
"""

from collections import Counter
from collections.abc import Callable

from gateway.policy.streams import MAX_ORPHANS
from gateway.ports import StreamTurn, Telemetry
from gateway.protocol.cursors import StreamName


class Orphans:
    """Who of this worker's calls is followed here, and who isn't."""

    def __init__(self, limit: int = MAX_ORPHANS, telemetry: Telemetry | None = None) -> None:
        self._limit = limit
        self._telemetry = telemetry
        self._give_up: dict[StreamName, Callable[[], object]] = {}
        self._followers: Counter[StreamName] = Counter()
        self._orphans: dict[StreamName, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._orphans)

    def begin(self, stream: StreamName, give_up: Callable[[], object]) -> None:
        """A call is read from now on; `give_up` is called at most once, when it is one too many."""
        self._give_up[stream] = give_up
        self._judge(stream)

    def end(self, stream: StreamName) -> None:
        """It is read no more."""
        self._give_up.pop(stream, None)
        self._judge(stream)

    def follow(self, stream: StreamName) -> Callable[[], None]:
        """A client follows it here, whether or not it is read here, until the result is called."""
        self._followers[stream] += 1
        self._judge(stream)

        def leave() -> None:
            self._followers[stream] -= 1
            if not self._followers[stream]:
                del self._followers[stream]
            self._judge(stream)

        return leave

    def _judge(self, stream: StreamName) -> None:
        if stream in self._give_up and not self._followers[stream]:
            self._orphans.setdefault(stream)
            self._relieve()
        else:
            self._orphans.pop(stream, None)
        if self._telemetry is not None:
            self._telemetry.calls_counted(followed=len(self._give_up) - len(self._orphans), orphans=len(self._orphans))

    def _relieve(self) -> None:
        while len(self._orphans) > self._limit:
            oldest = next(iter(self._orphans))
            del self._orphans[oldest]
            if self._telemetry is not None:
                self._telemetry.stream_turned(StreamTurn.ORPHAN_GIVEN_UP)
            self._give_up.pop(oldest)()
