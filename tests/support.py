"""Factories and stand-ins that several suites share.

Stores are the real embedded ones, in a temporary folder. The stand-ins for vision look at pixels: a face is a patch of
strong colour on grey, and its colour is who it is. They obey the rules of `shared.ports`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from shared.adapters.local import LocalStore
from shared.bootstrap import Stores, stores_over
from shared.domain import (
    Candidate,
    Embeddings,
    Face,
    Float32Array,
    Quality,
    Template,
    UInt8Array,
    sha256_hex,
    template_key,
)
from shared.matching.model import MatcherModel, Operating
from shared.serving import Packs, Serving
from shared.vision.assets import EmbedderTable
from shared.vision.detectors import Pack

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
EMBEDDER_ID = "colour.1"
DIMENSION = 8
OPERATING = Operating(threshold=0.5, slope=20.0, midpoint=0.5)

ONE_COLOUR: dict[str, Any] = {"enroll_min_sharpness": 0, "enroll_min_contrast": 0, "recognize_min_contrast": 0}
"""Settings under which faces that are patches of one colour pass."""

GREY = (120, 120, 120)
RED = (230, 20, 20)
GREEN = (20, 230, 20)
BLUE = (20, 20, 230)
YELLOW = (230, 230, 20)


class TickingClock:
    """Every look at it is a millisecond later, as with a real clock and unlike a stopped one."""

    def __init__(self, start: datetime = NOW, step: timedelta = timedelta(milliseconds=1)) -> None:
        self._now = start
        self._step = step
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            self._now += self._step
            return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)


@contextmanager
def local_stores(folder: Path) -> Iterator[Stores]:
    """The embedded backend on an empty folder."""
    store = LocalStore(folder)
    try:
        yield stores_over(store)
    finally:
        store.close()


class PatchDetector:
    """Finds patches of strong colour: a detector whose truth is in the picture itself."""

    detector_id = "patch.1"

    def __init__(self, confidence: float = 0.99) -> None:
        self.confidence = confidence
        self.calls = 0

    def detect(self, image: UInt8Array) -> list[Face]:
        """Faces in falling order of size, as their confidence is the same."""
        self.calls += 1
        strong = (image.max(axis=2).astype(int) - image.min(axis=2) > 110).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(strong)
        boxes = sorted((stats[row, :4] for row in range(1, count) if stats[row, 4] > 60), key=lambda b: -b[2] * b[3])
        return [face(x, y, x + w, y + h, self.confidence) for x, y, w, h in boxes]


class ColourEmbedder:
    """A face's embedding is its colour, as a unit vector."""

    dimension = DIMENSION

    def __init__(self, embedder_id: str = EMBEDDER_ID) -> None:
        self.embedder_id = embedder_id

    def embed_reference(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        return self.embed(images, faces)

    def embed(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        rows = [self._one(image, found) for image, found in zip(images, faces, strict=True)]
        return Embeddings(self.embedder_id, np.stack(rows) if rows else np.zeros((0, DIMENSION), np.float32))

    def _one(self, image: UInt8Array, found: Face) -> Float32Array:
        x, y = ((found.box[:2] + found.box[2:]) / 2).astype(int)
        return colour_vector(image[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(axis=0))


def colour_pack(
    embedder: ColourEmbedder | None = None,
    *,
    detector: PatchDetector | None = None,
    name: str = "colours",
    duplicate_similarity: float = 0.95,
) -> Pack:
    """A pack of stand-ins."""
    embedder = embedder or ColourEmbedder()
    table = EmbedderTable(
        file="none",
        embedder_id=embedder.embedder_id,
        dimension=embedder.dimension,
        input_px=32,
        crop="margin",
        default_threshold=OPERATING.threshold,
        duplicate_similarity=duplicate_similarity,
    )
    return Pack(name, detector or PatchDetector(), embedder, table)  # type: ignore[arg-type]


def packs_of(*packs: Pack) -> Packs:
    """These, loaded, the first one initial."""
    return Packs(cache=Path("none"), min_face_px=20, loaded=packs)


def serving(model: MatcherModel, *, detector: PatchDetector | None = None) -> Serving:
    """A pair of stand-ins and a matcher."""
    return Serving(colour_pack(ColourEmbedder(model.embedder_id), detector=detector), model)


def probes(vectors: Float32Array, embedder_id: str = EMBEDDER_ID) -> Embeddings:
    """A vector, or rows of them, as embeddings of one embedder."""
    return Embeddings(embedder_id, np.atleast_2d(vectors))


def colour_vector(colour: Sequence[float] | Float32Array) -> Float32Array:
    """(8,) unit vector of an RGB colour."""
    row = np.zeros(DIMENSION, np.float32)
    row[:3] = (np.asarray(colour, np.float32) - 127.0) / 128.0
    unit: Float32Array = row / np.linalg.norm(row)
    return unit


def face(x1: float, y1: float, x2: float, y2: float, confidence: float = 0.99) -> Face:
    """A face with landmarks where a frontal one has them."""
    box: Float32Array = np.array([x1, y1, x2, y2], np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.77], [0.65, 0.77]], np.float32)
    return Face(box, confidence, (box[:2] + points * (box[2:] - box[:2])).astype(np.float32))


def picture(*patches: tuple[tuple[int, int, int, int], tuple[int, int, int]], size: tuple[int, int] = (240, 240)):
    """A grey RGB picture, (width, height), with patches: ((x1, y1, x2, y2), colour)."""
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    for (x1, y1, x2, y2), colour in patches:
        image[y1:y2, x1:x2] = colour
    return image


def portrait(colour: tuple[int, int, int], *, side: int = 80, shift: int = 0, size: int = 240) -> bytes:
    """PNG of one face of that colour in the middle of a grey square, moved to the right by `shift`."""
    low = (size - side) // 2
    return png(picture(((low + shift, low, low + side + shift, low + side), colour), size=(size, size)))


def png(image: UInt8Array) -> bytes:
    return saved(Image.fromarray(image), "PNG")


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """The bytes of a Pillow image in a file format."""
    sink = BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


def candidate(data: bytes = b"", **changes: object) -> Candidate:
    """A candidate whose hash is that of `data`."""
    plain = Candidate(
        site="hq",
        camera="entrance",
        location="lobby",
        captured_at=NOW,
        track="a1",
        shot=0,
        frame_box=(10, 20, 50, 70),
        frame_size=(1920, 1080),
        detector="yunet",
        confidence=0.9,
        sha256=sha256_hex(data),
        uploader="0.1.0",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def quality(**changes: float) -> Quality:
    return replace(Quality(size_px=80.0, sharpness=100.0, yaw=0.0, brightness=120.0, confidence=0.99), **changes)


def template(person_id: str, embedding: Float32Array, *, image: str = "", embedder_id: str = EMBEDDER_ID) -> Template:
    image = image or f"{person_id}/{sha256_hex(embedding.tobytes())}.jpg"
    return Template(
        template_id=template_key(image, embedder_id),
        person_id=person_id,
        embedder_id=embedder_id,
        embedding=embedding,
        image=image,
        face_box=(80.0, 80.0, 160.0, 160.0),
        landmarks=None,
        quality=quality(),
        source="upload",
        created_at=NOW,
    )


def matcher(
    people: dict[str, Float32Array],
    *,
    model_id: str = "20260101T000000.000000Z-0000",
    embedder_id: str = EMBEDDER_ID,
    operating: Operating = OPERATING,
) -> MatcherModel:
    """A matcher by cosine alone, one prototype for each person."""
    ids = tuple(sorted(people))
    dimension = len(next(iter(people.values()))) if people else DIMENSION
    rows = np.stack([people[person_id] for person_id in ids]) if ids else np.zeros((0, dimension), np.float32)
    return MatcherModel(
        model_id=model_id,
        embedder_id=embedder_id,
        person_ids=ids,
        mean=np.zeros(dimension, np.float32),
        weights=rows.astype(np.float32),
        bias=np.zeros(len(ids), np.float32),
        operating=operating,
    )


def unit(*values: float) -> Float32Array:
    """A unit vector in that direction."""
    row = np.array(values, np.float32)
    normalised: Float32Array = row / np.linalg.norm(row)
    return normalised
