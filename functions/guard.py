"""What every request passes before a route sees it, and every answer on its way out.

In this order: the declared length, who calls, how often; only then is the body read. This layer never reads a
stranger's. A host hands over whole requests, though, so it has collected the body by then, up to a limit of its own:
the platform 100 MB, the embedded host what `serve` was told. The answer gets the security headers, and an
administrative call leaves its entry in the audit record before it is answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from functions.access import check_scope
from functions.errors import answer_to, answer_to_unforeseen
from functions.services import Services, services
from shared.access import ANONYMOUS, LOOPBACK, Caller, Scope
from shared.errors import FacerelayError, ImageTooLarge, NotAuthenticated, NotPermitted

FORM_OVERHEAD_BYTES: Final = 64_000

PUBLIC: Final = frozenset({"/health", "/docs", "/openapi.json"})
PUBLIC_FILES: Final = "/docs/static/"

ADMINISTRATIVE: Final = (
    "/dataset",
    "/model",
    "/debug",
    "/api/v1/tokens",
    "/api/v1/people",
    "/api/v1/models",
    "/api/v1/groups",
    "/api/v1/detections",
)
"""Calls that change something below these are recorded."""

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""An answer's own win: the documentation page allows itself its own scripts."""

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token, `frl_…`. Programs that cannot send this header may send the token in `X-Api-Key`.",
)


def requires(*scopes: Scope) -> Any:
    """A route's dependency: callers of these scopes, and administrators; the route gets the `Caller`."""

    # The header was judged by `Guard` before the body was read; the scheme here puts it into the documentation.
    async def permitted(
        request: Request,
        _: HTTPAuthorizationCredentials | None = Security(_bearer),  # noqa: B008 - FastAPI's way
    ) -> Caller:
        caller: Caller = request.state.caller
        check_scope(caller, scopes)
        return caller

    permitted.scopes = frozenset({*scopes, Scope.ADMIN})  # type: ignore[attr-defined]
    return Security(permitted)


def name_target(request: Request, **target: str) -> None:
    """Says what an administrative call was about, where its path does not."""
    request.state.target = target


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        if connection["type"] != "http":
            return await self._app(connection, receive, send)
        now = services()
        limit = now.runtime.settings.max_image_bytes + FORM_OVERHEAD_BYTES
        # Of this request alone: hosts may hand the same state to all, or none.
        connection["state"] = {**(connection.get("state") or {}), "caller": ANONYMOUS}
        reply = _Reply(connection, send, now)
        try:
            headers = {name.lower(): value.decode("latin-1") for name, value in connection["headers"]}
            _check_length(headers, limit)
            connection["state"]["caller"] = await _caller(connection, headers, now)
            await self._app(connection, _bounded(receive, limit), reply.send)
        except FacerelayError as error:
            await answer_to(error)(connection, receive, reply.send)
        except Exception as error:  # noqa: BLE001 - the edge of the process
            answer = answer_to_unforeseen(error)
            if not reply.started:
                await answer(connection, receive, reply.send)


async def _caller(connection: Connection, headers: Mapping[bytes, str], now: Services) -> Caller:
    """Who calls, once they may.

    Raises:
        NotAuthenticated: nobody we know.
        TooManyRequests: too often.
        NotPermitted: a page of another site asks in a browser on this machine.
    """
    authenticator, limits = now.authenticator(), now.rate_limits()
    if not authenticator.required:
        _check_local(headers)
        return LOOPBACK
    address = client_address(connection, headers)
    if connection["path"] in PUBLIC or connection["path"].startswith(PUBLIC_FILES):
        limits.count_public(address)
        return ANONYMOUS
    shown = headers.get(b"authorization") or headers.get(b"x-api-key", "")
    if not authenticator.remembers(shown):
        limits.check_failures(address)  # a guess costs the store a look, so guesses end here
    try:
        caller = await run_in_threadpool(authenticator.caller, shown)
    except NotAuthenticated:
        limits.count_failure(address)
        raise
    limits.count_caller(caller)
    return caller


def client_address(connection: Connection, headers: Mapping[bytes, str]) -> str:
    """What anonymous requests are counted by: the client's IPv4 address or IPv6 network (/64).

    The platform and the embedded host append the address they see to `X-Forwarded-For`; what stands before it was
    written by the client.
    """
    hop = headers.get(b"x-forwarded-for", "").rpartition(",")[2].strip()
    if not hop:
        client = connection.get("client")
        hop = str(client[0]) if client else ""
    try:
        address = ipaddress.ip_address(hop)
    except ValueError:
        try:
            address = ipaddress.ip_address(urlsplit(f"//{hop}").hostname or "")
        except ValueError:
            return "nowhere"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _check_length(headers: Mapping[bytes, str], limit: int) -> None:
    length = headers.get(b"content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        raise ImageTooLarge(f"the request is over {limit} bytes")


def _bounded(receive: Receive, limit: int) -> Receive:
    """`receive`, until more has come than was allowed: a length need not be declared."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, f"the request is over {limit} bytes")
        return message

    return bounded


def _check_local(headers: Mapping[bytes, str]) -> None:
    """Where nobody is asked who they are, a page of another site must not call in its visitor's name.

    Such a page can send forms across sites (which say so in `Origin`), or point a name of its own at this machine
    (which then stands in `Host`).
    """
    host = headers.get(b"host", "")
    origin = headers.get(b"origin")
    if not _is_loopback(host) or (origin is not None and urlsplit(origin).netloc != host):
        raise NotPermitted("without authentication only this machine may call, and by its own address")


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class _Reply:
    """Sends an answer: with the security headers, and after the audit entry was written."""

    def __init__(self, connection: Connection, send: Send, now: Services) -> None:
        self.started = False
        self._connection = connection
        self._send = send
        self._services = now

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(h for h in SECURITY_HEADERS if h[0] not in present)]
            await self._audit(message["status"])
        await self._send(message)

    async def _audit(self, status: int) -> None:
        caller: Caller = self._connection["state"]["caller"]
        method: str = self._connection["method"]
        template = getattr(self._connection.get("route"), "path", "")
        if caller is ANONYMOUS or method in ("GET", "HEAD", "OPTIONS") or not is_administrative(template):
            return
        named = {**self._connection.get("path_params", {}), **self._connection["state"].get("target", {})}
        target = {name: str(value)[:200] for name, value in named.items()}
        await run_in_threadpool(self._services.audit().record, caller, f"{method} {template}", target, status)


def is_administrative(template: str) -> bool:
    """Whether changes by this route are recorded."""
    return any(template == area or template.startswith(f"{area}/") for area in ADMINISTRATIVE)
