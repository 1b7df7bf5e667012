"""Several cameras in one process."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import cv2
import pytest
from pydantic import ValidationError

from edge_uploader.camera import CameraSpec
from edge_uploader.capture.sources import FrameSampler, ImageFolder, SourceUnusable, VideoFile
from edge_uploader.capture.streams import LiveSource
from edge_uploader.delivery.spool import Spool
from edge_uploader.delivery.state import StateFile
from edge_uploader.extract import ExtractOptions, extract_faces
from edge_uploader.gateway import build_gateway, camera_options
from edge_uploader.opening import open_source
from edge_uploader.selection.crops import CropOptions
from edge_uploader.settings import EdgeSettings
from edge_uploader.status import StatusBook
from shared.domain import Candidate
from shared.errors import ConfigurationError, ModelUnavailable, StoreUnavailable
from tests.unit.edge.fakes import (
    ColourDetector,
    FaultyBlobStore,
    Opener,
    ScriptedCapture,
    encode,
    picture,
    write_video,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path):
    return EdgeSettings(
        edge_spool_dir=tmp_path / "spool",
        edge_site="hq",
        edge_min_face_px=20,
        edge_fps=0,
        edge_good_enough=0.0,
        edge_upload_backoff_max_s=0.05,
        edge_drain_s=5.0,
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    write_video(str(path), [picture((10 + 8 * i, 80, 60 + 8 * i, 140)) for i in range(25)])
    return str(path)


def gateway(settings, store, *specs, **more):
    return build_gateway(settings, list(specs), store, detector_factory=ColourDetector, **more)


def test_cameras_run_side_by_side_and_their_crops_arrive(settings, clip):
    store = FaultyBlobStore()
    report = gateway(settings, store, CameraSpec("a", clip, "hall"), CameraSpec("b", clip)).run(threading.Event())
    sent = [Candidate.from_metadata(blob.properties.metadata) for blob in store.blobs.values()]
    assert {(c.camera, c.location) for c in sent} == {("a", "hall"), ("b", "b")}
    values = report.to_json()
    assert values["uploaded"] == values["crops"] == len(sent)
    assert values["bytes_uploaded"] == sum(len(blob.data) for blob in store.blobs.values())
    assert values["waiting"] == 0
    assert [camera["state"] for camera in values["cameras"]] == ["finished", "finished"]
    json.dumps(values)


def test_bad_cameras_harm_no_other(settings, clip, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"rubbish")
    specs = [
        CameraSpec("missing", "/nowhere/x.mp4"),
        CameraSpec("empty", str(tmp_path / "empty")),
        CameraSpec("broken", str(tmp_path / "broken.mp4")),
        CameraSpec("good", clip),
    ]
    report = gateway(settings, FaultyBlobStore(), *specs).run(threading.Event())
    states = {camera.camera: camera for camera in report.cameras}
    assert {name for name, camera in states.items() if camera.state == "failed"} == {"missing", "empty", "broken"}
    assert all(camera.error for camera in report.failed)
    assert states["good"].crops >= 1


def test_an_outage_longer_than_the_run_is_made_good_by_the_next(settings, clip):
    away = FaultyBlobStore([StoreUnavailable("away")] * 10_000)
    short = settings.model_copy(update={"edge_drain_s": 0.1})
    first = gateway(short, away, CameraSpec("a", clip)).run(threading.Event())
    assert first.waiting == first.cameras[0].crops > 0
    store = FaultyBlobStore()
    second = gateway(settings, store, CameraSpec("again", "/nowhere")).run(threading.Event())
    assert second.waiting == 0
    assert len(store.blobs) == first.waiting
    assert {Candidate.from_metadata(b.properties.metadata).camera for b in store.blobs.values()} == {"a"}


def test_a_stop_ends_a_looping_camera_and_sends_its_open_tracks(settings, clip):
    store, stop = FaultyBlobStore(), threading.Event()
    running = gateway(settings.model_copy(update={"edge_good_enough": 1.0}), store, CameraSpec("a", clip), loop=True)
    ticks = []

    def tick(report):
        ticks.append(report)
        if report.cameras[0].frames >= 5:
            stop.set()

    began = time.monotonic()
    report = running.run(stop, tick)
    assert time.monotonic() - began < 10
    assert report.cameras[0].state == "finished"
    assert len(store.blobs) >= 1
    assert ticks[-1].waiting == 0


def test_the_spool_is_free_after_a_run_and_after_a_failed_start(settings, clip):
    def no_weights():
        raise ModelUnavailable("yunet is not there; run: facerelay models fetch")

    with pytest.raises(ModelUnavailable):
        build_gateway(settings, [CameraSpec("a", clip)], FaultyBlobStore(), detector_factory=no_weights)
    gateway(settings, FaultyBlobStore(), CameraSpec("a", clip)).run(threading.Event())
    Spool(settings.edge_spool_dir).close()


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_no_camera_or_two_of_a_name_are_refused(settings, clip, names):
    with pytest.raises(ConfigurationError):
        gateway(settings, FaultyBlobStore(), *[CameraSpec(name, clip) for name in names])


def test_sources_are_told_apart(settings, tmp_path):
    kinds = {
        "0": LiveSource,
        "rtsp://x/1": LiveSource,
        "http://x/v": LiveSource,
        "x.mp4": VideoFile,
        "x.PNG": ImageFolder,
    }
    assert {text: type(open_source(text, settings)) for text in kinds} == kinds
    assert type(open_source(str(tmp_path), settings)) is ImageFolder


def test_annotated_pictures_are_written(settings, clip, tmp_path):
    gateway(settings, FaultyBlobStore(), CameraSpec("a/b", clip), annotate=tmp_path / "look").run(threading.Event())
    assert cv2.imread(str(tmp_path / "look" / "a%2Fb-crops.jpg")) is not None
    frame = cv2.imread(str(tmp_path / "look" / "a%2Fb-000000.jpg"))
    assert frame.shape == (240, 320, 3)
    assert (frame[75:85, 8:62] != 110).any(), "a box is drawn"
    assert (tmp_path / "look" / "a%2Fb.mp4").stat().st_size > 1000


def test_extract_writes_every_face_and_counts(clip, tmp_path):
    seen = []
    stats = extract_faces(
        VideoFile(Path(clip), FrameSampler(skip_frames=4)),
        ColourDetector(),
        tmp_path / "out",
        ExtractOptions(0.5, 20, CropOptions(margin=0.0)),
        encode=encode,
        on_frame=lambda frame, faces, _: seen.append((frame.index, len(faces))),
    ).to_json()
    assert seen == [(n, 1) for n in range(0, 25, 5)]
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"{n:07d}-0.jpg" for n in range(0, 25, 5)]
    assert (stats["images"], stats["frames"]) == (5, 5)
    # Five frames, half a second apart each.
    assert stats["length_s"] == pytest.approx(2.5, abs=0.01)
    assert stats["images_per_minute"] == pytest.approx(120, abs=1)
    assert stats["average_width_px"] == pytest.approx(50, abs=4)
    assert stats["average_height_px"] == pytest.approx(60, abs=4)
    assert stats["bytes"] == sum(path.stat().st_size for path in files)


def test_extract_of_nothing_has_figures_too(tmp_path):
    with pytest.raises(SourceUnusable):
        extract_faces(
            VideoFile(tmp_path / "x.mp4", FrameSampler()),
            ColourDetector(),
            tmp_path / "out",
            ExtractOptions(0.5, 20, CropOptions()),
            encode=encode,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"edge_low_confidence": 0.9, "edge_high_confidence": 0.5},
        {"edge_min_face_px": 300, "edge_max_face_px": 200},
        {"edge_crop_quality": 101},
        {"edge_fps": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        EdgeSettings(**wrong)


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FACERELAY_EDGE_SHOTS_PER_TRACK", "7")
    assert EdgeSettings().edge_shots_per_track == 7


def test_what_the_settings_say_of_shots_is_what_a_camera_goes_by():
    settings = EdgeSettings(
        edge_site="x",
        edge_shots_per_track=7,
        edge_enough_worth=0.9,
        edge_shot_spacing_s=0.3,
        edge_shot_refresh_s=77,
        edge_good_enough=0.4,
        edge_hold_s=0.2,
        edge_first_shot_s=0.6,
        edge_unusable_s=5,
    )
    shots = camera_options(settings, CameraSpec("a", "a.mp4")).shots
    assert (shots.shots, shots.enough, shots.spacing_s, shots.refresh_s) == (7, 0.9, 0.3, 77)
    assert (shots.good_enough, shots.hold_s, shots.first_after_s, shots.unusable_after_s) == (0.4, 0.2, 0.6, 5)


def test_every_setting_is_described_in_the_operators_page_with_its_default():
    page = (ROOT / "docs" / "edge.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `FACERELAY_(EDGE_\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    fields = {name.upper(): field for name, field in EdgeSettings.model_fields.items() if name.startswith("edge_")}
    assert described.keys() == fields.keys()
    for name, field in fields.items():
        assert field.description
        if field.default_factory is None:
            shown = described[name].strip().strip("`").replace(",", "")
            default = str(field.default).lower().removesuffix(".0")
            assert shown == (default or "empty"), name


def test_the_gateway_imports_nothing_of_the_project_but_shared():
    for path in (ROOT / "edge_uploader").glob("*.py"):
        imported = re.findall(
            r"^\s*(?:from|import) (functions|local|azure|function_app)\b", path.read_text(), re.MULTILINE
        )
        assert imported == [], path.name


def test_a_budget_needs_a_price():
    with pytest.raises(ValidationError, match="needs a price"):
        EdgeSettings(edge_budget_month=5.0)


def test_the_report_tells_of_budget_and_drops(settings, clip):
    limited = settings.model_copy(
        update={"edge_budget_bytes_per_hour": 100_000_000, "edge_budget_month": 9.0, "edge_price_per_gb": 0.1}
    )
    report = gateway(limited, FaultyBlobStore(), CameraSpec("a", clip, priority=7)).run(threading.Event())
    values = report.to_json()
    assert values["dropped"] == {"bound": 0, "new": 0, "age": 0, "refused": 0, "torn": 0, "bytes": 0}
    assert values["budget"]["hour_bytes"] == values["network_bytes"] > values["bytes_uploaded"] > 0
    assert (values["budget"]["level"], values["budget"]["month_uploads"]) == ("all", values["crops"])
    again = gateway(limited, FaultyBlobStore(), CameraSpec("a", clip)).report().to_json()
    assert again["budget"]["hour_bytes"] == values["budget"]["hour_bytes"], "it is remembered over a restart"


def test_the_report_tells_how_long_the_oldest_crop_has_waited(settings, clip):
    away = FaultyBlobStore([StoreUnavailable("away")] * 100_000)
    brief = settings.model_copy(update={"edge_drain_s": 0.3})
    values = gateway(brief, away, CameraSpec("a", clip)).run(threading.Event()).to_json()
    assert values["waiting"] and 0.3 <= values["spool"]["oldest_s"] < 60
    values = gateway(settings, FaultyBlobStore(), CameraSpec("a", clip)).run(threading.Event()).to_json()
    assert (values["waiting"], values["spool"]["oldest_s"]) == (0, 0)


@pytest.mark.parametrize(
    ("source", "live"),
    [("0", True), ("rtsp://10.0.0.9/1", True), ("http://x/", True), ("a.mp4", False), ("dir", False)],
)
def test_streams_and_webcams_do_not_wait(settings, source, live):
    assert camera_options(settings, CameraSpec("a", source)).live is live


def test_a_live_camera_that_is_broken_makes_the_gateway_unwell_while_another_goes_on(tmp_path, monkeypatch):
    class Broken(ColourDetector):
        def detect(self, image):
            raise ZeroDivisionError

    monkeypatch.setattr("edge_uploader.restarts.backoff_s", lambda *_: 0.0)
    opened = [ScriptedCapture(10_000, 0.01), ScriptedCapture(10_000, 0.01)]
    monkeypatch.setattr(
        "edge_uploader.opening.LiveSource", lambda *rest, **more: LiveSource(*rest, **more, opener=Opener(opened.pop()))
    )
    detectors = [Broken(), ColourDetector()]
    settings = EdgeSettings(edge_spool_dir=tmp_path / "spool", edge_drain_s=0.0, edge_page_port=0)
    specs = [CameraSpec("door", "rtsp://x/1"), CameraSpec("hall", "rtsp://x/2")]
    gateway = build_gateway(settings, specs, FaultyBlobStore(), detector_factory=lambda: detectors.pop(0))
    book, stop = StatusBook(gateway.health), threading.Event()
    runner = threading.Thread(target=gateway.run, args=(stop,))
    runner.start()
    try:
        ends = time.monotonic() + 20
        while not gateway.health().stuck and time.monotonic() < ends:
            time.sleep(0.05)
        assert gateway.health().problems == (
            "camera door: unexpected ZeroDivisionError, see the log; restart the gateway",
        )
        assert book.healthy() == (False, "cameras without progress: 1")
        assert [camera.state for camera in gateway.report().cameras] == ["failed", "running"]
    finally:
        stop.set()
        runner.join(20)
    assert not runner.is_alive()


def test_the_budget_of_a_version_that_counted_by_the_spools_clock_goes_on(tmp_path):
    """Whose first start was in the past: by the wall's clock its month would be over."""
    day_ns, now_ns = 86_400 * 10**9, time.time_ns()
    steady_ns = now_ns - 60 * day_ns
    StateFile(tmp_path / "clock.json").write({"steady_ns": steady_ns, "wall_ns": now_ns})
    spent = {"month_ends_ns": steady_ns + 10 * day_ns, "spent": 9.9, "bytes": 9_000, "uploads": 9, "hour": {}}
    StateFile(tmp_path / "budget.json").write(spent)
    settings = EdgeSettings(edge_spool_dir=tmp_path, edge_budget_month=10.0, edge_price_per_gb=1.0)
    gateway = build_gateway(settings, [CameraSpec("a", "x")], FaultyBlobStore(), detector_factory=ColourDetector)
    try:
        assert gateway.report().budget.month_spent == pytest.approx(9.9, abs=0.2)
    finally:
        gateway.close()
