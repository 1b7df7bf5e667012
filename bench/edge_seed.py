"""The gateway's camera loop beside the loop that this system descends from: frames a second, and faces found.

The seed's loop: decode every frame, shrink it to 640×480, Ultra-Light RFB-640 on all cores, cut out every face of at
least 30 px on the short axis, shrink those over 150 px, encode as JPEG of quality 95. Ours: the gateway as shipped,
from decoding to the spool and a store in a folder. Both read the same composed scenes, by turns, in this process, and
both are given the processor alone.

A true face counts when it has at least 30 px on the short axis and 60 % of it are in sight. It is found when a box of
that frame overlaps it with an IoU of 0.4, or each of the two holds the other's centre; a box finds one face. The
gateway's boxes are the tracks that it holds at that frame: seen in it, or predicted between two looks.
Writes build/bench/edge_seed.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.edge import SCENES
from bench.edge_policies import CAMERA, SITE, START, ultra_light_cache
from bench.edge_visits import VISIBLE
from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from bench.scene.__main__ import progress
from bench.scene.people import Portraits, mtcnn_locator
from bench.scene.plan import DENSITIES, FPS, SceneOptions
from bench.scene.scene import Scene, composed
from bench.scene.truth import TrueFrame
from edge_uploader.camera import CameraSpec
from edge_uploader.capture.sources import Frame
from edge_uploader.gateway import build_gateway
from edge_uploader.selection.crops import Crop
from edge_uploader.selection.tracker import Track, iou_matrix
from edge_uploader.settings import EdgeSettings
from shared.bootstrap import open_blob_store
from shared.domain import Float32Array
from shared.errors import StoreUnavailable
from shared.ports import Detector
from shared.vision.detectors import load_detector

SEED_SIZE = 640, 480
SEED_CONFIDENCE = 0.7
SEED_MIN_SHORT_PX, SEED_MAX_LONG_PX = 30, 150
SEED_JPEG_QUALITY = 95
MIN_SHORT_PX = 30.0
MIN_IOU = 0.4
BANDS = ((30.0, 40.0), (40.0, 60.0), (60.0, float("inf")))
TIMES_FASTER = 2.0


@dataclass(slots=True)
class Looked:
    """What a loop did.

    Attributes:
        seconds: for each frame read, from before the first to after the last.
        boxes: (N, 4) xyxy of each frame, by its number.
    """

    frames: int = 0
    seconds: float = 0.0
    crops: int = 0
    boxes: dict[int, Float32Array] = field(default_factory=dict)

    @property
    def frames_per_s(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


def seed_loop(video: Path, detector: Detector) -> Looked:
    """Every face of every frame."""
    looked = Looked()
    began = time.perf_counter()
    capture = cv2.VideoCapture(str(video))
    while True:
        more, frame = capture.read()
        if not more:
            break
        height, width = frame.shape[:2]
        small = np.asarray(cv2.cvtColor(cv2.resize(frame, SEED_SIZE), cv2.COLOR_BGR2RGB), np.uint8)
        back = np.array([width / SEED_SIZE[0], height / SEED_SIZE[1]] * 2, np.float32)
        boxes = [face.box * back for face in detector.detect(small)]
        boxes = [box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= SEED_MIN_SHORT_PX]
        for box in boxes:
            looked.crops += _seed_crop(np.asarray(frame, np.uint8), box)
        looked.boxes[looked.frames] = _stacked(boxes)
        looked.frames += 1
    capture.release()
    looked.seconds = time.perf_counter() - began
    return looked


def _seed_crop(frame: np.ndarray[Any, np.dtype[np.uint8]], box: Float32Array) -> bool:
    left, top = (max(int(v), 0) for v in box[:2])
    pixels = frame[top : int(box[3]), left : int(box[2])]
    if not pixels.size:
        return False
    scale = SEED_MAX_LONG_PX / max(pixels.shape[:2])
    if scale < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    done, _ = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, SEED_JPEG_QUALITY])
    return done


def _stacked(boxes: Sequence[Float32Array]) -> Float32Array:
    return np.stack(boxes).astype(np.float32) if boxes else np.zeros((0, 4), np.float32)


class _Onlooker:
    """Notes the boxes that the gateway holds at each frame, and when its camera has ended."""

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        self.ended = 0.0

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        now_s = frame.position_s
        boxes = [track.face.box if track.last_seen_s >= now_s else track.predict(now_s) for track in tracks]
        self._looked.boxes[round(now_s * FPS)] = _stacked(boxes)

    def crop(self, track: str, crop: Crop) -> None:
        self._looked.crops += 1

    def close(self) -> None:
        self.ended = time.perf_counter()


def gateway_loop(video: Path) -> Looked:
    """The gateway as shipped, until its camera has ended.

    Raises:
        StoreUnavailable: the camera failed.
    """
    looked = Looked()
    onlooker = _Onlooker(looked)
    with tempfile.TemporaryDirectory() as folder:
        settings = EdgeSettings(
            backend="local",
            data_dir=Path(folder) / "store",
            edge_site=SITE,
            edge_spool_dir=Path(folder) / "spool",
            edge_fps=FPS,
        )
        specs = [CameraSpec.parse(f"{CAMERA}={video}")]
        gateway = build_gateway(settings, specs, open_blob_store(settings), observe=lambda _: onlooker, start=START)
        began = time.perf_counter()
        report = gateway.run(threading.Event())
    if report.failed:
        raise StoreUnavailable(f"the camera failed: {report.failed[0].error}")
    looked.frames, looked.seconds = report.cameras[0].frames_grabbed, onlooker.ended - began
    return looked


def matched(true: Float32Array, boxes: Float32Array) -> list[bool]:
    """Which of the true faces (N, 4) one of the boxes (M, 4) finds; the best overlap first, each box once.

    >>> matched(np.float32([[0, 0, 10, 10], [50, 0, 60, 10]]), np.float32([[1, 1, 11, 11]]))
    [True, False]
    """
    found = [False] * len(true)
    if not len(true) or not len(boxes):
        return found
    overlap = iou_matrix(true, boxes)
    fits = (overlap >= MIN_IOU) | (_holds(true, boxes) & _holds(boxes, true).T)
    taken: set[int] = set()
    for row, column in sorted(np.argwhere(fits).tolist(), key=lambda pair: -overlap[pair[0], pair[1]]):
        if not found[row] and column not in taken:
            found[row] = True
            taken.add(column)
    return found


def _holds(outer: Float32Array, inner: Float32Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N, M): whether box n holds the centre of box m."""
    centres = (inner[:, :2] + inner[:, 2:]) / 2
    inside = (centres[None] >= outer[:, None, :2]) & (centres[None] <= outer[:, None, 2:])
    return np.asarray(inside.all(axis=2))


def recall_figures(truth: Sequence[TrueFrame], boxes: dict[int, Float32Array]) -> dict[str, Any]:
    """Share of the true faces found, in all and by size, and boxes that are no true face's."""
    sizes: list[float] = []
    found: list[bool] = []
    stray = total = 0
    for frame in truth:
        held = boxes.get(frame.index, _stacked([]))
        counted = [face for face in frame.faces if face.short_px >= MIN_SHORT_PX and face.visible >= VISIBLE]
        sizes += [face.short_px for face in counted]
        found += matched(_stacked([face.box for face in counted]), held)
        # What finds a smaller or half-hidden face is not stray.
        stray += len(held) - sum(matched(held, _stacked([face.box for face in frame.faces])))
        total += len(held)
    result: dict[str, Any] = {"faces": len(found), "recall": round(float(np.mean(found)), 4) if found else None}
    for low, high in BANDS:
        band = [hit for size, hit in zip(sizes, found, strict=True) if low <= size < high]
        name = f"recall_{low:g}_{high:g}_px" if high < float("inf") else f"recall_from_{low:g}_px"
        result[name] = round(float(np.mean(band)), 4) if band else None
    return result | {"boxes": total, "boxes_of_no_face": stray}


def side_by_side(scene: Scene, detector: Detector, rounds: int) -> dict[str, Any]:
    """Both loops over one scene, by turns."""
    runs: dict[str, list[Looked]] = {"seed": [], "gateway": []}
    for number in range(rounds):
        with console.status(f"{scene.name}: round {number + 1} of {rounds}"):
            runs["seed"].append(seed_loop(scene.video, detector))
            runs["gateway"].append(gateway_loop(scene.video))
    truth = scene.truth()
    figures: dict[str, Any] = {}
    for name, done in runs.items():
        rates = [round(each.frames_per_s, 2) for each in done]
        figures[name] = {
            "frames_per_s": round(float(np.median(rates)), 2),
            "frames_per_s_rounds": rates,
            "frames": done[-1].frames,
            "crops": done[-1].crops,
        } | recall_figures(truth, done[-1].boxes)
    ratios = [
        ours.frames_per_s / theirs.frames_per_s for ours, theirs in zip(runs["gateway"], runs["seed"], strict=True)
    ]
    figures["times_faster"] = round(float(np.median(ratios)), 2)
    figures["met"] = {
        "frames_per_s": figures["times_faster"] >= TIMES_FASTER,
        "recall": (figures["gateway"]["recall"] or 0) >= (figures["seed"]["recall"] or 0),
    }
    return figures


def print_scene(name: str, figures: dict[str, Any]) -> None:
    rows = [
        (
            loop,
            str(f["frames_per_s"]),
            f"{f['recall']:.1%} of {f['faces']:,}",
            *(f"{share:.1%}" if (share := f[key]) is not None else "–" for key in f if key.startswith("recall_")),
            f"{f['boxes_of_no_face']} of {f['boxes']}",
            str(f["crops"]),
        )
        for loop, f in figures.items()
        if loop in ("seed", "gateway")
    ]
    columns = ("loop", "frames/s", "faces found", "30–40 px", "40–60 px", "from 60 px", "boxes of no face", "crops")
    print_figures(f"{name}: {figures['times_faster']}× the seed's frames a second", rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder of people, images/{person}/*.jpg")
    parser.add_argument("--minutes", type=float, default=2.0, help="length of each scene")
    parser.add_argument("--densities", nargs="+", default=["medium", "high", "very_high"], choices=list(DENSITIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ultra-light", type=Path, help="the seed's detector, where the model cache has none")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    cache = ultra_light_cache(arguments.ultra_light)
    detector = load_detector("ultra_light", cache, threshold=SEED_CONFIDENCE, threads=cores)
    portraits = Portraits(mtcnn_locator())
    scenes = {}
    for density in arguments.densities:
        options = SceneOptions(density, arguments.minutes, arguments.seed)
        scene = composed(options, arguments.lfw, SCENES, portraits, progress(f"composing {density}"))
        scenes[scene.name] = side_by_side(scene, detector, arguments.rounds)
        print_scene(scene.name, scenes[scene.name])
    rule = (
        f"short axis ≥ {MIN_SHORT_PX:g} px, ≥ {VISIBLE:.0%} in sight; IoU ≥ {MIN_IOU}, or each holds the other's centre"
    )
    write_report("edge_seed", {"rule": rule, "rounds": arguments.rounds, "scenes": scenes})


if __name__ == "__main__":
    run_bench(main)
