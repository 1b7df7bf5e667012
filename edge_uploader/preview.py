"""Looks at a camera's place before it is left there: are the faces large, sharp, lit and frontal enough?

Besides the detector that the gateway works with there is one here that also sees faces too small to be sent, since
those are what a badly placed camera shows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import cv2
import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.selection.best_shot import TOO_SMALL, worth
from edge_uploader.selection.crops import Crop, completeness, long_axis_px
from edge_uploader.selection.tracker import Track
from shared.domain import Face, Quality, UInt8Array, percent_safe
from shared.ports import Detector
from shared.vision.pixels import in_order

_CUT_OFF: Final = "cut_off"
_WHOLE: Final = 0.9
_EVERY_S: Final = 1.0
_GOOD, _DOUBTFUL, _SMALL, _RING = (60, 200, 60), (255, 170, 40), (235, 70, 60), (90, 170, 255)
_MOSTLY: Final = 0.7
_FEW: Final = 5

ADVICE: Final = {
    TOO_SMALL: "move the camera nearer, zoom in, or take its stream of more pixels",
    _CUT_OFF: "turn the camera so that people pass through the middle of the picture",
    "too_dark": "more light on the faces, or a longer exposure",
    "too_bright": "less light on the faces, or do not look against the light",
    "low_contrast": "clean the lens; raise the camera's bitrate or contrast",
    "too_blurred": "focus the camera, shorten the exposure, or raise its bitrate",
    "turned_away": "place the camera so that people walk towards it",
    "looking_up": "place the camera higher",
    "looking_down": "place the camera lower: at eye level is best",
    "tilted": "level the camera",
    "low_confidence": "look at the pictures: faces may be hidden, or not be faces",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A face that was looked at.

    Attributes:
        cause: why it cannot be used; None when it can.
    """

    face: Face
    size_px: float
    worth: float
    cause: str | None


@dataclass(slots=True)
class Look:
    """What a camera showed.

    Attributes:
        looks: frames looked at for this, one a second.
    """

    camera: str
    min_face_px: int
    frame_size: tuple[int, int] = (0, 0)
    looks: int = 0
    sizes_px: list[float] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)
    usable: int = 0
    crops: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "camera": self.camera,
            "frame_size": list(self.frame_size),
            "looks": self.looks,
            "faces": len(self.sizes_px),
            "median_face_px": round(median(self.sizes_px), 1) if self.sizes_px else None,
            "min_face_px": self.min_face_px,
            "usable": self.usable,
            "unusable": dict(self.causes),
            "crops": self.crops,
            "verdict": verdict(self),
        }


def verdict(look: Look) -> list[str]:
    """What the looks say of the camera's place, and what to do; the first line is the most important.

    >>> look = Look("door", 40, looks=10, sizes_px=[30.0, 34.0, 38.0], causes=Counter(too_small=3))
    >>> verdict(look)[0]
    'faces here are 34 px: too small to be sent (40 px is the least); move the camera nearer, zoom in, or take its \
stream of more pixels'
    """
    if not look.looks:
        return ["no picture came: `facerelay edge check` tries the camera"]
    if not look.sizes_px:
        return [f"no face was seen in {look.looks} looks: let somebody walk past, and try again"]
    total, typical = len(look.sizes_px), median(look.sizes_px)
    lines = []
    if typical < look.min_face_px:
        lines.append(
            f"faces here are {typical:.0f} px: too small to be sent ({look.min_face_px} px is the least); "
            f"{ADVICE[TOO_SMALL]}"
        )
    share = look.usable / total
    told = f"{100 * share:.0f} % of {total} faces are usable, {typical:.0f} px in the middle"
    lines.append(f"good: {told}" if share >= _MOSTLY and total >= _FEW else told)
    for cause, count in look.causes.most_common(2):
        if share < _MOSTLY and not (cause == TOO_SMALL and typical < look.min_face_px):
            lines.append(f"{100 * count / total:.0f} % {cause.replace('_', ' ')}: {ADVICE.get(cause, cause)}")
    if total < _FEW:
        lines.append("few faces were seen: look longer before you trust this")
    return lines


class PreviewObserver:
    """Looks on at one camera, once a second of its time, and keeps the picture with the most faces.

    Args:
        detector: sees faces that are too small to be sent, too.
        assess: RGB image and face → quality.
        reason: why a face of this quality cannot be used, or None.
        confidence: weaker detections are no faces.
        on_frame: told the position of each frame.
    """

    def __init__(
        self,
        camera: str,
        folder: Path,
        detector: Detector,
        *,
        assess: Callable[[UInt8Array, Face], Quality],
        reason: Callable[[Quality], str | None],
        min_face_px: int,
        confidence: float,
        on_frame: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.look = Look(camera, min_face_px)
        self._path = folder / f"{percent_safe(camera)}-preview.jpg"
        self._detector, self._assess, self._reason = detector, assess, reason
        self._confidence, self._on_frame = confidence, on_frame
        self._due_s = float("-inf")
        self._best: tuple[tuple[int, float], UInt8Array] | None = None

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        if frame.position_s >= self._due_s:
            self._due_s = frame.position_s + _EVERY_S
            self._look_at(in_order(frame.image))
        self._on_frame(frame.position_s)

    def crop(self, track: str, crop: Crop) -> None:
        self.look.crops += 1

    def close(self) -> None:
        """Writes the picture."""
        if self._best is not None:
            cv2.imwrite(str(self._path), cv2.cvtColor(self._best[1], cv2.COLOR_RGB2BGR))

    def _look_at(self, image: UInt8Array) -> None:
        height, width = image.shape[:2]
        seen = [
            self._judge(image, face) for face in self._detector.detect(image) if face.confidence >= self._confidence
        ]
        look = self.look
        look.looks += 1
        look.frame_size = width, height
        for one in seen:
            look.sizes_px.append(one.size_px)
            look.usable += one.cause is None
            if one.cause is not None:
                look.causes[one.cause] += 1
        rank = len(seen), max((one.worth for one in seen), default=0.0)
        if self._best is None or rank > self._best[0]:
            self._best = rank, draw_seen(image, seen, look.min_face_px)

    def _judge(self, image: UInt8Array, face: Face) -> Seen:
        quality, whole = self._assess(image, face), completeness(face.box, image.shape[1], image.shape[0])
        size_px = long_axis_px(face)
        cause = TOO_SMALL if size_px < self.look.min_face_px else _CUT_OFF if whole < _WHOLE else self._reason(quality)
        return Seen(face, size_px, worth(quality, whole), cause)


def draw_seen(image: UInt8Array, seen: Sequence[Seen], min_face_px: int) -> UInt8Array:
    """A copy of the RGB frame: green usable, orange not, red too small; size and worth; a ring of the least size."""
    canvas = np.ascontiguousarray(image.copy())
    thickness = max(1, round(canvas.shape[1] / 640))
    scale = 0.36 * thickness
    for one in seen:
        x1, y1, x2, y2 = (int(v) for v in one.face.box)
        colour = _GOOD if one.cause is None else _SMALL if one.cause == TOO_SMALL else _DOUBTFUL
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)
        text = f"{one.size_px:.0f} px {one.worth:.2f}" + (f" {one.cause.replace('_', ' ')}" if one.cause else "")
        _text(canvas, text, (x1, max(y1 - 6, 14)), scale, colour, thickness)
    radius = max(2, math.ceil(min_face_px / 2))
    centre = radius + 8 * thickness, canvas.shape[0] - radius - 8 * thickness
    cv2.circle(canvas, centre, radius, _RING, thickness)
    words = f"{min_face_px} px: smallest face that is sent"
    _text(canvas, words, (centre[0] + radius + 6, centre[1] + 5), scale, _RING, thickness)
    return canvas


def _text(
    canvas: UInt8Array, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int], thickness: int
) -> None:
    """Readable on any ground: dark below, the colour above; moved in from the right edge."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    at = max(2, min(at[0], canvas.shape[1] - width - 4)), at[1]
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (15, 15, 15), thickness + 2, cv2.LINE_AA)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
