"""How a face looks in this picture, cheaply: enough to tell whether the one at the desk is still the same. Pure.

This is no recognition. It compares pixels under the same light, from the same place, minutes apart at most; it says
nothing of who somebody is, is never stored, and never leaves the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from shared.domain import Float32Array, UInt8Array
from shared.vision.pixels import in_order

_PATCH_PX: Final = 16
_SAMPLED_PX: Final = 64
_COLOURED_PX: Final = 32
_FLAT: Final = 2.0
"""Deviation in grey levels under which a patch is noise."""
_BINS: Final = (8, 4, 4)
"""Of hue, saturation and value."""
_TORSO_WIDTH, _TORSO_HEIGHT, _NECK = 1.8, 1.4, 0.15
"""In face sizes: what is looked at below the chin."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """One look at one face.

    Attributes:
        patch: (256,) float32, grey levels of the face at 16 × 16, mean 0 and norm 1, or all 0: flat.
        colours: (128,) float32, square roots of the shares of the colours of face and chest, norm 1.
    """

    patch: Float32Array
    colours: Float32Array

    @property
    def tells(self) -> bool:
        """Whether the face is not flat."""
        return bool(self.patch.any())


def appearance_of(image: UInt8Array, box: Float32Array) -> Appearance:
    """Looks at a face.

    Args:
        image: RGB (H, W, 3) uint8.
        box: xyxy pixels; may reach past the edge.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    width, height = x2 - x1, y2 - y1
    face = _region(image, x1, y1, x2, y2)
    middle = (x1 + x2) / 2
    torso = _region(
        image,
        middle - _TORSO_WIDTH * width / 2,
        y2 + _NECK * height,
        middle + _TORSO_WIDTH * width / 2,
        y2 + (_NECK + _TORSO_HEIGHT) * height,
    )
    grey = cv2.cvtColor(cv2.resize(face, (_PATCH_PX, _PATCH_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    patch = grey.astype(np.float32).ravel()
    patch -= patch.mean()
    if float(patch @ patch) < _FLAT**2 * patch.size:
        patch[:] = 0.0
    hsv = cv2.cvtColor(np.concatenate([face, torso]), cv2.COLOR_RGB2HSV)
    colours = cv2.calcHist([hsv], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256])
    return Appearance(_unit(patch), _unit(np.sqrt(colours.ravel())))


def likeness(left: Appearance, right: Appearance) -> float:
    """−1 to 1: correlation of the grey patches, held down by colours that differ (Bhattacharyya).

    Where one of the faces is too flat to tell, such as in the dark, the colours decide alone.
    """
    colours = float(left.colours @ right.colours)
    return float(left.patch @ right.patch) * colours if left.tells and right.tells else colours


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Several looks together, none of them flat: `patches` (N, 256) and `colours` (N, 128)."""

    patches: Float32Array
    colours: Float32Array

    @classmethod
    def of(cls, looks: Sequence[Appearance]) -> Looks:
        return cls(np.stack([look.patch for look in looks]), np.stack([look.colours for look in looks]))

    def likenesses(self, others: Looks) -> Float32Array:
        """(N, M) `likeness` of each of these and each of M others."""
        return (self.patches @ others.patches.T) * (self.colours @ others.colours.T)


def _region(image: UInt8Array, x1: float, y1: float, x2: float, y2: float) -> UInt8Array:
    """The part of the picture, inside it and never empty, at 32 × 32; of a large part some pixels are enough."""
    height, width = image.shape[:2]
    left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
    right, bottom = min(max(int(x2), left + 1), width), min(max(int(y2), top + 1), height)
    part = in_order(image[top:bottom, left:right])
    sampled = cv2.resize(part, (_SAMPLED_PX, _SAMPLED_PX), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(sampled, (_COLOURED_PX, _COLOURED_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _unit(values: Float32Array) -> Float32Array:
    length = float(np.linalg.norm(values))
    return np.asarray(values / length if length > 1e-6 else values, dtype=np.float32)
