"""Pictures in memory. All are RGB to whoever looks at them; those that OpenCV decoded lie there as BGR.

Such a picture is a view that reads the three channels backwards (`from_bgr`). It can be sliced and computed with like
any other, but slowly: NumPy walks through it pixel by pixel, also where it is given to OpenCV. `in_order` and
`rgb_copy` turn it, or better the part that is needed, round in a twentieth of that time.
"""

from __future__ import annotations

import cv2
import numpy as np

from shared.domain import UInt8Array


def from_bgr(pixels: UInt8Array) -> UInt8Array:
    """The RGB picture (H, W, 3) that these pixels show: a view, nothing is copied.

    >>> from_bgr(np.uint8([[[3, 2, 1]]])).tolist()
    [[[1, 2, 3]]]
    """
    return pixels[..., ::-1]


def in_order(image: UInt8Array) -> UInt8Array:
    """The same RGB picture (H, W, 3), or part of one, with its channels in order: itself where they are, or a copy."""
    if image.strides[2] > 0:
        return image
    return np.asarray(cv2.cvtColor(image[..., ::-1], cv2.COLOR_BGR2RGB), dtype=np.uint8)


def rgb_copy(image: UInt8Array) -> UInt8Array:
    """The same as `in_order`, and in any case the caller's own."""
    ordered = in_order(image)
    return ordered.copy() if ordered is image else ordered


def reduced(image: UInt8Array, step: int) -> UInt8Array:
    """An RGB picture (H, W, 3) with one pixel for each `step` × `step`, whatever is left over at the edges left out.

    Halved as often as can be, and brought to its size by interpolation from there: OpenCV halves a picture four times
    faster than it makes the means of 3 × 3 pixels, and a detector finds the same.
    """
    columns, rows = image.shape[1] // step, image.shape[0] // step
    turned = image.strides[2] < 0
    small = (from_bgr(image) if turned else image)[: rows * step, : columns * step]
    while small.shape[1] >= 2 * columns and small.shape[0] % 2 == small.shape[1] % 2 == 0:
        half = small.shape[1] // 2, small.shape[0] // 2
        small = np.asarray(cv2.resize(small, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if small.shape[1] != columns:
        how = cv2.INTER_LINEAR if small.shape[1] < 2 * columns else cv2.INTER_AREA
        small = np.asarray(cv2.resize(small, (columns, rows), interpolation=how), dtype=np.uint8)
    return in_order(from_bgr(small)) if turned else np.ascontiguousarray(small)
