"""The page's HTTP: what is answered, to whom, with which headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import jinja2
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse

from edge_uploader.live_picture import LivePicture
from edge_uploader.status import StatusBook
from local.edge_page.access import COOKIE, SESSION_S, Access, TooManyTries, same_origin

_FOLDER: Final = Path(__file__).parent
_FORM_MAX_BYTES: Final = 4_096
_PUBLIC: Final = frozenset({"/healthz", "/login", "/page.css", "/favicon.ico"})
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class PageParts:
    """What the page shows.

    Attributes:
        pictures: of the cameras, in the order of the status.
        metrics: gives them in Prometheus' text format; None: there are none.
    """

    site: str
    status: StatusBook
    pictures: Sequence[LivePicture]
    metrics: Callable[[], bytes] | None = None


def make_app(parts: PageParts, access: Access) -> FastAPI:
    """The page as an ASGI application. It has no documentation routes: they need scripts of elsewhere."""
    app = FastAPI(title="facerelay gateway", docs_url=None, redoc_url=None, openapi_url=None)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refusal(request, access) or await call_next(request)
        response.headers.update(HEADERS)
        return response

    _add_page(app, parts, access, templates)
    _add_login(app, access, templates)
    _add_machine_routes(app, parts)
    return app


def _refusal(request: Request, access: Access) -> Response | None:
    if not access.host_allowed(request.headers.get("host", "")):
        return PlainTextResponse("this page answers to 127.0.0.1 and localhost alone\n", 421)
    if request.url.path in _PUBLIC or access.allowed(request.headers, request.cookies):
        return None
    if request.url.path == "/":
        return RedirectResponse("/login", 303)
    return JSONResponse(
        {"message": "a token is needed", "code": "unauthorized"}, 401, {"WWW-Authenticate": 'Bearer realm="gateway"'}
    )


def _add_page(app: FastAPI, parts: PageParts, access: Access, templates: jinja2.Environment) -> None:
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(templates.get_template("page.html.jinja").render(site=parts.site, open=access.open))

    @app.get("/page.js")
    def page_script() -> Response:
        return Response(script, media_type="text/javascript; charset=utf-8")

    @app.get("/page.css")
    def page_style() -> Response:
        return Response(style, media_type="text/css; charset=utf-8")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)


def _add_login(app: FastAPI, access: Access, templates: jinja2.Environment) -> None:
    def form(message: str, code: int = 200) -> HTMLResponse:
        return HTMLResponse(templates.get_template("login.html.jinja").render(message=message), code)

    @app.get("/login")
    def login() -> Response:
        return RedirectResponse("/", 303) if access.open else form("")

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        if not same_origin(request.headers):
            return form("This form was sent from another page.", 403)
        try:
            session = access.log_in(_token_in(await _bounded_body(request)))
        except ValueError:
            return form("That is not a token.", 400)
        except TooManyTries:
            return form("Too many wrong tokens. Try again in a minute.", 429)
        if session is None:
            return form("That is not the token.", 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, session, max_age=int(SESSION_S), httponly=True, samesite="strict", path="/")
        return response

    @app.post("/logout")
    def log_out(request: Request) -> Response:
        if not same_origin(request.headers):
            return form("This form was sent from another page.", 403)
        access.log_out(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response


async def _bounded_body(request: Request) -> bytes:
    """Raises: ValueError: longer than a token can be."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_MAX_BYTES:
            raise ValueError("too long")
    return body


def _token_in(form: bytes) -> str:
    """Raises: ValueError: not a form."""
    return parse_qs(form.decode("utf-8"), max_num_fields=4).get("token", [""])[0].strip()


def _add_machine_routes(app: FastAPI, parts: PageParts) -> None:
    @app.get("/api/status")
    def status() -> dict[str, Any]:
        return parts.status.document()

    @app.get("/api/cameras/{number}/picture")
    def picture(number: int) -> Response:
        if not 0 <= number < len(parts.pictures):
            return JSONResponse({"message": "there is no such camera", "code": "not_found"}, 404)
        found = parts.pictures[number].look()
        if found is None:
            return Response(status_code=204)  # no error: it is being made, or the camera gives none
        jpeg, age_s = found
        return Response(jpeg, media_type="image/jpeg", headers={"X-Age-Seconds": f"{age_s:.1f}"})

    @app.get("/metrics")
    def metrics() -> Response:
        if parts.metrics is None:
            return PlainTextResponse("no metrics are collected\n", 404)
        return Response(parts.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz")
    def healthz() -> PlainTextResponse:
        well, reason = parts.status.healthy()
        return PlainTextResponse(reason + "\n", 200 if well else 503)
