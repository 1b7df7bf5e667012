"""Live sources: the present, not the past, and back again after an outage."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.capture.ffmpeg import open_capture
from edge_uploader.capture.sources import Frame, FrameSampler, Silence, SourceUnusable
from edge_uploader.capture.streams import LiveSource, StreamOptions, backoff_s
from tests.unit.edge.fakes import Opener, ScriptedCapture, picture

FAST = StreamOptions(timeout_s=1.0, backoff_max_s=0.01)


def test_a_webcam_is_asked_for_large_pictures_in_a_format_that_fits_the_wire(monkeypatch):
    asked, jpeg, speaks = [], int.from_bytes(b"MJPG", "little"), 0

    class Webcam:
        def __init__(self, index):
            asked.append(index)

        def set(self, prop, value):
            asked.append((prop, int(value)))

        def get(self, prop):
            assert prop == cv2.CAP_PROP_FOURCC
            return float(speaks)

    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    open_capture(3, 1.0)
    assert asked == [3, (cv2.CAP_PROP_FOURCC, jpeg)], "large pictures as they are would come five a second"
    asked.clear()
    speaks = jpeg
    open_capture(3, 1.0)
    assert asked[2:] == [(cv2.CAP_PROP_FRAME_WIDTH, 1920), (cv2.CAP_PROP_FRAME_HEIGHT, 1080)]


def test_a_slow_reader_sees_the_newest_frame_and_the_rest_is_counted():
    source = LiveSource("rtsp://x/1", FrameSampler(), FAST, opener=Opener(ScriptedCapture(60, 0.002)))
    frames = source.frames()
    first = next(frames)
    time.sleep(0.08)
    second = next(frames)
    source.close()
    assert second.index - first.index >= 10
    assert source.counts.dropped >= 9
    assert second.position_s > first.position_s


def test_a_stream_that_breaks_off_is_opened_again():
    captures = [ScriptedCapture(3, 0.002), ScriptedCapture(None), ScriptedCapture(1000, 0.002)]
    source = LiveSource("rtsp://x/1", FrameSampler(), FAST, opener=Opener(*captures))
    for frame in source.frames():
        if frame.index >= 10:
            break
    source.close()
    assert source.counts.reconnects >= 2
    assert source.problem is None
    assert captures[0].released and captures[1].released


def test_while_it_is_away_the_problem_is_named_without_the_password(caplog):
    source = LiveSource("rtsp://admin:ge/heim@10.0.0.9/1", FrameSampler(), FAST, opener=Opener())
    reader = threading.Thread(target=lambda: list(source.frames()))
    reader.start()
    deadline = time.monotonic() + 5
    while source.counts.reconnects < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    assert source.problem == "rtsp://10.0.0.9 cannot be opened"
    assert "heim" not in caplog.text
    assert [r.action for r in caplog.records].count("camera_event") == 1, "an outage is said once"


def test_it_is_given_up_when_that_is_asked_for():
    options = StreamOptions(timeout_s=1.0, backoff_max_s=0.01, give_up_s=0.1)
    source = LiveSource(7, FrameSampler(), options, opener=Opener(ScriptedCapture(2)))
    with pytest.raises(SourceUnusable, match=r"webcam 7 (cannot be opened|stopped giving frames); given up"):
        list(source.frames())


def test_what_throws_is_a_loss_logged_once_and_the_stream_is_opened_again(caplog):
    address = "rtsp://u:ge/heim@10.0.0.9/1"

    class Moody(ScriptedCapture):
        def retrieve(self, image=None):
            raise RuntimeError(f"no mood for {address}")

    def throws():
        raise MemoryError

    broken, unopened = Moody(1), ScriptedCapture(1)
    unopened.isOpened = throws
    source = LiveSource(address, FrameSampler(), FAST, opener=Opener(broken, unopened, ScriptedCapture(1000, 0.002)))
    frames = source.frames()
    assert next(frames).index >= 1
    frames.close()
    assert broken.released and unopened.released
    assert source.problem is None and source.counts.reconnects == 2
    assert source.counts.events.begun == {"lost": 1}
    logged = [record.getMessage() for record in caplog.records if record.action == "stream_error"]
    assert len(logged) == 1
    assert "Traceback" in logged[0] and "RuntimeError: no mood for rtsp://10.0.0.9" in logged[0]
    assert "heim" not in caplog.text


def test_an_opener_that_always_throws_is_asked_with_waits_and_given_up_when_that_is_asked_for():
    calls = []

    def broken(address, timeout_s):
        calls.append(address)
        raise RuntimeError("a driver's mood")

    options = StreamOptions(timeout_s=1.0, backoff_max_s=0.05, give_up_s=0.3)
    source = LiveSource(0, FrameSampler(), options, opener=broken)
    with pytest.raises(SourceUnusable, match="webcam 0: reading failed, unexpected RuntimeError; given up"):
        list(source.frames())
    assert 3 <= len(calls) <= 13
    assert source.counts.events.begun == {"lost": 1}


def test_frames_that_are_not_wanted_are_not_decoded():
    capture = ScriptedCapture(30, 0.001)
    decoded = []
    capture.retrieve = lambda image: decoded.append(1) or (True, picture())
    options = StreamOptions(timeout_s=1.0, backoff_max_s=0.01, give_up_s=0.02)
    source = LiveSource("http://x", FrameSampler(skip_frames=9), options, opener=Opener(capture))
    with pytest.raises(SourceUnusable):
        list(source.frames())
    assert (len(decoded), source.counts.skipped) == (3, 27)


def test_close_unblocks_a_reader_that_waits():
    source = LiveSource("rtsp://x", FrameSampler(), StreamOptions(backoff_max_s=60.0), opener=Opener())
    reader = threading.Thread(target=lambda: list(source.frames()))
    reader.start()
    time.sleep(0.05)
    source.close()
    reader.join(3)
    assert not reader.is_alive()


@given(st.integers(1, 10_000), st.floats(0.1, 100), st.floats(0, 1))
def test_waits_grow_stay_below_the_longest_and_never_vanish(attempt, longest, draw):
    wait = backoff_s(attempt, longest, draw)
    assert min(longest, 0.5) / 2 <= wait <= longest
    assert backoff_s(attempt + 1, longest, draw) >= wait


def test_while_no_frame_comes_it_wakes_by_the_clock_of_the_frames(monkeypatch):
    monkeypatch.setattr("edge_uploader.capture.streams._SILENCE_S", 0.05)
    source = LiveSource("rtsp://x", FrameSampler(), FAST, opener=Opener(ScriptedCapture(1)))
    moments = source.moments()
    began = time.monotonic()
    first, *silent = (next(moments) for _ in range(5))
    elapsed_s = time.monotonic() - began
    moments.close()
    assert isinstance(first, Frame) and all(isinstance(moment, Silence) for moment in silent)
    positions = [moment.position_s for moment in (first, *silent)]
    assert all(after - before >= 0.04 for before, after in pairwise(positions))
    assert positions[-1] <= elapsed_s


def test_whoever_wants_frames_alone_gets_nothing_else(monkeypatch):
    monkeypatch.setattr("edge_uploader.capture.streams._SILENCE_S", 0.01)
    source = LiveSource("rtsp://x", FrameSampler(), FAST, opener=Opener(ScriptedCapture(3, 0.1)))
    frames = source.frames()
    assert all(isinstance(next(frames), Frame) for _ in range(3))
    frames.close()
