"""HTTP triggers: what a function is given, and what the caller gets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import azure.functions as func
import httpx
import pytest

from local.host.http import HttpApp
from local.host.index import index
from local.host.routes import Router
from local.maintenance import bp as maintenance
from shared.errors import ConfigurationError


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def app() -> func.FunctionApp:
    return func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


Ask = Callable[..., httpx.Response]
SETTINGS = {"FACERELAY_RETENTION_SCHEDULE": "0 0 3 * * *"}


@pytest.fixture
def ask(app: func.FunctionApp, pool: ThreadPoolExecutor) -> Ask:
    """Sends one request to the app through ASGI."""

    def ask(method: str, path: str, *, prefix: str = "", limit: int = 1000, **request: Any) -> httpx.Response:
        web = HttpApp(index(app, SETTINGS).http, prefix=prefix, pool=pool, max_body_bytes=limit)

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://host:7071") as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())

    return ask


def test_a_function_sees_the_whole_request(app: func.FunctionApp, ask: Ask) -> None:
    seen: list[func.HttpRequest] = []

    @app.route("people/{id}/image", methods=["POST"])
    def f(req: func.HttpRequest) -> str:
        seen.append(req)
        return "ok"

    answer = ask(
        "POST", "/people/J%C3%BCrgen%20X/image?a=1&b=&a=2&c=%C3%A9", content=b"\x00body", headers={"X-One": "1"}
    )
    assert (answer.status_code, answer.text) == (200, "ok")
    (request,) = seen
    assert request.method == "POST"
    assert request.url == "http://host:7071/people/J%C3%BCrgen%20X/image?a=1&b=&a=2&c=%C3%A9"
    assert dict(request.route_params) == {"id": "Jürgen X"}
    assert dict(request.params) == {"a": "1,2", "b": "", "c": "é"}
    assert request.headers["x-one"] == request.headers["X-One"] == "1"
    assert request.get_body() == b"\x00body"


def test_forms_can_be_read(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("form", methods=["POST"])
    def f(req: func.HttpRequest) -> str:
        with req.files["image"].stream as image:
            return f"{req.form['camera_id']} {image.read().decode()}"

    assert ask("POST", "/form", data={"camera_id": "c1"}, files={"image": b"bytes"}).text == "c1 bytes"


def test_async_functions_and_context(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("f")
    async def named(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        await asyncio.sleep(0)
        return func.HttpResponse(f"{context.function_name} {len(context.invocation_id)}")

    assert ask("GET", "/f").text == "named 36"


def test_an_asgi_app_behind_a_trigger(app: func.FunctionApp, ask: Ask) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1"), (b"x-a", b"2")]})
        body = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode() + event["body"]
        await send({"type": "http.response.body", "body": body})

    middleware = func.AsgiMiddleware(inner)

    @app.route("dataset/{*rest}", methods=["GET", "POST"])
    async def f(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return await middleware.handle_async(req, context)

    answer = ask("POST", "/dataset/a%20b/image?x=1", content=b"data")
    assert (answer.status_code, answer.text) == (201, "POST /dataset/a b/image x=1 data")


def test_repeated_headers_status_and_type_come_through(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("f")
    def f(req: func.HttpRequest) -> func.HttpResponse:
        response = func.HttpResponse(b"\xff", status_code=418, mimetype="image/jpeg")
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        return response

    answer = ask("GET", "/f")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (418, b"\xff", "image/jpeg")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["content-length"] == "1"


def test_text_and_nothing_are_answers(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("text")
    def text(req: func.HttpRequest) -> str:
        return "grüße"

    @app.route("nothing")
    def nothing(req: func.HttpRequest) -> None:
        return None

    assert ask("GET", "/text").text == "grüße"
    assert ask("GET", "/text").headers["content-type"] == "text/plain; charset=utf-8"
    assert (ask("GET", "/nothing").status_code, ask("GET", "/nothing").content) == (204, b"")


@pytest.mark.parametrize("make", [lambda: 1 / 0, lambda: {"a": 1}, lambda: func.HttpResponse(headers={"x": "日本"})])
def test_what_goes_wrong_inside_is_a_500_that_says_nothing(
    app: func.FunctionApp, ask: Ask, make: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    @app.route("f")
    def f(req: func.HttpRequest) -> Any:
        return make()

    with caplog.at_level(logging.ERROR):
        answer = ask("GET", "/f")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "Traceback" not in answer.text
    assert "Error" not in answer.text
    assert caplog.records[0].exc_info


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dataset", "all"),
        ("/dataset/", "all"),
        ("/DATASET", "all"),
        ("/dataset/fixed", "fixed"),
        ("/dataset/ann", "one"),
        ("/dataset/12", "number"),
        ("/dataset/ann/image", "image"),
        ("/dataset/ann/other/deep", "rest"),
        ("/dataset/ann%2Fimage", "one"),
        ("/optional", "optional"),
        ("/optional/x", "optional"),
    ],
)
def test_the_most_specific_route_wins(app: func.FunctionApp, ask: Ask, path: str, expected: str) -> None:
    routes = {
        "rest": "dataset/{*rest}",
        "one": "dataset/{id}",
        "number": "dataset/{id:int}",
        "image": "dataset/{id}/image",
        "fixed": "dataset/fixed",
        "all": "dataset",
        "optional": "optional/{x?}",
    }

    def answering(answer: str) -> Callable[[func.HttpRequest], str]:
        def call(req: func.HttpRequest) -> str:
            return answer

        call.__name__ = answer
        return call

    for name, route in routes.items():
        app.route(route)(answering(name))
    assert ask("GET", path).text == expected


def test_a_rest_parameter_may_be_empty_and_holds_slashes(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("docs/{*rest}")
    def f(req: func.HttpRequest) -> str:
        return repr(req.route_params.get("rest"))

    assert ask("GET", "/docs/a/b%20c").text == "'a/b c'"
    assert ask("GET", "/docs").text == "None"


def test_the_root_leads_to_the_documentation(app: func.FunctionApp, ask: Ask) -> None:
    app.register_functions(maintenance)
    answer = ask("GET", "/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_methods_choose_among_functions(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("x", methods=["GET"])
    def read(req: func.HttpRequest) -> str:
        return "read"

    @app.route("x", methods=["DELETE"])
    def delete(req: func.HttpRequest) -> str:
        return "deleted"

    assert ask("GET", "/x").text == "read"
    assert ask("DELETE", "/x").text == "deleted"
    refused = ask("POST", "/x")
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS")
    head = ask("HEAD", "/x")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "4")
    options = ask("OPTIONS", "/x")
    assert (options.status_code, options.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")


def test_the_prefix_comes_first(app: func.FunctionApp, ask: Ask) -> None:
    @app.route("x")
    def f(req: func.HttpRequest) -> str:
        return "ok"

    assert ask("GET", "/api/x", prefix="api").text == "ok"
    missing = ask("GET", "/x", prefix="api")
    assert missing.status_code == 404
    assert set(missing.json()) == {"message", "error_message", "code"}


@pytest.mark.parametrize("path", ["/", "/../x", "/x/%2e%2e", "/x%00", "//", "/%ff"])
def test_odd_paths_are_not_found_or_refused(app: func.FunctionApp, ask: Ask, path: str) -> None:
    @app.route("only")
    def f(req: func.HttpRequest) -> str:
        return "ok"

    assert ask("GET", path).status_code == (400 if path == "/%ff" else 404)


def test_a_body_over_the_limit_is_refused_by_its_declared_length(app: func.FunctionApp, ask: Ask) -> None:
    called: list[int] = []

    @app.route("x", methods=["POST"])
    def f(req: func.HttpRequest) -> str:
        called.append(len(req.get_body()))
        return "ok"

    assert ask("POST", "/x", content=b"x" * 1000).status_code == 200
    refused = ask("POST", "/x", content=b"x" * 1001)
    assert (refused.status_code, refused.json()["code"]) == (413, "image_too_large")
    assert called == [1000]


def test_a_body_without_a_length_is_refused_while_it_arrives(app: func.FunctionApp, ask: Ask) -> None:
    sent: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            sent.append(number)
            yield b"x" * 100

    @app.route("x", methods=["POST"])
    def f(req: func.HttpRequest) -> str:
        return "ok"

    assert ask("POST", "/x", content=chunks()).status_code == 413
    assert len(sent) < 20


def test_a_client_that_leaves_harms_nobody(app: func.FunctionApp, pool: ThreadPoolExecutor) -> None:
    called: list[bool] = []

    @app.route("x", methods=["POST"])
    def f(req: func.HttpRequest) -> str:
        called.append(True)
        return "ok"

    web = HttpApp(index(app, {}).http, prefix="", pool=pool)
    scope = {"type": "http", "method": "POST", "raw_path": b"/x", "query_string": b"", "headers": [], "scheme": "http"}

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("nobody is there to answer")

    asyncio.run(web(scope, receive, send))
    assert called == []


def test_sync_functions_do_not_hold_up_async_ones(app: func.FunctionApp, pool: ThreadPoolExecutor) -> None:
    @app.route("slow")
    def slow(req: func.HttpRequest) -> str:
        time.sleep(0.5)
        return "slow"

    @app.route("fast")
    async def fast(req: func.HttpRequest) -> str:
        return "fast"

    web = HttpApp(index(app, {}).http, prefix="", pool=pool)

    async def both() -> list[str]:
        order: list[str] = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://h") as client:

            async def get(path: str) -> None:
                order.append((await client.get(path)).text)

            await asyncio.gather(get("/slow"), get("/fast"))
        return order

    assert asyncio.run(both()) == ["fast", "slow"]
    assert web.idle


@pytest.mark.parametrize("route", ["a/{b", "a/x{b}y", "a/{b:unheard}", "a/}b{"])
def test_route_templates_that_are_not_supported_are_named(app: func.FunctionApp, route: str) -> None:
    @app.route(route)
    def f(req: func.HttpRequest) -> str:
        return ""

    with pytest.raises(ConfigurationError, match="function f"):
        Router(index(app, {}).http, "")


def test_two_functions_for_one_route_and_method_are_refused(app: func.FunctionApp) -> None:
    @app.route("x", methods=["GET"])
    def one(req: func.HttpRequest) -> str:
        return ""

    @app.route("x", methods=["GET", "POST"])
    def two(req: func.HttpRequest) -> str:
        return ""

    with pytest.raises(ConfigurationError, match="one and two"):
        Router(index(app, {}).http, "")
