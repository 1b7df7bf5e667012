"""Enrol: people and their photographs, over HTTP."""

from __future__ import annotations

import azure.functions as func

from functions.http import handle

bp = func.Blueprint()  # type: ignore[no-untyped-call]


@bp.function_name("enroll_http")
@bp.route(route="dataset/{*rest}", methods=["GET", "POST", "DELETE", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def enroll_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/dataset` and `/dataset/…`"""
    return await handle(req, context)
