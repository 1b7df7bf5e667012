"""Recognise: edge crops as they arrive, images over HTTP, and the alerts that follow."""

from __future__ import annotations

import azure.functions as func

from functions.http import handle
from functions.services import services
from shared.bootstrap import blob_trigger_source
from shared.messages import ALERT_QUEUE, AlertRequest

_BLOB_SOURCES = {"eventgrid": func.BlobSource.EVENT_GRID, "polling": func.BlobSource.LOGS_AND_CONTAINER_SCAN}

bp = func.Blueprint()  # type: ignore[no-untyped-call]


@bp.function_name("recognize_candidate")
@bp.blob_trigger(
    arg_name="candidate",
    path="candidates/{name}",
    connection="CandidateStorage",
    source=_BLOB_SOURCES[blob_trigger_source()],
)
def recognize_candidate(candidate: func.InputStream) -> None:
    """Verifies, embeds and identifies one crop from the edge, and stores what came of it."""
    name = (candidate.name or "").removeprefix("candidates/")
    metadata: dict[str, str] = getattr(candidate, "metadata", None) or {}  # not in the SDK's abstract class
    services().detections().store_candidate(name, candidate.read(), metadata)


@bp.function_name("alert_queue")
@bp.queue_trigger(arg_name="message", queue_name=ALERT_QUEUE, connection="AzureWebJobsStorage")
def alert_queue(message: func.QueueMessage) -> None:
    """Tells of one detection, when it is news."""
    services().alerts().run(AlertRequest.model_validate_json(message.get_body()))


@bp.function_name("recognize_http")
@bp.route(route="face-recognition/{*rest}", methods=["GET", "POST", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def recognize_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/face-recognition/…`"""
    return await handle(req, context)
