"""Errors over HTTP: the one table from our errors to status codes, and the one shape that all have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from shared.errors import (
    ConfigurationError,
    Conflict,
    FacerelayError,
    ImageTooLarge,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    TooManyRequests,
    TransientError,
    UnusableFace,
)

logger = logging.getLogger(__name__)

STATUS_OF: Final[tuple[tuple[type[FacerelayError], int], ...]] = (
    (ImageTooLarge, 413),
    (InvalidInput, 400),
    (NotAuthenticated, 401),
    (NotPermitted, 403),
    (NotFound, 404),
    (Conflict, 409),
    (ConfigurationError, 409),
    (TooManyRequests, 429),
    (TransientError, 503),
)
"""First match wins. Anything else is ours to mend: 500."""

RETRY_AFTER_S: Final = 5
OURS_TO_MEND: Final = "something is wrong on our side; it has been logged"
METHODS: Final = ("GET", "POST", "DELETE")
CHALLENGE: Final = 'Bearer realm="facerelay"'


class ErrorBody(BaseModel):
    """What every error answers with. `message` and `error_message` are the same words: the seed's programs read
    the second."""

    message: str = Field(examples=["nobody of that id is enrolled"])
    error_message: str = Field(examples=["nobody of that id is enrolled"])
    code: str = Field(examples=["not_found"], description="A stable word that a program may compare with.")
    reason: str | None = Field(
        None, examples=["too_dark"], description="Of `unusable_face` alone: what is wrong with the photograph."
    )


def status_of(error: FacerelayError) -> int:
    """The HTTP status of one of our errors."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)


def error_response(
    status: int, message: str, code: str, headers: Mapping[str, str] | None = None, reason: str | None = None
) -> Response:
    """An error in the one shape that all have; `reason` is there only when there is one."""
    body = ErrorBody(message=message, error_message=message, code=code, reason=reason)
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, headers=dict(headers or {}))


def answer_to(error: FacerelayError) -> Response:
    """The answer to a request that ended in one of our errors."""
    status = status_of(error)
    if status == 500:
        logger.error("request failed", exc_info=error, extra={"action": "http.error", "code": error.code})
        return error_response(500, OURS_TO_MEND, error.code)
    reason = error.reason if isinstance(error, UnusableFace) else None
    return error_response(status, str(error), error.code, _headers(error, status), reason)


def answer_to_unforeseen(error: Exception) -> Response:
    """The answer to what nobody expected: logged here, told to nobody."""
    logger.error("request failed", exc_info=error, extra={"action": "http.error", "code": "unexpected"})
    return error_response(500, OURS_TO_MEND, "unexpected")


def _headers(error: FacerelayError, status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": CHALLENGE}
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}


def add_error_handlers(api: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Every error that a route raises comes out in the one shape.

    Args:
        routes: all that the application has of its own.
    """

    @api.exception_handler(FacerelayError)
    def known(request: Request, error: FacerelayError) -> Response:
        return answer_to(error)

    @api.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        what = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'request'}: {e['msg']}" for e in error.errors()[:5])
        return error_response(400, what, InvalidInput.code)

    @api.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        code = ImageTooLarge.code if error.status_code == 413 else "http"
        headers = dict(error.headers or {})
        if "Allow" in headers:
            headers["Allow"] = _methods_of(request.scope.get("route"), routes) or headers["Allow"]
        return error_response(error.status_code, str(error.detail), code, headers)


def _methods_of(found: BaseRoute | None, routes: Sequence[BaseRoute]) -> str:
    """What the path of a route takes, over all its routes: the framework tells of the first alone.

    Where two paths fit, such as `groups/run` and `groups/{group_id}`, it is the one that the request has found.
    """
    path = found.path if isinstance(found, APIRoute) else None
    taken = {m for route in routes if isinstance(route, APIRoute) and route.path == path for m in route.methods or ()}
    return ", ".join(method for method in METHODS if method in taken)
