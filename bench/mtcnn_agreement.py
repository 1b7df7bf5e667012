"""How far our MTCNN agrees with an independent implementation of it, on photographs of people.

    python -m bench.mtcnn_agreement [--images DIR] [--count 200]

The other one is facenet-pytorch 2.6.0, which carries weights and arithmetic of its own line (Caffe → TensorFlow →
PyTorch). It runs in an environment of its own under build/, which the first run sets up. Two faces agree when their
IoU is at least 0.9; asked of every face above 0.9 confidence, in both directions. The report is
build/bench/mtcnn_agreement.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import types
import venv
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parent.parent
REPORT: Final = ROOT / "build" / "bench" / "mtcnn_agreement.json"
ENVIRONMENT: Final = ROOT / "build" / "mtcnn-reference"
PHOTOGRAPHS: Final = ROOT.parent / "shared" / "data" / "lfw-dev" / "images"
REQUIREMENTS: Final = ("torch==2.13.0", "numpy", "opencv-python-headless", "pillow", "requests", "tqdm")
REFERENCE: Final = "facenet-pytorch==2.6.0"

THRESHOLDS: Final = (0.6, 0.7, 0.7)
MIN_FACE_PX: Final = 20
SURE: Final = 0.9
SAME_IOU: Final = 0.9
WANTED: Final = 0.99

FoundFace = tuple[list[float], float, list[list[float]]]
"""Box, confidence, landmarks."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    paths = choose(args.images, args.count)
    if args.reference:
        print(json.dumps(find_with_reference(paths)))
        return 0
    if not paths:
        print(f"no photographs under {args.images}", file=sys.stderr)
        return 1
    python = set_up_reference()
    command = [str(python), __file__, "--reference", "--images", str(args.images), "--count", str(args.count)]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    start = time.perf_counter()
    ours = find_with_ours(paths)
    report = compare(ours, theirs) | {
        "photographs": len(paths),
        "ms_per_photograph": round((time.perf_counter() - start) / len(paths) * 1e3, 1),
        "reference": REFERENCE,
        "thresholds": THRESHOLDS,
        "min_face_px": MIN_FACE_PX,
        "versions": {name: version(name) for name in ("onnxruntime", "opencv-python-headless", "numpy")},
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0 if report["agrees"] else 1


def choose(folder: Path, count: int) -> list[Path]:
    """`count` photographs, evenly spread over the sorted folder."""
    every = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    picked: Any = np.linspace(0, len(every) - 1, min(count, len(every))).astype(int) if every else []
    return [every[index] for index in picked]


def set_up_reference() -> Path:
    """The interpreter of the environment with the other implementation."""
    python = ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = ENVIRONMENT / ".complete"
    if not done.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *REQUIREMENTS], check=True)
        subprocess.run([*pip, "--no-deps", REFERENCE], check=True)  # its own pins are of another age
        done.touch()
    return python


def find_with_ours(paths: list[Path]) -> list[list[FoundFace]]:
    from shared.settings import Settings
    from shared.vision.assets import ModelCache
    from shared.vision.decode import ImageLimits, decode_image
    from shared.vision.mtcnn import MtcnnDetector

    detector = MtcnnDetector(ModelCache(Settings().model_cache), min_face_px=MIN_FACE_PX, thresholds=THRESHOLDS)
    found = [detector.detect(decode_image(path.read_bytes(), ImageLimits())) for path in paths]
    return [
        [
            (face.box.tolist(), face.confidence, [] if face.landmarks is None else face.landmarks.tolist())
            for face in one
        ]
        for one in found
    ]


def find_with_reference(paths: list[Path]) -> list[list[FoundFace]]:
    """Runs in the other environment, which has torch and no facerelay."""
    stand_in_for_torchvision()
    from facenet_pytorch import MTCNN  # type: ignore[import-not-found,unused-ignore]
    from PIL import Image

    detector = MTCNN(keep_all=True, min_face_size=MIN_FACE_PX, thresholds=list(THRESHOLDS), device="cpu")
    results: list[list[FoundFace]] = []
    for path in paths:
        boxes, confidences, landmarks = detector.detect(Image.open(path).convert("RGB"), landmarks=True)
        faces = [] if boxes is None else zip(boxes, confidences, landmarks, strict=True)
        results.append([(box.tolist(), float(sure), points.tolist()) for box, sure, points in faces])
    return results


def stand_in_for_torchvision() -> None:
    """The two functions that facenet-pytorch takes from torchvision, of which not every platform has a build."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    def batched_nms(boxes: Any, scores: Any, groups: Any, threshold: float) -> Any:
        kept: list[int] = []
        waiting = torch.argsort(scores, descending=True, stable=True)
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
        areas = sides[:, 0] * sides[:, 1]
        while len(waiting):
            best, rest = waiting[0], waiting[1:]
            kept.append(int(best))
            low = torch.maximum(boxes[rest, :2], boxes[best, :2])
            high = torch.minimum(boxes[rest, 2:], boxes[best, 2:])
            shared = (high - low).clamp(min=0).prod(dim=1)
            same_group = groups[rest] == groups[best]
            waiting = rest[~(same_group & (shared / (areas[rest] + areas[best] - shared) > threshold))]
        return torch.tensor(kept, dtype=torch.long)

    def to_tensor(image: Any) -> Any:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255

    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    modules: dict[str, Any] = {name: types.ModuleType(name) for name in names}
    functional: Any = types.ModuleType("torchvision.transforms.functional")
    functional.to_tensor = to_tensor
    modules["torchvision.ops.boxes"].batched_nms = batched_nms
    modules["torchvision.transforms"].functional = functional
    sys.modules.update(modules | {"torchvision.transforms.functional": functional})


def compare(ours: list[list[FoundFace]], theirs: list[list[FoundFace]]) -> dict[str, Any]:
    """Shares of sure faces of each side that the other side has too."""
    result: dict[str, Any] = {}
    for name, asked, answering in (("ours_found_by_theirs", ours, theirs), ("theirs_found_by_ours", theirs, ours)):
        pairs = [
            best_match(face, others)
            for faces, others in zip(asked, answering, strict=True)
            for face in faces
            if face[1] > SURE
        ]
        values = np.array([overlap for overlap, _ in pairs])
        distances = np.array([distance for overlap, distance in pairs if overlap >= SAME_IOU])
        result[name] = {
            "faces": len(values),
            "share_iou_0p9": round(float((values >= SAME_IOU).mean()), 4),
            "share_iou_0p5": round(float((values >= 0.5).mean()), 4),
            "median_iou": round(float(np.median(values)), 4),
            "median_landmark_distance_px": round(float(np.median(distances)), 2),
        }
    result["agrees"] = all(part["share_iou_0p9"] >= WANTED for part in result.values())
    return result


def best_match(face: FoundFace, others: list[FoundFace]) -> tuple[float, float]:
    """IoU with the nearest of the other side's faces, and the mean distance of their landmarks in pixels."""
    best = (0.0, float("nan"))
    box = np.array(face[0])
    for other in others:
        rival = np.array(other[0])
        sides = np.clip(np.minimum(box[2:], rival[2:]) - np.maximum(box[:2], rival[:2]), 0, None)
        shared = float(sides.prod())
        overlap = shared / float((box[2:] - box[:2]).prod() + (rival[2:] - rival[:2]).prod() - shared)
        if overlap > best[0]:
            best = (overlap, float(np.linalg.norm(np.array(face[2]) - np.array(other[2]), axis=1).mean()))
    return best


if __name__ == "__main__":
    sys.exit(main())
