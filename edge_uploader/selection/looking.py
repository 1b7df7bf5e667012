"""Where a camera's faces are: a look at the whole picture, or a glance at the places where faces are expected.

A glance cuts a square around each expected face, lays the squares side by side on a small canvas and has the detector
look at that: the same faces for a third of the time, and far ones larger than in a whole picture that was shrunk.
What it cannot see is somebody new; for them the whole picture is looked at, again and again (`schedule`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.selection.crops import long_axis_px
from shared.domain import Face, Float32Array, UInt8Array
from shared.ports import Detector
from shared.vision.boxes import nms
from shared.vision.pixels import reduced

_TILE_PX: Final = 96
"""Side of a square on the canvas: its face has about 27 px there, twice what the detector needs. With 64 px a face in a
hundred is lost; with 128 px none is found more, for almost twice the pixels."""
_FACES_WIDE: Final = 3.5
"""Side of a square in face sizes: a face may be more than its size off the place where it was expected."""
_WORTH_IT: Final = 0.65
"""Share of the whole picture's pixels up to which the squares are looked at instead."""
_SAME_IOU: Final = 0.3
_NEARLY: Final = 0.8
"""Share of `input_px` that a reduced picture needs to be looked at in place of the frame."""
_CLEAR_PX: Final = 1.0
"""What comes nearer to a square's edge than this may go on beyond it."""
_ORIGIN: Final = np.zeros(2, np.float32)


class Looker:
    """A camera's detector. Belongs to the camera's thread.

    Args:
        detector: of faces; reduces a picture to `input_px` on its longer side.
        input_px: see there; the frame's reduced picture will do from four fifths of it.
        low_confidence: weaker faces are dropped.
        min_face_px: faces smaller on the long axis are dropped.
    """

    def __init__(self, detector: Detector, *, input_px: int, low_confidence: float, min_face_px: float) -> None:
        self._detector, self._input_px = detector, input_px
        self._low_confidence, self._min_face_px = low_confidence, min_face_px

    def whole(self, frame: Frame) -> list[Face]:
        """The faces of a frame, in falling order of confidence."""
        image, step = self._picture(frame)
        return self._wanted([_placed(face, _ORIGIN, step, _ORIGIN) for face in self._detector.detect(image)])

    def worth_a_glance(self, frame: Frame, expected: Float32Array) -> bool:
        """Whether a glance at so many faces (N, 4) is cheaper than a look at the whole picture."""
        height, width = frame.reduced.shape[:2] if self._reduced_will_do(frame) else frame.image.shape[:2]
        scale = min(1.0, self._input_px / max(height, width))
        columns, rows = _grid(len(expected))
        return bool(0 < columns * rows * _TILE_PX**2 <= _WORTH_IT * width * height * scale**2)

    def _picture(self, frame: Frame) -> tuple[UInt8Array, int]:
        """What is looked at of a whole frame, and how many of the frame's pixels are one of it."""
        if self._reduced_will_do(frame):
            return frame.reduced, frame.step
        return frame.image, 1

    def _reduced_will_do(self, frame: Frame) -> bool:
        return bool(max(frame.reduced.shape[:2]) >= _NEARLY * self._input_px)

    def glance(self, frame: Frame, expected: Float32Array) -> list[Face]:
        """The faces in the squares around the expected ones.

        Args:
            expected: (N, 4) xyxy pixels of the frame, N > 0; they may reach past its edge.

        Returns:
            Faces that lie within a square, in pixels of the frame, in falling order of confidence. A face that a
            square cuts off is left out, but for those that the frame itself cuts off.
        """
        height, width = frame.image.shape[:2]
        columns, rows = _grid(len(expected))
        canvas = np.zeros((rows * _TILE_PX, columns * _TILE_PX, 3), np.uint8)
        squares = [_square(box, width, height) for box in expected]
        for number, square in enumerate(squares):
            part = _part(frame, square)
            y, x = (axis * _TILE_PX for axis in divmod(number, columns))
            canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        found = []
        for face in self._detector.detect(canvas):
            x, y = ((face.box[:2] + face.box[2:]) / 2 // _TILE_PX).astype(int).tolist()
            number = y * columns + x
            if 0 <= x < columns and 0 <= number < len(squares):
                left, top, side = squares[number]
                origin = np.array([x * _TILE_PX, y * _TILE_PX], np.float32)
                placed = _placed(face, origin, side / _TILE_PX, np.array([left, top], np.float32))
                if _within(placed.box, squares[number], width, height):
                    found.append(placed)
        return self._wanted(_once(found))

    def _wanted(self, faces: Sequence[Face]) -> list[Face]:
        return [
            face
            for face in faces
            if face.confidence >= self._low_confidence and long_axis_px(face) >= self._min_face_px
        ]


def _grid(squares: int) -> tuple[int, int]:
    """Columns and rows of the canvas: as near to a square as can be.

    >>> [_grid(n) for n in (0, 1, 2, 5, 9)]
    [(0, 0), (1, 1), (2, 1), (3, 2), (3, 3)]
    """
    if not squares:
        return 0, 0
    columns = math.ceil(math.sqrt(squares))
    return columns, math.ceil(squares / columns)


def _square(box: Float32Array, width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of what is looked at around a box; moved into the frame, which it may overlap where larger.

    >>> _square(np.float32([0, 0, 30, 40]), 1920, 1080), _square(np.float32([900, 500, 990, 600]), 1920, 1080)
    ((0, 0, 140), (770, 375, 350))
    """
    x, y = ((box[:2] + box[2:]) / 2).tolist()
    side = round(max(_FACES_WIDE * float((box[2:] - box[:2]).max()), _TILE_PX))
    left = max(min(round(x - side / 2), width - side), 0)
    return left, max(min(round(y - side / 2), height - side), 0), side


def _part(frame: Frame, square: tuple[int, int, int]) -> UInt8Array:
    """What a square shows, `_TILE_PX` or what the frame has of it; of a large one, out of the reduced picture."""
    left, top, side = square
    height, width = frame.image.shape[:2]
    scale = _TILE_PX / side
    size = (
        max(round((min(left + side, width) - left) * scale), 1),
        max(round((min(top + side, height) - top) * scale), 1),
    )
    image, step = (frame.reduced, frame.step) if side >= frame.step * _TILE_PX else (frame.image, 1)
    near, far = (left // step, top // step), (-(-(left + side) // step), -(-(top + side) // step))
    part = image[near[1] : far[1], near[0] : far[0]]
    part = reduced(part, min(side // (step * _TILE_PX), *part.shape[:2]))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _placed(face: Face, origin: Float32Array, scale: float, offset: Float32Array) -> Face:
    """A face of the canvas in pixels of the frame."""
    box = ((face.box.reshape(2, 2) - origin) * scale + offset).astype(np.float32)
    landmarks = face.landmarks
    if landmarks is not None:
        landmarks = ((landmarks - origin) * scale + offset).astype(np.float32)
    return dataclasses.replace(face, box=box.ravel(), landmarks=landmarks)


def _within(box: Float32Array, square: tuple[int, int, int], width: int, height: int) -> bool:
    """Whether a square shows all of a box, or all that the frame does."""
    left, top, side = square
    clear = _CLEAR_PX * side / _TILE_PX
    x1, y1, x2, y2 = (float(v) for v in box)
    return (
        (x1 >= left + clear or left == 0)
        and (y1 >= top + clear or top == 0)
        and (x2 <= left + side - clear or left + side >= width)
        and (y2 <= top + side - clear or top + side >= height)
    )


def _once(faces: list[Face]) -> list[Face]:
    """What two squares show is one face; in falling order of confidence."""
    if not faces:
        return []
    boxes = np.stack([face.box for face in faces]).astype(np.float32)
    scores = np.array([face.confidence for face in faces], np.float32)
    return [faces[index] for index in nms(boxes, scores, _SAME_IOU)]
