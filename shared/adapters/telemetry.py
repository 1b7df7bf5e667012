"""Where spans and metrics go: Application Insights, and a page for Prometheus. Imported only when one is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider

from shared import __version__, telemetry

_LIBRARIES = ("azure_sdk", "django", "fastapi", "flask", "httpx", "psycopg2", "requests", "urllib", "urllib3")
_QUIET = {
    # The platform forwards our log records itself: a second copy would be counted twice.
    "OTEL_LOGS_EXPORTER": "none",
    # The SDK's reports about itself go to hosts that a locked-down site does not know.
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
}

MetricsPage = Callable[[], bytes]
"""Gives the metrics as they stand, in Prometheus' text format."""


def start(service: str, *, insights: str, client_id: str, prometheus: bool) -> MetricsPage | None:
    """Installs providers for `shared.telemetry`, once in a process.

    With Prometheus alone spans are made and thrown away: their ids go into the log and, with a crop, to the cloud.

    Args:
        service: name of this program among others.
        insights: connection string of Application Insights; empty for none.
        client_id: of the user-assigned managed identity that may publish telemetry. Empty: what the connection string
            and `APPLICATIONINSIGHTS_AUTHENTICATION_STRING` say.
        prometheus: collect for a page of metrics.

    Returns:
        The page, or None without Prometheus.
    """
    readers, page = _prometheus() if prometheus else ([], None)
    resource = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: __version__})
    if insights:
        _application_insights(insights, client_id, readers, resource)
        telemetry.install(trace.get_tracer_provider(), metrics.get_meter_provider())
    else:
        telemetry.install(TracerProvider(resource=resource), MeterProvider(readers, resource))
    return page


def _prometheus() -> tuple[list[MetricReader], MetricsPage]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)  # memory, CPU time, open files
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    return [reader], lambda: generate_latest(registry)


def _application_insights(insights: str, client_id: str, readers: list[MetricReader], resource: Resource) -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from azure.identity import ManagedIdentityCredential
    from azure.monitor.opentelemetry import configure_azure_monitor

    logging.getLogger("azure").setLevel(logging.WARNING)  # it logs every request it sends
    configure_azure_monitor(
        connection_string=insights,
        # Libraries would note the addresses they call, and the dataset's blob names hold people's ids.
        instrumentation_options={name: {"enabled": False} for name in _LIBRARIES},
        metric_readers=readers,
        resource=resource,
        enable_live_metrics=False,
        enable_performance_counters=False,
        disable_offline_storage=True,
        **({"credential": ManagedIdentityCredential(client_id=client_id)} if client_id else {}),
    )
