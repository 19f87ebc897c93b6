"""Who is told what the upstream room finds out. `telemetry` fits; the default hears nothing."""

from typing import Protocol

from gateway.policy.backends import Address


class Witness(Protocol):
    """Called on the event loop, and must not wait."""

    def endpoint_ejected(self, backend: str, address: Address) -> None:
        """An endpoint failed so often that it rests for a while."""

    def endpoint_restored(self, backend: str, address: Address) -> None:
        """An ejected endpoint answered again."""

    def endpoints_counted(self, backend: str, *, healthy: int, ejected: int) -> None:
        """How many endpoints a backend has now: told on every change, with zeros for a removed backend."""

    def era_found(self, backend: str, era: str, spoken: bool) -> None:
        """A probe, or an answer, showed whether a backend speaks an era."""


class Nobody:
    """Hears nothing."""

    def endpoint_ejected(self, backend: str, address: Address) -> None: ...

    def endpoint_restored(self, backend: str, address: Address) -> None: ...

    def endpoints_counted(self, backend: str, *, healthy: int, ejected: int) -> None: ...

    def era_found(self, backend: str, era: str, spoken: bool) -> None: ...
