"""Cuts faces out of frames, and writes down what the recogniser has to know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

from edge_uploader import uploader_version
from shared.domain import Candidate, Face, Float32Array, UInt8Array, sha256_hex
from shared.vision.pixels import rgb_copy

Encoder = Callable[[UInt8Array, int], bytes]
"""RGB image (H, W, 3) uint8 and quality → bytes, in the format of `CropOptions.format`."""


@dataclass(frozen=True, slots=True)
class CropOptions:
    """How a face is cut out.

    Attributes:
        margin: background on each side, as a share of the face's width or height.
        max_face_px: a face larger on the long axis is scaled down to this.
        quality: 20 to 100; means different things to different formats.
        format: one of `shared.domain.CROP_FORMATS`, which the encoder writes.
    """

    margin: float = 0.3
    max_face_px: int = 192
    quality: int = 90
    format: str = "jpeg"


@dataclass(frozen=True, slots=True)
class Crop:
    """A face cut out and encoded.

    Attributes:
        data: the bytes that are sent.
        format: of the bytes, one of `shared.domain.CROP_FORMATS`.
        size: (width, height) of the crop in pixels.
        frame_box: xyxy, whole pixels, of the face in the frame; inside it.
        landmarks: five (x, y) in pixels of the crop, or None.
    """

    data: bytes
    format: str
    size: tuple[int, int]
    frame_box: tuple[int, int, int, int]
    frame_size: tuple[int, int]
    captured_at: datetime
    confidence: float
    landmarks: tuple[tuple[float, float], ...] | None

    def to_candidate(
        self, *, site: str, camera: str, location: str, track: str, shot: int, detector: str, chosen: bool
    ) -> Candidate:
        """The crop's metadata, as it travels with the blob."""
        return Candidate(
            site=site,
            camera=camera,
            location=location,
            captured_at=self.captured_at,
            track=track,
            shot=shot,
            frame_box=self.frame_box,
            frame_size=self.frame_size,
            detector=detector,
            confidence=self.confidence,
            sha256=sha256_hex(self.data),
            uploader=uploader_version(),
            landmarks=self.landmarks,
            format=self.format,
            chosen=chosen,
        )


def long_axis_px(face: Face) -> float:
    """The longer side of the face box; the seed's minimum and maximum size are of this."""
    return max(face.width_px, face.height_px)


def completeness(box: Float32Array, width: int, height: int) -> float:
    """Share of the box's area that lies inside a frame of `width` × `height` pixels, 0 to 1.

    >>> completeness(np.float32([-5, 0, 5, 10]), 100, 100)
    0.5
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    area = max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
    inside = max(min(x2, width) - max(x1, 0.0), 0.0) * max(min(y2, height) - max(y1, 0.0), 0.0)
    return inside / area if area else 0.0


def crop_region(box: Float32Array, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """xyxy, whole pixels, of the face with its margin, clipped at the frame's edges; never empty.

    >>> crop_region(np.float32([40, 40, 60, 80]), 0.5, 100, 100)
    (30, 20, 70, 100)
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
    left, top = min(max(int(np.floor(x1 - dx)), 0), width - 1), min(max(int(np.floor(y1 - dy)), 0), height - 1)
    right = min(max(int(np.ceil(x2 + dx)), left + 1), width)
    bottom = min(max(int(np.ceil(y2 + dy)), top + 1), height)
    return left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A face taken out of a frame, not yet encoded: what is held while a better one may come.

    Attributes:
        pixels: RGB (H, W, 3) uint8, a copy; a part of the frame would keep all of it in memory.
        size: (width, height) that the crop will have.
        frame_box, landmarks: as in `Crop`.
    """

    pixels: UInt8Array
    size: tuple[int, int]
    frame_box: tuple[int, int, int, int]
    frame_size: tuple[int, int]
    captured_at: datetime
    confidence: float
    landmarks: tuple[tuple[float, float], ...] | None

    def encoded(self, options: CropOptions, encode: Encoder) -> Crop:
        """Scales down and encodes."""
        pixels = self.pixels
        if self.size != (pixels.shape[1], pixels.shape[0]):
            pixels = np.asarray(cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return Crop(
            data=encode(np.ascontiguousarray(pixels), options.quality),
            format=options.format,
            size=self.size,
            frame_box=self.frame_box,
            frame_size=self.frame_size,
            captured_at=self.captured_at,
            confidence=self.confidence,
            landmarks=self.landmarks,
        )


def take(image: UInt8Array, face: Face, captured_at: datetime, options: CropOptions) -> View:
    """Takes `face` out of a frame, with its margin.

    Args:
        image: the frame, RGB (H, W, 3) uint8.
        face: in pixels of the frame; may reach past its edge.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = crop_region(face.box, options.margin, width, height)
    scale = min(1.0, options.max_face_px / max(long_axis_px(face), 1.0))
    size = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)
    landmarks = None
    if face.landmarks is not None:
        # The scale that will be reached, since the size was rounded.
        scale_xy = np.array([size[0] / (right - left), size[1] / (bottom - top)], dtype=np.float32)
        points = (face.landmarks - np.array([left, top], dtype=np.float32)) * scale_xy
        landmarks = tuple((round(float(x), 1), round(float(y), 1)) for x, y in points)
    return View(
        pixels=rgb_copy(image[top:bottom, left:right]),
        size=size,
        frame_box=crop_region(face.box, 0.0, width, height),
        frame_size=(width, height),
        captured_at=captured_at,
        confidence=round(float(face.confidence), 4),
        landmarks=landmarks,
    )


def cut(image: UInt8Array, face: Face, captured_at: datetime, options: CropOptions, encode: Encoder) -> Crop:
    """Cuts `face` out of a frame, at full resolution up to `options.max_face_px`: `take`, and encoded at once.

    Args:
        encode: writes `options.format`, such as `shared.vision.decode.encoder_of(options.format)`.
    """
    return take(image, face, captured_at, options).encoded(options, encode)
