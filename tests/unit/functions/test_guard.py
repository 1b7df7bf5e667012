"""The guard before the real application: whom it lets through, what it never reads, what it leaves behind."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import azure.functions as func
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from functions import http
from functions.guard import ADMINISTRATIVE, PUBLIC, client_address, is_administrative
from functions.http import build_api, routers
from functions.services import Services, use_services
from shared.access import Scope
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.errors import StoreUnavailable
from shared.settings import Settings
from tests.support import stores_over
from tests.unit.test_docs import flat

DAY = timedelta(days=1)
ERROR = {"message", "error_message", "code"}
SECURITY_PAGE = Path(__file__).parents[3] / "docs" / "security.md"
ROLES = ("nobody", *Scope)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Services]]:
    """Makes the process's services over an empty store, with any settings."""
    stores: list[LocalStore] = []

    def make(**settings: Any) -> Services:
        store = LocalStore(tmp_path / "data")
        stores.append(store)
        services = Services(
            Runtime(
                Settings(data_dir=tmp_path / "data", model_cache=tmp_path / "none", train_http_wait_s=0, **settings),
                stores=stores_over(store),
            )
        )
        use_services(services)
        return services

    yield make
    use_services(None)
    for store in stores:
        store.close()


@pytest.fixture
def services(made) -> Services:
    return made()


@pytest.fixture(scope="module")
def _built() -> dict[str, FastAPI]:
    return {}


@pytest.fixture
def api(services: Services, _built: dict[str, FastAPI]) -> FastAPI:
    """Built once: it asks for the services anew with each request."""
    if "api" not in _built:
        _built["api"] = build_api()
    return _built["api"]


@pytest.fixture
def client(api: FastAPI) -> TestClient:
    return TestClient(api, raise_server_exceptions=False, client=("192.0.2.1", 1))


def header(services: Services, scope: Scope = Scope.ADMIN, lifetime: timedelta = DAY) -> dict[str, str]:
    site = "hq" if scope is Scope.DEVICE else None
    return {"Authorization": f"Bearer {services.tokens().create(scope, lifetime=lifetime, site=site)[0]}"}


def refused(answer, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == ERROR and body["message"] == body["error_message"] and body["code"] == code
    return body["message"]


def scopes_of(route: Any) -> frozenset[str]:
    """Who may use a route, as its dependency says; empty: it says nothing."""

    def calls(dependant: Any) -> Iterator[Any]:
        for each in dependant.dependencies:
            yield each.call
            yield from calls(each)

    found = [call.scopes for call in calls(route.dependant) if hasattr(call, "scopes")]
    assert len(found) <= 1, f"{route.path} asks twice"
    return found[0] if found else frozenset()


def all_routes() -> list[tuple[str, str, frozenset[str]]]:
    """(method, path, scopes) of every route."""
    return sorted(
        (method, route.path, scopes_of(route)) for r in routers() for route in flat(r) for method in route.methods
    )


class TestWhoMayDoWhat:
    def test_every_route_asks_for_a_scope_or_is_public(self) -> None:
        assert {path for _, path, scopes in all_routes() if not scopes} <= PUBLIC

    def test_the_documented_table_is_the_code(self) -> None:
        """docs/security.md: | method | route | device | operator | admin |, with ✓ where the scope may."""
        rows = re.findall(
            r"^\| ([A-Z]+) \| `([^`]+)` \| (.*?) \| (.*?) \| (.*?) \|$", SECURITY_PAGE.read_text("utf-8"), re.MULTILINE
        )
        documented = {(method, path): [cell.strip() for cell in cells] for method, path, *cells in rows}
        assert documented == {
            (method, path): ["✓" if scope in scopes else "–" for scope in Scope]
            for method, path, scopes in all_routes()
            if scopes
        }

    @pytest.mark.parametrize(("method", "path", "scopes"), all_routes(), ids=lambda v: v if isinstance(v, str) else "")
    def test_nothing_is_reachable_outside_its_scope(
        self, client: TestClient, services: Services, method: str, path: str, scopes: frozenset[str]
    ) -> None:
        if not scopes:
            return
        target = re.sub(r"\{[^}]+\}", "somebody", path)
        refused(client.request(method, target), 401, "not_authenticated")
        for scope in Scope:
            answer = client.request(method, target, headers=header(services, scope))
            if scope in scopes:
                assert answer.status_code not in (401, 403), f"{scope}: {answer.text}"
            else:
                refused(answer, 403, "not_permitted")

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/static/swagger-ui.css"])
    def test_documentation_is_public(self, client: TestClient, path: str) -> None:
        assert client.get(path).status_code == 200

    @pytest.mark.parametrize(
        "path",
        ["/", "/nothing", "/Health", "/health/", "/docs/static", "/docs/..%2fdataset", "/openapi.json/", "/docs/x"],
    )
    def test_what_is_not_there_is_not_public(self, client: TestClient, path: str) -> None:
        refused(client.get(path), 401, "not_authenticated")

    def test_a_public_file_is_nothing_but_a_file(self, client: TestClient) -> None:
        for path in ("/docs/static/../../dataset", "/docs/static/%2e%2e/%2e%2e/dataset", "/docs/static//dataset"):
            assert client.get(path).status_code in (401, 404)


class TestTokens:
    @pytest.mark.parametrize("name", ["Authorization", "X-Api-Key"])
    def test_either_header_is_read(self, client: TestClient, services: Services, name: str) -> None:
        text = header(services)["Authorization"].removeprefix("Bearer ")
        value = f"Bearer {text}" if name == "Authorization" else text
        assert client.get("/dataset", headers={name: value}).status_code == 200

    def test_who_shows_nothing_is_told_how(self, client: TestClient) -> None:
        answer = client.get("/dataset")
        assert "Bearer" in refused(answer, 401, "not_authenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_a_token_is_made_shown_once_listed_and_revoked(self, client: TestClient, services: Services) -> None:
        admin = header(services)
        wanted = {"scope": "device", "site": "hq", "description": "lobby", "lifetime_days": 1}
        answer = client.post("/api/v1/tokens", json=wanted, headers=admin)
        assert answer.status_code == 201
        token = answer.json()
        assert token["site"] == "hq" and token["last_used_at"] is None
        device = {"Authorization": f"Bearer {token.pop('token')}"}
        listed = client.get("/api/v1/tokens", headers=admin)
        assert token in listed.json()["tokens"]
        assert 'token"' not in listed.text and device["Authorization"][-43:] not in listed.text
        refused(client.get("/dataset", headers=device), 403, "not_permitted")
        used = {t["token_id"]: t["last_used_at"] for t in client.get("/api/v1/tokens", headers=admin).json()["tokens"]}
        assert used[token["token_id"]] is not None
        assert client.delete(f"/api/v1/tokens/{token['token_id']}", headers=admin).status_code == 200
        refused(client.get("/dataset", headers=device), 401, "not_authenticated")
        refused(client.delete("/api/v1/tokens/nothing", headers=admin), 404, "not_found")

    @pytest.mark.parametrize(
        "wanted",
        [
            {"scope": "device"},
            {"scope": "operator", "site": "hq"},
            {"scope": "root"},
            {},
            {"scope": "admin", "lifetime_days": 0},
        ],
    )
    def test_a_token_that_cannot_be(self, client: TestClient, services: Services, wanted: dict[str, Any]) -> None:
        answer = client.post("/api/v1/tokens", json=wanted, headers=header(services))
        assert answer.status_code == 400 and set(answer.json()) == ERROR

    def test_an_expired_token_is_nobodys(self, client: TestClient, services: Services) -> None:
        short = header(services, lifetime=timedelta(microseconds=1))
        refused(client.get("/dataset", headers=short), 401, "not_authenticated")

    def test_a_store_that_is_away_lets_nobody_in(self, client: TestClient, services: Services, monkeypatch) -> None:
        admin = header(services)

        def away(token_id: str) -> None:
            raise StoreUnavailable("the store is away")

        monkeypatch.setattr(services.runtime.stores.tokens, "get_token", away)
        answer = client.get("/dataset", headers=admin)
        refused(answer, 503, "store_unavailable")
        assert answer.headers["retry-after"]


class TestBodies:
    def ask(self, api: FastAPI, *, path: str = "/dataset/ann/image", body: Callable[[], bytes], **headers: str) -> int:
        """Asks the application itself; `body` gives one part after the other, for ever. The status of the answer."""
        status: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body(), "more_body": True}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("testserver", 80),
            "client": ("192.0.2.9", 1),
            "headers": [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        anyio.run(api, scope, receive, send)
        return status[0]

    @staticmethod
    def unread() -> bytes:
        raise AssertionError("the body was read")

    def test_a_strangers_body_is_never_read(self, api: FastAPI) -> None:
        form = {"content_type": "multipart/form-data; boundary=x"}
        assert self.ask(api, body=self.unread, **form) == 401
        assert self.ask(api, body=self.unread, authorization=f"Bearer frl_{'0' * 12}_{'x' * 43}", **form) == 401
        assert self.ask(api, body=self.unread, path="/face-recognition/get-results", **form) == 401

    def test_a_guessers_body_is_never_read(self, made, _built) -> None:
        made(rate_limit_anonymous="1/minute")
        api = _built.setdefault("api", build_api())
        assert self.ask(api, body=self.unread) == 401
        assert self.ask(api, body=self.unread) == 429

    def test_a_body_that_is_too_long_is_never_read(self, api: FastAPI, services: Services) -> None:
        admin = {name.lower(): value for name, value in header(services).items()}
        for length in ("100000000", "9" * 400, "-1", "x", "1e3"):
            assert self.ask(api, body=self.unread, content_length=length, **admin) == 413

    def test_a_length_need_not_be_declared_to_be_limited(self, made, _built) -> None:
        services = made(max_image_bytes=1_000)
        api = _built.setdefault("api", build_api())
        read = 0

        def part() -> bytes:
            nonlocal read
            read += 10_000
            return b"x" * 10_000

        admin = {name.lower(): value for name, value in header(services).items()}
        form = {"content_type": "multipart/form-data; boundary=x"}
        assert self.ask(api, body=part, **admin, **form) in (400, 413)
        assert self.ask(api, body=part, path="/api/v1/people", content_type="application/json", **admin) == 413
        assert read < 300_000


class TestRates:
    def test_a_caller_has_so_many_requests(self, made, _built) -> None:
        services = made(rate_limit="3/minute")
        client = TestClient(_built.setdefault("api", build_api()))
        one, other = header(services), header(services)
        assert [client.get("/dataset", headers=one).status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = client.get("/dataset", headers=one)
        refused(answer, 429, "too_many_requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.get("/dataset", headers=other).status_code == 200

    def test_guessing_ends_soon_and_harms_nobody_else(self, made, _built, monkeypatch) -> None:
        services = made(rate_limit_anonymous="5/minute")
        client = TestClient(_built.setdefault("api", build_api()))
        known = header(services)
        assert client.get("/dataset", headers=known).status_code == 200
        looks: list[str] = []
        look = services.runtime.stores.tokens.get_token
        monkeypatch.setattr(
            services.runtime.stores.tokens, "get_token", lambda token_id: (looks.append(token_id), look(token_id))[1]
        )
        statuses = [
            client.get("/dataset", headers={"X-Api-Key": f"frl_{n:012x}_{'x' * 43}"}).status_code for n in range(50)
        ]
        assert statuses == [401] * 5 + [429] * 45
        assert len(looks) == 5, "the store is spared"
        assert client.get("/dataset", headers=known).status_code == 200, "the same address, a token that is known"
        other = TestClient(_built["api"], client=("192.0.2.77", 1))
        assert other.get("/dataset").status_code == 401, "another address"
        assert client.get("/openapi.json").status_code == 200, "what is public"

    def test_the_public_pages_have_a_limit_of_their_own(self, made, _built) -> None:
        made(rate_limit_anonymous="2/minute")
        client = TestClient(_built.setdefault("api", build_api()))
        assert [client.get("/openapi.json").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("forwarded", "client", "expected"),
    [
        ("", ("192.0.2.1", 5), "192.0.2.1"),
        ("", None, "nowhere"),
        ("203.0.113.9", ("10.0.0.1", 5), "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", None, "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9:51234", None, "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::1]:443", None, "2001:db8:1:2::/64"),
        ("nonsense", None, "nowhere"),
        ("[", None, "nowhere"),
        ("1.1.1.1,", ("192.0.2.1", 5), "192.0.2.1"),
    ],
)
def test_the_client_is_the_last_hop(forwarded: str, client: Any, expected: str) -> None:
    headers = {b"x-forwarded-for": forwarded} if forwarded else {}
    assert client_address({"client": client}, headers) == expected


class TestThisMachineAlone:
    @pytest.fixture
    def local(self, made, _built) -> FastAPI:
        made(auth=False)
        return _built.setdefault("api", build_api())

    @pytest.mark.parametrize("base", ["http://127.0.0.1:7071", "http://localhost", "http://[::1]:7071"])
    def test_it_needs_no_token(self, local: FastAPI, base: str) -> None:
        client = TestClient(local, base_url=base)
        assert client.get("/dataset").status_code == 200
        assert client.get("/dataset", headers={"Origin": base}).status_code == 200

    def test_a_page_elsewhere_cannot_call_in_its_visitors_browser(self, local: FastAPI) -> None:
        client = TestClient(local, base_url="http://127.0.0.1:7071")
        for origin in ("https://evil.example", "null", "http://127.0.0.1:9999"):
            refused(client.post("/dataset/ann", headers={"Origin": origin}), 403, "not_permitted")

    def test_a_name_that_was_pointed_here_is_not_this_machine(self, local: FastAPI) -> None:
        for base in ("http://evil.example", "http://127.0.0.1.evil.example", "http://192.0.2.1"):
            refused(TestClient(local, base_url=base).get("/dataset"), 403, "not_permitted")

    def test_it_has_no_limit(self, local: FastAPI) -> None:
        client = TestClient(local, base_url="http://127.0.0.1:7071")
        assert {client.get("/openapi.json").status_code for _ in range(70)} == {200}


class TestAnswers:
    def test_every_answer_has_the_security_headers(self, client: TestClient, services: Services) -> None:
        for answer in (
            client.get("/dataset"),
            client.get("/dataset", headers=header(services)),
            client.get("/docs"),
            client.get("/docs/static/favicon.png"),
            client.get("/nothing", headers=header(services)),
            client.post("/dataset/x", headers={**header(services), "Content-Length": "999999999"}),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-frame-options"] == "DENY"
            assert "no-store" in answer.headers["cache-control"]
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "access-control-allow-origin" not in answer.headers

    def test_the_documentation_may_run_its_own_scripts_and_no_others(self, client: TestClient) -> None:
        page = client.get("/docs")
        policy = page.headers["content-security-policy"]
        scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
        assert scripts
        for script in scripts:
            assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
        script_source = re.search(r"script-src ([^;]*)", policy)
        assert script_source and "unsafe" not in script_source[1] and "http" not in policy

    def test_swagger_knows_how_to_show_a_token(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        [(name, scheme)] = document["components"]["securitySchemes"].items()
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert operation.get("security", []) == ([] if path in PUBLIC else [{name: []}]), path

    def test_what_nobody_expected_tells_nothing(self, client: TestClient, services: Services, monkeypatch) -> None:
        def broken() -> None:
            raise RuntimeError("a secret")

        monkeypatch.setattr(services, "query", broken)
        answer = client.get("/dataset", headers=header(services))
        refused(answer, 500, "unexpected")
        assert "secret" not in answer.text

    def test_cors_is_off_unless_configured(self, client: TestClient, made) -> None:
        ask = {"Origin": "https://console.example", "Access-Control-Request-Method": "GET"}
        assert "access-control-allow-origin" not in client.options("/dataset", headers=ask).headers
        services = made(cors_origins="https://console.example, https://other.example")
        allowing = TestClient(build_api())
        answer = allowing.options("/dataset", headers={**ask, "Access-Control-Request-Headers": "authorization"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://console.example"
        assert "access-control-allow-credentials" not in answer.headers
        answer = allowing.get("/dataset", headers={**header(services), "Origin": "https://console.example"})
        assert answer.headers["access-control-allow-origin"] == "https://console.example"
        elsewhere = allowing.get("/dataset", headers={**header(services), "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in elsewhere.headers


class TestAudit:
    def entries(self, services: Services) -> list[tuple[str, dict[str, str], int]]:
        page = services.runtime.stores.audit.list()
        return [(entry.action, dict(entry.target), entry.status) for entry in reversed(page.entries)]

    def test_administrative_calls_are_recorded_however_they_end(self, client: TestClient, services: Services) -> None:
        admin, operator = header(services), header(services, Scope.OPERATOR)
        client.get("/dataset", headers=admin)
        client.delete("/dataset/Nobody There", headers=operator)
        client.post("/debug/unblock-dataset", headers=admin)
        made = client.post("/api/v1/tokens", json={"scope": "admin"}, headers=admin).json()
        client.delete("/api/v1/tokens/nothing", headers=admin)
        client.delete("/dataset/somebody")
        client.post("/face-recognition/dry-run", headers=admin)
        assert self.entries(services) == [
            ("DELETE /dataset/{ID}", {"ID": "Nobody There"}, 403),
            ("POST /debug/unblock-dataset", {}, 200),
            ("POST /api/v1/tokens", {"token_id": made["token_id"], "scope": "admin"}, 201),
            ("DELETE /api/v1/tokens/{token_id}", {"token_id": "nothing"}, 404),
        ]
        actors = {entry.actor for entry in services.runtime.stores.audit.list().entries}
        assert actors == {text["Authorization"].removeprefix("Bearer frl_")[:12] for text in (admin, operator)}

    def test_every_route_that_changes_something_is_recorded_or_known_not_to_be(self) -> None:
        """Recognition is no administration, and a grant to upload is a gateway's every hour."""
        unrecorded = {path for method, path, _ in all_routes() if method != "GET" and not is_administrative(path)}
        assert all(
            path.startswith("/face-recognition/") or path in ("/api/v1/uploads", "/api/v1/candidates")
            for path in unrecorded
        )

    @pytest.mark.parametrize("path", ["/models", "/datasets/x", "/api/v1/peoples", "", "/"])
    def test_a_name_that_only_begins_alike_is_another(self, path: str) -> None:
        assert not is_administrative(path)
        assert all(is_administrative(area) and is_administrative(f"{area}/x") for area in ADMINISTRATIVE)

    def test_it_is_read_in_pages(self, client: TestClient, services: Services) -> None:
        admin = header(services)
        for _ in range(5):
            client.post("/debug/unblock-dataset", headers=admin)
        first = client.get("/api/v1/audit", params={"page_size": 3}, headers=admin).json()
        second = client.get(
            "/api/v1/audit", params={"page_size": 3, "continuation": first["continuation"]}, headers=admin
        ).json()
        assert (len(first["entries"]), len(second["entries"]), second["continuation"]) == (3, 2, None)
        refused(client.get("/api/v1/audit", params={"continuation": "made-up"}, headers=admin), 400, "invalid_input")

    def test_a_store_that_is_away_does_not_undo_what_was_done(
        self, client: TestClient, services: Services, monkeypatch
    ) -> None:
        def away(entry: object) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr(services.runtime.stores.audit, "record", away)
        assert client.post("/debug/unblock-dataset", headers=header(services)).status_code == 200


def test_uploads_are_for_backends_that_have_addresses(client: TestClient, services: Services) -> None:
    answer = client.post("/api/v1/uploads", headers=header(services, Scope.DEVICE))
    assert "local backend" in refused(answer, 409, "configuration")


def test_the_platforms_trigger_is_guarded_too(services: Services, monkeypatch) -> None:
    """Through the function, as the worker calls it: no client address, no state."""
    monkeypatch.setattr(http, "_application", None)

    def ask(**headers: str) -> func.HttpResponse:
        request = func.HttpRequest("GET", "https://example.org/dataset", headers=headers, body=b"")
        return anyio.run(http.handle, request, None)

    assert ask().status_code == 401
    assert ask(**header(services)).status_code == 200


def test_a_browsers_question_before_it_calls_reaches_the_application() -> None:
    """CORS is the application's to answer, so every HTTP trigger must let the question through."""
    from function_app import app

    app.functions_bindings = {}  # else the SDK takes a second reading for duplicates
    triggers = [t.get_dict_repr() for f in app.get_functions() if (t := f.get_trigger())]
    http_methods = [{str(getattr(m, "value", m)) for m in t["methods"]} for t in triggers if t["type"] == "httpTrigger"]
    assert http_methods and all("OPTIONS" in methods for methods in http_methods)
