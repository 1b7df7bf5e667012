"""A gateway with nothing but a token delivers to an embedded service over HTTP: real process, adapter and weights."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
from pydantic import SecretStr

from edge_uploader.settings import EdgeSettings
from local.cli.edge.common import open_store
from local.edge_check import Finding, check_service
from shared.access import Scope
from shared.adapters.intake import METADATA_HEADER, ServiceStore
from shared.bootstrap import open_upload_store
from shared.domain import CANDIDATES, Candidate, sha256_hex
from shared.errors import InvalidInput, PreconditionFailed, StoreUnavailable
from shared.settings import StoreSettings
from tests.conformance.served import Guarded, guarded, small_photograph
from tests.e2e.service import within
from tests.support import candidate

URL = "/api/v1/candidates"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("deliver")) as served:
        yield served


@pytest.fixture(scope="module")
def photograph() -> bytes:
    return small_photograph()


def record(data: bytes, **changes: object) -> Candidate:
    plain = {"site": "site", "captured_at": datetime.now(UTC).replace(microsecond=0)}
    return candidate(data, **plain | changes)


def post(app: Guarded, data: bytes, what: Candidate, caller: Scope | None = Scope.DEVICE, **headers: str):
    told = {METADATA_HEADER: urlencode(what.to_metadata()), "Content-Type": "image/jpeg"} | headers
    return requests.post(app.service.url + URL, data=data, headers=app.headers(caller) | told, timeout=30)


def put(store: ServiceStore, data: bytes, what: Candidate) -> str:
    return store.put(
        CANDIDATES, what.blob_name, data, metadata=what.to_metadata(), content_type="image/jpeg", if_absent=True
    )


def test_a_crop_becomes_a_detection(app: Guarded, photograph: bytes) -> None:
    store = open_upload_store(StoreSettings(), app.service.url, app.tokens[Scope.DEVICE])
    what = record(photograph, camera="entrance of Ä", track="delivered")
    put(store, photograph, what)
    with pytest.raises(PreconditionFailed):
        put(store, photograph, what)

    def seen() -> list[dict[str, object]]:
        answer = requests.get(
            app.service.url + "/api/v1/detections", headers=app.headers(Scope.OPERATOR), timeout=30
        ).json()
        return [found for found in answer["detections"] if found["track"] == "delivered"]

    found = within(30, seen)
    assert [one["camera"] for one in found] == ["entrance of Ä"]
    assert len(seen()) == 1, "sent twice, stored once"


def test_a_gateway_checks_a_service_that_takes_crops_itself(app: Guarded) -> None:
    def check(token: str) -> Finding:
        settings = EdgeSettings(edge_service_url=app.service.url, edge_token=SecretStr(token))
        return check_service(settings, open_store)

    good, bad = check(app.tokens[Scope.DEVICE]), check("not-a-token")
    assert good.ok is True and "takes crops itself" in good.detail
    assert bad.ok is False and "facerelay token create" in bad.todo


def test_the_same_crop_again_is_no_error_and_another_of_its_name_is(app: Guarded, photograph: bytes) -> None:
    what = record(photograph, track="again")
    first, second = post(app, photograph, what), post(app, photograph, what)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json() == {"name": what.blob_name}
    other = photograph + b"\0"
    assert post(app, other, record(other, track="again", captured_at=what.captured_at)).status_code == 409


@pytest.mark.parametrize("change", [{"site": "elsewhere"}, {"site": "site2"}])
def test_a_device_delivers_for_its_own_site_alone(app: Guarded, photograph: bytes, change: dict[str, str]) -> None:
    answer = post(app, photograph, record(photograph, **change))
    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"other bytes", {}),
        (b"", {}),
        (None, {METADATA_HEADER: "no query string"}),
        (None, {METADATA_HEADER: "schema=1&schema=1"}),
        (None, {METADATA_HEADER: "schema=2&site=site"}),
        (None, {METADATA_HEADER: "&".join(f"k{n}=1" for n in range(100))}),
        (None, {METADATA_HEADER: "schema=1&site=" + "x" * 5_000}),
        (None, {"Content-Type": "text/html"}),
        (None, {"Content-Type": ""}),
        (None, {"Content-Type": "application/json"}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_crop_is_refused(
    app: Guarded, photograph: bytes, data: bytes | None, headers: dict[str, str]
) -> None:
    answer = post(app, photograph if data is None else data, record(photograph, track="bad"), **headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["code"] not in ("unexpected", "")


def test_names_cannot_leave_the_container(app: Guarded, photograph: bytes) -> None:
    what = record(photograph, camera="../../models", track="../../../current")
    answer = post(app, photograph, what)
    assert answer.status_code == 201
    assert "/../" not in answer.json()["name"]
    assert list((app.service.data_dir).rglob("current*jpg")) == []


def test_a_refused_token_lets_crops_wait(app: Guarded, photograph: bytes) -> None:
    """Transient: somebody mends the token, and what the uploader takes for refused would be lost."""
    store = open_upload_store(StoreSettings(), app.service.url, "frl_nobody")
    with pytest.raises(StoreUnavailable):
        put(store, photograph, record(photograph))


def test_a_refused_crop_is_told_from_a_service_that_is_away(app: Guarded, photograph: bytes) -> None:
    store = open_upload_store(StoreSettings(), app.service.url, app.tokens[Scope.DEVICE])
    with pytest.raises(InvalidInput):
        put(store, photograph + b"\0", record(photograph, track="refused"))
    away = open_upload_store(StoreSettings(), "http://127.0.0.1:9", app.tokens[Scope.DEVICE])
    with pytest.raises(StoreUnavailable):
        put(away, photograph, record(photograph))


def test_what_is_stored_is_what_the_record_says(app: Guarded, photograph: bytes, tmp_path: Path) -> None:
    """Unknown keys and made-up tags are not written: a token must not fill the store with its own words."""
    what = record(photograph, track="kept")
    headers = {METADATA_HEADER: urlencode(what.to_metadata() | {"note": "x" * 1_000})}
    assert post(app, photograph, what, **headers).status_code == 201
    from shared.adapters.local import LocalBlobStore, LocalStore

    store = LocalStore(app.service.data_dir)
    try:
        stored = LocalBlobStore(store).get(CANDIDATES, what.blob_name)
    finally:
        store.close()
    assert sha256_hex(stored.data) == what.sha256
    assert dict(stored.properties.metadata) == what.to_metadata()
