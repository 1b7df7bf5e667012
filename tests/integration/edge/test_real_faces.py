"""The gateway with real weights on real faces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_uploader.camera import CameraSpec
from edge_uploader.gateway import build_gateway, load_edge_detector
from edge_uploader.settings import EdgeSettings
from shared.domain import CANDIDATES, Candidate, sha256_hex
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import load_detector
from tests.unit.edge.fakes import FaultyBlobStore, write_video

ROOT = Path(__file__).parents[3]
LIMITS = ImageLimits(10_000_000, 50_000_000, 1)
VERIFIED = 0.95


@pytest.fixture(scope="module")
def mtcnn(cache, artefact):
    artefact("mtcnn_pnet")
    return load_detector("mtcnn", cache)


@pytest.fixture
def settings(artefact, tmp_path):
    artefact("yunet")
    return EdgeSettings(edge_spool_dir=tmp_path / "spool", edge_site="lab")


@pytest.fixture(scope="module")
def passer_by(artefact, tmp_path_factory):
    """A NASA portrait (public domain) that moves through a 720p picture, 4 s at 10 fps."""
    portrait = decode_image(artefact("demo_astronaut").read_bytes(), LIMITS)
    small = cv2.resize(portrait, (360, 360), interpolation=cv2.INTER_AREA)
    frames = []
    for number in range(40):
        frame = np.full((720, 1280, 3), 90, np.uint8)
        left = 40 + 21 * number
        frame[200:560, left : left + 360] = small
        frames.append(frame)
    path = tmp_path_factory.mktemp("video") / "passer_by.avi"
    write_video(str(path), frames)
    return path


class Watcher:
    """Remembers which track every face was joined to, and which tracks sent a crop."""

    def __init__(self):
        self.seen, self.sent = [], set()

    def frame(self, frame, tracks):
        self.seen += [(track.id, track.face) for track in tracks]

    def crop(self, track, crop):
        self.sent.add(track)

    def close(self):
        pass


def run(settings, source, watcher=None):
    store = FaultyBlobStore()
    observe = None if watcher is None else lambda spec: watcher
    gateway = build_gateway(settings, [CameraSpec("door", str(source))], store, observe=observe)
    report = gateway.run(threading.Event())
    return report, list(store.blobs.values())


def confidence(mtcnn, blob):
    faces = mtcnn.detect(decode_image(blob.data, LIMITS))
    return max((face.confidence for face in faces), default=0.0)


def test_a_passer_by_is_one_track_whose_crops_the_recogniser_verifies(settings, passer_by, mtcnn):
    report, blobs = run(settings, passer_by)
    sent = [Candidate.from_metadata(blob.properties.metadata) for blob in blobs]
    assert len({c.track for c in sent}) == report.cameras[0].tracks == 1
    assert 2 <= len(sent) <= settings.edge_shots_per_track
    for candidate, blob in zip(sent, blobs, strict=True):
        assert sha256_hex(blob.data) == candidate.sha256
        face = mtcnn.detect(decode_image(blob.data, LIMITS))[0]
        assert face.confidence >= VERIFIED
        # The edge's landmarks, in pixels of the crop, are where the recogniser's own are.
        assert np.abs(np.array(candidate.landmarks) - face.landmarks).max() < 0.15 * face.width_px


def test_every_detector_that_can_be_chosen_works_behind_the_same_settings(settings, passer_by, artefact):
    for name, files in {"ultra_light": ["ultra_light"], "mtcnn": ["mtcnn_pnet"], "yunet": ["yunet"]}.items():
        artefact(files[0])
        detector = load_edge_detector(settings.model_copy(update={"edge_detector": name}))
        capture = cv2.VideoCapture(str(passer_by))
        image = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
        capture.release()
        faces = [face for face in detector.detect(image) if face.confidence >= settings.edge_high_confidence]
        assert len(faces) == 1, name
        assert 40 < faces[0].box[0] < 400, name


@pytest.mark.shared_data
def test_everybody_clearly_visible_in_the_street_is_sent(settings, shared_data, mtcnn):
    """Whoever the detector is sure of, at 48 px and more, is on a track that sent a crop; and enough are verified."""
    watcher = Watcher()
    report, blobs = run(settings, shared_data / "video" / "street_crowd_1080p.mp4", watcher)
    clear = {track for track, face in watcher.seen if face.confidence >= 0.8 and face.height_px >= 48}
    assert len(clear) >= 8
    assert clear <= watcher.sent
    verified = {
        Candidate.from_metadata(blob.properties.metadata).track for blob in blobs if confidence(mtcnn, blob) >= VERIFIED
    }
    assert len(verified) >= 8
    assert report.cameras[0].tracks <= 18, "tracks that break would be counted twice"


@pytest.mark.shared_data
def test_hardly_anything_of_the_corridor_is_verified(settings, shared_data, mtcnn):
    """People from behind and above: a few doubtful crops may be sent, and of those almost none is a face."""
    report, blobs = run(settings.model_copy(update={"edge_fps": 2.0}), shared_data / "video" / "one_by_one_person.mp4")
    assert len(blobs) <= 20
    assert sum(confidence(mtcnn, blob) >= VERIFIED for blob in blobs) <= 1


COMMAND = [sys.executable, "-c", "from local.cli.edge import app; app()"]


def command(tmp_path, *arguments, action=("run",)):
    environment = os.environ | {
        "FACERELAY_DATA_DIR": str(tmp_path / "data"),
        "FACERELAY_EDGE_SPOOL_DIR": str(tmp_path / "spool"),
    }
    return subprocess.Popen(
        [*COMMAND, *action, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(tmp_path):
    from shared.bootstrap import open_blob_store
    from shared.settings import StoreSettings

    return list(open_blob_store(StoreSettings(data_dir=tmp_path / "data")).list(CANDIDATES))


def previewed(tmp_path, video, *more):
    out = tmp_path / "out"
    arguments = ["preview", "--camera", f"door={video}", "--out", str(out), "--seconds", "2", "--json", *more]
    with command(tmp_path, *arguments, action=()) as process:
        told, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(told)[0], out


def test_a_preview_shows_the_faces_says_whether_they_will_do_and_sends_nothing(artefact, passer_by, tmp_path):
    artefact("yunet")
    look, out = previewed(tmp_path, passer_by)
    assert (look["state"], look["frame_size"], look["error"]) == ("finished", [1280, 720], None)
    assert look["looks"] == look["faces"] == look["usable"] >= 3
    assert look["crops"] >= 1 and "few faces were seen" in look["verdict"][-1]
    seen = cv2.imread(str(out / "door-preview.jpg"))
    assert seen.shape == (720, 1280, 3)
    green = (seen[..., 1] > 150) & (seen[..., 0] < 120) & (seen[..., 2] < 120)
    assert green.sum() > 200, "a usable face has a green box"
    assert not (tmp_path / "data").exists() and not (tmp_path / "spool").exists()


def test_a_preview_of_faces_that_are_too_small_says_what_to_do(artefact, passer_by, tmp_path):
    artefact("yunet")
    look, _ = previewed(tmp_path, passer_by, "--min-size", "180")
    assert (look["usable"], look["crops"], look["min_face_px"]) == (0, 0, 180)
    assert look["unusable"] == {"too_small": look["faces"]}
    assert "too small to be sent (180 px is the least)" in look["verdict"][0]


def test_the_command_line_sends_reports_and_names_a_bad_camera(artefact, passer_by, tmp_path):
    artefact("yunet")
    with command(
        tmp_path, "--camera", f"door@Hall={passer_by}", "--camera", "bad=/nowhere.mp4", "--site", "lab", "--json"
    ) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "bad" in err and "no video file at /nowhere.mp4" in err.replace("\n", "")
    report = json.loads(out)
    assert [camera["state"] for camera in report["cameras"]] == ["finished", "failed"]
    blobs = stored(tmp_path)
    assert len(blobs) == report["uploaded"] >= 2
    assert {blob.metadata["location"] for blob in blobs} == {"Hall"}


def test_a_signal_stops_it_cleanly_with_the_spool_empty(artefact, passer_by, tmp_path):
    artefact("yunet")
    with command(tmp_path, "--camera", f"door={passer_by}", "--loop", "--json") as process:
        deadline = time.monotonic() + 30
        while not list((tmp_path / "data").glob("blobs/**/*.jpg")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["cameras"][0]["state"] == "finished"
    assert report["waiting"] == 0
    assert len(stored(tmp_path)) == report["uploaded"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "video.mp4"], "NAME=SOURCE"),
        (["--camera", "a=0", "--min-size", "500"], "edge_min_face_px is above edge_max_face_px"),
        (["--camera", "a=0", "--start", "yesterday"], "not an RFC 3339 time"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message):
    with command(tmp_path, *arguments) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert message in " ".join(err.split())
    assert "Traceback" not in err
