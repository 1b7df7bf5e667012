"""From a container's news to the function's stream: change feed, scan, inbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import azure.functions as func
import pytest

from local.host.feeds import ChangeFeed, ContainerScan
from local.host.inbox import BlobInbox
from local.host.index import BlobTrigger, index
from shared.adapters.local import LocalBlobStore, LocalStore, LocalWorkQueue
from shared.errors import ConfigurationError, InvalidInput, StoreUnavailable
from shared.ports import BlobProperties, QueueMessage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def trigger() -> BlobTrigger:
    app = func.FunctionApp()

    @app.route("quiet")  # the SDK logs a warning about apps without any
    def quiet(req: func.HttpRequest) -> str:
        return ""

    @app.blob_trigger("blob", "candidates/{name}.jpg", "Storage")
    def Recognize_it(blob: func.InputStream) -> None: ...  # noqa: N802

    return index(app, {}).blobs[0]


QUEUE = "azure-webjobs-blobtrigger-recognize-it"


def inbox(trigger: BlobTrigger, store: LocalStore) -> BlobInbox:
    return BlobInbox(trigger, LocalBlobStore(store), LocalWorkQueue(store))


def feed(trigger: BlobTrigger, store: LocalStore) -> ChangeFeed:
    return ChangeFeed(inbox(trigger, store), store, LocalBlobStore(store))


def test_each_write_is_relayed_once_across_restarts(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs, queue = LocalBlobStore(store), LocalWorkQueue(store)
    blobs.put("candidates", "was/there.jpg", b"1")
    blobs.put("candidates", "not/ours.png", b"1")
    blobs.put("dataset", "not/ours.jpg", b"1")
    assert feed(trigger, store).run() == 1
    assert feed(trigger, store).run() == 0
    etag = blobs.put("candidates", "new.jpg", b"2")
    assert feed(trigger, store).run() == 1
    body = json.loads(queue.peek(QUEUE)[1].body)
    assert body == {
        "FunctionId": "Host.Functions.Recognize_it",
        "BlobType": "BlockBlob",
        "ContainerName": "candidates",
        "BlobName": "new.jpg",
        "ETag": etag,
    }


def test_messages_and_position_are_one(
    trigger: BlobTrigger, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, queue = LocalBlobStore(store), LocalWorkQueue(store)
    for number in range(5):
        blobs.put("candidates", f"{number}.jpg", b"")
    made, sent = ChangeFeed(BlobInbox(trigger, blobs, queue), store, blobs), []

    def failing(*arguments: str) -> None:
        sent.append(arguments)
        if len(sent) == 3:
            raise StoreUnavailable("half-way")
        LocalWorkQueue.send(queue, *arguments)

    monkeypatch.setattr(queue, "send", failing)
    with pytest.raises(StoreUnavailable):
        made.run()
    monkeypatch.undo()
    assert queue.length(QUEUE) == 0
    assert made.run() == 5


def test_more_changes_than_fit_one_transaction(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs = LocalBlobStore(store)
    for number in range(205):
        blobs.put("candidates", f"{number}.jpg", b"")
    assert feed(trigger, store).run() == 205


def test_the_stream_is_the_blob(trigger: BlobTrigger, store: LocalStore) -> None:
    etag = LocalBlobStore(store).put(
        "candidates", "a b/1.jpg", b"bytes", metadata={"site": "north"}, content_type="image/jpeg"
    )
    made = feed(trigger, store)
    made.run()
    stream = made.inbox.read(LocalWorkQueue(store).receive(QUEUE)[0])
    assert stream is not None
    assert (stream.read(), stream.name, stream.length) == (b"bytes", "candidates/a b/1.jpg", 5)
    assert stream.metadata == {"site": "north"}
    assert stream.uri is not None
    assert stream.uri.endswith("/candidates/a%20b/1.jpg")
    assert (stream.blob_properties["ETag"], stream.blob_properties["ContentType"]) == (etag, "image/jpeg")


def test_a_blob_that_changed_is_left_to_its_newer_message(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs, queue, made = LocalBlobStore(store), LocalWorkQueue(store), feed(trigger, store)
    blobs.put("candidates", "x.jpg", b"old")
    made.run()
    blobs.put("candidates", "x.jpg", b"new")
    made.run()
    old, new = queue.receive(QUEUE, max_messages=2)
    assert made.inbox.read(old) is None
    stream = made.inbox.read(new)
    assert stream is not None
    assert stream.read() == b"new"


def test_a_blob_that_is_gone_is_dropped(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs, made = LocalBlobStore(store), feed(trigger, store)
    blobs.put("candidates", "x.jpg", b"")
    made.run()
    blobs.delete("candidates", "x.jpg")
    assert made.inbox.read(LocalWorkQueue(store).receive(QUEUE)[0]) is None


def test_a_container_that_there_is_not_is_named(trigger: BlobTrigger, store: LocalStore) -> None:
    with pytest.raises(ConfigurationError, match="elsewhere"):
        inbox(replace(trigger, container="elsewhere"), store)


class Scanned:
    """A container that is looked through, with a clock of the test's own; everything else is real."""

    def __init__(self, trigger: BlobTrigger, store: LocalStore) -> None:
        self._trigger, self._store = trigger, store
        self.blobs, self.queue = LocalBlobStore(store), LocalWorkQueue(store)
        self.now_s = 0.0
        self.restart()

    def restart(self) -> None:
        made = BlobInbox(self._trigger, self.blobs, self.queue)
        self.scan = ContainerScan(made, self._store, self.blobs, clock_s=lambda: self.now_s)

    def later(self) -> int:
        self.now_s += 60
        return self.scan.run()

    def names(self) -> list[str]:
        return [json.loads(message.body)["BlobName"] for message in self.queue.peek(QUEUE)]


@pytest.fixture
def scanned(trigger: BlobTrigger, store: LocalStore) -> Scanned:
    return Scanned(trigger, store)


def test_a_scan_sends_each_version_once_across_restarts(scanned: Scanned) -> None:
    scanned.blobs.put("candidates", "b/1.jpg", b"1")
    scanned.blobs.put("candidates", "a/1.jpg", b"1")
    scanned.blobs.put("candidates", "not/ours.png", b"1")
    assert scanned.later() == 2
    assert scanned.later() == 0
    scanned.restart()
    assert scanned.later() == 0
    scanned.blobs.put("candidates", "b/1.jpg", b"2")
    assert scanned.later() == 1
    assert sorted(scanned.names()) == ["a/1.jpg", "b/1.jpg", "b/1.jpg"]


def test_a_scan_that_breaks_off_keeps_its_receipts_and_goes_on(
    scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        scanned.blobs.put("candidates", f"{number}.jpg", b"")
    sent: list[str] = []

    def failing(queue: str, body: str) -> str:
        if len(sent) == 3:
            raise StoreUnavailable("half-way")
        sent.append(body)
        return LocalWorkQueue.send(scanned.queue, queue, body)

    monkeypatch.setattr(scanned.queue, "send", failing)
    with pytest.raises(StoreUnavailable):
        scanned.later()
    monkeypatch.undo()
    scanned.restart()
    assert scanned.later() == 2
    assert sorted(scanned.names()) == [f"{number}.jpg" for number in range(5)]


def test_receipts_of_blobs_that_are_gone_are_dropped(scanned: Scanned, store: LocalStore) -> None:
    scanned.blobs.put("candidates", "x.jpg", b"")
    scanned.later()
    scanned.blobs.delete("candidates", "x.jpg")
    scanned.later()
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM host_receipts").fetchone()[0] == 0


def test_scans_rest_between_each_other(scanned: Scanned) -> None:
    assert scanned.scan.run() == 0
    scanned.blobs.put("candidates", "x.jpg", b"")
    assert scanned.scan.run() == 0, "not yet"
    scanned.now_s += 1.1
    assert scanned.scan.run() == 1


def test_a_long_rest_comes_of_listing_and_not_of_sending(scanned: Scanned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what came during a rest would make the next one longer, and that one the next."""

    def slow_send(*arguments: str) -> str:
        scanned.now_s += 1
        return LocalWorkQueue.send(scanned.queue, *arguments)

    listing_s = 0.0

    def slow_list(container: str) -> Iterator[BlobProperties]:
        scanned.now_s += listing_s
        return LocalBlobStore.list(scanned.blobs, container)

    monkeypatch.setattr(scanned.queue, "send", slow_send)
    monkeypatch.setattr(scanned.blobs, "list", slow_list)
    for round_, (takes_s, rest_s) in enumerate([(0.0, 1), (2.0, 8), (100.0, 30)]):
        listing_s = takes_s
        for number in range(50):
            scanned.blobs.put("candidates", f"{round_}-{number}.jpg", b"")
        assert scanned.later() == 50
        scanned.blobs.put("candidates", f"{round_}-after.jpg", b"")
        scanned.now_s += rest_s - 0.1
        assert scanned.scan.run() == 0
        scanned.now_s += 0.2
        assert scanned.scan.run() == 1


def message(**changes: object) -> QueueMessage:
    fields = {"ContainerName": "candidates", "BlobName": "x.jpg", "ETag": "0x1"} | changes
    return QueueMessage("1", QUEUE, json.dumps(fields), 1, datetime(2026, 1, 1, tzinfo=UTC), "")


@pytest.mark.parametrize("foreign", [{"ContainerName": "dataset"}, {"BlobName": "x.png"}])
def test_a_message_of_another_container_or_suffix_is_dropped(
    trigger: BlobTrigger, store: LocalStore, foreign: dict[str, str]
) -> None:
    blobs = LocalBlobStore(store)
    for container, name in (("candidates", "x.jpg"), ("dataset", "x.jpg"), ("candidates", "x.png")):
        blobs.put(container, name, b"")
    assert inbox(trigger, store).read(message(**foreign)) is None


@pytest.mark.parametrize("body", ["", "[]", "{}", "not JSON", '{"ContainerName": 1, "BlobName": 2, "ETag": 3}'])
def test_a_message_that_is_none_fails_and_will_be_poison(trigger: BlobTrigger, store: LocalStore, body: str) -> None:
    with pytest.raises(InvalidInput):
        inbox(trigger, store).read(replace(message(), body=body))


def test_event_grid_gives_etags_without_quotes(trigger: BlobTrigger, store: LocalStore) -> None:
    etag = LocalBlobStore(store).put("candidates", "x.jpg", b"1")
    assert inbox(trigger, store).read(message(ETag=f'"{etag}"')) is not None
