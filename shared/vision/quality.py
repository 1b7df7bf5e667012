"""What can be said of a face's fitness for recognition before anybody asks who it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from shared.domain import Face, Float32Array, Quality, UInt8Array
from shared.vision.boxes import clip
from shared.vision.pixels import in_order

_MEASURED_PX: Final = 112
"""Side to which a face is scaled before it is measured, so that near and far faces compare."""
_MIDDLE: Final = (slice(28, 101), slice(22, 90))
"""Rows and columns of the scaled face that are skin, eyes and mouth, and seldom hair, neck or background."""
_BLACK: Final = 20
_WHITE: Final = 245
"""Grey levels beyond which a camera, and JPEG after it, has kept nothing to tell people by."""
_LEVEL_PITCH: Final = 0.55
"""Where the nose of a level face is on the way from the eyes (0) to the mouth (1)."""


def assess(image: UInt8Array, face: Face) -> Quality:
    """Measures one face.

    Args:
        image: RGB (H, W, 3) uint8.
        face: in pixels of it.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = clip(face.box[None], width, height)[0].round().astype(int).tolist()
    size = float(min(face.width_px, face.height_px))
    yaw, pitch, roll = (None, None, None) if face.landmarks is None else pose_of(face.landmarks)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return Quality(size, 0.0, yaw, 0.0, face.confidence, pitch, roll)
    grey = cv2.cvtColor(in_order(image[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
    shrinks = grey.shape[0] > _MEASURED_PX
    scaled = cv2.resize(
        grey, (_MEASURED_PX, _MEASURED_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    middle = scaled[_MIDDLE]
    # OpenCV's mean and deviation: NumPy's take ten times as long for so few pixels.
    _, (edges,) = cv2.meanStdDev(cv2.Laplacian(scaled, cv2.CV_32F))
    _, (contrast,) = cv2.meanStdDev(middle)
    return Quality(
        size_px=size,
        sharpness=float(edges[0] ** 2),
        yaw=yaw,
        brightness=cv2.mean(scaled)[0],
        confidence=face.confidence,
        pitch=pitch,
        roll=roll,
        dark=np.count_nonzero(middle < _BLACK) / middle.size,
        bright=np.count_nonzero(middle > _WHITE) / middle.size,
        contrast=float(contrast[0]),
    )


def pose_of(landmarks: Float32Array) -> tuple[float, float, float]:
    """Yaw, pitch and roll as `Quality` has them, from five landmarks.

    Args:
        landmarks: (5, 2) pixels, in the order of `Face.landmarks`.
    """
    return yaw_of(landmarks), pitch_of(landmarks), roll_of(landmarks)


def yaw_of(landmarks: Float32Array) -> float:
    """−1 to 1: how far the nose is from midway between the eyes, along the line of the eyes.

    0 is frontal; below 0 the face is turned to the left of the picture. At ±1 the nose is above an eye, or beyond.
    No angle: how far a nose stands out differs between people, and the value saturates in profile, where detectors
    place the hidden eye by guess.

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


def pitch_of(landmarks: Float32Array) -> float:
    """−1 to 1: how much lower than in a level face the nose is, on the way from the eyes to the mouth.

    Below 0 the face looks up, above 0 down. No angle, and the coarsest of the three: the proportions of level faces
    alone differ by about ±0.1, an open mouth counts as looking up, and a camera above everybody's heads sees
    everybody look down.

    >>> round(pitch_of(np.float32([[0, 0], [10, 0], [5, 6], [1, 10], [9, 10]])), 2)
    0.05
    >>> round(pitch_of(np.float32([[0, 0], [10, 0], [5, 3], [1, 10], [9, 10]])), 2)
    -0.25
    """
    eyes = landmarks[:2].astype(np.float64).mean(axis=0)
    down = landmarks[3:].astype(np.float64).mean(axis=0) - eyes
    length = float(down @ down)
    if length < 1:
        return 1.0  # eyes and mouth in one place
    return min(max(float((landmarks[2] - eyes) @ down) / length - _LEVEL_PITCH, -1.0), 1.0)


def roll_of(landmarks: Float32Array) -> float:
    """Degrees by which the line of the eyes is turned clockwise in the picture; right up to profile.

    >>> roll_of(np.float32([[0, 0], [10, 10], [3, 7], [0, 9], [6, 13]]))
    45.0
    """
    across, down = (landmarks[1] - landmarks[0]).tolist()
    return math.degrees(math.atan2(down, across)) if across or down else 0.0


@dataclass(frozen=True, slots=True)
class QualityGate:
    """Throws out what cannot be recognised. None lets everything through, and so does what was not measured.

    Attributes:
        min_size_px: of the face's shorter side.
        min_sharpness: variance of the Laplacian, see `domain.Quality`.
        min_confidence: of the detector.
        max_abs_yaw, max_abs_pitch: as in `domain.Quality`.
        max_abs_roll: degrees.
        max_dark, max_bright: shares of the face.
        min_contrast: grey levels.
    """

    min_size_px: float
    min_sharpness: float
    min_confidence: float
    max_abs_yaw: float | None = None
    max_abs_pitch: float | None = None
    max_abs_roll: float | None = None
    max_dark: float | None = None
    max_bright: float | None = None
    min_contrast: float | None = None

    def reason(self, quality: Quality) -> str | None:
        """One of `REASONS`, or None when the face may pass. What explains most comes first: the dark also blurs.

        >>> gate = QualityGate(min_size_px=40, min_sharpness=20, min_confidence=0.9)
        >>> gate.reason(Quality(size_px=20, sharpness=100, yaw=0, brightness=120, confidence=0.99))
        'too_small'
        """
        q = quality
        found = {
            "low_confidence": q.confidence < self.min_confidence,
            "too_small": q.size_px < self.min_size_px,
            "too_dark": _over(q.dark, self.max_dark),
            "too_bright": _over(q.bright, self.max_bright),
            "low_contrast": _over(self.min_contrast, q.contrast),
            "too_blurred": q.sharpness < self.min_sharpness,
            "turned_away": _over(_size(q.yaw), self.max_abs_yaw),
            "looking_up": _over(_size(q.pitch), self.max_abs_pitch) and (q.pitch or 0.0) < 0,
            "looking_down": _over(_size(q.pitch), self.max_abs_pitch),
            "tilted": _over(_size(q.roll), self.max_abs_roll),
        }
        return next((reason for reason, applies in found.items() if applies), None)


REASONS: Final = (
    "low_confidence",
    "too_small",
    "too_dark",
    "too_bright",
    "low_contrast",
    "too_blurred",
    "turned_away",
    "looking_up",
    "looking_down",
    "tilted",
)
"""Why a gate refuses a face, in the order in which it looks."""


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _over(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit
