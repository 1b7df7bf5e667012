"""Blob and Queue Storage that are busy, fail, cut connections or do not answer."""

from __future__ import annotations

import time

import pytest

from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.queues import AzureWorkQueue
from shared.domain import MODELS
from shared.errors import NotFound, PreconditionFailed, StoreUnavailable
from tests.integration.azure.conftest import IMPATIENT
from tests.integration.azure.faulty_proxy import CUT, HANG, Fault, FaultyProxy
from tests.servers import connection_string, free_ports

QUEUE = "train-requests"
ATTEMPTS = IMPATIENT.retries + 1


@pytest.mark.parametrize("fault", [Fault(500), Fault(503), Fault(408), CUT], ids=["500", "503", "408", "cut"])
def test_a_write_is_repeated_until_it_is_through(blob_proxy: FaultyProxy, blobs: AzureBlobStore, fault: Fault) -> None:
    blob_proxy.plan(fault, fault)
    etag = blobs.put(MODELS, "p", b"data", metadata={"a": "1"}, tags={"k": "v"})
    assert blob_proxy.seen == ["PUT"] * 3
    blob = blobs.get(MODELS, "p")
    assert (blob.data, blob.properties.etag, blob.properties.metadata) == (b"data", etag, {"a": "1"})


@pytest.mark.parametrize("fault", [Fault(500), Fault(503)], ids=["500", "503"])
def test_a_store_that_stays_busy_is_unavailable(blob_proxy: FaultyProxy, blobs: AzureBlobStore, fault: Fault) -> None:
    blob_proxy.plan(forever=fault)
    for call in (lambda: blobs.put(MODELS, "p", b""), lambda: blobs.get(MODELS, "p"), lambda: list(blobs.list(MODELS))):
        blob_proxy.seen.clear()
        with pytest.raises(StoreUnavailable):
            call()
        assert len(blob_proxy.seen) == ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 429])
def test_what_an_operator_has_to_mend_is_not_the_candidates_fault(
    blob_proxy: FaultyProxy, blobs: AzureBlobStore, status: int
) -> None:
    blob_proxy.plan(forever=Fault(status))
    with pytest.raises(StoreUnavailable):
        blobs.put(MODELS, "p", b"")
    with pytest.raises(StoreUnavailable):
        blobs.get(MODELS, "p")


def test_a_container_that_is_not_deployed_is_not_a_missing_blob(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    blobs._service.delete_container(MODELS)
    with pytest.raises(StoreUnavailable):
        blobs.get(MODELS, "p")
    with pytest.raises(StoreUnavailable):
        blobs.put(MODELS, "p", b"")
    blobs.provision()
    with pytest.raises(NotFound):
        blobs.get(MODELS, "p")


def test_if_absent_knows_its_own_first_attempt(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    blob_proxy.plan(CUT)
    etag = blobs.put(MODELS, "p", b"1", metadata={"a": "1"}, if_absent=True)
    assert blob_proxy.seen == ["PUT", "PUT", "HEAD"]
    stored = blobs.get(MODELS, "p").properties
    assert (stored.etag, stored.metadata) == (etag, {"a": "1"})
    assert [found.metadata for found in blobs.list(MODELS)] == [{"a": "1"}]
    with pytest.raises(PreconditionFailed):
        blobs.put(MODELS, "p", b"1", metadata={"a": "1"}, if_absent=True)


def test_if_match_knows_its_own_first_attempt(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    first = blobs.put(MODELS, "p", b"1")
    blob_proxy.plan(CUT)
    second = blobs.put(MODELS, "p", b"2", if_match=first)
    assert blobs.get(MODELS, "p").properties.etag == second
    with pytest.raises(PreconditionFailed):
        blobs.put(MODELS, "p", b"3", if_match=first)


def test_a_read_that_is_cut_is_read_again(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    data = bytes(range(256)) * 4_000
    blobs.put(MODELS, "p", data)
    blob_proxy.plan(CUT)
    assert blobs.get(MODELS, "p").data == data
    assert blob_proxy.seen == ["GET", "GET"]


def test_a_deletion_whose_answer_is_lost_is_a_deletion(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    blobs.put(MODELS, "p", b"1")
    blob_proxy.plan(CUT)
    blobs.delete(MODELS, "p")
    with pytest.raises(NotFound):
        blobs.get(MODELS, "p")


def test_a_store_that_hangs_is_unavailable_in_time(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    blob_proxy.plan(forever=HANG)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        blobs.put(MODELS, "p", b"")
    assert ATTEMPTS * IMPATIENT.read_s <= time.monotonic() - started < IMPATIENT.worst_case_storage_s
    assert len(blob_proxy.seen) == ATTEMPTS


def test_a_store_that_is_not_there_is_unavailable() -> None:
    port, other = free_ports(2)
    access = AzureAccess(connection_string=connection_string(port, other), patience=IMPATIENT)
    blobs, queue = access.blob_store(), access.work_queue()
    with pytest.raises(StoreUnavailable):
        blobs.get(MODELS, "p")
    with pytest.raises(StoreUnavailable):
        queue.send(QUEUE, "x")
    blobs.close()
    queue.close()


def test_no_name_is_told_in_an_error(blob_proxy: FaultyProxy, blobs: AzureBlobStore) -> None:
    for fault in (Fault(503), Fault(400), Fault(403), HANG):
        blob_proxy.plan(forever=fault)
        with pytest.raises(Exception) as caught:
            blobs.put(MODELS, "ann_secret/1.jpg", b"")
        assert "ann_secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../dataset/ann/1.jpg", "a/../../dataset/x", "..", "a\\..\\x", "x/", "nul\0"])
def test_no_read_leaves_its_container(blob_proxy: FaultyProxy, blobs: AzureBlobStore, name: str) -> None:
    blob_proxy.plan()
    with pytest.raises(NotFound):
        blobs.get(MODELS, name)
    assert blobs.delete(MODELS, name) is False
    assert blob_proxy.seen == []


@pytest.mark.parametrize("fault", [Fault(500), Fault(503)], ids=["500", "503"])
def test_a_message_is_sent_again_until_it_is_through(
    queue_proxy: FaultyProxy, queue: AzureWorkQueue, fault: Fault
) -> None:
    queue.send(QUEUE, "first")
    queue_proxy.plan(fault, fault)
    queue.send(QUEUE, "x")
    assert [message.body for message in queue.receive(QUEUE, max_messages=5)] == ["first", "x"]


def test_a_message_whose_answer_is_lost_is_not_lost(queue_proxy: FaultyProxy, queue: AzureWorkQueue) -> None:
    queue.send(QUEUE, "first")
    queue_proxy.plan(CUT)
    queue.send(QUEUE, "x")
    # At least once: the attempt whose answer was lost has put one there too.
    assert [message.body for message in queue.receive(QUEUE, max_messages=5)] == ["first", "x", "x"]


def test_a_queue_that_hangs_is_unavailable_in_time(queue_proxy: FaultyProxy, queue: AzureWorkQueue) -> None:
    queue.send(QUEUE, "x")
    queue_proxy.plan(forever=HANG)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        queue.receive(QUEUE)
    assert time.monotonic() - started < IMPATIENT.worst_case_storage_s


@pytest.mark.parametrize("body", ["nul\0", "bell\a", "return\r\n", "lone \ud800"])
def test_bodies_that_xml_would_refuse_or_change_are_refused(queue: AzureWorkQueue, body: str) -> None:
    from shared.errors import InvalidInput

    with pytest.raises(InvalidInput):
        queue.send(QUEUE, body)


def test_a_wait_is_never_shorter_than_asked_for(queue: AzureWorkQueue) -> None:
    queue.send(QUEUE, "x", delay_s=0.3)  # the service counts whole seconds
    assert queue.receive(QUEUE) == []


def test_bodies_are_escaped_in_xml(queue: AzureWorkQueue) -> None:
    body = " <a href='x'>&amp;\"</a>\n\t "
    queue.send(QUEUE, body)
    assert queue.receive(QUEUE)[0].body == body
