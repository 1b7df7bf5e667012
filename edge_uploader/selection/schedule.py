"""When the detector looks: often while something moves, seldom while nothing does, less when the machine is behind.

Looking for faces is the dearest step there is. What moved is seen on a small grey picture,
for a fraction of its time (0.5 ms against 7 ms for a look at the whole of a 1080p frame).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import cv2
import numpy as np

from shared.domain import Float32Array, UInt8Array

_SMALL: Final = (160, 90)
_NOISE: Final = 12.0
"""Grey levels by which a pixel of the small picture has to change; sensors and codecs change it by 1 to 5."""
_CUT_SHARE, _CUT_CORRELATION = 0.5, 0.4
_TOLERANCE_S: Final = 5e-4
"""Positions in a stream are rounded to milliseconds."""
_CALM_FRAMES: Final = 40
"""Frames without one dropped after which the machine is trusted with more looks."""


class Look(Enum):
    """Why the detector looks at a frame, or does not."""

    MOTION = "motion"
    DUE = "due"
    STILL = "still"
    LOAD = "load"

    @property
    def wanted(self) -> bool:
        return self in (Look.MOTION, Look.DUE)


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """How often the detector looks.

    Attributes:
        idle_s: longest time between two looks while nothing moves; 0 looks at every
            frame, however far behind the machine is.
        watch_s: the same while a face is followed, which may be one that keeps still.
        motion: share of the picture that has to change since the last look. A face of 40 px in a 1080p picture is
            0.001 of it, and whoever comes brings a body along.
        whole_s: longest time between two looks at the whole picture; between them, while faces are followed, a glance
            at where those should be is enough. 0: every look is at the whole.
        most_stride: when frames are dropped, looks are spread out up to every so-manieth frame.
    """

    idle_s: float = 1.0
    watch_s: float = 0.5
    motion: float = 0.001
    whole_s: float = 0.5
    most_stride: int = 3


@dataclass(frozen=True, slots=True)
class Change:
    """What happened since the frame that the detector saw last.

    Attributes:
        share: of the picture that changed, 0 to 1.
        cut: this is another scene.
    """

    share: float
    cut: bool


def thumbnail(image: UInt8Array) -> Float32Array:
    """(90, 160) float32 grey levels of an RGB picture of any size; every fourth pixel is enough for it."""
    step = max(1, min(image.shape[0] // (2 * _SMALL[1]), image.shape[1] // (2 * _SMALL[0])))
    few = cv2.resize(image, (image.shape[1] // step, image.shape[0] // step), interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(few, _SMALL, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def change_between(before: Float32Array, now: Float32Array) -> Change:
    """Compares two thumbnails. A light that is switched on changes every pixel and is no cut: the shapes stay."""
    share = float(np.mean(np.abs(now - before) > _NOISE))
    if share < _CUT_SHARE:
        return Change(share, False)
    left, right = before - before.mean(), now - now.mean()
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    correlation = float((left * right).sum()) / scale if scale > 1e-3 else 0.0
    return Change(share, correlation < _CUT_CORRELATION)


class Schedule:
    """The looks of one camera. Call `look` once for each frame, in order.

    Args:
        options: see `ScheduleOptions`.
    """

    def __init__(self, options: ScheduleOptions | None = None) -> None:
        self._options = options or ScheduleOptions()
        self._seen: Float32Array | None = None
        self._looked_s = self._looked_at_all_s = float("-inf")
        self._dropped = 0
        self._calm = 0
        self._stride = 1
        self._passed = 0
        self.cut = False
        """Whether the frame that was asked about last begins another scene."""
        self.whole = True
        """Whether that frame's look should be at the whole picture."""

    @property
    def stride(self) -> int:
        """1 while the machine keeps up; n: at most each nth frame is looked at."""
        return self._stride

    def look(self, image: UInt8Array, at_s: float, *, following: bool, dropped: int = 0) -> Look:
        """Whether the detector should see this frame.

        Args:
            at_s: position in the stream.
            following: whether there are tracks.
            dropped: frames that the source has dropped so far, since nobody took them in time.
        """
        self._weigh(dropped)
        self.cut, self.whole = False, at_s - self._looked_at_all_s >= self._options.whole_s - _TOLERANCE_S
        now = thumbnail(image)
        change = Change(1.0, False) if self._seen is None else change_between(self._seen, now)
        self.cut = change.cut
        self.whole = self.whole or change.cut
        if (
            self._options.idle_s <= 0
            or at_s - self._looked_s >= (self._options.watch_s if following else self._options.idle_s) - _TOLERANCE_S
        ):
            reason = Look.DUE
        elif change.share < self._options.motion:
            reason = Look.STILL
        else:
            reason = Look.MOTION if change.cut or self._passed + 1 >= self._stride else Look.LOAD
        if reason.wanted:
            self._seen, self._looked_s, self._passed = now, at_s, 0
        else:
            self._passed += 1
        return reason

    def looked_at_all(self, at_s: float) -> None:
        """The look at this frame was at the whole picture."""
        self._looked_at_all_s = at_s

    def _weigh(self, dropped: int) -> None:
        """Fewer looks when frames were dropped, more again after a while without."""
        if dropped > self._dropped:
            self._calm = 0
            self._stride = min(self._stride + 1, self._options.most_stride)
        else:
            self._calm += 1
            if self._calm >= _CALM_FRAMES and self._stride > 1:
                self._stride, self._calm = self._stride - 1, 0
        self._dropped = dropped
