"""Frames of a video or camera, measured for `head_turn`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.gateway import load_edge_detector, open_source
from edge_uploader.settings import EdgeSettings
from functions.enroll.service import crop_to_face
from local.head_turn import View
from shared.domain import Face, Float32Array, UInt8Array
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


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is looked.

    Attributes:
        seconds: of the source, from its first frame with a face.
        patience_s: until there is a first face.
    """

    seconds: float
    patience_s: float = 30.0


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

    def read(self, source: str, limits: Limits, on_view: Callable[[View], None] = lambda view: None) -> list[View]:
        """The measured frames.

        Args:
            source: a video file, a folder of images, an address, or a webcam's number.
            on_view: called with each.

        Raises:
            SourceUnusable: it cannot be opened, or breaks off.
        """
        opened = open_source(source, self._settings)
        views: list[View] = []
        began, first_s = time.monotonic(), None
        try:
            for frame in opened.frames():
                view = self.measure(frame)
                views.append(view)
                on_view(view)
                if first_s is None and view.box is not None:
                    first_s = frame.position_s
                if first_s is not None and frame.position_s - first_s >= limits.seconds:
                    break
                if first_s is None and max(frame.position_s, time.monotonic() - began) >= limits.patience_s:
                    break
        finally:
            opened.close()
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
