"""Pictures for people: frames with the tracks drawn in, and a strip of the crops that were sent.

For tuning and for looking at what the gateway does. They hold faces: keep the folder as you would keep the video.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.selection.crops import Crop
from edge_uploader.selection.tracker import Track
from shared.domain import UInt8Array, percent_safe
from shared.vision.pixels import in_order, rgb_copy

_TENTATIVE = (160, 160, 160)
_CONFIRMED = (60, 200, 60)
_SENT = (255, 120, 30)
_TILE_PX = 128
_MOST_CROPS = 400


def draw_tracks(image: UInt8Array, tracks: list[Track], sent: set[str], *, scale: float = 1.0) -> UInt8Array:
    """A copy of the RGB frame, shrunk, with a box for each track: grey while tentative, then green; orange: sent."""
    canvas = rgb_copy(image) if scale == 1 else shrunk(in_order(image), scale)
    thickness = max(1, round(canvas.shape[1] / 640))
    for track in tracks:
        x1, y1, x2, y2 = (int(v * scale) for v in track.face.box)
        colour = _SENT if track.id in sent else _CONFIRMED if track.confirmed else _TENTATIVE
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness * (2 if track.id in sent else 1))
        text = f"{track.id.rpartition('_')[2]} {track.face.confidence:.2f}"
        cv2.putText(canvas, text, (x1, max(y1 - 6, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.45 * thickness, colour, thickness)
    return canvas


def shrunk(image: UInt8Array, scale: float) -> UInt8Array:
    """The image at a fraction of its size, at least a pixel."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def contact_strip(crops: list[tuple[str, UInt8Array]], columns: int = 10) -> UInt8Array:
    """RGB sheet of crops (caption, RGB image), each fitted into a tile of 128 px, in rows."""
    rows = max(1, math.ceil(len(crops) / columns))
    sheet = np.full((rows * (_TILE_PX + 16), columns * _TILE_PX, 3), 32, dtype=np.uint8)
    for number, (caption, image) in enumerate(crops):
        top, left = (number // columns) * (_TILE_PX + 16), (number % columns) * _TILE_PX
        scale = _TILE_PX / max(image.shape[:2])
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        tile = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        sheet[top : top + size[1], left : left + size[0]] = tile
        cv2.putText(sheet, caption, (left + 2, top + _TILE_PX + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1)
    return sheet


class Annotator:
    """Writes `{camera}.mp4`, `{camera}-crops.jpg`, and one picture for each second of the source.

    Args:
        folder: made when it is not there.
        fps: of the annotated video.
        width_px: of the annotated video; frames are not enlarged.
    """

    def __init__(self, folder: Path, camera: str, *, fps: float = 8.0, width_px: int = 1280) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._stem, self._fps, self._width_px = folder, percent_safe(camera), fps, width_px
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._second = -1
        self._sent: set[str] = set()
        self._crops: list[tuple[str, UInt8Array]] = []

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        """Draws one frame. Called after the frame's crops were announced."""
        canvas = draw_tracks(frame.image, tracks, self._sent)
        second = int(frame.position_s)
        # Frames in which something was sent are the ones to look at; besides them one a second.
        if self._sent or second != self._second:
            self._second = second
            self._write(self._folder / f"{self._stem}-{frame.index:06d}.jpg", canvas)
        self._sent = set()
        height, width = canvas.shape[:2]
        if self._video is None:
            scale = min(1.0, self._width_px / width)
            self._size = round(width * scale) // 2 * 2, round(height * scale) // 2 * 2
            path = str(self._folder / f"{self._stem}.mp4")
            self._video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), self._fps, self._size)
        small = cv2.resize(canvas, self._size, interpolation=cv2.INTER_AREA)
        self._video.write(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))

    def crop(self, track: str, crop: Crop) -> None:
        """Remembers a crop that was sent."""
        self._sent.add(track)
        if len(self._crops) < _MOST_CROPS:
            bgr = cv2.imdecode(np.frombuffer(crop.data, dtype=np.uint8), cv2.IMREAD_COLOR)
            if bgr is not None:
                rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                self._crops.append((f"{track.rpartition('_')[2]} {crop.confidence:.2f}", rgb))

    def close(self) -> None:
        """Finishes the video and writes the strip."""
        if self._video is not None:
            self._video.release()
            self._video = None
        if self._crops:
            self._write(self._folder / f"{self._stem}-crops.jpg", contact_strip(self._crops))

    def _write(self, path: Path, image: UInt8Array) -> None:
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
