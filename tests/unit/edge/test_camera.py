"""One camera, from frames to the spool."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from edge_uploader.camera import Camera, CameraOptions, CameraSpec
from edge_uploader.capture.sources import Frame, FrameSampler, SourceCounts, SourceUnusable
from edge_uploader.capture.streams import LiveSource, StreamOptions
from edge_uploader.delivery.spool import Spool
from edge_uploader.selection.best_shot import BestShotOptions
from edge_uploader.selection.crops import CropOptions
from shared.domain import Candidate
from shared.errors import InvalidIdentifier, InvalidInput
from tests.unit.edge.fakes import ColourDetector, Opener, ScriptedCapture, assess, encode, picture

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class Pictures:
    """A source of pictures, a tenth of a second apart; an exception among them is raised."""

    def __init__(self, *pictures, continuous=True):
        self.counts, self.continuous, self.problem = SourceCounts(), continuous, None
        self._pictures = pictures
        self.closed = False

    def frames(self):
        for index, image in enumerate(self._pictures):
            if self.closed:
                return
            if isinstance(image, Exception):
                raise image
            self.counts.grabbed += 1
            yield Frame(image, START + timedelta(seconds=index / 10), index, index / 10)

    def close(self):
        self.closed = True


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spool")
    yield opened
    opened.close()


def options(**changes):
    shots = BestShotOptions(shots=3, spacing_s=0.3, good_enough=0.3)
    return CameraOptions("hq", "hall", min_face_px=20, shots=shots, crops=CropOptions(margin=0.5), **changes)


def make(spool, source, *, detector=None, opts=None, **more):
    return Camera(
        "door", source, detector or ColourDetector(), spool, opts or options(), assess=assess, encode=encode, **more
    )


def candidates(spool):
    found = []
    while (entry := spool.take(0)) is not None:
        found.append(Candidate.from_metadata(entry.item.metadata))
        assert entry.item.name == found[-1].blob_name
        spool.done(entry)
    return found


def until(condition, deadline_s=10.0):
    ends = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    return condition()


def walk(count, step=8, y=80):
    return [picture((10 + step * i, y, 60 + step * i, y + 60)) for i in range(count)]


def test_somebody_who_walks_by_is_one_track_with_few_crops(spool):
    camera = make(spool, Pictures(*walk(40, step=5)))
    camera.run()
    sent = candidates(spool)
    stats = camera.stats()
    assert len({c.track for c in sent}) == 1
    assert 2 <= len(sent) <= 4, "three, and one more when the face looks different all of a sudden"
    assert sorted(c.shot for c in sent) == list(range(len(sent)))
    assert (stats.state, stats.tracks, stats.frames, stats.detections, stats.crops) == (
        "finished",
        1,
        40,
        40,
        len(sent),
    )
    assert {(c.site, c.camera, c.location, c.detector) for c in sent} == {("hq", "door", "hall", "colour.1")}
    assert all(c.chosen for c in sent)


def test_the_first_crop_goes_before_the_track_ends(spool):
    frames = walk(3)
    camera = make(spool, Pictures(*frames, SourceUnusable("cut")))
    seen = []
    spool_put, spool.put = spool.put, lambda item, **how: (seen.append(camera.stats().frames), spool_put(item, **how))
    camera.run()
    assert seen[0] == 3, "held for half a second at most, and the source broke off before"


def test_two_people_are_two_tracks(spool):
    both = [picture((10 + 5 * i, 20, 60 + 5 * i, 80), (240 - 5 * i, 150, 290 - 5 * i, 210)) for i in range(20)]
    camera = make(spool, Pictures(*both))
    camera.run()
    assert camera.stats().tracks == 2
    assert len({c.track for c in candidates(spool)}) == 2


def test_every_frame_sends_every_face_as_the_seed_does(spool):
    camera = make(spool, Pictures(*walk(25)), opts=options(every_frame=True))
    camera.run()
    sent = candidates(spool)
    assert len(sent) == len({c.track for c in sent}) == len({c.blob_name for c in sent}) == 25
    assert [c.shot for c in sent] == [0] * 25
    assert not any(c.chosen for c in sent), "nobody may take them for a few"


def test_images_that_are_no_film_are_not_tracked(spool):
    make(spool, Pictures(*walk(5), continuous=False)).run()
    assert len({c.track for c in candidates(spool)}) == 5


def test_small_and_doubtful_faces_are_not_sent(spool):
    make(spool, Pictures(*[picture((100, 100, 115, 118))] * 5)).run()
    make(spool, Pictures(*walk(5)), detector=ColourDetector(confidence=0.2)).run()
    make(spool, Pictures(*walk(5)), detector=ColourDetector(confidence=0.5)).run()
    assert candidates(spool) == []


def test_a_source_that_breaks_off_leaves_its_crops_and_its_reason(spool):
    camera = make(spool, Pictures(*walk(6), SourceUnusable("ends early")))
    camera.run()
    assert camera.stats().state == "failed"
    assert camera.stats().error == "ends early"
    assert len(candidates(spool)) >= 1


def test_a_detector_that_throws_ends_this_camera_alone(spool, caplog):
    class Broken(ColourDetector):
        def detect(self, image):
            raise ZeroDivisionError

    camera = make(spool, Pictures(*walk(3)), detector=Broken())
    camera.run()
    assert camera.stats().state == "failed"
    assert "ZeroDivisionError" in camera.stats().error
    assert "camera_failed" in [r.action for r in caplog.records]


def test_a_full_spool_makes_the_camera_wait_and_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_uploader.camera._ROOM_POLL_S", 0.01)
    spool = Spool(tmp_path / "small", limit_bytes=8_000)
    pictures = Pictures(*walk(25))
    camera = make(spool, pictures, opts=options(every_frame=True))
    runner = threading.Thread(target=camera.run)
    runner.start()
    deadline = time.monotonic() + 5
    while not spool.full and time.monotonic() < deadline:
        time.sleep(0.01)
    stuck_at = pictures.counts.grabbed
    time.sleep(0.1)
    assert pictures.counts.grabbed == stuck_at < 25, "it stands still instead of dropping crops"
    sent = []
    while runner.is_alive() and time.monotonic() < deadline:
        sent += candidates(spool)
        time.sleep(0.005)
    runner.join()
    sent += candidates(spool)
    assert len(sent) == 25
    assert camera.stats().lost == 0


def test_stopping_before_a_full_spool_does_not_hang_and_counts_what_is_lost(tmp_path):
    spool = Spool(tmp_path / "small", limit_bytes=500)
    camera = make(spool, Pictures(*walk(10)))
    runner = threading.Thread(target=camera.run)
    runner.start()
    time.sleep(0.1)
    camera.stop()
    runner.join(5)
    assert not runner.is_alive()
    assert camera.stats().lost >= 1
    assert camera.stats().crops == 0


def test_two_runs_never_give_one_track_id_twice(spool):
    for _ in range(2):
        make(spool, Pictures(*walk(10))).run()
    assert len({c.track for c in candidates(spool)}) == 2


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("door=video.mp4", CameraSpec("door", "video.mp4")),
        ("door@Main hall=rtsp://u:p@10.0.0.9/1?a=b", CameraSpec("door", "rtsp://u:p@10.0.0.9/1?a=b", "Main hall")),
        ("tür=0", CameraSpec("tür", "0")),
    ],
)
def test_a_camera_is_read_from_text(text, spec):
    assert CameraSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["", "video.mp4", "=video.mp4", "door=", "door@=video.mp4"])
def test_what_is_no_camera_is_refused(text):
    with pytest.raises(InvalidInput, match="NAME=SOURCE"):
        CameraSpec.parse(text)


def test_a_name_with_control_characters_is_refused():
    with pytest.raises(InvalidIdentifier):
        CameraSpec.parse("do\x00or=0")


@pytest.mark.parametrize("priority", [0, 10, -1])
def test_a_priority_is_one_to_nine(priority):
    with pytest.raises(InvalidInput, match="priority"):
        CameraSpec("door", "0", priority=priority)


def test_crops_carry_priority_worth_and_their_number_to_the_spool(spool):
    camera = make(spool, Pictures(*walk(25)), opts=options(priority=8))
    camera.run()
    items = []
    while (entry := spool.take(0)) is not None:
        items.append(entry.item)
    assert {item.priority for item in items} == {8}
    assert sorted(item.shot for item in items) == list(range(len(items)))
    assert all(0 < item.worth <= 1 for item in items)
    assert all(item.metadata["shot"] == str(item.shot) for item in items)


def test_a_live_camera_does_not_stand_still_at_the_bound(tmp_path):
    spool = Spool(tmp_path / "small", limit_bytes=8_000)
    camera = make(spool, Pictures(*walk(25)), opts=options(every_frame=True, live=True))
    camera.run()
    stats = camera.stats()
    assert stats.crops + stats.dropped == 25
    assert spool.counts.dropped_bound + spool.counts.dropped_new > 0
    assert spool.waiting_bytes <= 8_000
    assert stats.crops == spool.waiting + spool.counts.dropped_bound
    assert (stats.lost, stats.dropped) == (0, spool.counts.dropped_new)
    spool.close()


def test_a_stream_that_goes_away_strands_no_view_whatever_the_clock_does(spool, monkeypatch):
    monkeypatch.setattr("edge_uploader.capture.streams._SILENCE_S", 0.05)
    times = iter([START, START - timedelta(days=1), START + timedelta(days=1)])
    source = LiveSource(
        "rtsp://x/1",
        FrameSampler(),
        StreamOptions(timeout_s=1.0, backoff_max_s=0.05),
        clock=lambda: next(times),
        opener=Opener(ScriptedCapture(3, 0.02, picture((100, 80, 150, 140)))),
    )
    camera = make(spool, source, opts=options(live=True))
    runner = threading.Thread(target=camera.run)
    runner.start()
    assert until(lambda: camera.stats().crops == 1), "sent while the camera is away"
    assert until(lambda: not camera._follower.following)
    assert runner.is_alive() and camera.stats().state == "running"
    camera.stop()
    runner.join(2)
    assert not runner.is_alive()
    assert [candidate.shot for candidate in candidates(spool)] == [0], "and not once more at the end"


def test_who_is_still_there_when_the_stream_returns_is_not_sent_with_the_same_view(spool, monkeypatch):
    monkeypatch.setattr("edge_uploader.capture.streams._SILENCE_S", 0.05)
    face = picture((100, 80, 150, 140))
    away = [ScriptedCapture(None)] * 40
    source = LiveSource(
        "rtsp://x/1",
        FrameSampler(),
        StreamOptions(timeout_s=1.0, backoff_max_s=0.05),
        opener=Opener(ScriptedCapture(3, 0.02, face), *away, ScriptedCapture(3, 0.02, face)),
    )
    camera = make(spool, source, opts=options(live=True))
    runner = threading.Thread(target=camera.run)
    runner.start()
    assert until(lambda: camera.stats().frames_grabbed == 6 and not camera._follower.following)
    camera.stop()
    runner.join(2)
    sent = candidates(spool)
    assert len({candidate.captured_at for candidate in sent}) == len(sent) >= 1


class Failing(ColourDetector):
    """Throws at these looks, counted from 1."""

    def __init__(self, *looks):
        super().__init__()
        self._looks, self.count = looks, 0

    def detect(self, image):
        self.count += 1
        if self.count in self._looks:
            raise ZeroDivisionError
        return super().detect(image)


@pytest.fixture
def at_once(monkeypatch):
    """Restarts without waits."""
    monkeypatch.setattr("edge_uploader.restarts.backoff_s", lambda *_: 0.0)


def test_a_live_camera_goes_on_after_an_error_with_what_it_held_sent_and_counted(spool, caplog, at_once):
    camera = make(spool, Pictures(*walk(30)), detector=Failing(10), opts=options(live=True))
    camera.run()
    stats = camera.stats()
    assert (stats.state, stats.frames, stats.tracks, stats.events_begun) == ("finished", 30, 2, {"failing": 1})
    assert stats.error == "unexpected ZeroDivisionError, see the log; it was started again"
    assert not camera.broken
    (told,) = [record for record in caplog.records if record.action == "camera_restarted"]
    assert told.exc_info and told.camera == "door"
    sent = candidates(spool)
    assert len({c.track for c in sent}) == 2, "no id is given twice"
    assert len({c.captured_at for c in sent}) == len(sent) == stats.crops


def test_a_live_camera_that_fails_again_and_again_has_failed_and_is_broken(spool, at_once):
    detector = Failing(*range(100))
    camera = make(spool, Pictures(*walk(30)), detector=detector, opts=options(live=True))
    camera.run()
    assert (camera.stats().state, camera.broken, detector.count) == ("failed", True, 5)
    assert "ZeroDivisionError" in camera.stats().error


def test_a_recording_and_a_stream_that_was_given_up_fail_and_are_not_broken(spool):
    recording = make(spool, Pictures(*walk(5)), detector=Failing(2))
    given_up = make(spool, Pictures(*walk(5), SourceUnusable("given up")), opts=options(live=True))
    for camera in (recording, given_up):
        camera.run()
        assert (camera.stats().state, camera.broken) == ("failed", False)
    assert recording.stats().frames == 2


def test_a_camera_that_waits_for_its_restart_can_be_stopped(spool, monkeypatch):
    monkeypatch.setattr("edge_uploader.restarts.backoff_s", lambda *_: 60.0)
    camera = make(spool, Pictures(*walk(30)), detector=Failing(1), opts=options(live=True))
    runner = threading.Thread(target=camera.run)
    runner.start()
    assert until(lambda: camera.stats().error is not None)
    assert camera.working_s == 0.0, "it is not stuck"
    camera.stop()
    runner.join(2)
    assert not runner.is_alive()
    assert camera.stats().state == "finished"
