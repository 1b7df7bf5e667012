"""`recognize video` and `folder` against a running service: who is in a clip composed of a photograph."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from local.cli import app
from tests.e2e.service import Service, serving
from tests.unit.edge.fakes import write_video

Photo = Callable[[str], bytes]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, jpeg: Photo) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with serving(folder / "data", folder / "log") as running:
        running.enrol("barack_obama", jpeg("demo_obama2"), jpeg("demo_obama3"))
        running.call("POST", "/model/optimized-train")
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, jpeg: Photo) -> Path:
    """The photograph, moved a little from frame to frame, two seconds."""
    with Image.open(BytesIO(jpeg("demo_obama"))) as image:
        pixels = np.asarray(image.convert("RGB"))
    pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    write_video(str(path), [np.roll(pixels, 3 * n, axis=1) for n in range(12)], fps=6)
    return path


def run(*arguments: str):
    done = CliRunner().invoke(app, ["recognize", *arguments, "--json", "--stats"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["--every-face", "--tracked"])
def test_somebody_enrolled_is_named_in_a_video(service: Service, clip: Path, tmp_path: Path, way: str) -> None:
    told = run("video", str(clip), "--url", service.url, "--output", str(tmp_path / "o.mp4"), way)
    assert told["frames"] == 12 and told["people"].get("barack_obama", 0) >= 11, told
    assert (told["asked"] < told["faces"]) == (way == "--tracked")
    assert told["stats"]["p95_ms"] >= told["stats"]["median_ms"] > 0
    assert cv2.VideoCapture(told["output"]).get(cv2.CAP_PROP_FRAME_COUNT) == 12


@pytest.fixture
def mjpeg(clip: Path) -> Iterator[str]:
    """The clip as a camera that gives it again and again, over HTTP."""
    capture = cv2.VideoCapture(str(clip))
    frames = [cv2.imencode(".jpg", capture.read()[1])[1].tobytes() for _ in range(12)]

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):
                for frame in itertools.cycle(frames):
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                    self.wfile.write(head.encode() + frame + b"\r\n")
                    time.sleep(0.1)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
        server.shutdown()


def test_somebody_before_a_camera_is_named_for_as_long_as_was_asked(
    service: Service, mjpeg: str, tmp_path: Path
) -> None:
    output = tmp_path / "o.mp4"
    told = run("camera", "--device", mjpeg, "--url", service.url, "--output", str(output), "--seconds", "3")
    assert told["people"].get("barack_obama", 0) >= 2, told
    assert 3 <= told["frames"] <= 20, "six a second at the most, for three seconds"
    assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT) >= 3


def test_without_a_screen_the_window_is_a_video(
    service: Service, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    done = CliRunner().invoke(app, ["recognize", "video", str(clip), "--url", service.url, "--window", "--tracked"])
    assert done.exit_code == 0, done.output
    assert "no window" in done.stderr and "barack_obama" in done.stdout and "wrote recognized.mp4" in done.stdout
    assert cv2.VideoCapture("recognized.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_a_dry_run_names_nobody(service: Service, clip: Path, tmp_path: Path) -> None:
    told = run("video", str(clip), "--url", service.url, "--output", str(tmp_path / "o.mp4"), "--dry-run")
    assert told["people"] == {} and told["asked"] == told["faces"] > 0


def test_a_folder_in_depth(service: Service, tmp_path: Path, jpeg: Photo) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "one.jpg").write_bytes(jpeg("demo_obama"))
    told = run("folder", str(tmp_path / "in"), "--recursive", "--url", service.url, "--output", str(tmp_path / "out"))
    (face,) = told["images"][0]["faces"]
    assert face["top_prediction"]["label"] == "barack_obama"
    assert (tmp_path / "out" / "deep" / "one.jpg.jpg").stat().st_size > 1_000
