"""Query: who was seen where and when, over HTTP; documentation and health."""

from __future__ import annotations

import azure.functions as func

from functions.http import handle

bp = func.Blueprint()  # type: ignore[no-untyped-call]


@bp.function_name("query_http")
@bp.route(route="database/{*rest}", methods=["GET", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def query_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/database/…`"""
    return await handle(req, context)


@bp.function_name("api_http")
@bp.route(route="api/v1/{*rest}", methods=["GET", "POST", "DELETE", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def api_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/api/v1/…`, of every area."""
    return await handle(req, context)


@bp.function_name("debug_http")
@bp.route(route="debug/{*rest}", methods=["GET", "POST", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def debug_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/debug/…`"""
    return await handle(req, context)


@bp.function_name("docs_http")
@bp.route(route="docs/{*rest}", methods=["GET", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def docs_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/docs` and what the page needs."""
    return await handle(req, context)


@bp.function_name("openapi_http")
@bp.route(route="openapi.json", methods=["GET", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def openapi_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/openapi.json`"""
    return await handle(req, context)


@bp.function_name("health_http")
@bp.route(route="health", methods=["GET", "OPTIONS"], auth_level=func.AuthLevel.ANONYMOUS)
async def health_http(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """`/health`"""
    return await handle(req, context)
