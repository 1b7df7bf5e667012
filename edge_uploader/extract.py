"""Faces of a video into a folder: the seed's extract program, and the way to see what a detector finds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_uploader.capture.sources import Frame, Source
from edge_uploader.selection.crops import CropOptions, Encoder, cut, long_axis_px
from shared.domain import CROP_FORMATS, Face
from shared.ports import Detector


@dataclass(slots=True)
class ExtractStats:
    """What was found.

    Attributes:
        frames: looked at.
        sizes: (width, height, bytes) of each image.
        first_s, last_s: position of the first and the last frame in the source.
    """

    frames: int = 0
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def length_s(self) -> float:
        """What the frames stand for: each as long as they are apart on average; 0 with fewer than two."""
        return (self.last_s - self.first_s) * self.frames / (self.frames - 1) if self.frames > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Number of images, their average height, width and area in px and size in bytes (0 when there are none)."""
        count = len(self.sizes)
        width, height, size = (sum(values) / count for values in zip(*self.sizes, strict=True)) if count else (0, 0, 0)
        area = sum(wide * high for wide, high, _ in self.sizes) / count if count else 0
        return {
            "frames": self.frames,
            "length_s": round(self.length_s, 3),
            "images": count,
            "images_per_minute": round(count / self.length_s * 60, 1) if self.length_s else None,
            "average_height_px": round(height, 1),
            "average_width_px": round(width, 1),
            "average_px": round(area),
            "average_bytes": round(size),
            "bytes": sum(size for _, _, size in self.sizes),
        }


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """Which faces are written, and how.

    Attributes:
        min_confidence: of the detector.
        min_face_px: on the long axis; smaller faces are discarded.
        parallel: images that are cut, encoded and written at a time.
    """

    min_confidence: float
    min_face_px: int
    crops: CropOptions
    parallel: int = 2


def extract_faces(
    source: Source,
    detector: Detector,
    folder: Path,
    options: ExtractOptions,
    *,
    encode: Encoder,
    stats: ExtractStats | None = None,
    on_frame: Callable[[Frame, list[Face], ExtractStats], None] | None = None,
) -> ExtractStats:
    """Writes every face of every frame of `source` to `folder`, as `{frame}-{number}.jpg` (or `.webp`).

    Args:
        folder: made when it is not there; images of the same name are replaced.
        stats: added to, so that a caller has what was found when the source breaks off.
        on_frame: called after each frame with the faces that are written, for a display; the newest of them may still
            be on their way to the disk.

    Raises:
        SourceUnusable: the source cannot be read, or broke off; what was found before is in the folder.
        OSError: the folder cannot be written.
    """
    stats = stats if stats is not None else ExtractStats()
    folder.mkdir(parents=True, exist_ok=True)
    under_way: deque[Future[tuple[int, int, int]]] = deque()

    def collect(most: int) -> None:
        while len(under_way) > most:
            stats.sizes.append(under_way.popleft().result())

    with ThreadPoolExecutor(options.parallel, thread_name_prefix="encode") as pool:
        try:
            for frame in source.frames():
                faces = _wanted(frame, detector, options)
                for number, face in enumerate(faces):
                    path = folder / f"{frame.index:07d}-{number}{CROP_FORMATS[options.crops.format][0]}"
                    under_way.append(pool.submit(_write, path, frame, face, options.crops, encode))
                # Each keeps its frame in memory: no more of them than there are hands, and one.
                collect(options.parallel + 1)
                stats.first_s = frame.position_s if not stats.frames else stats.first_s
                stats.frames, stats.last_s = stats.frames + 1, frame.position_s
                if on_frame is not None:
                    on_frame(frame, faces, stats)
        finally:
            collect(0)
    return stats


def _wanted(frame: Frame, detector: Detector, options: ExtractOptions) -> list[Face]:
    return [
        face
        for face in detector.detect(frame.image)
        if face.confidence >= options.min_confidence and long_axis_px(face) >= options.min_face_px
    ]


def _write(path: Path, frame: Frame, face: Face, crops: CropOptions, encode: Encoder) -> tuple[int, int, int]:
    crop = cut(frame.image, face, frame.captured_at, crops, encode)
    path.write_bytes(crop.data)
    return (*crop.size, len(crop.data))
