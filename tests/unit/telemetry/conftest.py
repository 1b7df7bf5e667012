"""The SDK with exporters that keep everything in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import telemetry


@dataclass
class Collected:
    """Everything that was told since the test began."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def points(self) -> dict[str, list[Any]]:
        """Metric → its data points."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    def values(self, metric: telemetry.Metric) -> dict[tuple[str, ...], float]:
        """Values of its labels → value; of histograms, how many were recorded."""
        return {
            tuple(str(point.attributes[label]) for label in metric.labels): getattr(point, "value", None)
            if hasattr(point, "value")
            else point.count
            for point in self.points().get(metric.name, [])
        }


@pytest.fixture
def collected() -> Iterator[Collected]:
    found = Collected()
    tracers, meters = TracerProvider(), MeterProvider([found.reader])
    tracers.add_span_processor(SimpleSpanProcessor(found.exporter))
    telemetry.install(tracers, meters)
    yield found
    telemetry.uninstall()
    tracers.shutdown()
    meters.shutdown()
