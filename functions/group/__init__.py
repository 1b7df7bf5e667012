"""Group: unknown faces that are one person, at night or when asked, and the names that people give them."""

from __future__ import annotations

import azure.functions as func

from functions.http import handle
from functions.services import services
from shared.messages import GROUP_QUEUE, MAX_DEQUEUE_COUNT, GroupRequest

bp = func.Blueprint()  # type: ignore[no-untyped-call]


@bp.function_name("group_queue")
@bp.queue_trigger(arg_name="message", queue_name=GROUP_QUEUE, connection="AzureWebJobsStorage")
def group_queue(message: func.QueueMessage) -> None:
    """Runs one grouping or naming."""
    last_attempt = (message.dequeue_count or 1) >= MAX_DEQUEUE_COUNT
    services().groups().jobs.run(GroupRequest.model_validate_json(message.get_body()), last_attempt=last_attempt)


@bp.function_name("group_timer")
@bp.timer_trigger(arg_name="timer", schedule="%FACERELAY_GROUP_SCHEDULE%", use_monitor=True)
def group_timer(timer: func.TimerRequest) -> None:
    """Asks for a grouping; where none is wanted, drops what has expired."""
    now = services()
    if not now.runtime.settings.group_unknown:
        now.groups().jobs.prune()
    elif now.groups().service.idle():
        now.groups().service.request_run()


@bp.function_name("group_http")
@bp.route(route="api/v1/groups/{*rest}", methods=["GET", "POST", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def group_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/api/v1/groups` and `/api/v1/groups/…`"""
    return await handle(req, context)
