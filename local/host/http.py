"""HTTP triggers as an ASGI app."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import Executor
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import azure.functions as func

from local.host import events
from local.host.index import Function, HttpTrigger
from local.host.routes import Router

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES: Final = 100 * 1024 * 1024
"""The platform's limit for request bodies."""

# Of the connection, not of the answer: the server sets them.
_HOP_BY_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})


class _ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class _BodyTooLargeError(Exception):
    """The request's body is over the limit."""


class HttpApp:
    """Answers HTTP requests with the app's functions.

    A function that raises gives a 500 that says nothing of the cause; the traceback is logged. Function keys
    (`auth_level`) are not asked for, as with the platform's own local tools.

    Args:
        triggers: the HTTP functions.
        prefix: host.json's `routePrefix`.
        pool: runs functions that are not async.
        blob_events: takes Event Grid's calls, from this machine only; the platform asks them for a key instead.
        max_body_bytes: longer bodies are refused while they arrive; Event Grid's calls have the platform's limit.
    """

    def __init__(
        self,
        triggers: Iterable[HttpTrigger],
        *,
        prefix: str,
        pool: Executor,
        blob_events: events.BlobEvents | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._blob_events = blob_events
        self._router = Router(triggers, prefix)
        self._pool = pool
        self._guard = threading.Lock()
        self._in_threads = 0
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            return
        try:
            status, headers, body = await self._answer(scope, receive)
        except _ClientGoneError:
            return
        except _BodyTooLargeError as error:
            status, headers, body = _error(413, "image_too_large", f"the request is over {error} bytes")
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        path: str = scope["raw_path"].decode("latin-1").partition("?")[0]
        try:
            unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return _error(400, "invalid_input", "the path is not UTF-8")
        method: str = scope["method"]
        if self._blob_events is not None and (method, path) == ("POST", events.PATH) and _from_here(scope):
            return await self._take_events(self._blob_events, scope, await self._body(scope, receive, MAX_BODY_BYTES))
        trigger, parameters, allowed = self._router.find(method, path)
        if trigger is None and method == "HEAD":
            method = "GET"
            trigger, parameters, _ = self._router.find(method, path)
        if trigger is None:
            return _unmatched(method, allowed)
        request = _request(scope, method, path, parameters, await self._body(scope, receive, self._max_body_bytes))
        try:
            return _response(await self._call(trigger.function, request))
        except Exception:
            # The edge of an invocation: whatever the function did, the caller learns nothing of it.
            logger.exception("function failed", extra={"action": "http_failed", "function": trigger.function.name})
            return _error(500, "internal", "the function failed; the host's log says why")

    async def _take_events(
        self, blob_events: events.BlobEvents, scope: Scope, body: bytes
    ) -> tuple[int, Headers, bytes]:
        kind = dict(scope["headers"]).get(b"aeg-event-type", b"").decode("latin-1")
        function = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("functionName", "")
        loop = asyncio.get_running_loop()
        status, document = await loop.run_in_executor(self._pool, blob_events.answer, function, kind, body)
        return status, [(b"content-type", b"application/json")], json.dumps(document).encode()

    @property
    def idle(self) -> bool:
        """Whether no function is running in a thread, where nothing can cancel it."""
        return self._in_threads == 0

    async def _call(self, function: Function, request: func.HttpRequest) -> Any:
        if function.is_async:
            return await function.invoke(request)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._in_thread, function, request)

    def _in_thread(self, function: Function, request: func.HttpRequest) -> Any:
        with self._guard:
            self._in_threads += 1
        try:
            return function.invoke(request)
        finally:
            with self._guard:
                self._in_threads -= 1

    async def _body(self, scope: Scope, receive: Receive, limit: int) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise _BodyTooLargeError(limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise _ClientGoneError
            chunks.append(event.get("body", b""))
            size += len(chunks[-1])
            if size > limit:
                raise _BodyTooLargeError(limit)
            if not event.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _from_here(scope: Scope) -> bool:
    """Whether the caller is on this machine, and not a proxy that speaks for others."""
    if any(name in (b"forwarded", b"x-forwarded-for") for name, _ in scope["headers"]):
        return False
    try:
        return ipaddress.ip_address(scope["client"][0]).is_loopback
    except (TypeError, ValueError):
        return False


def _request(scope: Scope, method: str, path: str, route_params: dict[str, str], body: bytes) -> func.HttpRequest:
    headers = _joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    if scope.get("client"):
        # As the platform does: the last hop is the address that was seen here, the others are what the client says.
        headers["x-forwarded-for"] = ", ".join(filter(None, (headers.get("x-forwarded-for"), scope["client"][0])))
    query = scope["query_string"].decode("latin-1")
    server = scope.get("server") or ("localhost", None)
    authority = headers.get("host") or ":".join(str(part) for part in server if part is not None)
    url = f"{scope['scheme']}://{authority}{path}" + (f"?{query}" if query else "")
    params = _joined(parse_qsl(query, keep_blank_values=True))
    return func.HttpRequest(method, url, headers=headers, params=params, route_params=route_params, body=body)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Repeated names as one value with commas, as the platform hands them to Python (cookies with semicolons)."""
    values: dict[str, str] = {}
    for name, value in pairs:
        separator = "; " if name == "cookie" else ","
        values[name] = f"{values[name]}{separator}{value}" if name in values else value
    return values


def _response(result: object) -> tuple[int, Headers, bytes]:
    """What a function returned: an `HttpResponse`, text, or nothing (204).

    Raises:
        TypeError: anything else, which the platform refuses as well.
    """
    if result is None:
        return 204, [], b""
    response = func.HttpResponse(result) if isinstance(result, str) else result
    if not isinstance(response, func.HttpResponse):
        raise TypeError(f"an HTTP function returned {type(result).__name__}, not HttpResponse or str")
    body = response.get_body()
    pairs = [(name.lower(), value) for name, value in response.headers.items() if name.lower() not in _HOP_BY_HOP]
    if not any(name == "content-type" for name, _ in pairs):
        charset = f"; charset={response.charset}" if response.mimetype.startswith("text/") else ""
        pairs.append(("content-type", f"{response.mimetype}{charset}"))
    if response.status_code not in (204, 304):
        pairs.append(("content-length", str(len(body))))
    return response.status_code, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs], body


def _unmatched(method: str, allowed: frozenset[str]) -> tuple[int, Headers, bytes]:
    if not allowed:
        return _error(404, "not_found", "no function has this route")
    allow = (b"allow", ", ".join(sorted(allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set()))).encode())
    if method == "OPTIONS":
        return 204, [allow], b""
    status, headers, body = _error(405, "method_not_allowed", "no function takes this method on this route")
    return status, [*headers, allow], body


def _error(status: int, code: str, message: str) -> tuple[int, Headers, bytes]:
    body = json.dumps({"message": message, "error_message": message, "code": code}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return status, headers, body
