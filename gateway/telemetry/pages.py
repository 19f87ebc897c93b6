"""The page of metrics: what a scraper gets of the numbers of all workers."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONFIGURATION: Final = "mcp_gateway_configuration_info"
"""Shown for the configuration that runs alone."""


def render_page(source: str | CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The page, and its content type. `source`: one worker's numbers, or the folder of several's."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # of an `Accept` whose version is no version
        encode, content_type = choose_encoder("")
    registry = CollectorRegistry()
    registry.register(_Present(source))
    return encode(registry), content_type


class _Present(Collector):
    """What is to be shown: without the configurations that ran before, of which a long life may have had many."""

    def __init__(self, source: str | CollectorRegistry) -> None:
        self._source = _read_files(source) if isinstance(source, str) else source

    def collect(self) -> Iterable[Metric]:
        for metric in self._source.collect():
            if metric.name == CONFIGURATION:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


def _read_files(folder: str) -> Collector:
    collector: Collector = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
    return collector
