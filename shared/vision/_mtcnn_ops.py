"""The arithmetic of MTCNN around its three networks.

Ported as arithmetic from "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks"
(Zhang et al. 2016) and the authors' published detection code: window 12 px, stride 2, pyramid factor 0.709, inclusive
box sides (the `+ 1`). Boxes are `xyxy` float32 in pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array, UInt8Array

WINDOW_PX: Final = 12
STRIDE_PX: Final = 2
PYRAMID_FACTOR: Final = 0.709

_TABLE_PIXELS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Bins:
    """Where along one axis each place of a result begins and ends in the image; neighbours may share a pixel."""

    starts: NDArray[np.intp]
    ends: NDArray[np.intp]

    def moved(self, by: int) -> Bins:
        return Bins(self.starts + by, self.ends + by)

    def part(self, start: int, stop: int) -> Bins:
        return Bins(self.starts[start:stop], self.ends[start:stop])

    def __len__(self) -> int:
        return len(self.starts)


@lru_cache(maxsize=4096)
def bins(pixels: int, places: int) -> Bins:
    """`pixels` divided among `places`; each has at least one, also where there are more places than pixels.

    >>> bins(5, 2).starts.tolist(), bins(5, 2).ends.tolist()
    ([0, 2], [3, 5])
    """
    index = np.arange(places)
    return Bins(index * pixels // places, -(-(index + 1) * pixels // places))


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


class Means:
    """Averages over areas of one image, in the range that the networks were trained on (−1 to 1).

    Every place of a pyramid level or crop is the plain mean of the pixels it covers, even partly: the resampling of
    the reference implementation, to which the boxes turn out to be sensitive (ADR 0002). A summed-area table (Crow
    1984) gives each mean from four values, so that a level or a crop takes time for its own size, not the image's.

    Args:
        transposed: (W, H, 3) uint8, x first.
    """

    def __init__(self, transposed: UInt8Array) -> None:
        self._pixels = transposed
        self.width, self.height = transposed.shape[:2]
        # The table has 12 bytes a pixel: of large images, one is made for each part instead.
        self._table = cv2.integral(transposed) if self.width * self.height <= _TABLE_PIXELS else None

    def over(self, x: Bins, y: Bins) -> Float32Array:
        """(len(x), len(y), 3) means over the areas that the bins span."""
        left, top, right, bottom = int(x.starts[0]), int(y.starts[0]), int(x.ends[-1]), int(y.ends[-1])
        if self._table is None:
            table = cv2.integral(self._pixels[left:right, top:bottom])
            x, y = x.moved(-left), y.moved(-top)
        else:
            table = self._table[:, top : bottom + 1]
            y = y.moved(-top)
        columns = table[x.ends] - table[x.starts]
        sums = columns[:, y.ends] - columns[:, y.starts]
        shares = 1 / (128 * np.outer(x.ends - x.starts, y.ends - y.starts))
        result: Float32Array = sums * shares.astype(np.float32)[..., None]
        result -= np.float32(127.5 / 128)
        return result.astype(np.float32, copy=False)

    def crops(self, boxes: Float32Array, size_px: int) -> Float32Array:
        """(N, size, size, 3) the parts of the boxes inside the image, each stretched to the square.

        Args:
            boxes: (N, 4) whose sides count as pixels, from 1.
        """
        limits = (self.width, self.height)
        low = np.maximum(np.trunc(boxes[:, :2]).astype(np.intp), 1) - 1
        high = np.minimum(np.trunc(boxes[:, 2:]).astype(np.intp), limits)
        low = np.minimum(low, high - 1)  # a box beyond the edge: its nearest pixel
        low, high = np.maximum(low, 0), np.maximum(high, 1)
        if self._table is not None:
            return self._gather(self._table, low, high, size_px)
        result = np.empty((len(boxes), size_px, size_px, 3), np.float32)
        for crop, (left, top), (right, bottom) in zip(result, low.tolist(), high.tolist(), strict=True):
            crop[:] = self.over(bins(right - left, size_px).moved(left), bins(bottom - top, size_px).moved(top))
        return result

    @staticmethod
    def _gather(table: NDArray[Any], low: NDArray[np.intp], high: NDArray[np.intp], size_px: int) -> Float32Array:
        """All crops at once from the table of the whole image: `over`, without a loop."""
        index, sides = np.arange(size_px), high - low
        starts = low[..., None] + index * sides[..., None] // size_px  # (N, axis, places)
        ends = low[..., None] - -((index + 1) * sides[..., None]) // size_px
        rows, stride = table.reshape(-1, table.shape[2]), table.shape[1]

        def corner(x: NDArray[np.intp], y: NDArray[np.intp]) -> NDArray[Any]:
            places: NDArray[Any] = rows.take(x[:, 0, :, None] * stride + y[:, 1, None, :], axis=0)
            return places

        sums = corner(ends, ends) - corner(starts, ends) - corner(ends, starts) + corner(starts, starts)
        counts = (ends - starts)[:, 0, :, None] * (ends - starts)[:, 1, None, :]
        result: Float32Array = sums * (1 / (128 * counts)).astype(np.float32)[..., None]
        result -= np.float32(127.5 / 128)
        return result.astype(np.float32, copy=False)


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


def place_landmarks(boxes: Float32Array, relative: Float32Array) -> Float32Array:
    """(N, 5, 2) points in pixels from (N, 10) parts of the box: five x, then five y."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    points = np.stack([relative[:, :5], relative[:, 5:]], axis=2)
    result: Float32Array = (boxes[:, None, :2] + points * sides[:, None, :] - 1).astype(np.float32)
    return result
