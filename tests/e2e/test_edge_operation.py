"""A gateway as an operator has it: one file, a process, its page, its health, what systemd hears, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from PIL import Image

from local.demo_scene import Walker, compose
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import load_detector
from tests.e2e.service import ROOT, within

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "token-of-the-live-page"

HANGING = """
import sys, threading
import edge_uploader.gateway as gateway

real = gateway.load_edge_detector

class Hangs:
    "Works until the file that it is told of is there, then never answers again."
    detector_id = "hangs.1"
    def __init__(self, settings):
        self.detector, self.sign = real(settings), settings.edge_spool_dir.parent / "hang"
    def detect(self, image):
        if self.sign.exists():
            threading.Event().wait()
        return self.detector.detect(image)

gateway.load_edge_detector = Hangs
from local.cli import main
main()
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody walks past."""
    cache = ModelCache(Settings().model_cache)
    photo = decode_image(cache.path("demo_astronaut").read_bytes(), ImageLimits())
    face = load_detector("mtcnn", cache, min_face_px=60).detect(photo)[0]
    path = tmp_path_factory.mktemp("scene") / "walk.mp4"
    compose(path, [Walker(photo, face, 0.0, 4.0)], duration_s=4.0, seed=3)
    return path


class Manager(threading.Thread):
    """Stands in for systemd: hears what a process tells it."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.path = path
        self.start()

    def run(self) -> None:
        while message := self._socket.recv(1_000):
            self.told.append(message.decode())

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self.join(5)
        self._socket.close()


class Gateway:
    """A process that runs `facerelay edge run --config`."""

    def __init__(self, folder: Path, scene: Path, program: list[str], token: str) -> None:
        self.folder, self.file, self.log = folder, folder / "edge.yaml", folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.file.write_text(
            f"site: museum\nstuck_s: 5\ndata_dir: {folder / 'data'}\nspool: {{dir: {folder / 'spool'}}}\n"
            f"log: {{format: json}}\npage: {{port: {self.port}, token: {token}}}\n"
            f"cameras:\n  - {{name: door, source: {scene}, location: Lobby, fps: 5}}\n"
        )
        self.file.chmod(0o600)
        self.manager = Manager(folder / "notify")
        self.url = f"http://127.0.0.1:{self.port}"
        self._sink = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, *program, "edge", "run", "--config", str(self.file), "--loop"],
            cwd=ROOT,
            env=self.environment() | {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "1000000"},
            stdout=self._sink,
            stderr=self._sink,
        )

    @staticmethod
    def environment() -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith("FACERELAY_EDGE")}

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)

    def reached(self, path: str, wanted: Callable[[requests.Response], bool]) -> requests.Response:
        def ask() -> list[requests.Response]:
            assert self.process.poll() is None, self.log.read_text()
            try:
                answer = self.get(path)
            except requests.ConnectionError:
                return []
            return [answer] if wanted(answer) else []  # an answer of 503 is false by itself

        (answer,) = within(40, ask)
        return answer

    def status(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local", "edge", "status", "--config", str(self.file), *options]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=30, check=False
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.manager.close()
        self._sink.close()


@pytest.fixture
def start(tmp_path: Path, scene: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def run(*program: str, token: str = TOKEN) -> Gateway:
        started.append(Gateway(tmp_path, scene, list(program) or ["-m", "local"], token))
        return started[-1]

    yield run
    for gateway in started:
        gateway.close()


def test_a_gateway_is_seen_from_its_first_crop_to_its_end(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start()
    document = gateway.reached("/api/status", lambda a: a.ok and a.json()["uploaded"] > 0).json()
    assert document["cameras"][0]["location"] == "Lobby" and document["cameras"][0]["frames"] > 0
    assert requests.get(gateway.url + "/api/status", timeout=5).status_code == 401
    assert requests.get(gateway.url + "/healthz", timeout=5).text == "ok\n"
    shown = gateway.status()
    assert shown.returncode == 0, shown.stderr
    assert "door" in shown.stdout and "running" in shown.stdout and max(map(len, shown.stdout.splitlines())) <= 80
    metrics = gateway.get("/metrics").text
    assert 'facerelay_edge_grabbed_total{camera="door",site="museum"}' in metrics

    picture = gateway.reached("/api/cameras/0/picture", lambda a: a.status_code == 200)
    image = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (540, 960, 3)

    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(30) == 0
    told = gateway.manager.told
    assert told[0] == "READY=1" and "STOPPING=1" in told and told.count("WATCHDOG=1") >= 2
    assert any(line.startswith("STATUS=") and "1 cameras" in line for line in told)
    assert not (tmp_path / "spool" / "gateway.json").exists()
    assert TOKEN not in gateway.log.read_text()
    assert all(json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{"))


def test_a_stuck_camera_is_told_and_the_watchdog_goes_hungry(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start("-c", HANGING)
    gateway.reached("/healthz", lambda a: a.status_code == 200)
    assert within(20, lambda: gateway.manager.told.count("WATCHDOG=1") >= 2)
    (tmp_path / "hang").touch()
    answer = gateway.reached("/healthz", lambda a: a.status_code == 503)
    assert answer.text == "cameras without progress: 1\n"
    time.sleep(0.5)
    fed = gateway.manager.told.count("WATCHDOG=1")
    shown = gateway.status("--json")
    assert shown.returncode == 1
    document = json.loads(shown.stdout)
    assert document["health"]["stuck"] == ["door"] and "worked on for" in document["health"]["problems"][0]
    time.sleep(1.5)
    assert gateway.manager.told.count("WATCHDOG=1") == fed
    assert any("door" in line and line.startswith("STATUS=") for line in gateway.manager.told)


def test_after_a_kill_the_status_says_so_and_the_next_start_is_clean(start: Callable[..., Gateway]) -> None:
    gateway = start()
    gateway.reached("/healthz", lambda a: a.status_code == 200)
    gateway.process.kill()
    gateway.process.wait(10)
    shown = gateway.status()
    assert shown.returncode == 1
    assert "has ended without tidying up" in " ".join(shown.stderr.split())
    assert "crops wait in the spool" in shown.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here: the page is not looked at")
def test_the_page_is_drawn_by_a_browser(start: Callable[..., Gateway], tmp_path: Path) -> None:
    """Its script runs under its own policy: the picture of the camera is there, a dark hall on a page that is light."""
    gateway = start(token="")
    gateway.reached("/api/status", lambda a: a.ok and a.json()["cameras"][0]["frames"] > 5)
    narrow, wide = (screenshot(gateway.url, tmp_path / f"{width}.png", width) for width in (360, 1920))
    assert (narrow.size, wide.size) == ((360, 900), (1920, 900))
    for page in (narrow, wide):
        dark = np.asarray(page.convert("L")) < 200
        # The picture alone takes 18 % of the narrow page and more of the wide one, the text 4 %.
        assert dark.mean() > 0.12, dark.mean()
    text = " ".join(re.sub(r"<[^>]*>", " ", browse(gateway.url, tmp_path, "--dump-dom")).split())
    assert re.search(r"worked on [1-9][\d.]* fps looked at [1-9][\d.]* fps behind \d+ camera gives [1-9]", text), text
    assert "undefined" not in text and "NaN" not in text


def screenshot(url: str, path: Path, width: int) -> Image.Image:
    """The page after six seconds of a browser's own time."""
    browse(url, path.parent, f"--window-size={width},900", f"--screenshot={path}")
    with Image.open(path) as image:
        return image.convert("RGB")


def browse(url: str, folder: Path, *wanted: str) -> str:
    """What a browser prints, after six seconds of its own time on a page."""
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [
        str(CHROMIUM), *options.split(), "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=6000", *wanted, url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
