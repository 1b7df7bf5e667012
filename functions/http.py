"""HTTP: one FastAPI application behind every HTTP trigger.

Each area has its own trigger, so that metrics and keys are per function; all of them hand the request to the same
application, so that `/openapi.json` and `/docs` tell the whole story. Built on first use, not on import.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import azure.functions as func
from pydantic import BaseModel, Field

from shared.errors import (
    ConfigurationError,
    Conflict,
    FacerelayError,
    ImageTooLarge,
    InvalidInput,
    NotFound,
    TransientError,
)

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

STATUS_OF: Final[tuple[tuple[type[FacerelayError], int], ...]] = (
    (ImageTooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (Conflict, 409),
    (ConfigurationError, 409),
    (TransientError, 503),
)
"""First match wins. Anything else is ours to mend: 500."""

RETRY_AFTER_S: Final = 5
FORM_OVERHEAD_BYTES: Final = 64_000

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
)


class ErrorBody(BaseModel):
    """What every error answers with. `message` and `error_message` are the same words: the seed's programs read
    the second."""

    message: str = Field(examples=["nobody of that id is enrolled"])
    error_message: str = Field(examples=["nobody of that id is enrolled"])
    code: str = Field(examples=["not_found"], description="A stable word that a program may compare with.")


def status_of(error: FacerelayError) -> int:
    """The HTTP status of one of our errors."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)


def error_response(status: int, message: str, code: str) -> Response:
    """An error in the one shape that all have."""
    from fastapi.responses import JSONResponse

    body = ErrorBody(message=message, error_message=message, code=code)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def build_api() -> FastAPI:
    """The application with every area's routes."""
    from fastapi_offline import FastAPIOffline

    import functions.enroll.api
    import functions.query.api
    import functions.recognize.api
    import functions.train.api
    from functions.services import services
    from shared import __version__

    api: FastAPI = FastAPIOffline(
        title="facerelay",
        version=__version__,
        description="Face recognition for site cameras that sends the best crops instead of the video.",
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs/static",
        responses={"4XX": {"model": ErrorBody, "description": "Refused, with the reason"}},
    )
    for area in (functions.enroll, functions.train, functions.recognize, functions.query):
        api.include_router(area.api.router)
    _map_errors(api)
    limit = services().runtime.settings.max_image_bytes + FORM_OVERHEAD_BYTES
    api.add_middleware(Guard, max_body_bytes=limit)
    return api


def _map_errors(api: FastAPI) -> None:
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    @api.exception_handler(FacerelayError)
    def known(request: Request, error: FacerelayError) -> Response:
        status = status_of(error)
        if status == 500:
            logger.error("request failed", exc_info=error, extra={"action": "http.error", "code": error.code})
            return error_response(500, "something is wrong on our side; it has been logged", error.code)
        return error_response(status, str(error), error.code)

    @api.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        what = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'request'}: {e['msg']}" for e in error.errors()[:5])
        return error_response(400, what, InvalidInput.code)

    @api.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        response = error_response(error.status_code, str(error.detail), "http")
        response.headers.update(error.headers or {})
        return response


class Guard:
    """ASGI middleware around the application: bounds the body before it is parsed, adds the security headers, and
    turns what nobody expected into a 500 that tells nothing.

    Args:
        app: the application.
        max_body_bytes: larger requests are refused unread.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in SECURITY_HEADERS if h[0] not in present)]
            await send(message)

        if self._too_large(scope):
            refusal = error_response(413, f"the request is over {self._max_body_bytes} bytes", ImageTooLarge.code)
            return await refusal(scope, receive, send_guarded)
        try:
            await self._app(scope, receive, send_guarded)
        except Exception as error:  # the edge of the process: logged here, told to nobody
            logger.error("request failed", exc_info=error, extra={"action": "http.error", "code": "unexpected"})
            if not started:
                answer = error_response(500, "something is wrong on our side; it has been logged", "unexpected")
                await answer(scope, receive, send_guarded)

    def _too_large(self, scope: Scope) -> bool:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        return not length.isdigit() or int(length) > self._max_body_bytes


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
