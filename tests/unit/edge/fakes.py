"""Fakes that enforce the rules of what they stand for."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import cv2
import numpy as np

from shared.domain import BLOB_CONTAINERS, Face, Float32Array, Quality, UInt8Array, sha256_hex
from shared.errors import InvalidInput, NotFound, PreconditionFailed
from shared.ports import Blob, BlobProperties

_TAG = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,256}")


class FaultyBlobStore:
    """A blob store in memory that refuses what the service would refuse.

    Args:
        faults: raised by successive calls of `put`, before (or, wrapped in `After`, after) the write; None for success.
    """

    def __init__(self, faults: Sequence[Exception | After | None] = ()) -> None:
        self.blobs: dict[str, Blob] = {}
        self.puts = 0
        self._faults: list[Exception | After | None] = list(faults)
        self._guard = threading.Lock()

    def put(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        with self._guard:
            self.puts += 1
            fault = self._faults.pop(0) if self._faults else None
            if isinstance(fault, Exception):
                raise fault
            self._check(container, name, metadata or {}, tags or {})
            if if_absent and name in self.blobs:
                raise PreconditionFailed(f"{name} is there")
            if if_match is not None and (name not in self.blobs or self.blobs[name].properties.etag != if_match):
                raise PreconditionFailed(f"{name} has changed")
            etag = f"{self.puts}"
            properties = BlobProperties(
                name,
                etag,
                len(data),
                datetime.now(UTC),
                content_type,
                {k.lower(): v for k, v in (metadata or {}).items()},
            )
            self.blobs[name] = Blob(data, properties)
            if isinstance(fault, After):
                raise fault.error
            return etag

    def _check(self, container: str, name: str, metadata: Mapping[str, str], tags: Mapping[str, str]) -> None:
        if container not in BLOB_CONTAINERS or not 0 < len(name) <= 1024 or name.endswith((".", "/")):
            raise InvalidInput("container or blob name")
        if not all(key.isidentifier() and value.isascii() and value.isprintable() for key, value in metadata.items()):
            raise InvalidInput("metadata")
        if len(tags) > 10 or not all(_TAG.fullmatch(value) for value in tags.values()):
            raise InvalidInput("tags")

    def get(self, container: str, name: str) -> Blob:
        try:
            return self.blobs[name]
        except KeyError:
            raise NotFound(name) from None

    def properties(self, container: str, name: str) -> BlobProperties:
        return self.get(container, name).properties

    def delete(self, container: str, name: str) -> bool:
        return self.blobs.pop(name, None) is not None

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        return iter([self.blobs[name].properties for name in sorted(self.blobs) if name.startswith(prefix)])

    def find_by_tags(self, container: str, tags: Mapping[str, str]) -> Iterator[str]:
        raise NotImplementedError


class After:
    """The write went through, and the answer was lost."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class ColourDetector:
    """Finds the rectangles of pure red in a picture: a detector whose truth is in the frame itself."""

    detector_id = "colour.1"

    def __init__(self, confidence: float = 0.9) -> None:
        self._confidence = confidence

    def detect(self, image: UInt8Array) -> list[Face]:
        mask = ((image[..., 0] > 180) & (image[..., 1] < 90) & (image[..., 2] < 90)).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = [stats[i, :4] for i in range(1, count) if stats[i, 4] > 100]
        return [face(x, y, x + w, y + h, self._confidence) for x, y, w, h in boxes]


def face(x1: float, y1: float, x2: float, y2: float, confidence: float = 0.9, landmarks: bool = True) -> Face:
    """A face with landmarks where a frontal one has them."""
    box: Float32Array = np.array([x1, y1, x2, y2], dtype=np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.77], [0.65, 0.77]], dtype=np.float32)
    placed = box[:2] + points * (box[2:] - box[:2])
    return Face(box, confidence, placed.astype(np.float32) if landmarks else None)


def square(cx: float, cy: float, side: float = 40.0, confidence: float = 0.9) -> Face:
    """A square face about a centre."""
    return face(cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2, confidence)


def assess(image: UInt8Array, face: Face) -> Quality:
    """A quality that grows with the face's size alone."""
    size = min(face.width_px, face.height_px)
    return Quality(size, 100.0, 0.0, 128.0, face.confidence)


def encode(image: UInt8Array, quality: int) -> bytes:
    """JPEG by OpenCV."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return data.tobytes()


def picture(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (320, 240)) -> UInt8Array:
    """A grey RGB picture with red rectangles (xyxy)."""
    image = np.full((size[1], size[0], 3), 110, dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = (230, 20, 20)
    return image


def write_video(path: str, frames: Sequence[UInt8Array], *, fps: float = 10.0, codec: str = "MJPG") -> None:
    """A small video of RGB frames."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def digest(data: bytes) -> str:
    return sha256_hex(data)


class ScriptedCapture:
    """A capture of so many frames, that come at an interval; None never opens.

    Args:
        image: RGB, of every frame.
    """

    def __init__(self, frames, interval_s=0.0, image=None):
        self._left, self._interval_s = frames, interval_s
        self._image = picture() if image is None else image
        self.released = False

    def isOpened(self):  # noqa: N802
        return self._left is not None

    def grab(self):
        if not self._left:
            return False
        time.sleep(self._interval_s)
        self._left -= 1
        return True

    def retrieve(self, image=None):
        return True, self._image[..., ::-1].copy()

    def get(self, prop):
        return 0.0

    def release(self):
        self.released = True


class Opener:
    """Hands out captures in turn, then such as never open."""

    def __init__(self, *captures):
        self._captures = list(captures)
        self.calls = 0

    def __call__(self, address, timeout_s):
        self.calls += 1
        return self._captures.pop(0) if self._captures else ScriptedCapture(None)
