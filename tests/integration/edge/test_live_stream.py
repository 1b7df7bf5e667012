"""A real MJPEG stream over HTTP, on the loopback interface, read by OpenCV's FFmpeg."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from edge_uploader.capture.sources import FrameSampler
from edge_uploader.capture.streams import LiveSource, StreamOptions
from tests.unit.edge.fakes import encode, picture


class Camera(BaseHTTPRequestHandler):
    """Sends numbered pictures: the red square's left edge is ten times the number, modulo 25."""

    frames_per_connection = 1_000_000
    connections = 0

    def do_GET(self) -> None:  # noqa: N802
        type(self).connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for number in range(self.frames_per_connection):
                left = 10 * (number % 25)
                jpeg = encode(picture((left, 50, left + 60, 110)), 90)
                self.wfile.write(
                    b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
                )
                time.sleep(0.01)
        except OSError:
            return

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture
def camera():
    handler = type("OneCamera", (Camera,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/video"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stream_gives_the_present_to_a_slow_detector(camera):
    _, address = camera
    source = LiveSource(address, FrameSampler(), StreamOptions(timeout_s=5))
    ages = []
    for frame in source.frames():
        assert frame.image.shape == (240, 320, 3)
        time.sleep(0.1)
        ages.append(frame.position_s)
        if len(ages) == 8:
            break
    source.close()
    assert source.counts.dropped >= 8, "frames that came meanwhile were dropped, not queued"
    assert np.diff(ages).max() < 1.0


def test_a_camera_that_hangs_up_is_called_again(camera):
    handler, address = camera
    handler.frames_per_connection = 20
    source = LiveSource(address, FrameSampler(), StreamOptions(timeout_s=5, backoff_max_s=0.05))
    frames = source.frames()
    indices = [next(frames).index for _ in range(45)]
    source.close()
    assert handler.connections >= 2
    assert source.counts.reconnects >= 1
    assert indices == sorted(set(indices))


def test_the_target_rate_holds_on_a_stream(camera):
    _, address = camera
    source = LiveSource(address, FrameSampler(fps=10), StreamOptions(timeout_s=5))
    frames = source.frames()
    next(frames)
    began = time.monotonic()
    for _ in range(10):
        next(frames)
    source.close()
    assert 0.7 < time.monotonic() - began < 2.5
    assert source.counts.skipped > 20
