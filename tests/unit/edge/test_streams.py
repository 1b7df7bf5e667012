"""Live sources: the present, not the past, and back again after an outage."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.capture.sources import FrameSampler, SourceUnusable
from edge_uploader.capture.streams import LiveSource, StreamOptions, backoff_s
from tests.unit.edge.fakes import picture

FAST = StreamOptions(timeout_s=1.0, backoff_max_s=0.01)


class ScriptedCapture:
    """A capture of so many frames, that come at an interval; None never opens."""

    def __init__(self, frames, interval_s=0.0):
        self._left, self._interval_s = frames, interval_s
        self.released = False

    def isOpened(self):  # noqa: N802
        return self._left is not None

    def grab(self):
        if not self._left:
            return False
        time.sleep(self._interval_s)
        self._left -= 1
        return True

    def retrieve(self, image=None):
        return True, picture()

    def get(self, prop):
        return 0.0

    def release(self):
        self.released = True


class Opener:
    """Hands out captures in turn, then such as never open."""

    def __init__(self, *captures):
        self._captures = list(captures)
        self.calls = 0

    def __call__(self, address, timeout_s):
        self.calls += 1
        return self._captures.pop(0) if self._captures else ScriptedCapture(None)


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


def test_an_opener_that_throws_is_this_cameras_problem():
    def broken(address, timeout_s):
        raise RuntimeError("a driver's mood")

    with pytest.raises(SourceUnusable, match="reading failed"):
        list(LiveSource(0, FrameSampler(), FAST, opener=broken).frames())


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
