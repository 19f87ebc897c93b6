"""Who is told how Redis does. `telemetry` fits; the default hears nothing."""

from typing import Protocol

from gateway.policy.streams import Trouble


class Witness(Protocol):
    """Called on the event loop, and must not wait. `node`: host and port, or Sentinel's service."""

    def asked(self, command: str, seconds: float) -> None:
        """Redis answered a command: a script's name, or Redis's own in lower case."""

    def failed(self, command: str, trouble: Trouble) -> None:
        """A command was not answered, was refused, or was not sent because Redis is away."""

    def degraded(self, node: str, trouble: Trouble, detail: str) -> None:
        """From now on this node can't do all that it should. Told once a change: one log line."""

    def restored(self, node: str, trouble: Trouble, seconds: float) -> None:
        """That is over, after so long."""


class Nobody:
    """Hears nothing."""

    def asked(self, command: str, seconds: float) -> None: ...

    def failed(self, command: str, trouble: Trouble) -> None: ...

    def degraded(self, node: str, trouble: Trouble, detail: str) -> None: ...

    def restored(self, node: str, trouble: Trouble, seconds: float) -> None: ...
