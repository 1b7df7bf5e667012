"""HTTP: one FastAPI application behind every HTTP trigger.

Each area has its own trigger, so that metrics and keys are per function; all of them hand the request to the same
application, so that `/openapi.json` and `/docs` tell the whole story. Built on first use, not on import.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import azure.functions as func

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI


def routers() -> list[APIRouter]:
    """The routes of every area."""
    from functions.admin.api import router as admin
    from functions.enroll.api import router as enroll
    from functions.enroll.people import router as people
    from functions.group.api import router as group
    from functions.query.api import router as query
    from functions.recognize.api import router as recognize
    from functions.recognize.intake_api import router as intake
    from functions.train.api import router as train
    from functions.train.gallery_api import router as gallery
    from functions.train.migration_api import router as migration

    return [enroll, people, gallery, train, migration, recognize, intake, group, query, admin]


def build_api() -> FastAPI:
    """The application with every area's routes."""
    from fastapi_offline import FastAPIOffline

    from functions.docs import STATIC_PATH, add_docs
    from functions.errors import ErrorBody, add_error_handlers
    from functions.guard import Guard
    from functions.services import services
    from shared import __version__

    api: FastAPI = FastAPIOffline(
        title="facerelay",
        version=__version__,
        description="Face recognition for site cameras that sends the best crops instead of the video.",
        docs_url=None,
        redoc_url=None,
        static_url=STATIC_PATH,
        responses={"4XX": {"model": ErrorBody, "description": "Refused, with the reason"}},
    )
    areas = routers()
    for router in areas:
        api.include_router(router)
    add_docs(api)
    add_error_handlers(api, [route for router in areas for route in router.routes])
    api.add_middleware(Guard)
    _allow_origins(api, services().runtime.settings.cors_origins)
    return api


def _allow_origins(api: FastAPI, origins: str) -> None:
    """Lets pages of these origins call, with a token in a header; there are no cookies. None by default."""
    from starlette.middleware.cors import CORSMiddleware

    if origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in origins.split(",")],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-Api-Key"],
            expose_headers=["Location", "Retry-After"],
        )


_application: FastAPI | None = None
_lock = threading.Lock()


def application() -> FastAPI:
    """The process's application, built on first use."""
    global _application
    with _lock:
        if _application is None:
            _application = build_api()
        return _application


async def handle(request: func.HttpRequest, context: func.Context | None) -> func.HttpResponse:
    """What every HTTP trigger does with its request."""
    middleware = func.AsgiMiddleware(application())  # type: ignore[no-untyped-call]
    response: func.HttpResponse = await middleware.handle_async(request, context)
    return response
