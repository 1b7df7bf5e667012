"""Train: jobs from the queue, a timer that notices a changed gallery, and the HTTP routes that ask for both."""

from __future__ import annotations

import azure.functions as func

from functions.http import handle
from functions.services import services
from shared.messages import MAX_DEQUEUE_COUNT, TRAIN_QUEUE, TrainRequest

bp = func.Blueprint()  # type: ignore[no-untyped-call]


@bp.function_name("train_queue")
@bp.queue_trigger(arg_name="message", queue_name=TRAIN_QUEUE, connection="AzureWebJobsStorage")
def train_queue(message: func.QueueMessage) -> None:
    """Runs one training job."""
    last_attempt = (message.dequeue_count or 1) >= MAX_DEQUEUE_COUNT
    services().train().run(TrainRequest.model_validate_json(message.get_body()), last_attempt=last_attempt)


@bp.function_name("train_timer")
@bp.timer_trigger(arg_name="timer", schedule="%FACERELAY_TRAIN_SCHEDULE%", use_monitor=True)
def train_timer(timer: func.TimerRequest) -> None:
    """Asks for a refit when the gallery has changed since the live model was fitted; sees that a migration goes on."""
    requests, migration = services().train_requests(), services().migration_requests()
    migration.resume()
    if requests.idle(besides=1 if migration.trains_beside() else 0) and services().train().gallery_changed():
        requests.request("fit")


@bp.function_name("train_http")
@bp.route(route="model/{*rest}", methods=["POST", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def train_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/model/…`"""
    return await handle(req, context)
