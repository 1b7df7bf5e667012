"""Arithmetic on boxes: `xyxy` float32, pixels, x to the right and y down. Nothing here knows a network."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array

Overlap = Literal["union", "smaller"]

_BLOCK: Final = 256


def area(boxes: Float32Array) -> Float32Array:
    """(N,) areas in square pixels of (N, 4) boxes; 0 for boxes that are inside out."""
    sides: Float32Array = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def overlaps(boxes: Float32Array, others: Float32Array, over: Overlap = "union") -> Float32Array:
    """(N, M) shared area of every pair, divided by the area of both together or of the smaller one.

    Args:
        boxes: (N, 4).
        others: (M, 4).
        over: `union` is the IoU; `smaller` is 1 for a box inside another.

    >>> overlaps(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
    [[0.3330000042915344, 0.0]]
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    first, second = area(boxes)[:, None], area(others)[None, :]
    whole = first + second - shared if over == "union" else np.minimum(first, second)
    result: Float32Array = (shared / np.maximum(whole, np.finfo(np.float32).tiny)).astype(np.float32)
    return result


def iou(box: Float32Array, other: Float32Array) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    return float(overlaps(box[None].astype(np.float32), other[None].astype(np.float32))[0, 0])


def nms(boxes: Float32Array, scores: Float32Array, threshold: float, over: Overlap = "union") -> NDArray[np.intp]:
    """Indices of the boxes that no better one covers, best first (greedy non-maximum suppression).

    Args:
        boxes: (N, 4).
        scores: (N,), higher is better; of equals the first stays.
        threshold: a box goes when it overlaps a kept one by more than this.

    >>> nms(np.float32([[0, 0, 9, 9], [0, 0, 9, 10], [20, 20, 29, 29]]), np.float32([0.8, 0.9, 0.7]), 0.5).tolist()
    [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[NDArray[np.intp]] = []
    while order.size:  # a block at a time, so that the table of all pairs stays small
        block, order = order[:_BLOCK], order[_BLOCK:]
        covers = overlaps(boxes[block], boxes[block], over) > threshold
        alive = np.ones(len(block), dtype=bool)
        for index in range(len(block)):
            if alive[index]:
                alive[index + 1 :] &= ~covers[index, index + 1 :]
        kept.append(block[alive])
        if order.size:
            order = order[~(overlaps(boxes[order], boxes[kept[-1]], over) > threshold).any(axis=1)]
    return np.concatenate(kept) if kept else np.zeros(0, np.intp)


def square(boxes: Float32Array) -> Float32Array:
    """(N, 4) boxes grown about their centres until the sides are equal.

    >>> square(np.float32([[0, 0, 4, 2]])).tolist()
    [[0.0, -1.0, 4.0, 3.0]]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1, keepdims=True) if len(boxes) else sides[:, :1]
    low = boxes[:, :2] + (sides - longest) / 2
    return np.concatenate([low, low + longest], axis=1).astype(np.float32)


def clip(boxes: Float32Array, width: int, height: int) -> Float32Array:
    """(N, 4) the parts of the boxes inside an image of `width` × `height` pixels."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, 0, limits).astype(np.float32)


def enlarge(boxes: Float32Array, factor: float) -> Float32Array:
    """(N, 4) boxes with both sides multiplied by `factor` about their centres."""
    grown = (boxes[:, 2:] - boxes[:, :2]) * (factor - 1) / 2
    return np.concatenate([boxes[:, :2] - grown, boxes[:, 2:] + grown], axis=1).astype(np.float32)
