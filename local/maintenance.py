"""What one machine has to do for itself: retention, metrics, a first page. In the cloud, the platform does."""

from __future__ import annotations

import logging
from datetime import timedelta

import azure.functions as func

from functions.http import handle
from functions.services import services
from shared.bootstrap import Runtime
from shared.domain import CANDIDATES

logger = logging.getLogger(__name__)

bp = func.Blueprint()  # type: ignore[no-untyped-call]


@bp.function_name("metrics_http")
@bp.route(route="metrics", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def metrics_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/metrics`, for Prometheus. In the cloud, metrics go to Application Insights."""
    return await handle(req, context)


@bp.function_name("root_http")
@bp.route(route="/", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def root_http(req: func.HttpRequest) -> func.HttpResponse:
    """`/` leads to the documentation."""
    from functions.docs import DOCS_PATH  # brings FastAPI along

    return func.HttpResponse(status_code=307, headers={"Location": DOCS_PATH})


@bp.function_name("retention_timer")
@bp.timer_trigger(arg_name="timer", schedule="%FACERELAY_RETENTION_SCHEDULE%", use_monitor=True)
def retention_timer(timer: func.TimerRequest) -> None:
    """Deletes what is past retention."""
    sweep(services().runtime)


def sweep(runtime: Runtime) -> tuple[int, int]:
    """Deletes candidates and detections past their retention; how many of each."""
    now, settings = runtime.clock(), runtime.settings
    oldest_candidate = now - timedelta(days=settings.candidate_retention_days)
    blobs = runtime.stores.blobs
    stale = [blob.name for blob in blobs.list(CANDIDATES) if blob.last_modified < oldest_candidate]
    for name in stale:
        blobs.delete(CANDIDATES, name)
    oldest_detection = now - timedelta(days=settings.detection_retention_days)
    detections = runtime.stores.detections.delete_older_than(oldest_detection)
    runtime.stores.alerts.delete_older_than(oldest_detection)
    logger.info(
        "retention sweep", extra={"action": "retention.sweep", "candidates": len(stale), "detections": detections}
    )
    return len(stale), detections
