"""Faces of a video into a folder: the seed's extract program, and the way to see what a detector finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_uploader.capture.sources import Frame, Source
from edge_uploader.selection.crops import Crop, CropOptions, Encoder, cut, long_axis_px
from shared.domain import CROP_FORMATS
from shared.ports import Detector


@dataclass(slots=True)
class ExtractStats:
    """What was found.

    Attributes:
        frames: looked at.
        sizes: (width, height, bytes) of each image.
    """

    frames: int = 0
    sizes: list[tuple[int, int, int]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Number of images, their average height and width in px and size in bytes (0 when there are none)."""
        count = len(self.sizes)
        width, height, size = (sum(values) / count for values in zip(*self.sizes, strict=True)) if count else (0, 0, 0)
        return {
            "frames": self.frames,
            "images": count,
            "average_height_px": round(height, 1),
            "average_width_px": round(width, 1),
            "average_bytes": round(size),
            "bytes": sum(size for _, _, size in self.sizes),
        }


def extract_faces(
    source: Source,
    detector: Detector,
    folder: Path,
    *,
    encode: Encoder,
    min_confidence: float,
    min_face_px: int,
    crops: CropOptions,
    stats: ExtractStats | None = None,
    on_frame: Callable[[ExtractStats], None] | None = None,
) -> ExtractStats:
    """Writes every face of every frame of `source` to `folder`, as `{frame}-{number}.jpg` (or `.webp`).

    Args:
        folder: made when it is not there; images of the same name are replaced.
        min_face_px: on the long axis; smaller faces are discarded.
        stats: added to, so that a caller has what was found when the source breaks off.
        on_frame: called after each frame, for a progress display.

    Raises:
        SourceUnusable: the source cannot be read, or broke off; what was found before is in the folder.
    """
    stats = stats if stats is not None else ExtractStats()
    folder.mkdir(parents=True, exist_ok=True)
    for frame in source.frames():
        for number, crop in enumerate(_crops(frame, detector, min_confidence, min_face_px, crops, encode)):
            name = f"{frame.index:07d}-{number}{CROP_FORMATS[crop.format][0]}"
            (folder / name).write_bytes(crop.data)
            stats.sizes.append((*crop.size, len(crop.data)))
        stats.frames += 1
        if on_frame is not None:
            on_frame(stats)
    return stats


def _crops(
    frame: Frame, detector: Detector, min_confidence: float, min_face_px: int, options: CropOptions, encode: Encoder
) -> list[Crop]:
    return [
        cut(frame.image, face, frame.captured_at, options, encode)
        for face in detector.detect(frame.image)
        if face.confidence >= min_confidence and long_axis_px(face) >= min_face_px
    ]
