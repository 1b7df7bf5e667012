"""Photographs cut out with soft edges, and set into a frame. All pictures are BGR uint8; cut-outs carry their alpha.

A cut-out is premultiplied (its colours are already weighted with alpha), so that it may be scaled and blurred without
dark seams, and set in with two saturating operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bench.scene.people import Portrait
from shared.domain import Float32Array, UInt8Array

_FACE_PX = 120.0
"""Height of the face in a cut-out before it is scaled; LFW's have about as much."""
_WIDTH, _ABOVE, _BELOW = 2.5, 0.95, 6.6
"""Of a cut-out, in face heights: its width, and what there is above and below the face's centre."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A person, or a poster, to be set into frames.

    Attributes:
        pixels: (H, W, 4) uint8, BGR premultiplied and alpha.
        centre: (x, y) of the face's centre in it.
        face: (width, height) of the face in it.
    """

    pixels: UInt8Array
    centre: tuple[float, float]
    face: tuple[float, float]


def cut_out(portrait: Portrait) -> Cutout:
    """Head and shoulders from the photograph, a coat below that continues the photograph's lower edge."""
    x1, y1, x2, y2 = (float(v) for v in portrait.box)
    scale = _FACE_PX / (y2 - y1)
    centre = _WIDTH * _FACE_PX / 2, _ABOVE * _FACE_PX
    size = round(_WIDTH * _FACE_PX), round((_ABOVE + _BELOW) * _FACE_PX)
    matrix = np.float32([[scale, 0, centre[0] - scale * (x1 + x2) / 2], [0, scale, centre[1] - scale * (y1 + y2) / 2]])
    canvas = cv2.warpAffine(portrait.image, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    photo = np.full(portrait.image.shape[:2], 255, np.uint8)
    inside = cv2.warpAffine(photo, matrix, size, flags=cv2.INTER_NEAREST)
    width = scale * (x2 - x1)
    coat = _coat(canvas, inside, centre, width)
    alpha = cv2.GaussianBlur(_outline(size, centre, width), (0, 0), 0.06 * _FACE_PX)
    return Cutout(_premultiplied(coat, alpha), centre, (width, _FACE_PX))


def poster(portrait: Portrait) -> Cutout:
    """The photograph's face and what is around it, flat on paper with a frame."""
    x1, y1, x2, y2 = (float(v) for v in portrait.box)
    scale = _FACE_PX / (y2 - y1)
    size = round(1.7 * _FACE_PX), round(1.9 * _FACE_PX)
    centre = size[0] / 2, size[1] / 2
    matrix = np.float32([[scale, 0, centre[0] - scale * (x1 + x2) / 2], [0, scale, centre[1] - scale * (y1 + y2) / 2]])
    canvas = cv2.warpAffine(portrait.image, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    cv2.rectangle(canvas, (0, 0), (size[0] - 1, size[1] - 1), (40, 40, 40), 8)
    alpha = np.full((size[1], size[0]), 255, np.uint8)
    return Cutout(np.dstack([canvas, alpha]), centre, (scale * (x2 - x1), _FACE_PX))


def _outline(size: tuple[int, int], centre: tuple[float, float], width: float) -> UInt8Array:
    """255 where the person is: a head with its hair, a neck, shoulders, a body."""
    alpha = np.zeros((size[1], size[0]), np.uint8)
    x, y, h = centre[0], centre[1], _FACE_PX
    head = round(x), round(y - 0.06 * h)
    cv2.ellipse(alpha, head, (round(0.78 * width), round(0.72 * h)), 0, 0, 360, 255, -1)
    cv2.rectangle(alpha, (round(x - 0.5 * width), round(y)), (round(x + 0.5 * width), round(y + 0.95 * h)), 255, -1)
    cv2.ellipse(alpha, (round(x), round(y + 1.3 * h)), (round(h), round(0.55 * h)), 0, 180, 360, 255, -1)
    hem, ground = round(y + 3.6 * h), size[1] - round(0.1 * h)
    cv2.rectangle(alpha, (round(x - h), round(y + 1.28 * h)), (round(x + h), hem), 255, -1)
    for leg in (-0.4, 0.4):
        cv2.rectangle(alpha, (round(x + (leg - 0.33) * h), hem), (round(x + (leg + 0.33) * h), ground), 255, -1)
    return alpha


def _coat(canvas: UInt8Array, inside: UInt8Array, centre: tuple[float, float], width: float) -> UInt8Array:
    """Below the photograph: the colour of its lower edge under the chin, darker towards the ground."""
    rows = np.flatnonzero(inside[:, round(centre[0])])
    bottom = int(rows[-1]) if len(rows) else len(canvas) - 1
    # Aligned photographs have black corners: the coat begins above them, in a colour that is not theirs.
    start = min(bottom - round(0.12 * _FACE_PX), round(centre[1] + 1.3 * _FACE_PX))
    left, right = round(centre[0] - 0.8 * width), round(centre[0] + 0.8 * width)
    band = canvas[max(start - 20, 0) : start, left:right].reshape(-1, 3)
    band = band[band.max(axis=1) > 12] if np.any(band.max(axis=1) > 12) else np.full((1, 3), 60, np.uint8)
    colour = np.maximum(np.median(band, axis=0), 25.0)
    below = len(canvas) - start
    shade = np.linspace(1.0, 0.55, below, dtype=np.float32)[:, None, None]
    blend = np.clip(np.arange(below, dtype=np.float32) / (0.25 * _FACE_PX), 0, 1)[:, None, None]
    result = canvas.copy()
    result[start:] = (canvas[start:] * (1 - blend) + colour * shade * blend).astype(np.uint8)
    return result


def _premultiplied(colours: UInt8Array, alpha: UInt8Array) -> UInt8Array:
    weighted = cv2.multiply(colours, cv2.merge([alpha, alpha, alpha]), scale=1 / 255)
    return np.dstack([weighted, alpha])


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A cut-out at its size and place in a frame.

    Attributes:
        pixels: (h, w, 4) uint8 premultiplied, clipped to the frame.
        left, top: of `pixels` in the frame.
        box: (4,) float32 xyxy of the face in the frame; may reach past its edges.
    """

    pixels: UInt8Array
    left: int
    top: int
    box: Float32Array


def placed(
    cutout: Cutout,
    centre_px: tuple[float, float],
    face_px: float,
    frame_size: tuple[int, int],
    *,
    motion_px: float = 0.0,
    defocus_px: float = 0.0,
    gain: float = 1.0,
) -> Placed | None:
    """Scales, blurs and clips; None when nothing is left inside the frame.

    Args:
        face_px: height of the face.
        frame_size: (width, height).
        motion_px: way of the face while the shutter is open, sideways.
        defocus_px: standard deviation of the lens's blur.
        gain: of the light.
    """
    scale = face_px / cutout.face[1]
    height, width = cutout.pixels.shape[:2]
    left, top = centre_px[0] - scale * cutout.centre[0], centre_px[1] - scale * cutout.centre[1]
    x0, y0 = int(np.floor(left)), int(np.floor(top))
    x1, y1 = (
        min(int(np.ceil(left + scale * width)), frame_size[0]),
        min(int(np.ceil(top + scale * height)), frame_size[1]),
    )
    cx0, cy0 = max(x0, 0), max(y0, 0)
    if x1 - cx0 < 2 or y1 - cy0 < 2:
        return None
    # The part that is seen alone, at its exact place in fractions of a pixel; shrunk first, so that nothing flickers.
    pixels, step = _shrunk(cutout.pixels, scale)
    matrix = np.float32([[scale * step, 0, left - cx0], [0, scale * step, top - cy0]])
    # A pixel's middle is at its half.
    matrix[:, 2] += 0.5 * scale * step - 0.5
    part = cv2.warpAffine(pixels, matrix, (x1 - cx0, y1 - cy0), flags=cv2.INTER_LINEAR)
    if motion_px >= 1.5:
        part = cv2.blur(part, (round(motion_px), 1), borderType=cv2.BORDER_CONSTANT)
    if defocus_px >= 0.4:
        part = cv2.GaussianBlur(part, (0, 0), defocus_px, borderType=cv2.BORDER_CONSTANT)
    if gain != 1.0:
        part = cv2.multiply(part, (min(gain, 1.0),) * 3 + (1.0,))
    half = scale * cutout.face[0] / 2, face_px / 2
    box = np.float32([centre_px[0] - half[0], centre_px[1] - half[1], centre_px[0] + half[0], centre_px[1] + half[1]])
    return Placed(part, cx0, cy0, box)


def _shrunk(pixels: UInt8Array, scale: float) -> tuple[UInt8Array, float]:
    """Halved until less than halving is left to do; and by how much in all."""
    step = 1.0
    while scale * step <= 0.5 and min(pixels.shape[:2]) > 8:
        pixels = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
        step *= 2
    return pixels, step


def set_in(frame: UInt8Array, sprite: Placed) -> None:
    """Draws into `frame`."""
    h, w = sprite.pixels.shape[:2]
    region = frame[sprite.top : sprite.top + h, sprite.left : sprite.left + w]
    blue, green, red, alpha = cv2.split(sprite.pixels)
    rest = cv2.bitwise_not(alpha)
    under = cv2.multiply(region, cv2.merge([rest, rest, rest]), scale=1 / 255)
    region[:] = cv2.add(under, cv2.merge([blue, green, red]))
