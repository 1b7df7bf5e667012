"""The spool: what was taken is there after whatever happens."""

from __future__ import annotations

import errno
import functools
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.delivery.clock import SteadyClock
from edge_uploader.delivery.room import Room
from edge_uploader.delivery.spool import Spool, SpoolCounts, SpoolItem, decode_item, encode_item
from shared.domain import sha256_hex
from shared.errors import ConfigurationError, IntegrityError, StoreFull, StoreUnavailable

ROOT = Path(__file__).parents[3]


def item(number=0, size=1000):
    return SpoolItem(f"hq/door/{number}.jpg", bytes([number % 256]) * size, {"sha256": str(number)}, {"site": "hq"})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def drain(spool):
    taken = []
    while (entry := spool.take(0)) is not None:
        taken.append(entry.item)
        spool.done(entry)
    return taken


def test_of_equals_the_newest_goes_first_and_is_gone_when_done(folder):
    spool = Spool(folder)
    for number in range(3):
        spool.put(item(number))
    assert spool.waiting == 3
    assert drain(spool) == [item(2), item(1), item(0)]
    assert spool.waiting == 0
    assert list((folder / "ready").iterdir()) == []


def test_a_restart_finds_what_was_not_done(folder):
    spool = Spool(folder)
    spool.put(item(1))
    spool.put(item(2))
    claimed = spool.take(0)
    spool.close()
    again = Spool(folder)
    assert again.waiting == 2
    assert drain(again) == [claimed.item, item(1)]


def test_two_gateways_never_share_a_spool(folder):
    first = Spool(folder)
    with pytest.raises(ConfigurationError, match="another gateway"):
        Spool(folder)
    first.close()
    Spool(folder).close()


def test_a_folder_that_cannot_be_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Spool(tmp_path / "file" / "spool")


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_an_entry_reads_back_and_every_cut_is_noticed(data, metadata):
    original = SpoolItem("name", data, metadata, {})
    raw = encode_item(original)
    assert decode_item(raw) == original
    for length in {0, 5, len(raw) // 2, len(raw) - 1}:
        with pytest.raises(IntegrityError):
            decode_item(raw[:length])


def test_a_flipped_bit_is_noticed():
    raw = bytearray(encode_item(item(1)))
    raw[-10] ^= 1
    with pytest.raises(IntegrityError):
        decode_item(bytes(raw))


def test_torn_entries_are_set_aside_and_counted_and_stop_nothing(folder):
    spool = Spool(folder)
    spool.put(item(1))
    spool.put(item(2))
    spool.close()
    first, _ = sorted((folder / "ready").iterdir())
    first.write_bytes(first.read_bytes()[:-5])
    (folder / "tmp" / "half.crop").write_bytes(b"FACERELAY")
    spool = Spool(folder)
    assert drain(spool) == [item(2)]
    assert spool.counts.torn == 2
    assert len(list((folder / "torn").iterdir())) == 2
    assert spool.waiting == 0


def test_the_bound_stops_taking_and_delivery_makes_room(folder, caplog):
    spool = Spool(folder, limit_bytes=100_000)
    taken = 0
    with pytest.raises(StoreFull):
        while True:
            spool.put(item(taken, 10_000))
            taken += 1
    for _ in range(3):
        with pytest.raises(StoreFull):
            spool.put(item(99, 10_000))
    assert 8 <= taken <= 9
    assert spool.full
    spool.done(spool.take(0))
    spool.put(item(99, 10_000))
    assert not spool.full
    assert [r.action for r in caplog.records if hasattr(r, "action")].count("spool_full") == 1
    assert spool.waiting_bytes <= 100_000


def test_the_bound_counts_what_an_earlier_run_left(folder):
    spool = Spool(folder, limit_bytes=50_000)
    spool.put(item(1, 40_000))
    spool.close()
    with pytest.raises(StoreFull):
        Spool(folder, limit_bytes=50_000).put(item(2, 20_000))


def test_a_full_disk_takes_nothing_and_leaves_nothing(folder, monkeypatch):
    spool = Spool(folder)
    real, calls = os.write, []

    def full(descriptor, data):
        calls.append(1)
        if len(calls) % 2:
            return real(descriptor, bytes(data)[:100])  # a short write first, as the kernel does
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(2):
        with pytest.raises(StoreFull, match="No space"):
            spool.put(item(1))
    assert list((folder / "tmp").iterdir()) == list((folder / "ready").iterdir()) == []
    monkeypatch.setattr(os, "write", real)
    spool.put(item(1))
    assert drain(spool) == [item(1)]
    assert spool.counts.times_full == 1


def test_a_short_write_is_completed(folder, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:7]))
    spool = Spool(folder)
    spool.put(item(5))
    assert drain(spool) == [item(5)]


def test_a_disk_that_fails_is_a_transient_error_and_nothing_was_taken(folder, monkeypatch):
    spool = Spool(folder)

    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreUnavailable):
        spool.put(item(1))
    assert spool.waiting == 0
    assert spool.take(0) is None


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_the_kernels_own_limit_is_a_full_spool(folder):
    """A real refusal of the kernel's: files may not grow past 2 kB in this process."""
    code = f"""
        import resource
        from pathlib import Path
        from edge_uploader.delivery.spool import Spool, SpoolItem
        from shared.errors import StoreFull
        spool = Spool(Path({str(folder)!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        spool.put(SpoolItem("small", b"x" * 500, {{}}, {{}}))
        try:
            spool.put(SpoolItem("large", b"x" * 5000, {{}}, {{}}))
        except StoreFull:
            print("full", len(list(Path({str(folder)!r}, "tmp").iterdir())))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["full", "0"], done.stderr
    spool = Spool(folder)
    assert [taken.name for taken in drain(spool)] == ["small"]


def test_refused_entries_are_kept_with_their_reason(folder):
    spool = Spool(folder)
    spool.put(item(1))
    spool.refuse(spool.take(0), "invalid_input: bad name")
    crop, reason = sorted((folder / "refused").iterdir())
    assert decode_item(crop.read_bytes()) == item(1)
    assert reason.read_text() == "invalid_input: bad name\n"
    assert spool.counts.refused == 1
    assert spool.wait_empty(0)


def test_what_is_kept_for_a_look_does_not_fill_the_disk(folder):
    spool = Spool(folder, limit_bytes=100_000)
    for number in range(20):
        spool.put(item(number, 2_000))
        spool.refuse(spool.take(0), "no")
    assert sum(path.stat().st_size for path in (folder / "refused").iterdir()) <= 10_000
    assert spool.counts.refused == 20
    kept = len(list((folder / "refused").glob("*.crop")))
    assert spool.counts.dropped == spool.counts.dropped_refused == 20 - kept
    assert spool.counts.dropped_bytes > 2_000 * (20 - kept)


def test_what_is_torn_and_gives_way_is_counted(folder):
    spool = Spool(folder, limit_bytes=100_000)
    for number in range(20):
        spool.put(item(number, 2_000))
        path = next((folder / "ready").iterdir())
        path.write_bytes(path.read_bytes()[:-1])
        assert spool.take(0) is None
    kept = len(list((folder / "torn").iterdir()))
    assert (spool.counts.torn, spool.counts.dropped_torn, spool.counts.dropped) == (20, 20 - kept, 20 - kept)


def test_what_was_refused_can_be_taken_back(folder):
    spool = Spool(folder)
    for number in range(3):
        spool.put(item(number))
    before = spool.waiting_bytes
    refused = [spool.take(0) for _ in range(2)]
    for entry in refused:
        spool.refuse(entry, "no")
    (folder / "refused" / refused[0].path.name).unlink()
    assert spool.restore(refused) == 1
    assert (spool.waiting, spool.counts.refused) == (2, 1)
    assert spool.waiting_bytes == before * 2 // 3
    assert [path.suffix for path in (folder / "refused").iterdir()] == [".reason"], "of the one that was deleted"
    assert sorted(taken.name for taken in drain(spool)) == [item(0).name, refused[1].item.name]


def test_what_lies_in_refused_is_sent_after_the_documented_move(folder):
    """docs/edge.md: stop, `mv refused/*.crop ready/`, start."""
    spool = Spool(folder)
    for number in range(2):
        spool.put(item(number))
        spool.refuse(spool.take(0), "no")
    spool.close()
    for path in (folder / "refused").glob("*.crop"):
        path.rename(folder / "ready" / path.name)
    assert drain(Spool(folder)) == [item(1), item(0)]


def test_an_entry_given_back_goes_behind_the_others(folder):
    spool = Spool(folder)
    spool.put(item(1))
    spool.put(item(2))
    spool.give_back(spool.take(0))
    assert drain(spool) == [item(2), item(1)]


def test_take_waits_for_a_put_and_no_longer_than_told(folder):
    spool = Spool(folder)
    began = time.monotonic()
    assert spool.take(0.05) is None
    assert time.monotonic() - began < 2
    timer = threading.Timer(0.05, spool.put, [item(1)])
    timer.start()
    assert spool.take(5).item == item(1)
    timer.join()


def test_threads_take_each_entry_once(folder):
    spool = Spool(folder)
    taken: list[str] = []

    def work():
        while (entry := spool.take(0.2)) is not None:
            taken.append(entry.item.name)
            spool.done(entry)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for number in range(100):
        spool.put(item(number))
    for worker in workers:
        worker.join()
    assert sorted(taken) == sorted(item(n).name for n in range(100))


WRITER = """
import os, sys
from pathlib import Path
from edge_uploader.delivery.spool import Spool, SpoolItem
spool = Spool(Path(sys.argv[1]))
real = os.write
# Many small writes, so that a kill falls into the middle of an entry more often than not.
os.write = lambda d, data: real(d, bytes(data)[:512]) if d > 2 else real(d, data)
number = int(sys.argv[2])
while True:
    data = number.to_bytes(4, "big") * 5000
    spool.put(SpoolItem(f"{number}", data, {}, {}))
    real(1, f"{number}\\n".encode())
    number += 1
"""


def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_taken(folder):
    """Kills a writer again and again; every entry that it was told is taken must read back whole."""
    rng = random.Random(7)
    acknowledged: list[str] = []
    for round_ in range(4):
        command = [sys.executable, "-c", WRITER, str(folder), str(round_ * 100_000)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            acknowledged.append(writer.stdout.readline().strip())
            time.sleep(rng.uniform(0.02, 0.15))
            writer.send_signal(signal.SIGKILL)
            acknowledged += writer.stdout.read().split()
    for path in (folder / "ready").iterdir():
        decode_item(path.read_bytes())  # whole, whenever the kill came: what is half-written is in tmp/ alone
    spool = Spool(folder)
    found = drain(spool)
    assert set(acknowledged) <= {taken.name for taken in found}
    # At most one entry a round was taken without the writer having had the time to say so.
    assert len(found) - len(acknowledged) <= 4
    assert len({taken.name for taken in found}) == len(found)
    assert all(sha256_hex(t.data) == sha256_hex(int(t.name).to_bytes(4, "big") * 5000) for t in found)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "x"), MemoryError()])
def test_an_entry_that_cannot_be_read_now_is_not_damaged_and_waits(folder, monkeypatch, caplog, error):
    spool = Spool(folder)
    spool.put(item(1))
    spool.put(item(2))

    def fails(path):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fails)
        began = time.monotonic()
        assert spool.take(0.1) is None
        assert time.monotonic() - began >= 0.1, "it waits instead of asking the disk again at once"
        assert [spool.take(0) for _ in range(3)] == [None] * 3
    assert (spool.waiting, spool.counts.torn) == (2, 0)
    assert [r.action for r in caplog.records] == ["spool_unread"]
    assert sorted(taken.name for taken in drain(spool)) == [item(1).name, item(2).name]
    assert list((folder / "torn").iterdir()) == []


def test_an_entry_that_somebody_deleted_is_forgotten(folder):
    spool = Spool(folder)
    spool.put(item(1))
    spool.put(item(2))
    min((folder / "ready").iterdir()).unlink()
    assert drain(spool) == [item(2)]
    assert (spool.waiting, spool.counts.torn) == (0, 0)


def test_a_folder_that_cannot_be_pruned_stops_nothing(folder, monkeypatch):
    spool = Spool(folder)
    spool.put(item(1))
    entry = spool.take(0)

    def fails(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "iterdir", fails)
    spool.refuse(entry, "no")
    assert (spool.waiting, spool.counts.refused) == (0, 1)


class Hands:
    """A clock that a test turns."""

    def __init__(self):
        self.now = 1_700_000_000 * 10**9

    def clock(self):
        return SteadyClock(None, wall_ns=lambda: self.now, passed_ns=lambda: self.now)


def valued(number, *, size=1_000, **value):
    made = item(number, size)
    return SpoolItem(made.name, made.data, made.metadata, made.tags, **value)


def test_a_days_backlog_goes_by_value_and_the_fresh_share_the_line(folder):
    hands = Hands()
    spool = Spool(folder, clock=hands.clock())
    for number in range(80):
        spool.put(valued(number, priority=1 + number % 9))
        hands.now += 10**9
    hands.now += 86_400 * 10**9
    for number in range(100, 104):
        spool.put(valued(number, priority=1))
    sent = [int(taken.name.split("/")[-1].removesuffix(".jpg")) for taken in drain(spool)]
    fresh = [turn for turn, number in enumerate(sent) if number >= 100]
    assert fresh == [0, 2, 4, 6], "every second turn is a fresh one's, low as its priority is"
    assert sent[7] == 0, "the oldest has the eighth turn"
    old = [1 + number % 9 for turn, number in enumerate(sent) if number < 100 and turn % 8 != 7]
    assert old == sorted(old, reverse=True)


@pytest.mark.parametrize("began", [1_700_000_000, 60], ids=["60 days ahead", "in 1970, set and killed"])
def test_a_wrong_clock_at_a_start_erases_nothing(folder, monkeypatch, began):
    hands = Hands()
    hands.now = began * 10**9
    clock = functools.partial(SteadyClock, wall_ns=lambda: hands.now, passed_ns=lambda: 0)
    monkeypatch.setattr("edge_uploader.delivery.spool.SteadyClock", clock)
    spool = Spool(folder, max_age_s=30 * 86_400)
    spool.put(item(1))
    spool.close()
    hands.now = (began if began > 60 else 1_700_000_000) * 10**9 + 60 * 86_400 * 10**9
    spool = Spool(folder, max_age_s=30 * 86_400)
    assert spool.waiting == 1
    spool.close()
    for _ in range(4):  # each time it is switched off it ages by a week, and no more
        hands.now += 60 * 86_400 * 10**9
        spool = Spool(folder, max_age_s=30 * 86_400)
        spool.close()
    assert spool.waiting == 0


def test_at_the_bound_the_least_valuable_gives_way_and_that_is_said_once(folder, caplog):
    spool = Spool(folder, limit_bytes=100_000)
    least = valued(0, size=9_000, priority=1, shot=1, worth=0.1)
    kept = [valued(n, size=9_000, priority=5, worth=0.5) for n in range(1, 10)]
    for one in [least, *kept]:
        assert spool.put(one, make_room=True)
    assert spool.put(valued(20, size=9_000, priority=9), make_room=True)
    assert not spool.put(valued(21, size=9_000, priority=1), make_room=True), "it is itself worth the least"
    assert (spool.counts.dropped_bound, spool.counts.dropped_new, spool.counts.times_full) == (1, 1, 1)
    assert 18_000 < spool.counts.dropped_bytes < 20_000
    assert spool.waiting_bytes <= 100_000
    assert {one.name for one in drain(spool)} == {one.name for one in kept} | {item(20).name}
    assert spool.put(valued(22), make_room=True)
    said = [record.action for record in caplog.records]
    assert (said.count("spool_drop"), said.count("spool_dropped")) == (1, 1)


@pytest.mark.parametrize("delivers", [False, True])
def test_a_recording_that_waits_beside_a_live_camera_is_one_spell(folder, caplog, delivers):
    """Each live crop makes room for itself; each delivery lets one in. Neither is an end of being full."""
    spool = Spool(folder, limit_bytes=200_000)
    for number in range(19):
        spool.put(valued(number, size=10_000))
    for number in range(20, 30):
        with pytest.raises(StoreFull):
            spool.put(valued(90, size=10_000))
        assert spool.put(valued(number, size=10_000, priority=9), make_room=True)
        assert spool.full, "the recording still waits"
        if delivers:
            spool.done(spool.take(0))
            assert spool.put(valued(number + 100, size=10_000))
            assert not spool.full
    assert spool.counts.times_full == 1
    drain(spool)
    spool.put(valued(91))
    assert not spool.full
    said = [record.action for record in caplog.records]
    assert [said.count(action) for action in ("spool_full", "spool_drop", "spool_dropped")] == [1, 1, 1]
    for number in range(40, 60):
        try:
            spool.put(valued(number, size=10_000))
        except StoreFull:
            break
    assert (spool.full, spool.counts.times_full) == (True, 2), "another spell"


def test_a_small_live_crop_that_fits_ends_no_recordings_wait(folder):
    spool = Spool(folder, limit_bytes=100_000)
    spool.put(valued(0, size=90_000))
    for number in range(1, 4):
        with pytest.raises(StoreFull):
            spool.put(valued(90, size=10_000))
        assert spool.put(valued(number, size=1_000), make_room=True)
    assert (spool.full, spool.counts.times_full) == (True, 1)


def test_a_disk_that_is_full_by_turns_is_one_spell_until_it_is_calm(caplog):
    caplog.set_level("INFO")
    now, counts = [0.0], SpoolCounts()
    room = Room(counts, 100_000, now_s=lambda: now[0])
    for _ in range(5):
        room.none("No space left on device", disk=True)
        assert room.full
        now[0] += 5.0
        room.found(95_000, waited=False, dropped=False)
        assert not room.full, "whoever waited has been served"
        room.found(1_000, waited=False, dropped=False)
    assert counts.times_full == 1
    now[0] += 10.0
    room.found(1_000, waited=False, dropped=False)
    assert [record.action for record in caplog.records] == ["spool_full", "spool_room"]
    room.none("No space left on device", disk=True)
    assert counts.times_full == 2


def test_what_is_on_its_way_never_gives_way(folder):
    spool = Spool(folder, limit_bytes=100_000)
    for number in range(10):
        spool.put(valued(number, size=9_000, priority=1))
    claimed = [spool.take(0) for _ in range(10)]
    assert not spool.put(valued(99, size=9_000, priority=9), make_room=True)
    assert all(entry.path.exists() for entry in claimed)


def test_a_full_disk_below_the_bound_drops_nothing(folder, monkeypatch):
    spool = Spool(folder)
    spool.put(valued(1, priority=1))

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreFull, match="No space"):
            spool.put(valued(2, priority=9), make_room=True)
    assert [one.name for one in drain(spool)] == [item(1).name]
    assert spool.counts.dropped == 0


def test_what_waited_too_long_is_erased_wherever_it_lies(folder, caplog):
    hands = Hands()
    spool = Spool(folder, max_age_s=3_600, clock=hands.clock())
    for number in range(3):
        spool.put(item(number))
    spool.refuse(spool.take(0), "no")
    hands.now += 3_000 * 10**9
    spool.put(item(9))
    hands.now += 601 * 10**9
    spool._tidied_s = 0.0
    spool.tidy()
    assert (spool.counts.dropped_age, spool.waiting) == (3, 1)
    assert list((folder / "refused").iterdir()) == []
    assert len(list((folder / "ready").iterdir())) == 1
    assert [r.message for r in caplog.records if getattr(r, "action", "") == "spool_expired"] == [
        "3 crops waited for longer than they may, and were erased"
    ]


def test_the_age_of_the_oldest_that_waits_is_told(folder):
    """Whether it lies in the spool, rests, is on its way, was there at the start, or was taken back."""
    hands = Hands()
    spool = Spool(folder, clock=hands.clock())
    assert spool.oldest_s == 0
    for number, priority in enumerate((7, 5, 9)):
        spool.put(valued(number, priority=priority))
        hands.now += 10 * 10**9
    assert spool.oldest_s == 30
    first = spool.take(0)
    assert (first.item.name, spool.oldest_s) == (item(2).name, 30), "fresh ones first"
    spool.done(first)
    rests = spool.take(0)
    spool.give_back(rests, rest_s=60.0)
    assert (rests.item.name, spool.oldest_s) == (item(0).name, 30)
    spool.close()
    spool = Spool(folder, clock=hands.clock())
    assert spool.oldest_s == 30
    refused = spool.take(0)
    spool.refuse(refused, "no")
    assert (refused.item.name, spool.oldest_s) == (item(0).name, 20)
    spool.restore([refused])
    assert spool.oldest_s == 30
    drain(spool)
    assert spool.oldest_s == 0


def test_what_an_earlier_version_left_is_sent(folder):
    Spool(folder).close()
    raw = encode_item(item(1))
    (folder / "ready" / f"{time.time_ns():020d}-000001.crop").write_bytes(raw)
    (folder / "ready" / "somebody's notes.txt").write_text("hello")
    spool = Spool(folder, max_age_s=3_600)
    assert drain(spool) == [item(1)]
    assert spool.counts.torn == 1


def test_thousands_that_wait_are_there_at_once(folder):
    """Their names say all. 100,000 took 1.4 s on two busy cores."""
    Spool(folder).close()
    for number in range(10_000):
        (folder / "ready" / f"{number:020d}-{number:06d}-5{number % 3}{number % 101:03d}.crop").touch()
    began = time.perf_counter()
    spool = Spool(folder)
    assert time.perf_counter() - began < 3
    assert spool.waiting == 10_000
