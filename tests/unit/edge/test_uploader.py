"""The uploader: from the spool to the store, once, whatever the store does."""

from __future__ import annotations

import errno
import gc
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from edge_uploader.delivery.budget import Budget, BudgetLimits, network_bytes
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
    assert (counts.uploaded, counts.retries, counts.trouble) == (1, 6, None)
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


def refuser(*bad):
    """A store that refuses crops of these numbers, or all while `refuses_all` is set."""

    class Refuser(FaultyBlobStore):
        refuses_all = False

        def put(self, container, name, data, **more):
            if self.refuses_all or name in {item(number).name for number in bad}:
                self.puts += 1
                raise InvalidInput("candidate schema 3; update this service")
            return super().put(container, name, data, **more)

    return Refuser()


def set_aside(tmp_path):
    return len(list((tmp_path / "spool" / "refused").glob("*.crop")))


def test_a_store_that_refuses_all_gets_the_backlog_when_it_is_mended(spool, tmp_path, caplog):
    store = refuser()
    store.refuses_all = True
    for number in range(200):
        spool.put(item(number))
    uploader = Uploader(spool, store, threads=2, backoff_s=0.2, backoff_max_s=0.2)
    uploader.start()
    time.sleep(1.5)
    assert (spool.waiting, set_aside(tmp_path)) == (200, 0), "those refused before it was known are back, too"
    assert store.puts < 40, "one probe in 0.1 s on the average"
    assert (uploader.counts.refused, spool.counts.refused, uploader.counts.trouble) == (0, 0, "refuses")
    store.refuses_all = False
    assert spool.wait_empty(10)
    uploader.stop()
    assert (len(store.blobs), uploader.counts.refused, uploader.counts.trouble) == (200, 0, None)
    said = [record for record in caplog.records if getattr(record, "action", "") == "upload_refused_all"]
    assert len(said) == 1 and "update the service" in said[0].message and "schema 3" in said[0].message


def test_single_bad_crops_among_good_ones_are_set_aside(spool, tmp_path):
    bad = range(0, 60, 10)
    for number in range(60):
        spool.put(item(number))
    counts = upload(spool, refuser(*bad), threads=1)
    assert (counts.refused, counts.uploaded, set_aside(tmp_path)) == (6, 54, 6)


def test_bad_crops_that_go_first_hold_up_no_others_and_are_set_aside(spool, tmp_path):
    """All of one camera, and the more valuable ones: the store is asked for others, and takes them."""
    for number in range(30):
        made = item(number)
        spool.put(SpoolItem(made.name, made.data, made.metadata, made.tags, priority=9))
    store = refuser(*range(30))
    uploader = Uploader(spool, store, threads=2, backoff_s=0.001, backoff_max_s=0.01)
    uploader.start()
    good, deadline = 30, time.monotonic() + 20
    while uploader.counts.refused < 30 and time.monotonic() < deadline:
        spool.put(item(good))
        good += 1
        time.sleep(0.01)
    assert spool.wait_empty(10)
    uploader.stop()
    assert (uploader.counts.refused, set_aside(tmp_path)) == (30, 30)
    assert uploader.counts.uploaded == len(store.blobs) == good - 30


def test_the_trouble_with_a_store_is_told_while_there_is_one(spool):
    class Answers(FaultyBlobStore):
        answer: Exception | None = StoreUnavailable("busy")

        def put(self, container, name, data, **more):
            if self.answer is not None:
                raise self.answer
            return super().put(container, name, data, **more)

    def soon(trouble):
        deadline = time.monotonic() + 10
        while uploader.counts.trouble != trouble and time.monotonic() < deadline:
            time.sleep(0.01)
        return uploader.counts.trouble

    store = Answers()
    uploader = Uploader(spool, store, threads=2, backoff_s=0.01, backoff_max_s=0.02)
    uploader.start()
    assert uploader.counts.trouble is None
    for number in range(20):
        spool.put(item(number))
    assert soon("away") == "away"
    store.answer = InvalidInput("too large")
    assert soon("refuses") == "refuses"
    store.answer = StoreUnavailable("busy")
    assert soon("away") == "away"
    store.answer = None
    assert spool.wait_empty(10) and soon(None) is None
    uploader.stop()


def test_a_crop_refused_alone_is_no_trouble_with_the_store(spool, tmp_path):
    store = FaultyBlobStore([StoreUnavailable("busy"), InvalidInput("too large")])
    spool.put(item())
    counts = upload(spool, store, threads=1)
    assert (set_aside(tmp_path), counts.refused, counts.trouble) == (1, 1, None)


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


def test_a_disk_that_lets_nothing_be_deleted_stops_nothing(spool, tmp_path, monkeypatch, caplog):
    """Remounted read-only, with a backlog: all is sent at once, and again after the restart, into the same blobs."""

    def read_only(path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")

    store = FaultyBlobStore()
    for number in range(20):
        spool.put(item(number))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", read_only)
        uploader = Uploader(spool, store, threads=2, backoff_max_s=30.0)
        uploader.start()
        assert spool.wait_empty(5)
        uploader.stop()
    assert (uploader.counts.uploaded, spool.waiting, spool.waiting_bytes) == (20, 0, 0)
    assert [r.action for r in caplog.records if hasattr(r, "action")].count("spool_erase") == 1
    spool.close()
    again = Spool(tmp_path / "spool")
    assert upload(again, store).already_there == 20
    assert (len(store.blobs), list((tmp_path / "spool" / "ready").iterdir())) == (20, [])
    again.close()


def test_after_an_outage_all_arrives_in_order_of_value_and_nothing_starves(spool):
    """One thread, so that the order can be seen. What is fresh goes in between: here all is."""
    for number in range(64):
        data = f"crop {number}".encode()
        made = item(number)
        spool.put(SpoolItem(made.name, data, made.metadata, made.tags, priority=1 + number % 9, shot=number % 3))
    store = FaultyBlobStore()
    upload(spool, store, threads=1)
    priorities = [1 + int(name.split("/")[-1].removesuffix(".jpg")) % 9 for name in store.blobs]
    by_value = [value for turn, value in enumerate(priorities) if turn % 8 != 7]
    assert by_value == sorted(by_value, reverse=True)
    assert "hq/door/0.jpg" in list(store.blobs)[:8], "the oldest has the eighth turn, whatever it is worth"


def test_one_crop_that_always_fails_does_not_stop_the_others(spool):
    class Picky(FaultyBlobStore):
        def put(self, container, name, data, **more):
            if name == item(9).name:
                raise StoreUnavailable("this one I cannot")
            return super().put(container, name, data, **more)

    for number in range(10):
        spool.put(item(number))
    store = Picky()
    uploader = Uploader(spool, store, threads=2, backoff_s=0.001, backoff_max_s=0.01)
    uploader.start()
    deadline = time.monotonic() + 10
    while len(store.blobs) < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    uploader.stop()
    assert (len(store.blobs), spool.waiting, uploader.counts.refused) == (9, 1, 0)


def test_a_dead_store_is_asked_by_one_thread_at_a_time(spool):
    store = FaultyBlobStore([StoreUnavailable("away")] * 10_000)
    for number in range(20):
        spool.put(item(number))
    uploader = Uploader(spool, store, threads=8, backoff_s=0.2, backoff_max_s=0.2)
    uploader.start()
    time.sleep(1.0)
    uploader.stop()
    # Eight at first, then one in 0.1 s on the average; without the circuit it would be 80.
    assert store.puts < 35
    assert spool.waiting == 20


def test_a_store_that_asks_for_peace_is_left_alone(spool):
    store = FaultyBlobStore([StoreUnavailable("later", retry_after_s=0.5)])
    spool.put(item())
    began = time.monotonic()
    counts = upload(spool, store, threads=2)
    assert time.monotonic() - began >= 0.5
    assert (counts.uploaded, counts.retries) == (1, 1)


def test_an_attempt_that_hangs_is_given_up_and_the_crop_sent_by_another(spool):
    class Hangs(FaultyBlobStore):
        def put(self, container, name, data, **more):
            if not self.puts:
                self.puts += 1
                release.wait(20)
            return super().put(container, name, data, **more)

    release, store = threading.Event(), Hangs()
    spool.put(item(1))
    spool.put(item(2))
    uploader = Uploader(spool, store, threads=1, backoff_s=0.001, backoff_max_s=0.01, attempt_s=0.2)
    uploader.start()
    assert spool.wait_empty(10)
    release.set()  # it comes back at last, finds the blob there, and is nobody's any more
    uploader.stop()
    counts = uploader.counts
    assert (counts.uploaded, counts.overdue, counts.refused, len(store.blobs)) == (2, 1, 0, 2)


def test_when_every_attempt_hangs_and_no_thread_is_put_in_its_place_nobody_is_sending(spool, monkeypatch):
    class Hangs(FaultyBlobStore):
        def put(self, *_, **__):
            release.wait(20)
            raise StoreUnavailable("at last")

    monkeypatch.setattr("edge_uploader.delivery.uploader._MOST_STUCK", 2)
    release = threading.Event()
    for number in range(9):
        spool.put(item(number))
    uploader = Uploader(spool, Hangs(), threads=1, backoff_s=0.001, backoff_max_s=0.01, attempt_s=0.2)
    uploader.start()
    assert uploader.alive
    ends = time.monotonic() + 10
    while (uploader.alive or uploader.counts.overdue < 2) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not uploader.alive and uploader.counts.overdue == 2
    release.set()
    while not uploader.alive and time.monotonic() < ends:
        time.sleep(0.02)
    assert uploader.alive, "once they come back, it goes on"
    uploader.stop()
    assert spool.waiting == 9


def test_the_budget_holds_back_and_loses_nothing(spool):
    made = [SpoolItem(f"hq/door/{n}.jpg", b"x" * 1_000, {}, {}, shot=n % 2, worth=0.1) for n in range(40)]
    for one in made:
        spool.put(one)
    each = network_bytes(b"x" * 1_000, {}, {})
    budget = Budget(BudgetLimits(bytes_per_hour=20 * each), clock=spool.clock)
    store = FaultyBlobStore()
    uploader = Uploader(spool, store, budget=budget, threads=1)
    uploader.start()
    assert not spool.wait_empty(1.5)
    report = uploader.budget()
    uploader.stop()
    assert len(store.blobs) == 20 == 40 - spool.waiting
    assert (report.level, report.hour_bytes, report.held_back) == ("nothing", 20 * each, 20)
    later = [int(name.split("/")[-1].removesuffix(".jpg")) % 2 for name in store.blobs][12:]
    assert later == [0] * 8, "from 60 % on first shots alone"


def test_what_never_left_costs_nothing(spool):
    budget = Budget(BudgetLimits(bytes_per_hour=10**6), clock=spool.clock)
    store = FaultyBlobStore([StoreUnavailable("refused", sent=False)] * 3 + [StoreUnavailable("busy")])
    spool.put(item())
    uploader = Uploader(spool, store, budget=budget, threads=1, backoff_s=0.001, backoff_max_s=0.01)
    uploader.start()
    assert spool.wait_empty(10)
    uploader.stop()
    each = network_bytes(item().data, item().metadata, item().tags)
    assert budget.report().hour_bytes == uploader.counts.network_bytes == 2 * each


def test_a_crop_that_was_sent_costs_though_the_question_after_it_is_not(spool):
    """The store has a blob of that name; whether it is the same cannot be asked."""

    class Mute(FaultyBlobStore):
        def properties(self, container, name):
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked == 1:
                raise StoreUnavailable("no connection", sent=False)
            return super().properties(container, name)

    budget = Budget(BudgetLimits(bytes_per_hour=10**6), clock=spool.clock)
    store = Mute([After(StoreUnavailable("the line went dead"))])
    spool.put(item())
    uploader = Uploader(spool, store, budget=budget, threads=1, backoff_s=0.001, backoff_max_s=0.01)
    uploader.start()
    assert spool.wait_empty(10)
    uploader.stop()
    each = network_bytes(item().data, item().metadata, item().tags)
    assert budget.report().hour_bytes == uploader.counts.network_bytes == 3 * each


def test_who_waits_for_another_threads_attempt_does_not_spin(spool, monkeypatch):
    class Hangs(FaultyBlobStore):
        def put(self, container, name, data, **more):
            self.puts += 1
            if self.puts > 4:
                time.sleep(1.0)
            raise StoreUnavailable("away")

    for number in range(20):
        spool.put(item(number))
    store = Hangs()
    uploader = Uploader(spool, store, threads=4, backoff_s=0.001, backoff_max_s=0.001)
    asked, permit = [], uploader._circuit.permit
    monkeypatch.setattr(uploader._circuit, "permit", lambda: (asked.append(1), permit())[1])
    uploader.start()
    time.sleep(1.0)
    uploader.stop()
    assert 4 <= store.puts <= 8
    assert len(asked) < 150, "three threads, twenty times a second"
