"""People who were drawn: a flat face in a colour of its own, so that a test can find it again in a frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from shared.domain import Face, UInt8Array

FACE_BOX = np.array([85.0, 70.0, 165.0, 175.0], np.float32)


def locate(_image: UInt8Array) -> Face | None:
    """Every drawn photograph has its face in the same place."""
    return Face(FACE_BOX, 1.0)


def draw_people(root: Path, photographs: list[int]) -> Path:
    """A folder in LFW's layout; person k has `photographs[k]` pictures, and is of one hue."""
    for number, count in enumerate(photographs):
        folder = root / "images" / f"Person_{number:02d}"
        folder.mkdir(parents=True)
        for index in range(count):
            picture = np.full((250, 250, 3), 60, np.uint8)
            x1, y1, x2, y2 = (int(v) for v in FACE_BOX)
            picture[y1:y2, x1:x2] = (30, 30 + 12 * index, 250)
            cv2.imwrite(str(folder / f"Person_{number:02d}_{index + 1:04d}.jpg"), picture)
    return root
