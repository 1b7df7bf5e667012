"""The uploader: from the spool to the store, once, whatever the store does."""

from __future__ import annotations

import errno
import gc
import os
import resource
import threading
import time

import pytest

from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.delivery.uploader import Uploader
from shared.errors import InvalidInput, StoreFull, StoreUnavailable
from tests.unit.edge.fakes import After, FaultyBlobStore, digest


def item(number=0):
    data = f"crop {number}".encode() * 50
    return SpoolItem(f"hq/door/{number}.jpg", data, {"sha256": digest(data), "site": "hq"}, {"site": "hq"})


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spool")
    yield opened
    opened.close()


def upload(spool, store, timeout_s=10.0, threads=2):
    uploader = Uploader(spool, store, threads=threads, backoff_s=0.001, backoff_max_s=0.01)
    uploader.start()
    emptied = spool.wait_empty(timeout_s)
    uploader.stop()
    assert emptied
    return uploader.counts


def test_everything_arrives_with_metadata_and_leaves_the_spool(spool):
    store = FaultyBlobStore()
    for number in range(20):
        spool.put(item(number))
    counts = upload(spool, store)
    assert {name: blob.data for name, blob in store.blobs.items()} == {item(n).name: item(n).data for n in range(20)}
    assert store.blobs[item(3).name].properties.metadata == item(3).metadata
    assert store.blobs[item(3).name].properties.content_type == "image/jpeg"
    assert (counts.uploaded, counts.bytes_uploaded) == (20, sum(len(item(n).data) for n in range(20)))
    assert spool.waiting == 0


def test_a_store_that_is_away_is_asked_again_until_it_answers(spool, caplog):
    store = FaultyBlobStore([StoreUnavailable("away")] * 5 + [StoreFull("full")])
    spool.put(item())
    counts = upload(spool, store, threads=1)
    assert store.blobs[item().name].data == item().data
    assert (counts.uploaded, counts.retries, counts.unreachable) == (1, 6, False)
    assert [r.action for r in caplog.records if hasattr(r, "action")].count("upload_retry") == 1


def test_a_lost_answer_leaves_one_blob_and_is_counted_once(spool):
    store = FaultyBlobStore([After(StoreUnavailable("the line went dead"))])
    spool.put(item())
    counts = upload(spool, store)
    assert list(store.blobs) == [item().name]
    assert store.blobs[item().name].properties.etag == "1", "the blob was not written a second time"
    assert (counts.uploaded, counts.already_there) == (1, 1)


def test_what_was_sent_before_a_crash_is_not_written_again(spool):
    store = FaultyBlobStore()
    store.put("candidates", item().name, item().data, metadata=item().metadata)
    spool.put(item())
    upload(spool, store)
    assert store.blobs[item().name].properties.etag == "1"


def test_another_content_under_the_name_is_refused_and_kept(spool, tmp_path):
    store = FaultyBlobStore()
    store.put("candidates", item().name, b"somebody else's", metadata={"sha256": "0"})
    spool.put(item())
    counts = upload(spool, store)
    assert store.blobs[item().name].data == b"somebody else's"
    assert counts.refused == spool.counts.refused == 1
    assert "precondition_failed" in next((tmp_path / "spool" / "refused").glob("*.reason")).read_text()


def test_a_permanent_refusal_is_moved_aside_and_the_rest_goes_on(spool, tmp_path):
    store = FaultyBlobStore([InvalidInput("no such name")])
    for number in range(3):
        spool.put(item(number))
    counts = upload(spool, store, threads=1)
    assert set(store.blobs) == {item(0).name, item(1).name}, "the newest was sent first, and refused"
    assert (counts.refused, counts.uploaded, store.puts) == (1, 2, 3)
    assert len(list((tmp_path / "spool" / "refused").glob("*.crop"))) == 1


def test_a_name_that_the_store_refuses_is_refused_for_good(spool):
    spool.put(SpoolItem("x" * 2000, b"data", {}, {}))
    assert upload(spool, FaultyBlobStore()).refused == 1


def test_an_unforeseen_error_loses_nothing_and_ends_no_thread(spool):
    store = FaultyBlobStore([ZeroDivisionError("a bug in an adapter")])
    spool.put(item(1))
    spool.put(item(2))
    assert upload(spool, store, threads=1).uploaded == 2
    assert len(store.blobs) == 2


def test_stop_during_an_outage_is_quick_and_keeps_the_crop(spool, tmp_path):
    store = FaultyBlobStore([StoreUnavailable("away")] * 10_000)
    uploader = Uploader(spool, store, backoff_s=30.0, backoff_max_s=60.0)
    spool.put(item())
    uploader.start()
    while not store.puts:
        time.sleep(0.005)
    began = time.monotonic()
    uploader.stop()
    assert time.monotonic() - began < 5
    assert spool.waiting == 1
    spool.close()
    again = Spool(tmp_path / "spool")
    assert upload(again, FaultyBlobStore()).uploaded == 1
    again.close()


def test_crops_put_while_it_runs_are_sent(spool):
    store = FaultyBlobStore()
    uploader = Uploader(spool, store, threads=3)
    uploader.start()
    writers = [threading.Thread(target=lambda a=a: [spool.put(item(a * 100 + n)) for n in range(15)]) for a in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert spool.wait_empty(10)
    uploader.stop()
    assert len(store.blobs) == 45
    assert store.puts == 45


def test_without_a_file_handle_left_nothing_is_torn_and_all_is_sent_later(spool, tmp_path):
    """The kernel's own refusal to open another file."""
    for number in range(6):
        spool.put(item(number))
    store = FaultyBlobStore()
    uploader = Uploader(spool, store, backoff_s=0.001, backoff_max_s=0.01)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # so that no handle comes free below the limit
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        uploader.start()
        time.sleep(0.3)
        assert store.puts == 0 and spool.waiting == 6
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert spool.wait_empty(10)
    assert all(thread.is_alive() for thread in uploader._workers)
    uploader.stop()
    assert len(store.blobs) == uploader.counts.uploaded == 6
    assert spool.counts.torn == 0 and list((tmp_path / "spool" / "torn").iterdir()) == []


def test_an_unforeseen_error_of_the_spool_ends_no_thread(spool, monkeypatch):
    take, failed = spool.take, threading.Event()

    def fails_once(*arguments):
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, "Input/output error")
        return take(*arguments)

    monkeypatch.setattr(spool, "take", fails_once)
    spool.put(item())
    assert upload(spool, FaultyBlobStore(), threads=1).uploaded == 1
