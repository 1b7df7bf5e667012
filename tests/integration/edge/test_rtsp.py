"""A real RTSP server, that is killed, stopped, frozen and restarted with another picture."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bench.edge_streams import faults
from bench.rtsp_camera import RtspCamera
from edge_uploader.capture.ffmpeg import open_capture
from edge_uploader.capture.sources import FrameSampler
from edge_uploader.capture.streams import LiveSource, StreamOptions
from tests.unit.edge.fakes import picture, write_video

pytestmark = pytest.mark.rtsp

ROOT = Path(__file__).parents[3]
QUICK = StreamOptions(timeout_s=2.0, backoff_max_s=1.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds of a square that walks through noise."""
    random, frames = np.random.default_rng(0), []
    for number in range(40):
        frame = picture((10 + 6 * number, 80, 60 + 6 * number, 140))
        frames.append(np.clip(frame + random.normal(0, 6, frame.shape), 0, 255).astype(np.uint8))
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    write_video(str(path), frames)
    return path


@pytest.fixture
def camera(clip, tmp_path):
    with RtspCamera(clip, tmp_path / "camera.h264", fps="20", gop="10") as server:
        yield server


class Reader:
    """Reads a source in a thread and keeps what came last."""

    def __init__(self, source):
        self.source, self.frames, self.last = source, 0, None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for frame in self.source.frames():
            self.frames, self.last = self.frames + 1, frame

    def wait(self, more=3, timeout_s=20.0):
        """Seconds until so many more frames were read."""
        began, before = time.monotonic(), self.frames
        while self.frames < before + more:
            assert time.monotonic() - began < timeout_s, "no frames"
            time.sleep(0.01)
        return time.monotonic() - began

    def wait_event(self, count, timeout_s=15.0):
        began = time.monotonic()
        while len(self.events) < count:
            assert time.monotonic() - began < timeout_s, self.events
            time.sleep(0.02)

    @property
    def events(self):
        return [(event.kind, event.phase) for event in self.source.counts.events.newest()]

    def close(self):
        """Seconds until the source has ended."""
        began = time.monotonic()
        self.source.close()
        self._thread.join(30)
        return time.monotonic() - began


@pytest.fixture
def reader(camera):
    reader = Reader(LiveSource(camera.address, FrameSampler(fps=6.0), QUICK))
    reader.wait()
    yield reader
    reader.close()


def test_a_killed_server_is_reported_once_and_read_again_soon_after_it_is_back(camera, reader):
    camera.kill()
    reader.wait_event(1)
    time.sleep(2.0)
    camera.start()
    assert reader.wait() < 10.0
    assert reader.events == [("lost", "begin"), ("lost", "end")]


def test_a_server_that_stands_still_is_noticed_when_its_time_is_up(camera, reader):
    """OpenCV alone takes the timeout once more for each frame that the decoder holds back."""
    camera.send(signal.SIGSTOP)
    began = time.monotonic()
    reader.wait_event(1)
    assert 1.5 < time.monotonic() - began < 2 * QUICK.timeout_s
    camera.send(signal.SIGCONT)
    assert reader.wait() < 10.0
    assert reader.events == [("lost", "begin"), ("lost", "end")]


def test_a_server_that_sends_no_packets_is_noticed_too(camera, reader):
    camera.send(signal.SIGUSR2)
    reader.wait_event(1)
    camera.send(signal.SIGUSR2)
    assert reader.wait() < 10.0


def test_close_does_not_wait_for_a_read_that_hangs(clip, tmp_path):
    with RtspCamera(clip, tmp_path / "hang.h264", fps="20") as server:
        reader = Reader(LiveSource(server.address, FrameSampler(), StreamOptions(timeout_s=4.0)))
        reader.wait()
        server.send(signal.SIGSTOP)
        time.sleep(0.3)
        assert reader.close() < 1.5
        assert reader.events == [], "what ends because it was told to is no trouble"
        deadline = time.monotonic() + 6
        while any(thread.name.startswith("read rtsp") for thread in threading.enumerate()):
            assert time.monotonic() < deadline, "the reading thread must end when its time is up"
            time.sleep(0.05)


def test_a_server_that_comes_back_with_another_picture_is_read_as_it_is(clip, camera, reader, tmp_path):
    assert reader.last.image.shape == (240, 320, 3)
    camera.kill()
    other = RtspCamera(clip, tmp_path / "portrait.h264", fps="20", size="180x320")
    other.port = camera.port
    with other:
        reader.wait()
        time.sleep(0.3)
        assert reader.last.image.shape == (320, 180, 3)


def test_jpeg_over_rtp_and_a_password(clip, tmp_path):
    with RtspCamera(clip, tmp_path / "camera.mjpeg", codec="mjpeg", user="admin", password="geheim") as server:
        reader = Reader(LiveSource(server.address, FrameSampler(), QUICK))
        reader.wait()
        reader.close()
        wrong = LiveSource(server.address.replace("geheim", "falsch"), FrameSampler(), QUICK)
        refused = Reader(wrong)
        refused.wait_event(1)
        assert wrong.problem == f"rtsp://127.0.0.1:{server.port} cannot be opened"
        refused.close()


def test_an_address_that_answers_and_says_nothing_is_given_up_in_time():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("rtsp", "http"):
            began = time.monotonic()
            capture = open_capture(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x", 1.0)
            assert not capture.isOpened()
            assert time.monotonic() - began < 2.0


def test_hundreds_of_reconnections_leave_nothing_behind(camera):
    def held():
        return tuple(len(list(Path(f"/proc/self/{what}").iterdir())) for what in ("fd", "task"))

    levels = []
    for number in range(12):
        capture = open_capture(camera.address, 2.0)
        assert capture.grab()
        capture.release()
        for _ in range(20):
            open_capture("rtsp://127.0.0.1:1/x", 1.0).release()
        if number >= 2:
            levels.append(held())
    assert max(levels)[0] <= levels[0][0] + 2
    assert levels[-1][1] <= levels[0][1] + 1


def test_nothing_of_ffmpeg_reaches_the_screen(clip, tmp_path):
    """A newcomer saw its lines between ours: refused passwords, packets that cannot be decoded."""
    script = (
        "import sys; from pathlib import Path; from edge_uploader.capture.ffmpeg import open_capture, open_file\n"
        "from cv2.utils import logging; logging.setLogLevel(logging.LOG_LEVEL_ERROR)\n"
        "open_capture(sys.argv[1], 2.0)\n"
        "capture = open_file(Path(sys.argv[2]))\n"
        "while capture.grab(): pass\n"
    )
    broken = tmp_path / "broken.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), "-c:v", "libx264", str(broken)], check=True)
    data = bytearray(broken.read_bytes())
    for at in range(2_000, len(data) - 4_000, 97):
        data[at] ^= 0xFF
    broken.write_bytes(data)
    with RtspCamera(clip, tmp_path / "a.h264", user="a", password="b") as server:
        address = server.address.replace("a:b@", "a:falsch@")
        done = subprocess.run(
            [sys.executable, "-c", script, address, str(broken)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_short_soak(artefact, clip, tmp_path):
    """`make bench-edge-streams` in small: every event once, back within ten seconds, nothing held."""
    artefact("yunet")
    figures = faults(clip, tmp_path, kills=2, stops=0, freezes=1, up_s=2.0)
    assert figures["events"] == figures["events_expected"]
    assert figures["recovery_worst_s"] < 10.0
    held = figures["held"]
    assert held["threads"]["last"] <= held["threads"]["first"] + 1
    assert held["file_handles"]["last"] <= held["file_handles"]["first"] + 3
