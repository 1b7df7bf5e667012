"""Composes the demo's site video from a handful of public-domain photographs.

It is not footage: each person is a photograph that is moved across a drawn corridor, growing as a walker who comes
nearer would. The video says so in its lower edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from shared.domain import Face, UInt8Array
from shared.errors import InvalidInput

WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
FPS: Final = 12.0
NOTICE: Final = "composed from public-domain photographs, not footage"


@dataclass(frozen=True, slots=True, eq=False)
class Walker:
    """A person's way through the picture.

    Attributes:
        photo: RGB (H, W, 3) uint8.
        face: the person's face in it.
        begin_s, end_s: when the walker is in the picture.
        leftwards: walks from right to left instead.
        mirrored: the photograph is mirrored.
    """

    photo: UInt8Array
    face: Face
    begin_s: float
    end_s: float
    leftwards: bool = False
    mirrored: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Sprite:
    """A walker cut out: RGB float32 and soft-edged alpha at full size, and the face's height in it."""

    pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    alpha: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    face_px: float


def compose(path: Path, walkers: Sequence[Walker], *, duration_s: float, seed: int) -> int:
    """Writes the video and returns how many frames it has.

    Args:
        seed: of the corridor's look and the sensor's noise; the same seed gives the same video.

    Raises:
        InvalidInput: the video cannot be written.
    """
    noise = np.random.default_rng(seed)
    corridor = _corridor(noise)
    sprites = [_cut_out(walker) for walker in walkers]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH_PX, HEIGHT_PX))
    if not writer.isOpened():
        raise InvalidInput(f"{path} cannot be written as a video")
    frames = int(duration_s * FPS)
    try:
        for index in range(frames):
            canvas = corridor.copy()
            for walker, sprite in zip(walkers, sprites, strict=True):
                _place(canvas, walker, sprite, index / FPS)
            canvas += noise.normal(0, 2.5, (HEIGHT_PX, WIDTH_PX, 1)).astype(np.float32)
            frame = np.clip(canvas, 0, 255).astype(np.uint8)
            cv2.putText(
                frame, NOTICE, (16, HEIGHT_PX - 16), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (235, 235, 235), 1, cv2.LINE_AA
            )
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    return frames


def _corridor(noise: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A wall, a floor and three doors, in a colour of the seed's choosing."""
    tint = noise.uniform(0.85, 1.0, 3).astype(np.float32)
    shade = np.linspace(200, 140, HEIGHT_PX, dtype=np.float32)[:, None, None]
    picture = np.broadcast_to(shade * tint, (HEIGHT_PX, WIDTH_PX, 3)).copy()
    floor = int(HEIGHT_PX * 0.78)
    picture[floor:] *= 0.7
    for left in (90, 560, 1030):
        picture[160:floor, left : left + 160] *= 0.86
        cv2.rectangle(picture, (left, 160), (left + 160, floor), (90, 90, 90), 2)
    return picture


def _cut_out(walker: Walker) -> _Sprite:
    """Head and shoulders with an edge that fades out over a fifth of the face's width."""
    left, top, right, bottom = walker.face.box
    width, height = right - left, bottom - top
    x0, x1 = max(0, int(left - 0.9 * width)), min(walker.photo.shape[1], int(right + 0.9 * width))
    y0, y1 = max(0, int(top - 0.6 * height)), min(walker.photo.shape[0], int(bottom + 1.3 * height))
    pixels = walker.photo[y0:y1, x0:x1]
    if walker.mirrored:
        pixels = pixels[:, ::-1]
    fade = max(2.0, 0.2 * float(width))
    rows = np.minimum(np.arange(y1 - y0), np.arange(y1 - y0)[::-1])
    columns = np.minimum(np.arange(x1 - x0), np.arange(x1 - x0)[::-1])
    alpha = np.clip(np.minimum.outer(rows, columns) / fade, 0, 1).astype(np.float32)[..., None]
    return _Sprite(pixels.astype(np.float32), alpha, float(height))


def _place(
    canvas: np.ndarray[tuple[int, ...], np.dtype[np.float32]], walker: Walker, sprite: _Sprite, now_s: float
) -> None:
    """Draws the walker where he or she is at `now_s`: faces grow from 60 to 150 px on the way."""
    if not walker.begin_s <= now_s < walker.end_s:
        return
    way = (now_s - walker.begin_s) / (walker.end_s - walker.begin_s)
    scale = (60 + 90 * way) / sprite.face_px
    size = max(2, round(sprite.pixels.shape[1] * scale)), max(2, round(sprite.pixels.shape[0] * scale))
    pixels = cv2.resize(sprite.pixels, size, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(sprite.alpha, size, interpolation=cv2.INTER_AREA)[..., None]
    across = 1 - way if walker.leftwards else way
    left = round(across * (WIDTH_PX - size[0]))
    top = min(HEIGHT_PX - size[1], round(210 - 60 * way + 6 * np.sin(2 * np.pi * 1.8 * now_s)))
    top = max(0, top)
    region = canvas[top : top + size[1], left : left + size[0]]
    region += alpha * (pixels - region)
