"""Metrics by their labels, looked up in one step, and how they are made and added up over workers."""

from typing import Final, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

BUCKETS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0, 600.0)
"""Dense where the gateway's own share shows, sparse up to the long tool calls. Twelve, because each is a series."""

Mode = Literal["livesum", "livemax", "livemin"]
"""How a gauge adds up over workers. Always `live…`: what a dead worker said last is no longer so."""
_M = TypeVar("_M", bound=MetricWrapperBase)


class Series(dict[tuple[str, ...], _M]):
    """Label values → the child metric. prometheus-client's own look-up takes a lock and builds a tuple of strings."""

    def __init__(self, metric: _M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> _M:
        child = self[values] = self._metric.labels(*values)
        return child


class Definitions:
    """Makes the metrics of one registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def _histograms(self, name: str, help_text: str, labels: tuple[str, ...]) -> Series[Histogram]:
        return Series(Histogram(name, help_text, labels, registry=self._registry, buckets=BUCKETS_SECONDS))

    def _counters(self, name: str, help_text: str, labels: tuple[str, ...]) -> Series[Counter]:
        return Series(Counter(name, help_text, labels, registry=self._registry))

    def _gauges(self, name: str, help_text: str, labels: tuple[str, ...], mode: Mode = "livesum") -> Series[Gauge]:
        return Series(Gauge(name, help_text, labels, registry=self._registry, multiprocess_mode=mode))

    def _gauge(self, name: str, help_text: str, mode: Mode) -> Gauge:
        return Gauge(name, help_text, registry=self._registry, multiprocess_mode=mode)
