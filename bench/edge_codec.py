"""What an edge crop may lose: format, quality, margin and size against recognition: `python -m bench.edge_codec`.

Photographs with known identities are shrunk to the sizes that faces have on a site, given a camera's own compression,
cut as the gateway cuts them, and recognised as candidates are (MTCNN in the crop, then both embedders). Every setting
sees the same faces, so that differences are of the setting.

Writes build/bench/edge-codec.json, for each setting and embedder:
    bytes: mean of a crop.
    verified: share of the mated crops in which the recogniser's detector found a face.
    right: share of the mated crops that are named rightly at the threshold of the best setting (FPIR 1 %).
    wrong: share of the strangers' crops that reach that threshold.
    tpir: the same as `right`, at the setting's own threshold.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bench.lfw import Photographs
from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from edge_uploader.selection.crops import CropOptions, cut
from functions.recognize.service import CROP_FACE_MIN, most_central
from local.evaluation.cores import on_all_cores
from shared.domain import Face, Float32Array, UInt8Array
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import load_detector, load_embedder

AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
GALLERY: Final = 3
SIZES_PX: Final = (32.0, 120.0)
"""Shorter side of the faces, drawn evenly in its logarithm. The photographs hold about 90 px of detail."""
EMBEDDERS: Final = ("facenet", "sface")

Encode = Callable[[UInt8Array, int], bytes]


def jpeg(image: UInt8Array, quality: int) -> bytes:
    """JPEG, 4:2:0, with Huffman tables of its own."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), flags)[1].tobytes()


def jpeg_plain(image: UInt8Array, quality: int) -> bytes:
    """JPEG as it is written by default."""
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[
        1
    ].tobytes()


def webp(image: UInt8Array, quality: int) -> bytes:
    """WebP, lossy."""
    return cv2.imencode(".webp", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])[
        1
    ].tobytes()


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting."""

    name: str
    encode: Encode
    quality: int
    margin: float = 0.5
    max_face_px: int = 256


TRIALS: Final = (
    Trial("JPEG 95", jpeg, 95),
    Trial("JPEG 90, plain tables", jpeg_plain, 90),
    Trial("JPEG 90", jpeg, 90),
    Trial("JPEG 80", jpeg, 80),
    Trial("JPEG 70", jpeg, 70),
    Trial("WebP 95", webp, 95),
    Trial("WebP 90", webp, 90),
    Trial("WebP 85", webp, 85),
    Trial("WebP 80", webp, 80),
    Trial("WebP 70", webp, 70),
    Trial("WebP 90, margin 0.3", webp, 90, 0.3),
    Trial("WebP 90, margin 0.2", webp, 90, 0.2),
    Trial("WebP 90, margin 0.1", webp, 90, 0.1),
    Trial("WebP 90, at most 128 px", webp, 90, 0.3, 128),
    Trial("WebP 90, at most 96 px", webp, 90, 0.3, 96),
)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A face as a camera shows it."""

    image: UInt8Array
    face: Face
    person: str | None


class Recogniser:
    """Crop bytes → one embedding for each embedder, or None where no face is found."""

    def __init__(self, cache: ModelCache) -> None:
        settings = Settings()
        self._detector: Any = load_detector("mtcnn", cache, min_face_px=settings.recognize_min_face_px)
        self._embedders = [load_embedder(name, cache) for name in EMBEDDERS]

    def crop(self, data: bytes) -> list[Float32Array] | None:
        image = decode_image(data, ImageLimits())
        smallest = max(12, int(CROP_FACE_MIN * min(image.shape[:2])))
        face = most_central(image, self._detector.detect(image, min_face_px=smallest))
        return None if face is None else [e.embed([image], [face]).vectors[0] for e in self._embedders]

    def photograph(self, path: Path) -> list[Float32Array] | None:
        image = decode_image(path.read_bytes(), ImageLimits())
        face = most_central(image, self._detector.detect(image))
        return None if face is None else [e.embed_reference([image], [face]).vectors[0] for e in self._embedders]


def seen(path: Path, person: str | None, detector: Any, random: np.random.Generator) -> View | None:
    """The photograph, at a size drawn by chance and through a camera's compression."""
    image = decode_image(path.read_bytes(), ImageLimits())
    face = most_central(image, detector.detect(image))
    if face is None:
        return None
    side = float(np.exp(random.uniform(*np.log(SIZES_PX))))
    scale = side / min(face.width_px, face.height_px)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=method), np.uint8)
    camera = decode_image(jpeg(small, 80), ImageLimits())
    landmarks = None if face.landmarks is None else face.landmarks * np.float32(scale)
    return View(camera, Face(face.box * np.float32(scale), face.confidence, landmarks), person)


def cast(photographs: Photographs, people: int, strangers: int, half: int) -> tuple[dict[str, list[Path]], list[Path]]:
    """Photographs of those who are enrolled, and of strangers one each; `half` 0 or 1: two draws share nobody."""
    paths: dict[str, list[Path]] = defaultdict(list)
    for person, path in zip(photographs.people, photographs.paths(), strict=True):
        paths[person].append(path)
    names = sorted(paths)[half::2]
    many = [name for name in names if len(paths[name]) > GALLERY][:people]
    few = [name for name in names if len(paths[name]) <= GALLERY][:strangers]
    return {name: paths[name][: GALLERY + 3] for name in many}, [paths[name][0] for name in few]


def unit(rows: Float32Array) -> Float32Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Mean templates of one embedder, with the gallery's mean removed, as the matcher compares."""

    mean: Float32Array
    rows: Float32Array
    people: list[str]

    @classmethod
    def of(cls, templates: dict[str, list[Float32Array]]) -> Gallery:
        every = np.stack([row for rows in templates.values() for row in rows])
        mean = np.asarray(every.mean(axis=0), np.float32)
        prototypes = [np.asarray(unit(np.stack(rows) - mean).mean(axis=0), np.float32) for rows in templates.values()]
        return cls(mean, unit(np.stack(prototypes)), list(templates))

    def best(self, embedding: Float32Array) -> tuple[str, float]:
        compared = self.rows @ unit(embedding - self.mean)
        return self.people[int(compared.argmax())], float(compared.max())


def judge(views: list[View], found: list[list[Float32Array] | None], galleries: list[Gallery]) -> list[Any]:
    """For each embedder: similarities of mated crops (−1 where wrong or nothing was found), and of strangers'."""
    results = []
    for number, gallery in enumerate(galleries):
        mated, strange = [], []
        for view, rows in zip(views, found, strict=True):
            who, similarity = (None, -1.0) if rows is None else gallery.best(rows[number])
            if view.person is None:
                strange.append(similarity)
            else:
                mated.append(similarity if who == view.person else -1.0)
        results.append((np.array(mated), np.array(strange)))
    return results


def enrol(recogniser: Recogniser, enrolled: dict[str, list[Path]]) -> list[Gallery]:
    """A gallery for each embedder, of everybody's first photographs."""
    paths = [(name, path) for name, photographs in enrolled.items() for path in photographs[:GALLERY]]
    rows = on_all_cores(lambda item: recogniser.photograph(item[1]), paths, "enrolling", console)
    galleries = []
    for number in range(len(EMBEDDERS)):
        templates: dict[str, list[Float32Array]] = defaultdict(list)
        for (name, _), row in zip(paths, rows, strict=True):
            if row is not None:
                templates[name].append(row[number])
        galleries.append(Gallery.of(dict(templates)))
    return galleries


def try_out(
    trial: Trial, views: list[View], recogniser: Recogniser, galleries: list[Gallery], thresholds: list[float]
) -> dict[str, Any]:
    """One setting's figures. `thresholds`, when empty, is filled with this setting's own."""
    options = CropOptions(trial.margin, trial.max_face_px, trial.quality)
    crops = [cut(view.image, view.face, AT, options, trial.encode).data for view in views]
    found = on_all_cores(recogniser.crop, crops, trial.name, console)
    results = judge(views, found, galleries)
    if not thresholds:
        thresholds += [float(np.quantile(strange, 0.99)) for _, strange in results]
    verified = float(np.mean([rows is not None for rows, view in zip(found, views, strict=True) if view.person]))
    entry: dict[str, Any] = {"bytes": float(np.mean([len(crop) for crop in crops])), "verified": verified}
    for name, (mated, strange), limit in zip(EMBEDDERS, results, thresholds, strict=True):
        entry[name] = {
            "right": float(np.mean(mated > limit)),
            "wrong": float(np.mean(strange > limit)),
            "tpir": float(np.mean(mated > np.quantile(strange, 0.99))),
            "similarity": float(np.mean(mated[mated >= 0])),
        }
    return entry


def show(figures: dict[str, Any]) -> None:
    """The table."""
    rows = [
        (
            name,
            f"{entry['bytes']:,.0f}",
            f"{entry['verified']:.3f}",
            *(" / ".join(f"{entry[n][key]:.3f}" for key in ("right", "wrong", "similarity")) for n in EMBEDDERS),
        )
        for name, entry in figures.items()
    ]
    print_figures("crops", rows, ("setting", "bytes", "verified", *(f"{n} right/wrong/sim" for n in EMBEDDERS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, default=Path("../shared/data/lfw-dev"), help="in LFW's layout")
    parser.add_argument("--enrolled", type=int, default=80)
    parser.add_argument("--strangers", type=int, default=150)
    parser.add_argument("--half", type=int, default=0, choices=(0, 1), help="which half of the people, by name")
    parser.add_argument("--only", default="", help="settings whose name holds this; the first is always tried")
    arguments = parser.parse_args()
    cache = ModelCache(Settings().model_cache)
    recogniser, detector = Recogniser(cache), load_detector("yunet", cache, input_px=640)
    photographs = Photographs.read(arguments.people)
    enrolled, strangers = cast(photographs, arguments.enrolled, arguments.strangers, arguments.half)
    galleries = enrol(recogniser, enrolled)
    random = np.random.default_rng(1)
    shown: list[tuple[Path, str | None]] = [(p, name) for name, paths in enrolled.items() for p in paths[GALLERY:]]
    shown += [(path, None) for path in strangers]
    views = [view for path, who in shown if (view := seen(path, who, detector, random)) is not None]
    thresholds: list[float] = []
    figures = {
        trial.name: try_out(trial, views, recogniser, galleries, thresholds)
        for number, trial in enumerate(TRIALS)
        if number == 0 or arguments.only in trial.name
    }
    show(figures)
    write_report("edge-codec", {"mated": sum(v.person is not None for v in views), "views": len(views), "of": figures})


if __name__ == "__main__":
    run_bench(main)
