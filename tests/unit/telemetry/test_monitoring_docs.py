"""docs/monitoring.md and the operator's workbook beside the catalogue of metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry

from shared import telemetry
from shared.vision.quality import REASONS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
CATALOGUE = {metric.name: metric for metric in telemetry.CATALOGUE}


def rows() -> dict[str, tuple[str, str, str]]:
    found = re.findall(r"^\| `(facerelay\.[a-z.]+)` \| (\w+) \| `([^`]+)` \| ([^|]+) \| .{10,} \|$", PAGE, re.M)
    assert len({row[0] for row in found}) == len(found), "a metric is documented twice"
    return {name: (kind, unit, labels.strip()) for name, kind, unit, labels in found}


def test_every_metric_is_documented_with_its_kind_unit_and_labels() -> None:
    expected = {name: (metric.kind, metric.unit, ", ".join(metric.labels) or "–") for name, metric in CATALOGUE.items()}
    assert rows() == expected


def test_every_metric_has_a_name_in_the_code_by_which_it_is_set() -> None:
    named = [value for value in vars(telemetry).values() if isinstance(value, telemetry.Metric)]
    assert {metric.name for metric in named} == CATALOGUE.keys() and len(named) == len(telemetry.CATALOGUE)


def test_every_metric_says_what_it_is() -> None:
    for metric in CATALOGUE.values():
        assert metric.description.endswith("."), metric.name


def test_stages_are_those_of_the_code() -> None:
    source = (ROOT / "functions" / "recognize" / "service.py").read_text(encoding="utf-8")
    stages = set(re.findall(r'telemetry\.stage\("(\w+)"\)', source))
    row = next(line for line in PAGE.splitlines() if line.startswith("| `facerelay.stage.duration`"))
    assert stages == set(re.findall(r"`(\w+)`", row.split("|")[5]))


def test_reasons_are_those_of_the_quality_gate() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `facerelay.rejected`"))
    reasons = set(re.findall(r"`(\w+)`", row.split("|")[5])) - {"no_face"}
    assert reasons == set(REASONS)


@pytest.fixture
def exported() -> set[str]:
    """Names of everything that Prometheus is given when every metric was set once."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(disable_target_info=True, registry=registry)])
    telemetry.install(NoOpTracerProvider(), meters)
    for metric in telemetry.CATALOGUE:
        labels = dict.fromkeys(metric.labels, "x")
        match metric:
            case telemetry.Counter():
                metric.add(labels)
            case telemetry.Histogram():
                metric.record(1.0, labels)
            case telemetry.Gauge():
                metric.set(1.0, labels)
            case telemetry.Watched():
                metric.watch(lambda labels=labels: [(1.0, labels)])
    names = {sample.name for family in registry.collect() for sample in family.samples}
    telemetry.uninstall()
    meters.shutdown()
    return names


def test_promql_asks_for_what_is_exported(exported: set[str]) -> None:
    blocks = re.findall(r"```promql\n(.*?)```", PAGE, re.S)
    asked = {name for block in blocks for name in re.findall(r"facerelay_[a-z_]+", block)}
    assert asked
    assert asked <= exported


@pytest.mark.parametrize("path", ["docs/monitoring.md", "infra/bicep/workbook.json"])
def test_queries_name_metrics_that_exist(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    named = set(re.findall(r"\"(facerelay\.[a-z.]+)\\?\"", text.replace('\\"', '"')))
    assert named
    assert named <= CATALOGUE.keys()
