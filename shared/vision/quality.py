"""What can be said of a face's fitness for recognition before anybody asks who it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from shared.domain import Face, Float32Array, Quality, UInt8Array
from shared.vision.boxes import clip

_MEASURED_PX: Final = 112
"""Side to which a face is scaled before its sharpness is measured, so that near and far faces compare."""


def assess(image: UInt8Array, face: Face) -> Quality:
    """Measures one face.

    Args:
        image: RGB (H, W, 3) uint8.
        face: in pixels of it.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = clip(face.box[None], width, height)[0].round().astype(int).tolist()
    size = float(min(face.width_px, face.height_px))
    yaw = None if face.landmarks is None else yaw_of(face.landmarks)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return Quality(size, 0.0, yaw, 0.0, face.confidence)
    grey = cv2.cvtColor(np.ascontiguousarray(image[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
    shrinks = grey.shape[0] > _MEASURED_PX
    scaled = cv2.resize(
        grey, (_MEASURED_PX, _MEASURED_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    sharpness = float(cv2.Laplacian(scaled, cv2.CV_32F).var())
    return Quality(size, sharpness, yaw, float(scaled.mean()), face.confidence)


def yaw_of(landmarks: Float32Array) -> float:
    """−1 to 1: how far the nose is from midway between the eyes, along the line of the eyes.

    0 is frontal; below 0 the face is turned to the left of the picture. At ±1 the nose is above an eye, or beyond.

    >>> yaw_of(np.float32([[0, 0], [10, 0], [5, 5], [1, 9], [9, 9]]))
    0.0
    >>> yaw_of(np.float32([[0, 0], [10, 0], [0, 5], [1, 9], [9, 9]]))
    -1.0
    """
    left, right, nose = landmarks[0].astype(np.float64), landmarks[1], landmarks[2]
    line = right - left
    length = float(line @ line)
    if length < 1:
        return 1.0  # both eyes in one place: a profile
    along = float((nose - (left + right) / 2) @ line) / length * 2
    return min(max(along, -1.0), 1.0)


@dataclass(frozen=True, slots=True)
class QualityGate:
    """Throws out what cannot be recognised.

    Attributes:
        min_size_px: of the face's shorter side.
        min_sharpness: variance of the Laplacian, see `domain.Quality`.
        min_confidence: of the detector.
        max_abs_yaw: None lets profiles through.
    """

    min_size_px: float
    min_sharpness: float
    min_confidence: float
    max_abs_yaw: float | None = None

    def reason(self, quality: Quality) -> str | None:
        """`low_confidence`, `too_small`, `too_blurred`, `turned_away`, or None when the face may pass.

        >>> gate = QualityGate(min_size_px=40, min_sharpness=20, min_confidence=0.9)
        >>> gate.reason(Quality(size_px=20, sharpness=100, yaw=0, brightness=120, confidence=0.99))
        'too_small'
        """
        if quality.confidence < self.min_confidence:
            return "low_confidence"
        if quality.size_px < self.min_size_px:
            return "too_small"
        if quality.sharpness < self.min_sharpness:
            return "too_blurred"
        if self.max_abs_yaw is not None and quality.yaw is not None and abs(quality.yaw) > self.max_abs_yaw:
            return "turned_away"
        return None
