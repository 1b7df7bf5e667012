"""Events, the gateway's clock, and a stream's times."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import numpy as np

from edge_uploader.capture.events import CLOCK_JUMPED, CLOCK_WRONG, LOST, ClockWatch, EventLog
from edge_uploader.capture.health import HealthOptions
from edge_uploader.capture.sources import Frame, SourceCounts
from edge_uploader.capture.timeline import Timeline
from edge_uploader.capture.watch import CameraWatch

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def test_an_event_begins_once_and_ends_once(caplog):
    events = EventLog(lambda: NOW)
    events.attach("door", {"site": "hq", "camera": "door"})
    assert events.begin(LOST, "gone") and not events.begin(LOST, "gone still")
    assert events.end(LOST) and not events.end(LOST)
    assert [(e["kind"], e["phase"], e["detail"]) for e in events.to_json()] == [
        ("lost", "begin", "gone"),
        ("lost", "end", ""),
    ]
    assert events.begun == {"lost": 1}
    assert [record.getMessage() for record in caplog.records] == ["door: lost: gone"], "the end is no warning"


def test_events_are_bounded_and_their_count_is_not():
    events = EventLog(limit=10)
    for _ in range(50):
        events.begin(LOST)
        events.end(LOST)
    assert len(events.newest()) == 10
    assert events.begun == {LOST: 50}


def test_two_threads_report_an_event_once():
    events = EventLog()
    results = []
    threads = [threading.Thread(target=lambda: results.append(events.begin(LOST))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1


def test_a_clock_that_is_set_is_noticed_and_one_that_drifts_is_not():
    events = EventLog(lambda: NOW)
    watch = ClockWatch(events, earliest=NOW - timedelta(days=1))
    for second in range(100):
        watch.look(NOW + timedelta(seconds=second * 1.0005), float(second))
    assert events.newest() == []
    watch.look(NOW + timedelta(hours=1, seconds=100), 100.0)
    watch.look(NOW + timedelta(hours=1, seconds=101), 101.0)
    watch.look(NOW + timedelta(seconds=102), 102.0)
    assert [(e.kind, e.detail[-14:]) for e in events.newest()] == [
        (CLOCK_JUMPED, "3600.0 s forward"[-14:]),
        (CLOCK_JUMPED, "set 3600.0 s back"[-14:]),
    ]


def test_a_clock_that_was_never_set_is_wrong_until_it_is():
    events = EventLog(lambda: NOW)
    watch = ClockWatch(events, earliest=NOW)
    watch.look(datetime(1970, 1, 1, tzinfo=UTC), 0.0)
    watch.look(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 1.0)
    watch.look(NOW, 2.0)
    assert [(e.kind, e.phase) for e in events.newest()] == [
        (CLOCK_WRONG, "begin"),
        (CLOCK_JUMPED, "once"),
        (CLOCK_WRONG, "end"),
    ]


def run(arrivals):
    """How many of (stream_s, arrived_s) are late, by number."""
    timeline = Timeline()
    return [number for number, (stream_s, arrived_s) in enumerate(arrivals) if timeline.is_late(stream_s, arrived_s)]


def live(count, *, begin=0.0, stream=0.0, step=0.04):
    return [(stream + i * step, begin + i * step) for i in range(count)]


def test_a_steady_stream_is_never_late():
    jitter = np.random.default_rng(0).uniform(0, 0.3, 500)
    assert run([(s, a + j) for (s, a), j in zip(live(500), jitter, strict=True)]) == []


def test_what_a_recorder_delivers_to_catch_up_is_late_until_it_has():
    """Ten seconds pass without a frame; then those ten seconds come in one."""
    backlog = [(4.0 + i * 0.04, 14.0 + i * 0.004) for i in range(250)]
    after = live(100, begin=15.0 + 0.04, stream=14.0 + 0.04 * 26)
    late = run(live(100) + backlog + after)
    assert 200 <= len(late) <= 260
    assert max(late) <= 352, "the present is let through"


def test_a_stream_that_stays_behind_at_its_normal_pace_is_the_present():
    assert run(live(100) + live(500, begin=14.0, stream=4.0)) == []


def test_times_that_make_no_sense_are_not_believed():
    assert run([(0.0, i * 0.04) for i in range(200)]) == [], "none"
    assert run([(i * 0.02, i * 0.04) for i in range(500)]) == [], "too slow"
    assert run([(i * 0.4, i * 0.04) for i in range(500)]) == [], "too fast"
    assert run(live(50) + live(50, begin=2.0)) == [], "begun anew"
    assert run(live(50) + live(50, begin=2.0, stream=90_000.0)) == [], "leapt"


def test_the_burst_with_which_a_stream_opens_is_let_through():
    assert run([(i * 0.04, i * 0.0005) for i in range(25)] + live(100, begin=0.04, stream=1.0)) == []


class Quiet:
    continuous, problem = True, None

    def __init__(self):
        self.counts = SourceCounts()


def frame(level, at_s):
    noise = np.random.default_rng(int(at_s * 10)).integers(0, 6, (90, 160, 3))
    noise[:, ::16] += 60 * (level == 100)
    return Frame((noise + level).astype(np.uint8), NOW + timedelta(seconds=at_s), 0, at_s)


def test_what_the_picture_does_becomes_events_of_the_source():
    source = Quiet()
    ticks = iter(range(10_000))
    watch = CameraWatch(
        "door",
        source,
        HealthOptions(),
        {},
        clock=lambda: NOW + timedelta(seconds=next(ticks)),
        monotonic=iter(range(10_000)).__next__,
    )
    assert watch.picture == "unknown"
    for number in range(60):
        level = 0 if 20 <= number < 40 else 252 if number >= 40 else 100
        watch.look(frame(min(level, 249), number / 2))
    assert source.counts.events.begun.get("black") == 1
    assert watch.picture == "blinded"


def test_unrelated_images_have_no_picture_to_watch():
    source = Quiet()
    source.continuous = False
    watch = CameraWatch("folder", source, HealthOptions(), {})
    watch.look(frame(0, 0.0))
    assert watch.picture == "unknown"
