"""The arithmetic of MTCNN around its three networks.

Ported as arithmetic from "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks"
(Zhang et al. 2016) and the authors' published detection code: window 12 px, stride 2, pyramid factor 0.709, inclusive
box sides (the `+ 1`). Boxes are `xyxy` float32 in pixels of the image.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array, UInt8Array
from shared.vision.boxes import Overlap, nms

WINDOW_PX: Final = 12
STRIDE_PX: Final = 2
PYRAMID_FACTOR: Final = 0.709


def pyramid(width: int, height: int, min_face_px: float, max_face_px: float | None = None) -> list[float]:
    """Scales at which faces between the two sizes fill the first network's window.

    The largest face a scale finds is bounded by the image; `max_face_px` bounds it further, so that a crop in which
    the size of the face is known needs two or three scales instead of eleven.

    >>> [round(scale, 3) for scale in pyramid(100, 100, 40)]
    [0.3, 0.213, 0.151]
    >>> [round(scale, 3) for scale in pyramid(100, 100, 40, max_face_px=50)]
    [0.3, 0.213]
    """
    scale = WINDOW_PX / min_face_px
    scales: list[float] = []
    while min(width, height) * scale >= WINDOW_PX:
        scales.append(scale)
        if max_face_px is not None and WINDOW_PX / scale >= max_face_px:
            break
        scale *= PYRAMID_FACTOR
    return scales


def normalise(pixels: UInt8Array) -> Float32Array:
    """0 to 255 as −1 to 1, the range that the networks were trained on."""
    result: Float32Array = (pixels.astype(np.float32) - 127.5) * np.float32(1 / 128)
    return result


def windows(
    face: Float32Array, regression: Float32Array, scale: float, threshold: float
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """The places where the first network sees a face.

    Args:
        face: (w, h) probability at each place, x first.
        regression: (w, h, 4) offsets of the sides, in parts of the window.
        scale: of the pyramid level.

    Returns:
        Boxes (N, 4), scores (N,), offsets (N, 4).
    """
    places = np.argwhere(face > threshold)
    x, y = places[:, 0], places[:, 1]
    low = np.floor((STRIDE_PX * places + 1) / scale)
    high = np.floor((STRIDE_PX * places + WINDOW_PX) / scale)
    boxes = np.concatenate([low, high], axis=1).astype(np.float32)
    return boxes, face[x, y], regression[x, y]


def shift(boxes: Float32Array, offsets: Float32Array, inclusive: float) -> Float32Array:
    """(N, 4) boxes with each side moved by its offset, in parts of the box.

    Args:
        inclusive: 1 where the sides count as pixels of the box (second and third network), 0 for the first.
    """
    sides = boxes[:, 2:] - boxes[:, :2] + inclusive
    moved: Float32Array = boxes + offsets * np.concatenate([sides, sides], axis=1)
    return moved


def suppress(boxes: Float32Array, scores: Float32Array, threshold: float, over: Overlap = "union") -> NDArray[np.intp]:
    """`nms` with sides that count as pixels of the box."""
    return nms(boxes + np.array([0, 0, 1, 1], np.float32), scores, threshold, over)


def crops(transposed: UInt8Array, boxes: Float32Array, size_px: int) -> UInt8Array:
    """(N, size, size, 3) the boxes' pixels, x first; what lies outside the image is black, as in training.

    Args:
        transposed: (W, H, 3), x first.
        boxes: (N, 4) in the image's own pixels.
    """
    width, height = transposed.shape[:2]
    corners = np.trunc(boxes).astype(int)
    result = np.zeros((len(boxes), size_px, size_px, 3), np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(corners.tolist()):
        left, top, right, bottom = max(x1, 1) - 1, max(y1, 1) - 1, min(x2, width), min(y2, height)
        if right <= left or bottom <= top:
            continue
        patch = transposed[left:right, top:bottom]
        if x1 < 1 or y1 < 1 or x2 > width or y2 > height:
            whole = np.zeros((x2 - x1 + 1, y2 - y1 + 1, 3), np.uint8)
            whole[left - x1 + 1 : right - x1 + 1, top - y1 + 1 : bottom - y1 + 1] = patch
            patch = whole
        cv2.resize(patch, (size_px, size_px), dst=result[index], interpolation=cv2.INTER_AREA)
    return result


def place_landmarks(boxes: Float32Array, relative: Float32Array) -> Float32Array:
    """(N, 5, 2) points in pixels from (N, 10) parts of the box: five x, then five y."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    points = np.stack([relative[:, :5], relative[:, 5:]], axis=2)
    result: Float32Array = (boxes[:, None, :2] + points * sides[:, None, :] - 1).astype(np.float32)
    return result
