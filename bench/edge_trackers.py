"""Our tracker beside others, on composed scenes and the same detections: `python -m bench.edge_trackers DIR`.

The others are optional: those that can be imported take part (norfair; ByteTrack, OC-SORT and SORT of roboflow/trackers
with supervision). Put them in a folder of their own, without what they depend on, and name it in PYTHONPATH:
`pip install --no-deps --target DIR norfair filterpy trackers supervision defusedxml pyDeprecate`.

Writes build/bench/edge-trackers.json, for each tracker:
    idf1: of true and followed faces (Ristani et al., 2016), over faces that were detected.
    switches: how often the track on a visit changes from one frame in which it has one to the next.
    tracks_per_visit: confirmed tracks that a visit is the most of; 1 is best.
    mixed: tracks that show two visits for two frames or more each.
    covered: share of the detected faces that are on a track.
    ms: for each frame, without the detector and without looking at the faces.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from bench.scene.plan import FPS
from bench.scene.scene import Scene
from bench.scene.truth import TrueFrame
from edge_uploader.selection.tracker import Sighting, Tracker, TrackerOptions, iou_matrix, sightings_of
from edge_uploader.settings import EdgeSettings
from shared.domain import Float32Array

Step = Callable[[list[Sighting], float], list[tuple[int | str, Float32Array]]]
"""The faces of a frame and its time → (track id, box) of each that is followed."""
SAME_IOU: Final = 0.3


def own(settings: EdgeSettings, *, looks: bool) -> Step:
    tracker = Tracker(TrackerOptions(settings.edge_high_confidence, max_age_s=settings.edge_track_max_age_s), run="own")

    def step(sightings: list[Sighting], at_s: float) -> list[tuple[int | str, Float32Array]]:
        seen = tracker.update(sightings if looks else [Sighting(one.face) for one in sightings], at_s).seen
        return [(track.id, track.face.box) for track in seen if track.confirmed]

    return step


def norfair(settings: EdgeSettings, threshold: float) -> Step:
    """Distance of centres in face sizes, as its documentation advises for small things that move fast."""
    import norfair as library  # type: ignore[import-not-found]

    def distance(detection: Any, track: Any) -> float:
        left, right = detection.points, track.estimate
        size = max(float((left[1] - left[0]).mean()), 1.0)
        return float(np.linalg.norm(left.mean(axis=0) - right.mean(axis=0))) / size

    lives = round(settings.edge_track_max_age_s * FPS)
    tracker = library.Tracker(distance, threshold, hit_counter_max=lives, initialization_delay=1)

    def step(sightings: list[Sighting], at_s: float) -> list[tuple[int | str, Float32Array]]:
        strong = [one.face for one in sightings if one.face.confidence >= settings.edge_high_confidence]
        tracked = tracker.update([library.Detection(face.box.reshape(2, 2).astype(float)) for face in strong])
        return [
            (track.id, track.last_detection.points.ravel().astype(np.float32))
            for track in tracked
            if any(track.last_detection.points.ravel()[0] == face.box[0] for face in strong)
        ]

    return step


def roboflow(name: str, settings: EdgeSettings, **options: Any) -> Step:
    """With the frame rate of the scene, and the same age of a lost track."""
    import supervision  # type: ignore[import-not-found]
    import trackers  # type: ignore[import-not-found]

    tracker = getattr(trackers, name)(
        lost_track_buffer=round(30 * settings.edge_track_max_age_s),
        frame_rate=FPS,
        minimum_consecutive_frames=1,
        **options,
    )

    def step(sightings: list[Sighting], at_s: float) -> list[tuple[int | str, Float32Array]]:
        faces = [one.face for one in sightings]
        boxes = np.stack([face.box for face in faces]) if faces else np.zeros((0, 4), np.float32)
        confidences = np.array([face.confidence for face in faces], np.float32)
        classes = np.zeros(len(faces), int)
        found = tracker.update(supervision.Detections(xyxy=boxes, confidence=confidences, class_id=classes))
        ids = found.tracker_id if found.tracker_id is not None else []
        return [(int(i), box) for i, box in zip(ids, found.xyxy, strict=True) if int(i) >= 0]

    return step


def candidates(settings: EdgeSettings) -> dict[str, Callable[[], Step]]:
    return {
        "own": lambda: own(settings, looks=True),
        "own, without looks": lambda: own(settings, looks=False),
        "norfair, centres within 1 size": lambda: norfair(settings, 1.0),
        "norfair, centres within 2 sizes": lambda: norfair(settings, 2.0),
        "ByteTrack": lambda: roboflow("ByteTrackTracker", settings),
        "ByteTrack, IoU from 0.05": lambda: roboflow("ByteTrackTracker", settings, minimum_iou_threshold=0.05),
        "OC-SORT": lambda: roboflow("OCSORTTracker", settings),
        "SORT": lambda: roboflow("SORTTracker", settings),
    }


def detections_of(scene: Scene, settings: EdgeSettings) -> list[list[Sighting]]:
    """What the gateway's detector finds in each frame, and how it looks."""
    from edge_uploader.gateway import load_edge_detector

    detector, capture = load_edge_detector(settings), cv2.VideoCapture(str(scene.video))
    found: list[list[Sighting]] = []
    while True:
        read, frame = capture.read()
        if not read:
            return found
        image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        faces = [f for f in detector.detect(image) if max(f.width_px, f.height_px) >= settings.edge_min_face_px]
        found.append(sightings_of(image, faces))


def visit_at(frame: TrueFrame, box: Float32Array) -> int | None:
    """The visit whose face a box shows."""
    if not frame.faces:
        return None
    overlap = iou_matrix(np.asarray(box, np.float32)[None], np.stack([face.box for face in frame.faces]))[0]
    best = int(overlap.argmax())
    return frame.faces[best].visit if overlap[best] >= SAME_IOU else None


def judge(truth: list[TrueFrame], found: list[list[Sighting]], step: Step) -> dict[str, float]:
    """Runs one tracker over a scene."""
    on: dict[int | str, Counter[int]] = defaultdict(Counter)
    last: dict[int, int | str] = {}
    switches = followed = 0
    spent_s = 0.0
    detected: Counter[int] = Counter()
    for frame, sightings in zip(truth, found, strict=False):
        detected.update(v for one in sightings if (v := visit_at(frame, one.face.box)) is not None)
        began = time.perf_counter()
        tracked = step(sightings, frame.at_s)
        spent_s += time.perf_counter() - began
        for track, box in tracked:
            visit = visit_at(frame, box)
            followed += 1
            if visit is None:
                continue
            on[track][visit] += 1
            switches += last.get(visit, track) != track
            last[visit] = track
    tracks, visits = list(on), sorted(detected)
    overlap = np.array([[on[track][visit] for visit in visits] for track in tracks]).reshape(len(tracks), len(visits))
    matched = overlap[linear_sum_assignment(-overlap)].sum()
    most = Counter(counts.most_common(1)[0][0] for counts in on.values())
    return {
        "idf1": round(2 * float(matched) / max(followed + sum(detected.values()), 1), 4),
        "switches": switches,
        "tracks_per_visit": round(sum(most.values()) / max(len(most), 1), 3),
        "mixed": sum(sum(count >= 2 for count in counts.values()) > 1 for counts in on.values()),
        "covered": round(float(overlap.sum()) / max(sum(detected.values()), 1), 4),
        "ms": round(1000 * spent_s / max(len(truth), 1), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", type=Path, help="folders of `python -m bench.scene`")
    arguments = parser.parse_args()
    settings, figures = EdgeSettings(), {}
    for folder in arguments.scenes:
        scene = Scene.read(folder)
        truth, found = scene.truth(), detections_of(scene, settings)
        rows: dict[str, Any] = {}
        for name, make in candidates(settings).items():
            try:
                rows[name] = judge(truth, found, make())
            except (ImportError, AttributeError, TypeError) as error:
                console.print(f"{name} takes no part: {error}")
        figures[scene.name] = rows
        columns = ("idf1", "switches", "tracks_per_visit", "mixed", "covered", "ms")
        table = [(name, *(str(row[key]) for key in columns)) for name, row in rows.items()]
        print_figures(f"{scene.name}, {len(truth)} frames", table, ("tracker", *columns))
    write_report("edge-trackers", {"scenes": figures})


if __name__ == "__main__":
    run_bench(main)
