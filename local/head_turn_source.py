"""Frames of a video or camera, measured for `head_turn`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.gateway import load_edge_detector
from edge_uploader.opening import open_source
from edge_uploader.settings import EdgeSettings
from functions.enroll.service import crop_to_face
from local.head_turn import View
from shared.domain import Face, Float32Array, UInt8Array
from shared.errors import InvalidInput
from shared.ports import Detector
from shared.vision.decode import encode_jpeg
from shared.vision.quality import QualityGate, assess

FRAMES_PER_SECOND: Final = 10.0
"""Of a head that takes 3 to 5 s from one side to the other: some 10 % of the way from one frame to the next."""
GIVE_UP_S: Final = 15.0
"""A camera or stream that gives no frame for so long is given up."""
MAX_FACE_PX: Final = 320
"""Larger faces are sent smaller: no embedder sees more than 160 px of them."""
RIVAL_SHARE: Final = 0.5
"""A second face from this share of the first one's height is another person, and not the background."""
LOOK_PX: Final = 24
REC: Final = "REC"
TOO_FAR: Final = "too_far"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is looked.

    Attributes:
        seconds: of the source, from its first frame with a face.
        patience_s: until there is a first face, near enough.
        min_share: of the picture that the face must fill before it begins, 0 to 1; what is farther later is not used.
        countdown_s: from then on until it begins.
    """

    seconds: float
    patience_s: float = 30.0
    min_share: float = 0.0
    countdown_s: float = 0.0


@dataclass(slots=True)
class Recording:
    """Where a recording is.

    Attributes:
        near_s: position of the first frame with a face that was near enough; None before.
        largest_share: the most of a picture that a face filled, 0 to 1.
        says: for the person before the camera: `come closer`, the seconds left, or `REC`.
    """

    limits: Limits
    near_s: float | None = None
    largest_share: float = 0.0
    says: str = ""

    def take(self, at_s: float, share: float | None) -> bool:
        """Whether a frame counts, at `at_s` in the source, in which the face fills `share`; None for no face."""
        self.largest_share = max(self.largest_share, share or 0.0)
        if self.near_s is None and share is not None and share >= self.limits.min_share:
            self.near_s = at_s
        if self.near_s is None:
            self.says = "come closer" if share is not None else "no face"
            return self.limits.min_share == 0.0  # a clip without a face is told from one without a frame
        left_s = self.limits.countdown_s - (at_s - self.near_s)
        self.says = f"{math.ceil(left_s)}" if left_s > 0 else REC
        return left_s <= 0

    def over(self, at_s: float, waited_s: float) -> bool:
        """Whether it has lasted long enough, or nobody came."""
        if self.near_s is None:
            return max(at_s, waited_s) >= self.limits.patience_s
        return at_s - self.near_s - self.limits.countdown_s >= self.limits.seconds


class HeadTurnReader:
    """Looks through a source and measures every frame.

    Args:
        gate: what is good enough; the service has the last word.
        detector: another one than the gateway's, in tests.
    """

    def __init__(self, gate: QualityGate, *, detector: Detector | None = None) -> None:
        self._settings = EdgeSettings().model_copy(
            update={"edge_fps": FRAMES_PER_SECOND, "edge_stream_give_up_s": GIVE_UP_S}
        )
        self._gate = gate
        self._detector = detector or load_edge_detector(self._settings)

    def read(
        self,
        source: str,
        limits: Limits,
        on_view: Callable[[View], None] = lambda view: None,
        on_frame: Callable[[Frame, View, str], bool] = lambda frame, view, says: True,
    ) -> list[View]:
        """The measured frames.

        Args:
            source: a video file, a folder of images, an address, or a webcam's number.
            on_view: called with each that counts.
            on_frame: called with every frame and what to say to the person; False ends it.

        Raises:
            SourceUnusable: it cannot be opened, or breaks off.
            InvalidInput: nobody came near enough.
        """
        opened = open_source(source, self._settings)
        views: list[View] = []
        began, recording = time.monotonic(), Recording(limits)
        try:
            for frame in opened.frames():
                view = self.measure(frame)
                share = share_of(view.box, frame.image)
                if recording.take(frame.position_s, share):
                    if share is not None and share < limits.min_share:
                        view = replace(view, refused=TOO_FAR)
                    views.append(view)
                    on_view(view)
                if not on_frame(frame, view, recording.says):
                    break
                if recording.over(frame.position_s, time.monotonic() - began):
                    break
        finally:
            opened.close()
        if not views and recording.near_s is None and recording.largest_share:
            raise InvalidInput(
                f"the face filled {recording.largest_share:.1%} of the picture at most, and "
                f"{limits.min_share:.0%} are asked for: come closer, or give a smaller --min-share"
            )
        return views

    def measure(self, frame: Frame) -> View:
        """One frame: its largest face, whether it can be used, and what would be sent of it."""
        name = f"frame {frame.index}"
        faces = [
            face
            for face in self._detector.detect(frame.image)
            if face.confidence >= self._settings.edge_high_confidence
        ]
        if not faces:
            return View(name, frame.position_s, "no_face")
        largest = max(faces, key=lambda face: face.height_px)
        quality = assess(frame.image, largest)
        refused = self._gate.reason(quality)
        if any(face is not largest and face.height_px > RIVAL_SHARE * largest.height_px for face in faces):
            refused = "several_faces"
        jpeg = encode_jpeg(_cut(frame.image, largest)) if refused is None else b""
        return View(name, frame.position_s, refused, largest.box, quality, look_of(frame.image, largest), jpeg)


def share_of(box: Float32Array | None, image: UInt8Array) -> float | None:
    """How much of the picture (H, W, 3) a face's box (xyxy) fills, 0 to 1; None without one.

    >>> share_of(np.float32([0, 0, 50, 50]), np.zeros((100, 100, 3), np.uint8))
    0.25
    """
    if box is None:
        return None
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return (x2 - x1) * (y2 - y1) / float(image.shape[0] * image.shape[1])


def _cut(image: UInt8Array, face: Face) -> UInt8Array:
    """The face and its margin, and nobody else; large ones scaled down."""
    cut, _ = crop_to_face(image, face)
    factor = MAX_FACE_PX / max(face.width_px, face.height_px)
    if factor >= 1:
        return cut
    return np.asarray(cv2.resize(cut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def look_of(image: UInt8Array, face: Face) -> Float32Array:
    """(576,) float32: the face at 24 × 24 in grey, mean 0, length 1; two are compared by their product."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = face.box.round().astype(int).tolist()
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)
    grey = cv2.cvtColor(np.ascontiguousarray(image[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (LOOK_PX, LOOK_PX), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)
