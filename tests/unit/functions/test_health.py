"""Health is told in bounded time, whatever its parts do, and asking often costs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from functions.http import build_api
from functions.query.health import Finding, HealthService
from functions.services import Services, use_services
from shared.access import Scope, issue
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.domain import utc_now
from shared.errors import ModelUnavailable, StoreUnavailable
from shared.settings import Settings
from tests.support import stores_over


def failing(error: Exception):
    def check() -> str:
        raise error

    return check


def test_every_part_says_how_it_is() -> None:
    service = HealthService(
        {
            "well": lambda: "as ever",
            "weights": failing(ModelUnavailable("not there; fetch it")),
            "odd": failing(ValueError("secret")),
        }
    )
    assert service.findings() == [
        Finding("well", None, "as ever"),
        Finding("weights", ModelUnavailable.code, "not there; fetch it"),
        Finding("odd", "unexpected", "ValueError"),
    ]


def test_a_part_that_hangs_is_waited_for_once_and_asked_once() -> None:
    calls, release = [], threading.Event()

    def hang() -> str:
        calls.append(1)
        release.wait(20)
        return "back"

    service = HealthService({"slow": hang, "well": lambda: ""}, timeout_s=0.2, fresh_s=0)
    began = time.monotonic()
    for _ in range(3):
        assert service.findings() == [Finding("slow", "timeout", ""), Finding("well", None, "")]
    assert time.monotonic() - began < 2
    assert len(calls) == 1, "a part that does not answer must not gather threads"
    release.set()
    time.sleep(0.05)
    assert service.findings()[0] == Finding("slow", None, "back")


def test_findings_are_kept_for_a_while() -> None:
    calls: list[int] = []

    def count() -> str:
        calls.append(1)
        return str(len(calls))

    service = HealthService({"part": count}, fresh_s=0.2)
    assert [service.findings()[0].detail for _ in range(5)] == ["1"] * 5
    time.sleep(0.25)
    assert service.findings()[0].detail == "2"


def test_many_callers_at_once_are_one_look() -> None:
    calls: list[int] = []

    def slow() -> str:
        calls.append(1)
        time.sleep(0.1)
        return ""

    service = HealthService({"part": slow}, fresh_s=5)
    threads = [threading.Thread(target=service.findings) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


class TestServices:
    """The checks of the real services, over a real store and an empty model cache."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LocalStore]:
        opened = LocalStore(tmp_path / "data")
        yield opened
        opened.close()

    @pytest.fixture
    def services(self, store: LocalStore, tmp_path: Path) -> Services:
        settings = Settings(data_dir=tmp_path / "data", model_cache=tmp_path / "cache", model_poll_s=3600)
        return Services(Runtime(settings, stores=stores_over(store)))

    def reasons(self, services: Services) -> dict[str, str | None]:
        return {finding.name: finding.reason for finding in services.health().findings()}

    def test_missing_weights_are_the_reason(self, services: Services) -> None:
        assert self.reasons(services) == {
            "weights": ModelUnavailable.code,
            "model": None,
            "blobs": None,
            "documents": None,
            "queues": None,
        }

    @pytest.mark.parametrize(
        ("attribute", "method", "part"),
        [("blobs", "get", "blobs"), ("jobs", "get_job", "documents"), ("queue", "peek", "queues")],
    )
    def test_a_store_that_is_away_is_the_reason(
        self, services: Services, monkeypatch: pytest.MonkeyPatch, attribute: str, method: str, part: str
    ) -> None:
        def away(*_: object, **__: object) -> None:
            raise StoreUnavailable("no answer")

        services.runtime.live_model()  # as in a process that was well before
        monkeypatch.setattr(getattr(services.runtime.stores, attribute), method, away)
        found = self.reasons(services)
        assert found.pop(part) == StoreUnavailable.code
        assert set(found.values()) == {None, ModelUnavailable.code}

    def test_an_empty_gallery_is_current(self, services: Services) -> None:
        assert services.gallery_health().findings() == [Finding("gallery", None, "current")]

    @pytest.fixture
    def client(self, services: Services) -> Iterator[TestClient]:
        """Callers must show a token."""
        use_services(services)
        yield TestClient(build_api(), base_url="http://127.0.0.1", raise_server_exceptions=False)
        use_services(None)

    @pytest.fixture
    def operator(self, services: Services) -> dict[str, str]:
        text, token = issue(Scope.OPERATOR, now=utc_now(), lifetime=timedelta(hours=1))
        services.runtime.stores.tokens.add_token(token)
        return {"Authorization": f"Bearer {text}"}

    def test_anybody_is_told_the_reason_and_no_more(self, client: TestClient) -> None:
        answer = client.get("/health")
        assert answer.status_code == 503
        assert answer.json() == {"live": True, "ready": False, "reason": "weights: model_unavailable"}

    def test_operators_are_told_the_details(self, client: TestClient, operator: dict[str, str]) -> None:
        assert client.get("/api/v1/health").status_code == 401
        answer = client.get("/api/v1/health", headers=operator)
        assert answer.status_code == 503
        body = answer.json()
        assert body["parts"][0]["name"] == "weights" and "models fetch" in body["parts"][0]["detail"]
        assert (body["model_id"], body["model_age_s"], body["gallery"]) == ("none", None, "current")

    def test_metrics_are_for_operators(self, client: TestClient, operator: dict[str, str], services: Services) -> None:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=operator).status_code == 404, "nothing collects them"
        services.runtime.metrics_page = lambda: b"a 1\n"
        answer = client.get("/metrics", headers=operator)
        assert (answer.text, answer.headers["content-type"]) == ("a 1\n", "text/plain; version=0.0.4; charset=utf-8")
