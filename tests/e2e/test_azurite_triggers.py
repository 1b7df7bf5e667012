"""What becomes of awkward deliveries, on every way that news of blobs can take (docs/adr/0006).

The toy app is served by a host in a process of its own, over the embedded store and over Azurite.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import azure.functions as func
import httpx
import pytest
from typer.testing import CliRunner

from local.cli import app
from local.host.inbox import BLOB_POISON_QUEUE, blob_message, blob_queue
from shared.adapters.azure.access import AzureAccess
from shared.bootstrap import open_stores
from shared.domain import CANDIDATES
from shared.settings import Settings
from tests.e2e.service import serving
from tests.servers import COSMOS_KEY, Cosmos, Storage, wipe_storage
from tests.support import candidate
from tests.unit.host.conftest import QUEUE, ToyHost, until

INBOX = blob_queue("blob_work")
HOOK = "/runtime/webhooks/blobs?functionName=Host.Functions.{}"


def event(name: str, etag: str, *, container: str = CANDIDATES, kind: str = "BlobCreated") -> dict[str, Any]:
    """As Event Grid sends it (learn.microsoft.com, "Azure Blob Storage as an Event Grid source")."""
    return {
        "topic": "/subscriptions/0/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/devstoreaccount1",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "eventType": f"Microsoft.Storage.{kind}",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "id": str(uuid.uuid4()),
        "data": {
            "api": "PutBlob",
            "eTag": etag.strip('"'),
            "blobType": "BlockBlob",
            "url": f"https://devstoreaccount1.blob.core.windows.net/{container}/{name}",
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }


def tell(url: str, function: str, *events: dict[str, Any], kind: str = "Notification") -> httpx.Response:
    return httpx.post(url + HOOK.format(function), json=events, headers={"aeg-event-type": kind}, timeout=30)


class Way:
    """A host, and how news of blobs reach it."""

    def __init__(self, host: ToyHost, *, by_events: bool) -> None:
        self.host = host
        self._by_events = by_events

    def put(self, name: str, order: str) -> str:
        """Writes a blob; where Event Grid would tell of it, does that."""
        etag = self.host.blobs.put(CANDIDATES, name, order.encode())
        if self._by_events and not self.host.exited:
            assert tell(self.host.url, "blob_work", event(name, etag)).status_code == 202
        return etag

    def enqueue(self, name: str, etag: str) -> None:
        self.host.queue.send(INBOX, blob_message("blob_work", CANDIDATES, name, etag))

    def quiet(self) -> None:
        """Waits until everything that was sent is done with."""
        until(lambda: self.host.queue.length(INBOX) == 0)

    def poison(self) -> list[str]:
        return [message.body for message in self.host.poison.list()]


@pytest.fixture(params=["embedded", "scan", "events"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    access = None
    if request.param != "embedded":
        storage: Storage = request.getfixturevalue("storage_server")
        wipe_storage(storage)
        access = AzureAccess(connection_string=storage.connection_string)
    by_events = request.param == "events"
    source = func.BlobSource.EVENT_GRID if by_events else func.BlobSource.LOGS_AND_CONTAINER_SCAN
    host = ToyHost(tmp_path, access, TOY_SOURCE=source.value, TOY_LEASE_S="3", TOY_CONCURRENCY="1")
    yield Way(host, by_events=by_events)
    host.close()


def test_a_blob_is_worked_on_and_one_of_another_suffix_is_not(way: Way) -> None:
    way.host.start()
    way.put("a/1.jpg", "ok not ours")
    way.put("a/1.txt", "ok one")
    until(lambda: way.host.lines("end ok one"))
    way.quiet()
    assert way.host.lines("begin") == ["begin ok one"]


def test_a_delivery_that_is_repeated_is_delivered_again(way: Way) -> None:
    """At least once: what functions write is idempotent for that reason."""
    way.host.start()
    etag = way.put("1.txt", "ok one")
    until(lambda: way.host.lines("end"))
    way.enqueue("1.txt", etag)
    until(lambda: len(way.host.lines("end")) == 2)
    way.quiet()
    assert way.poison() == []


def test_of_versions_that_are_told_of_in_the_wrong_order_the_last_is_worked_on(way: Way) -> None:
    way.host.start(TOY_CONCURRENCY="1")
    way.host.queue.send(INBOX, blob_message("blob_work", CANDIDATES, "hold.txt", way.put("hold.txt", "sleep 1.5")))
    until(lambda: way.host.lines("begin sleep"))
    old = way.host.blobs.put(CANDIDATES, "x.txt", b"ok old")
    new = way.host.blobs.put(CANDIDATES, "x.txt", b"ok new")
    for etag in (new, old):
        way.enqueue("x.txt", etag)
    until(lambda: way.host.lines("end ok new"))
    way.quiet()
    assert way.host.lines("begin ok old") == []
    assert way.poison() == []


def test_a_blob_that_is_gone_before_it_is_read_is_let_go(way: Way) -> None:
    etag = way.put("x.txt", "ok gone")
    way.enqueue("x.txt", etag)
    way.host.blobs.delete(CANDIDATES, "x.txt")
    way.host.start()
    way.quiet()
    assert way.host.lines("begin") == []
    assert way.poison() == []


def test_a_blob_that_always_fails_is_poison_and_harms_no_other(way: Way) -> None:
    way.host.start()
    way.put("bad.txt", "raise blob")
    way.put("good.txt", "ok good")
    until(lambda: way.poison() and way.host.lines("end ok good"), timeout_s=60)
    (poison,) = way.host.poison.list()
    assert (poison.queue, poison.function, poison.source_queue) == (BLOB_POISON_QUEUE, "blob_work", INBOX)
    assert poison.reason.startswith("ValueError at toy.py:")
    assert json.loads(poison.body)["BlobName"] == "bad.txt"
    assert way.host.lines("begin").count("begin raise blob") == 5  # poisonBlobThreshold
    assert way.host.poison.replay([poison.id]) == 1
    until(lambda: way.host.lines("begin").count("begin raise blob") == 10, timeout_s=60)
    until(way.poison)
    assert way.host.poison.drop() == 1
    assert way.poison() == []


def test_kill_9_loses_nothing_and_forgets_no_receipt(way: Way) -> None:
    way.host.start()
    for number in range(12):
        way.put(f"{number}.txt", f"sleep 0.1 {number}")
        way.host.queue.send(QUEUE, f"sleep 0.1 {number + 12}")
    expected = {str(number) for number in range(24)}
    for _ in range(2):
        already = len(way.host.lines("end"))
        until(lambda already=already: len(way.host.lines("end")) >= already + 3)
        way.host.kill()
        way.host.start()
    until(lambda: {line.split()[-1] for line in way.host.lines("end")} == expected, timeout_s=60)
    until(lambda: way.host.queue.length(QUEUE) + way.host.queue.length(INBOX) == 0)
    # A repeat can only be what was in hand when a kill came: two functions, one worker each, two kills.
    assert len(way.host.lines("begin")) <= 24 + 4
    assert way.poison() == []


@pytest.fixture
def by_events(storage_server: Storage, tmp_path: Path) -> Iterator[ToyHost]:
    wipe_storage(storage_server)
    access = AzureAccess(connection_string=storage_server.connection_string)
    host = ToyHost(tmp_path, access, TOY_SOURCE=func.BlobSource.EVENT_GRID.value)
    host.start()
    yield host
    host.close()


def test_event_grid_is_answered_as_the_platform_answers(by_events: ToyHost) -> None:
    url = by_events.url
    handshake = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "abc"}}
    agreed = tell(url, "blob_work", handshake, kind="SubscriptionValidation")
    assert (agreed.status_code, agreed.json()) == (200, {"validationResponse": "abc"})
    assert tell(url, "nobody", event("x.txt", "0x1")).status_code == 404
    for body in ("", "{", "{}", "[1]", '[{"eventType": "x"}]', '[{"eventType": "x", "data": null}]'):
        assert httpx.post(url + HOOK.format("blob_work"), content=body).status_code == 400, body
    assert httpx.get(url + HOOK.format("blob_work")).status_code == 404
    proxied = httpx.post(url + HOOK.format("blob_work"), json=[], headers={"x-forwarded-for": "192.0.2.1"})
    assert proxied.status_code == 404, "a proxy on this machine does not let others in"


def test_an_event_that_comes_twice_is_two_deliveries(by_events: ToyHost) -> None:
    told = event("a b.txt", by_events.blobs.put(CANDIDATES, "a b.txt", b"ok twice"))
    for _ in range(2):
        assert tell(by_events.url, "blob_work", told).json() == {"accepted": 1}
    until(lambda: len(by_events.lines("end ok twice")) == 2)


@pytest.mark.parametrize(
    "foreign",
    [
        event("x.txt", "0x1", container="dataset"),
        event("x.jpg", "0x1"),
        event("x.txt", "0x1", kind="BlobDeleted"),
        event("x.txt", "0x1") | {"subject": "/elsewhere"},
    ],
    ids=["container", "suffix", "kind", "subject"],
)
def test_an_event_that_is_not_for_us_is_acknowledged_and_left_out(by_events: ToyHost, foreign: dict[str, Any]) -> None:
    answer = tell(by_events.url, "blob_work", foreign)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0})
    assert by_events.queue.length(INBOX) == 0


@pytest.fixture
def operator(storage_server: Storage, tmp_path: Path) -> Callable[..., Any]:
    """`facerelay poison …` over Azurite, on a machine that no host has run on."""
    wipe_storage(storage_server)

    def run(*arguments: str) -> Any:
        environment = {
            "FACERELAY_BACKEND": "azure",
            "FACERELAY_DATA_DIR": str(tmp_path),
            "FACERELAY_STORAGE_CONNECTION_STRING": storage_server.connection_string,
        }
        done = CliRunner().invoke(app, ["poison", *arguments], env={"COLUMNS": "200", **environment})
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run


def test_poison_of_the_cloud_is_listed_replayed_and_dropped(
    operator: Callable[..., Any], storage_server: Storage
) -> None:
    """As the platform leaves it: blobs' messages in base64, their queue named after the app, no reason at hand."""
    queue = AzureAccess(connection_string=storage_server.connection_string).work_queue()
    message = blob_message("recognize_candidate", CANDIDATES, "x.jpg", "0x1")
    encoded = base64.b64encode(message.encode()).decode()
    internal = "azure-webjobs-blobtrigger-facerelay-prod"
    queue.delete(queue.receive(internal)[0]) if queue.send(internal, "made") else None
    queue.send(BLOB_POISON_QUEUE, encoded)
    for number in range(40):  # more than one look shows
        queue.send("train-requests-poison", str(number))

    listed = operator("list", "--json")
    assert len(listed) == 41
    (blob,) = (row for row in listed if row["queue"] == BLOB_POISON_QUEUE)
    assert (blob["function"], blob["body"]) == ("recognize_candidate", encoded)
    first = next(row for row in listed if row["body"] == "0")
    assert "2 sent back" in operator("replay", blob["id"], first["id"])
    assert [m.body for m in queue.receive(internal)] == [encoded]
    assert [m.body for m in queue.receive("train-requests")] == ["0"]
    assert len(operator("list", "--json")) == 39
    assert "39 dropped" in operator("drop", "--all")
    assert operator("list", "--json") == []
    queue.close()


def test_a_crop_that_is_told_of_twice_has_one_outcome(
    storage_server: Storage, cosmos_db_server: Cosmos, tmp_path: Path
) -> None:
    """The product's own function, fed by events."""
    wipe_storage(storage_server)
    environment = {
        "FACERELAY_STORAGE_CONNECTION_STRING": storage_server.connection_string,
        "FACERELAY_COSMOS_URL": cosmos_db_server.url,
        "FACERELAY_COSMOS_KEY": COSMOS_KEY,
        "FACERELAY_COSMOS_DATABASE": f"events-{uuid.uuid4().hex}",
        "FACERELAY_BLOB_TRIGGER_SOURCE": "eventgrid",
    }
    with serving(tmp_path / "data", tmp_path / "serve.log", "--backend", "azure", **environment) as service:
        values = {name.removeprefix("FACERELAY_").lower(): value for name, value in environment.items()}
        stores = open_stores(Settings(backend="azure", data_dir=tmp_path, **values))  # type: ignore[arg-type]
        made = candidate(b"not a picture")
        etag = stores.blobs.put(CANDIDATES, made.blob_name, b"not a picture", metadata=made.to_metadata())
        for _ in range(2):
            assert tell(service.url, "recognize_candidate", event(made.blob_name, etag)).json() == {"accepted": 1}
        until(lambda: stores.queue.length(blob_queue("recognize_candidate")) == 0, timeout_s=60)
        (outcome,) = stores.detections.list_outcomes()
        assert (outcome.candidate, outcome.status, outcome.reason) == (made.blob_name, "failed", "invalid_image")
        assert service.stop() == 0
