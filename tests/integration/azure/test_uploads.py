"""Upload grants against Azurite: what a gateway with a device token can do there, and what it cannot."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient
from starlette.testclient import TestClient

from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.delivery.uploader import Uploader
from edge_uploader.settings import EdgeSettings
from functions.http import build_api
from functions.services import Services, use_services
from local.cli.edge.common import open_store
from shared.access import Scope, UploadGrant
from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.grants import SasGrants
from shared.adapters.azure.uploads import GrantClient, UploadStore
from shared.adapters.intake import ServiceStore
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.domain import CANDIDATES, DATASET, format_time
from shared.errors import ConfigurationError, InvalidInput, NotFound, PreconditionFailed, StoreUnavailable
from shared.settings import Settings
from tests.servers import Storage, wipe_storage
from tests.support import TickingClock, candidate, stores_over

HOUR = timedelta(hours=1)
ACCOUNT = "example"
KEY = base64.b64encode(b"of nobody").decode()


@pytest.fixture
def storage(storage_server: Storage) -> Storage:
    wipe_storage(storage_server)
    return storage_server


@pytest.fixture
def access(storage: Storage) -> AzureAccess:
    return AzureAccess(connection_string=storage.connection_string)


@pytest.fixture
def grant(access: AzureAccess) -> UploadGrant:
    return access.upload_grants().grant(HOUR)


class Service:
    """What a gateway asks for grants: answers what a test tells it to, and counts.

    Attributes:
        answer: (status, document) of the next request.
        tokens: what was shown.
    """

    def __init__(self) -> None:
        self.answer: Callable[[], tuple[int, Any]] = lambda: (503, {"message": "not now"})
        self.tokens: list[str] = []
        self.url = ""

    def gives(self, *grants: UploadGrant) -> None:
        left = list(grants)

        def answer() -> tuple[int, Any]:
            given = left.pop(0) if len(left) > 1 else left[0]
            return 200, {"url": given.url, "expires_at": format_time(given.expires_at)}

        self.answer = answer


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.tokens.append(f"{self.path} {self.headers['authorization']}")
            status, document = made.answer()
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 302:
                self.send_header("location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def store_of(service: Service, clock: Callable[[], datetime] | None = None) -> Iterator[UploadStore]:
    opened = UploadStore(GrantClient(service.url, "frl_token"), clock=clock or (lambda: datetime.now(UTC)))
    yield opened
    opened.close()


def put(store: Any, data: bytes = b"crop", **changes: object) -> str:
    made = candidate(data, **changes)
    store.put(
        CANDIDATES,
        made.blob_name,
        data,
        metadata=made.to_metadata(),
        tags=made.to_tags(),
        content_type="image/jpeg",
        if_absent=True,
    )
    return made.blob_name


class TestGrant:
    def test_it_lets_candidates_be_created_with_tags(self, grant: UploadGrant, access: AzureAccess) -> None:
        with ContainerClient.from_container_url(grant.url) as holder:
            holder.upload_blob("a/b.jpg", b"crop", tags={"site": "hq"}, metadata={"schema": "1"}, overwrite=False)
        assert access.blob_store().get(CANDIDATES, "a/b.jpg").data == b"crop"
        assert list(access.blob_store().find_by_tags(CANDIDATES, {"site": "hq"})) == ["a/b.jpg"]

    def test_it_lets_nothing_else_be_done(self, grant: UploadGrant, access: AzureAccess) -> None:
        access.blob_store().put(CANDIDATES, "there.jpg", b"old")
        with ContainerClient.from_container_url(grant.url) as holder:
            attempts: dict[str, Callable[[], Any]] = {
                "read": lambda: holder.download_blob("there.jpg").readall(),
                "properties": lambda: holder.get_blob_client("there.jpg").get_blob_properties(),
                "list": lambda: list(holder.list_blobs()),
                "overwrite": lambda: holder.upload_blob("there.jpg", b"new", overwrite=True),
                "delete": lambda: holder.delete_blob("there.jpg"),
                "metadata": lambda: holder.get_blob_client("there.jpg").set_blob_metadata({"a": "b"}),
                "delete container": holder.delete_container,
            }
            for what, attempt in attempts.items():
                with pytest.raises(HttpResponseError) as refusal:
                    attempt()
                assert refusal.value.status_code == 403, what
        assert access.blob_store().get(CANDIDATES, "there.jpg").data == b"old"

    def test_it_reaches_no_other_container(self, grant: UploadGrant) -> None:
        elsewhere = grant.url.replace(f"/{CANDIDATES}?", f"/{DATASET}?")
        with (
            ContainerClient.from_container_url(elsewhere) as holder,
            pytest.raises(HttpResponseError) as refusal,
        ):
            holder.upload_blob("a.jpg", b"x")
        assert refusal.value.status_code == 403

    def test_it_ends(self, access: AzureAccess) -> None:
        service = access._blob_service()
        past = SasGrants(
            service, account_key=service.credential.account_key, clock=lambda: datetime.now(UTC) - 2 * HOUR
        )
        ended = past.grant(HOUR)
        with (
            ContainerClient.from_container_url(ended.url) as holder,
            pytest.raises(HttpResponseError) as refusal,
        ):
            holder.upload_blob("a.jpg", b"x")
        assert refusal.value.status_code == 403

    def test_its_secret_is_not_in_its_repr(self, grant: UploadGrant) -> None:
        assert "sig=" in grant.url and "sig" not in repr(grant)

    def test_in_the_cloud_it_is_signed_with_a_key_of_the_identity(self) -> None:
        """One key for many grants, asked for again before it would end too early. The service is a double: Azurite has
        no Entra ID."""
        asked: list[tuple[datetime, datetime]] = []

        class Identified:
            account_name = ACCOUNT

            def get_container_client(self, name: str) -> Any:
                return type("C", (), {"url": f"https://{ACCOUNT}.blob.core.windows.net/{name}"})

            def get_user_delegation_key(self, start: datetime, end: datetime) -> Any:
                asked.append((start, end))
                from azure.storage.blob import UserDelegationKey

                key = UserDelegationKey()
                key.signed_oid = key.signed_tid = "00000000-0000-0000-0000-000000000000"
                key.signed_start, key.signed_expiry = (t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in (start, end))
                key.signed_service, key.signed_version, key.value = "b", "2025-01-05", KEY
                return key

        clock = TickingClock(datetime.now(UTC))
        grants = SasGrants(Identified(), clock=clock)  # type: ignore[arg-type]
        query = parse_qs(urlsplit(grants.grant(HOUR).url).query)
        assert (query["sp"], query["sr"], query["spr"]) == (["ct"], ["c"], ["https"])
        assert "skoid" in query and "sktid" in query
        grants.grant(HOUR)
        assert len(asked) == 1
        clock.advance(24.5 * 3600)
        grants.grant(HOUR)
        assert len(asked) == 2
        assert all(end - start <= timedelta(days=7) for start, end in asked)


class TestStore:
    def test_a_crop_is_there_with_all_it_carries(
        self, service: Service, access: AzureAccess, grant: UploadGrant
    ) -> None:
        service.gives(grant)
        with store_of(service) as store:
            name = put(store)
        stored = access.blob_store().get(CANDIDATES, name)
        assert stored.data == b"crop" and stored.properties.content_type == "image/jpeg"
        assert dict(stored.properties.metadata) == candidate(b"crop").to_metadata()
        assert service.tokens == ["/api/v1/uploads Bearer frl_token"]

    def test_a_netrc_does_not_take_the_tokens_place(
        self, service: Service, grant: UploadGrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        service.gives(grant)
        GrantClient(service.url, "frl_token").grant()
        assert service.tokens == ["/api/v1/uploads Bearer frl_token"]

    def test_grants_share_connections_which_end_with_the_store(self, service: Service, access: AzureAccess) -> None:
        clock = TickingClock(datetime.now(UTC))
        service.gives(*(access.upload_grants().grant(n * HOUR) for n in (1, 2)))
        with store_of(service, clock) as store:
            put(store, shot=0)
            session, first = store._transport.session, store._container
            clock.advance(50 * 60)
            put(store, shot=1)
            assert store._container is not first and store._transport.session is session is not None
        assert store._transport.session is None

    def test_a_crop_that_is_there_is_not_written_again(
        self, service: Service, access: AzureAccess, grant: UploadGrant
    ) -> None:
        service.gives(grant)
        with store_of(service) as store:
            name = put(store)
            before = access.blob_store().properties(CANDIDATES, name).etag
            with pytest.raises(PreconditionFailed):
                put(store)
            with pytest.raises(NotFound):
                store.properties(CANDIDATES, name)
        assert access.blob_store().properties(CANDIDATES, name).etag == before
        assert len(service.tokens) == 1

    def test_it_asks_again_before_the_grant_ends(self, service: Service, access: AzureAccess) -> None:
        clock = TickingClock(datetime.now(UTC))
        service.gives(*(access.upload_grants().grant(n * HOUR) for n in (1, 2)))
        with store_of(service, clock) as store:
            put(store, shot=0)
            clock.advance(40 * 60)
            put(store, shot=1)
            assert len(service.tokens) == 1
            clock.advance(6 * 60)
            put(store, shot=2)
            assert len(service.tokens) == 2

    def test_a_service_that_is_away_does_no_harm_while_the_grant_lasts(
        self, service: Service, access: AzureAccess, grant: UploadGrant
    ) -> None:
        clock = TickingClock(datetime.now(UTC))
        service.gives(grant)
        with store_of(service, clock) as store:
            put(store, shot=0)
            service.answer = lambda: (503, {"message": "away"})
            clock.advance(50 * 60)
            put(store, shot=1)
            put(store, shot=2)
            assert len(service.tokens) == 2, "asked again once, and not with every crop"
            clock.advance(11 * 60)
            with pytest.raises(StoreUnavailable, match="away"):
                put(store, shot=3)

    def test_a_grant_that_was_withdrawn_is_replaced(
        self, service: Service, access: AzureAccess, grant: UploadGrant
    ) -> None:
        broken = UploadGrant(grant.url.replace("sig=", "sig=AAAA"), grant.expires_at)
        service.gives(broken, grant)
        with store_of(service) as store:
            with pytest.raises(StoreUnavailable):
                put(store)
            put(store)
        assert len(service.tokens) == 2

    @pytest.mark.parametrize(
        "answer",
        [
            (401, {"message": "this token is not valid"}), (403, {"message": "scope"}), (409, {"message": "local"}),
            (429, {"message": "slower"}), (500, b"<html>"), (302, {}), (200, {}), (200, []), (200, b"nonsense"),
            (200, {"url": "http://192.0.2.1/candidates?sig=x", "expires_at": "2999-01-01T00:00:00Z"}),
            (200, {"url": "https://192.0.2.1/candidates?sig=x", "expires_at": "never"}),
        ],
    )  # fmt: skip
    def test_without_a_grant_crops_wait(self, service: Service, answer: tuple[int, Any]) -> None:
        """Transient, whatever it is: a crop that the uploader takes for refused is lost."""
        service.answer = lambda: answer
        with store_of(service) as store, pytest.raises(StoreUnavailable):
            put(store)
        assert len(service.tokens) == 1

    @pytest.mark.parametrize("url", ["http://service.example", "http://192.0.2.1:7071", "", "service.example"])
    def test_the_token_is_not_sent_unencrypted(self, url: str) -> None:
        with pytest.raises(ConfigurationError):
            GrantClient(url, "frl_token")

    def test_it_is_for_creating_candidates_alone(self, service: Service) -> None:
        with store_of(service) as store:
            attempts: list[Callable[[], Any]] = [
                lambda: store.put(DATASET, "a.jpg", b"x", if_absent=True),
                lambda: store.put(CANDIDATES, "a.jpg", b"x"),
                lambda: store.put(CANDIDATES, "a.jpg", b"x", if_match="e", if_absent=True),
                lambda: store.put(CANDIDATES, "../a.jpg", b"x", if_absent=True),
                lambda: store.delete(CANDIDATES, "a.jpg"),
                lambda: list(store.list(CANDIDATES)),
                lambda: list(store.find_by_tags(CANDIDATES, {"site": "hq"})),
            ]
            for attempt in attempts:
                with pytest.raises(InvalidInput):
                    attempt()
            with pytest.raises(NotFound):
                store.get(CANDIDATES, "a.jpg")
        assert service.tokens == []


def test_a_gateway_with_a_device_token_delivers_through_the_real_service(
    storage: Storage, access: AzureAccess, tmp_path: Path
) -> None:
    """Settings → store → spool → uploader → the application's grant → Azurite; a crop that is sent twice is done."""
    local = LocalStore(tmp_path / "data")
    settings = Settings(backend="azure", storage_connection_string=storage.connection_string)  # type: ignore[arg-type]
    services = Services(Runtime(settings, stores=stores_over(local)))
    use_services(services)
    try:
        text, _ = services.tokens().create(Scope.DEVICE, lifetime=HOUR, site="hq")
        api = TestClient(build_api())
        answer = api.post("/api/v1/uploads", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 200, answer.text
        edge = EdgeSettings(edge_service_url="http://127.0.0.1:1", edge_token=text)  # type: ignore[arg-type]
        store = open_store(edge)
        assert isinstance(store, ServiceStore)
        assert isinstance(store._granted, UploadStore)
        store._granted._grants = _Answered(answer.json())
        name = put(store)
        spool = Spool(tmp_path / "spool")
        made = candidate(b"crop")
        spool.put(SpoolItem(made.blob_name, b"crop", made.to_metadata(), made.to_tags(), "image/jpeg"))
        uploader = Uploader(spool, store)
        uploader.start()
        assert spool.wait_empty(20)
        uploader.stop()
        assert (uploader.counts.already_there, uploader.counts.refused) == (1, 0)
        assert [blob.name for blob in access.blob_store().list(CANDIDATES)] == [name]
    finally:
        use_services(None)
        local.close()


class _Answered(GrantClient):
    """A grant that was given already."""

    def __init__(self, document: dict[str, str]) -> None:
        self._document = document

    def grant(self) -> UploadGrant:
        from shared.domain import parse_time

        return UploadGrant(self._document["url"], parse_time(self._document["expires_at"]))


@pytest.mark.parametrize("given", [{"edge_service_url": "https://x.example"}, {"edge_token": "frl_x"}])
def test_a_gateway_is_told_when_half_is_missing(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="both, or neither"):
        EdgeSettings(**given)  # type: ignore[arg-type]


def test_the_token_is_not_in_the_settings_repr() -> None:
    made = EdgeSettings(edge_service_url="https://x.example", edge_token="frl_secret")  # type: ignore[arg-type]
    assert "frl_secret" not in repr(made)
