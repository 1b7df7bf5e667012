"""Whether a camera's picture is what a camera's picture should be: not frozen, black, blinded, covered, or moved.

Everything is judged on a grey picture of 320 px, about once a second, against what this camera showed before. No
image is kept on the disk, and in memory a few small grey ones. Thresholds are in `HealthOptions` and below, and were
set on real clips, on the same made faulty by code, and on still pictures encoded again (docs/adr/0024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.domain import UInt8Array

OK: Final = "ok"
FROZEN: Final = "frozen"
BLACK: Final = "black"
BLINDED: Final = "blinded"
COVERED: Final = "covered"
MOVED: Final = "moved"
KINDS: Final = (FROZEN, BLACK, BLINDED, COVERED, MOVED)

Grey = NDArray[np.uint8]
Map = NDArray[np.float32]

LONG_SIDE_PX: Final = 320
_BLOCK_PX: Final = 16
_BLACK_LEVEL: Final = 24
"""Black: all but a thousandth of the picture is darker. A dark room at night still has lights and an exit sign."""
_WHITE_LEVEL: Final = 250
_WHITE_SHARE: Final = 0.6
_FLAT_STD: Final = 4.0
"""A picture that varies less, over all of it, shows nothing: a hand, tape, paint, fog at the glass."""
_STILL_MEAN: Final = 0.25
_STILL_SHARE: Final = 0.008
"""Still: a picture encoded again differs by less, on average (levels of 255) and in its share of pixels that change by
more than 2. Measured on one picture as H.264 at 0.3 to 4 Mbps: at most 0.18 and 0.005 as a median; on the quietest half
second of a real corridor: 0.12 and 0.006, which does not last."""
_NOISE_SHARE: Final = 0.02
_NOISY: Final = 0.3
_STRUCTURE: Final = 6.0
"""Blocks whose edges vary by more have something to recognise the view by; noise alone gives about 2."""
_MIN_STRUCTURED: Final = 8
_BLURRED: Final = 0.45
_BLURRED_BLOCK: Final = 0.5
_BLURRED_SHARE: Final = 0.65
"""Covered: half of the blocks have less than 0.45 of the sharpness that is theirs, and two thirds less than half of it,
after what the light took was given back. Measured: 0.97 to 1.05 in a corridor, 0.36 with a blur of σ = width / 100."""
_UNLIKE: Final = 0.15
"""Moved: half of the blocks are less like the reference. Measured: at most 0.12 when shifted by 4 % of the width or
turned by 8 degrees; 0.9 and more in a corridor, 0.19 and more in a crowd that fills the picture."""
_DOUBTFUL: Final = 0.3
_RECENT_S: Final = 2.0
_MEMORY_S: Final = 60.0
_GAP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """For how long something must be so before it is said.

    Attributes:
        frozen_s: a camera whose picture has noise shows exactly the same for so long.
        still_s: the same for one whose picture is without noise between its changes, drawn or hard compressed: there
            nothing happening looks as a frozen picture does.
        dark_s, blinded_s, covered_s, moved_s: the other kinds. Who stands before the lens is gone again sooner.
        clear_s: all is well for so long before the trouble is over.
        settle_s: a view that was moved and stays so is taken for the new one.
        learn_s: looked at for so long before a view can be said to be covered or moved.
        interval_s: looks closer than this are passed over.
    """

    frozen_s: float = 20.0
    still_s: float = 300.0
    dark_s: float = 3.0
    blinded_s: float = 5.0
    covered_s: float = 8.0
    moved_s: float = 10.0
    clear_s: float = 2.0
    settle_s: float = 600.0
    learn_s: float = 10.0
    interval_s: float = 0.9

    def hold_s(self, kind: str) -> float:
        """How long `kind` must last; stillness is measured where it is found."""
        times = {
            OK: self.clear_s,
            FROZEN: 0.0,
            BLACK: self.dark_s,
            BLINDED: self.blinded_s,
            COVERED: self.covered_s,
            MOVED: self.moved_s,
        }
        return times[kind]


@dataclass(frozen=True, slots=True)
class Change:
    """The picture's state has changed.

    Attributes:
        before, now: `ok` or one of `KINDS`.
        detail: for people.
    """

    before: str
    now: str
    detail: str = ""


def shrink(image: UInt8Array) -> Grey:
    """RGB (H, W, 3) → grey of about 320 px on the long side, by leaving pixels out: averaging would hide noise."""
    step = max(1, round(max(image.shape[:2]) / LONG_SIDE_PX))
    part = np.ascontiguousarray(image[::step, ::step])
    return np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def edges(grey: Grey) -> Map:
    """Strength of the edges: gradient magnitude of the smoothed picture, float32, same size."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.2)
    horizontal = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    vertical = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.asarray(cv2.magnitude(horizontal, vertical), dtype=np.float32)


def _block_mean(values: Map) -> Map:
    height, width = values.shape
    columns, rows = max(1, width // _BLOCK_PX), max(1, height // _BLOCK_PX)
    # What is left over of a block is left out: of whole blocks OpenCV makes the means eight times faster.
    whole = values[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)


def block_std(values: Map) -> Map:
    """Standard deviation within each block of 16 px."""
    mean = _block_mean(values)
    return np.asarray(np.sqrt(np.maximum(_block_mean(values * values) - mean * mean, 0.0)), dtype=np.float32)


def block_likeness(first: Map, second: Map) -> Map:
    """Normalised correlation of two edge maps within each block, −1 to 1: indifferent to light and contrast."""
    covariance = _block_mean(first * second) - _block_mean(first) * _block_mean(second)
    scale = block_std(first) * block_std(second)
    return np.asarray(covariance / np.maximum(scale, 1e-3), dtype=np.float32)


class _Stillness:
    """For how long the picture has been exactly the same, and whether this camera's picture has noise."""

    def __init__(self) -> None:
        self._anchor: Grey | None = None
        self._last: Grey | None = None
        self._since_s = 0.0
        self._noisy = 0.0

    def interrupt(self) -> None:
        self._anchor = self._last = None

    @property
    def noisy(self) -> bool:
        return self._noisy > _NOISY

    def look(self, grey: Grey, at_s: float) -> float:
        """Seconds for which nothing but the codec has changed."""
        if self._last is None or self._anchor is None:
            self._anchor, self._last, self._since_s = grey, grey, at_s
            return 0.0
        changed = cv2.absdiff(grey, self._last)
        self._last = grey
        # A drift too slow to be seen between two looks is seen against the picture with which the stillness began.
        if _is_still(changed) and _is_still(cv2.absdiff(grey, self._anchor)):
            return at_s - self._since_s
        self._anchor, self._since_s = grey, at_s
        # Where people walk says nothing of noise: the quieter blocks do.
        moved_share = _block_mean((changed > 0).astype(np.float32))
        noise = float(np.percentile(moved_share, 40))
        self._noisy += 0.1 * ((noise > _NOISE_SHARE) - self._noisy)
        return 0.0


def _is_still(difference: object) -> bool:
    values = np.asarray(difference, dtype=np.uint8)
    return float(values.mean()) < _STILL_MEAN and float((values > 2).mean()) < _STILL_SHARE  # noqa: PLR2004


class _View:
    """What the camera is pointed at and how sharp that is: slow averages, and how the present compares with them."""

    def __init__(self, options: HealthOptions) -> None:
        self._learn_s = options.learn_s
        self._reference: Map | None = None
        self._sharpness: Map | None = None
        self._contrast = 0.0
        self._recent: Map | None = None
        self._learnt_s = 0.0
        self._looks = 0

    def forget(self) -> None:
        self._reference = self._sharpness = None
        self._learnt_s, self._looks = 0.0, 0

    def interrupt(self) -> None:
        self._recent = None

    def learn(self, now: Map, contrast: float, passed_s: float) -> None:
        """The averages take in the present. Call it only when all is well."""
        if self._reference is None or self._sharpness is None or self._reference.shape != now.shape:
            self.forget()
            self._reference, self._sharpness, self._contrast = now.copy(), block_std(now), contrast
        elif self._learnt_s >= self._learn_s and self._alike(now, self._reference) < _DOUBTFUL:
            # Perhaps it was moved: that is found out against what it was, which must not be lost meanwhile.
            return
        self._looks += 1
        self._learnt_s += passed_s
        weight = max(1.0 / self._looks, min(1.0, passed_s / _MEMORY_S))
        cv2.accumulateWeighted(now, self._reference, weight)
        cv2.accumulateWeighted(block_std(now), self._sharpness, weight)
        self._contrast += weight * (contrast - self._contrast)

    def verdict(self, now: Map, contrast: float, passed_s: float) -> str:
        """`ok`, `covered` or `moved`, as it looks at this moment."""
        if self._recent is None or self._recent.shape != now.shape:
            self._recent = now.copy()
        cv2.accumulateWeighted(now, self._recent, min(1.0, passed_s / _RECENT_S))
        reference, sharpness = self._reference, self._sharpness
        if reference is None or sharpness is None or reference.shape != now.shape or self._learnt_s < self._learn_s:
            return OK
        if self._blurred(now, contrast, sharpness):
            return COVERED
        # People pass, and are averaged away; what the camera is fixed to look at stays.
        if np.count_nonzero(block_std(self._recent) > _STRUCTURE) < _MIN_STRUCTURED:
            return OK
        return MOVED if self._alike(self._recent, reference) < _UNLIKE else OK

    def _alike(self, now: Map, reference: Map) -> float:
        """Likeness of the blocks by which the view can be recognised, as a median; 1 where there are too few."""
        structured = block_std(reference) > _STRUCTURE
        if np.count_nonzero(structured) < _MIN_STRUCTURED:
            return 1.0
        return float(np.median(block_likeness(now, reference)[structured]))

    def _blurred(self, now: Map, contrast: float, sharpness: Map) -> bool:
        structured = sharpness > _STRUCTURE
        if np.count_nonzero(structured) < _MIN_STRUCTURED:
            return False
        # Light that was dimmed weakens edges and contrast alike; what covers the lens takes the edges.
        light = float(np.clip(contrast / max(self._contrast, 1.0), 0.25, 1.0))
        ratio = block_std(now)[structured] / sharpness[structured] / light
        return float(np.median(ratio)) < _BLURRED and float((ratio < _BLURRED_BLOCK).mean()) > _BLURRED_SHARE

    def shift(self, now: Map) -> str:
        """How far the view was moved, in words; empty where that cannot be told."""
        if self._reference is None or self._reference.shape != now.shape:
            return ""
        height, width = now.shape
        window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        (x, y), response = cv2.phaseCorrelate(self._reference, now, window)
        if response < 0.1:  # noqa: PLR2004 (less is chance: the views have nothing in common)
            return "to another view"
        if max(abs(x) / width, abs(y) / height) < 0.02:  # noqa: PLR2004 (turned or zoomed about the middle)
            return ""
        return f"by {100 * abs(x) / width:.0f} % of the width and {100 * abs(y) / height:.0f} % of the height"


class PictureHealth:
    """Watches one camera's picture. Not for several threads.

    Args:
        options: how long something must last.
    """

    def __init__(self, options: HealthOptions | None = None) -> None:
        self._options = options or HealthOptions()
        self._stillness, self._view = _Stillness(), _View(self._options)
        self.state = OK
        self._pending, self._pending_s, self._state_s = OK, 0.0, 0.0
        self._last_s: float | None = None
        self._size: tuple[int, ...] | None = None

    def look(self, image: UInt8Array, at_s: float, *, faces: bool = False) -> Change | None:
        """Looks at a frame.

        Args:
            image: RGB (H, W, 3) uint8.
            at_s: seconds of the source's time, rising.
            faces: some are followed in it: a lens through which they are seen is not covered.

        Returns:
            What has changed with it, or None, as nearly always.
        """
        passed_s = 0.0 if self._last_s is None else at_s - self._last_s
        if self._last_s is not None and passed_s < self._options.interval_s:
            return None
        if passed_s > _GAP_S:
            # Nothing was seen meanwhile: what was about to be said must begin anew.
            self.interrupt()
            self._pending_s, passed_s = at_s, 0.0
        self._last_s = at_s
        if image.shape != self._size:
            # Another resolution shows the same with other pixels: nothing before compares with it.
            self._size = image.shape
            self.interrupt()
            self._view.forget()
        grey = shrink(image)
        now = edges(grey)
        contrast = float(grey.std())
        verdict = self._verdict(grey, contrast, at_s, self._view.verdict(now, contrast, passed_s))
        if verdict == COVERED and faces:
            verdict = OK
        if verdict == OK and self.state == OK:
            self._view.learn(now, contrast, passed_s)
        return self._settle(verdict, now, at_s)

    def interrupt(self) -> None:
        """The frames to come do not follow on those before: the camera was away."""
        self._stillness.interrupt()
        self._view.interrupt()

    def _verdict(self, grey: Grey, contrast: float, at_s: float, view: str) -> str:
        """What it looks like at this moment; the worst first."""
        still_s = self._stillness.look(grey, at_s)
        if float((grey >= _BLACK_LEVEL).mean()) < 0.001:  # noqa: PLR2004
            return BLACK
        if float((grey >= _WHITE_LEVEL).mean()) > _WHITE_SHARE:
            return BLINDED
        if contrast < _FLAT_STD:
            return COVERED
        options = self._options
        if still_s >= (options.frozen_s if self._stillness.noisy else options.still_s):
            return FROZEN
        if still_s and self.state == FROZEN:
            return FROZEN
        # Of a lively scene the view's verdict flickers, and would keep a trouble that is over from ending.
        return view if self.state in (OK, COVERED, MOVED) else OK

    def _settle(self, verdict: str, now: Map, at_s: float) -> Change | None:
        """Turns what it looks like into what is so: only what lasts counts, at its beginning and at its end."""
        if verdict != self._pending:
            self._pending, self._pending_s = verdict, at_s
        if self.state == MOVED and verdict == MOVED and at_s - self._state_s >= self._options.settle_s:
            self._view.forget()
            return self._become(OK, at_s, "the view is taken for the new one")
        if verdict == self.state or at_s - self._pending_s < self._options.hold_s(verdict):
            return None
        return self._become(verdict, at_s, self._view.shift(now) if verdict == MOVED else "")

    def _become(self, state: str, at_s: float, detail: str) -> Change:
        before, self.state = self.state, state
        lasted = f"after {at_s - self._state_s:.0f} s" if before != OK else ""
        self._state_s, self._pending, self._pending_s = at_s, state, at_s
        return Change(before, state, detail or lasted)
