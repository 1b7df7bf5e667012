"""From the change feed to the function's stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import azure.functions as func
import pytest

from local.host.index import BlobTrigger, index
from local.host.relay import BlobRelay
from shared.adapters.local import LocalBlobStore, LocalStore, LocalWorkQueue
from shared.errors import ConfigurationError, StoreUnavailable


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


def relay(trigger: BlobTrigger, store: LocalStore) -> BlobRelay:
    return BlobRelay(trigger, store, LocalBlobStore(store), LocalWorkQueue(store))


def test_each_write_is_relayed_once_across_restarts(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs, queue = LocalBlobStore(store), LocalWorkQueue(store)
    blobs.put("candidates", "was/there.jpg", b"1")
    blobs.put("candidates", "not/ours.png", b"1")
    blobs.put("dataset", "not/ours.jpg", b"1")
    assert relay(trigger, store).run() == 1
    assert relay(trigger, store).run() == 0
    etag = blobs.put("candidates", "new.jpg", b"2")
    assert relay(trigger, store).run() == 1
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
    made, sent = BlobRelay(trigger, store, blobs, queue), []

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
    assert relay(trigger, store).run() == 205


def test_the_stream_is_the_blob(trigger: BlobTrigger, store: LocalStore) -> None:
    etag = LocalBlobStore(store).put(
        "candidates", "a b/1.jpg", b"bytes", metadata={"site": "north"}, content_type="image/jpeg"
    )
    made = relay(trigger, store)
    made.run()
    stream = made.read(LocalWorkQueue(store).receive(QUEUE)[0])
    assert stream is not None
    assert (stream.read(), stream.name, stream.length) == (b"bytes", "candidates/a b/1.jpg", 5)
    assert stream.metadata == {"site": "north"}
    assert stream.uri is not None
    assert stream.uri.endswith("/candidates/a%20b/1.jpg")
    assert (stream.blob_properties["ETag"], stream.blob_properties["ContentType"]) == (etag, "image/jpeg")


def test_a_blob_that_changed_is_left_to_its_newer_message(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs, queue, made = LocalBlobStore(store), LocalWorkQueue(store), relay(trigger, store)
    blobs.put("candidates", "x.jpg", b"old")
    made.run()
    blobs.put("candidates", "x.jpg", b"new")
    made.run()
    old, new = queue.receive(QUEUE, max_messages=2)
    assert made.read(old) is None
    stream = made.read(new)
    assert stream is not None
    assert stream.read() == b"new"


def test_a_blob_that_is_gone_is_dropped(trigger: BlobTrigger, store: LocalStore) -> None:
    blobs, made = LocalBlobStore(store), relay(trigger, store)
    blobs.put("candidates", "x.jpg", b"")
    made.run()
    blobs.delete("candidates", "x.jpg")
    assert made.read(LocalWorkQueue(store).receive(QUEUE)[0]) is None


def test_a_container_that_there_is_not_is_named(trigger: BlobTrigger, store: LocalStore) -> None:
    with pytest.raises(ConfigurationError, match="elsewhere"):
        relay(replace(trigger, container="elsewhere"), store)
