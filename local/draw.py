"""Boxes and names on pictures, in the seed's colours.

Red: the edge saw a face and the service did not. Blue: a face that is nobody enrolled, or not surely enough.
Green: somebody, with the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.domain import UNKNOWN, UInt8Array
from shared.vision.pixels import in_order

RED: Final = (220, 50, 47)
BLUE: Final = (38, 110, 220)
GREEN: Final = (40, 160, 70)
WHITE: Final = (245, 245, 245)
"""A face that nobody was asked for."""


@dataclass(frozen=True, slots=True)
class Box:
    """One face to draw: xyxy pixels, a colour, and text above it."""

    box: tuple[float, float, float, float]
    colour: tuple[int, int, int]
    text: str = ""


def judged(label: str | None, confidence: float, min_confidence: float) -> tuple[tuple[int, int, int], str]:
    """Colour and text of a face: `label` is a person's id, `unknown`, or None when the service saw no face."""
    if label is None:
        return RED, ""
    if label == UNKNOWN or confidence < min_confidence:
        return BLUE, ""
    return GREEN, f"{label} {confidence:.2f}"


def draw_boxes(image: UInt8Array, boxes: Sequence[Box]) -> UInt8Array:
    """A copy of an RGB image (H, W, 3) uint8 with the boxes drawn in."""
    canvas = Image.fromarray(in_order(image))
    draw = ImageDraw.Draw(canvas)
    stroke = max(2, round(max(canvas.size) / 500))
    font = ImageFont.load_default(size=max(12, round(max(canvas.size) / 60)))
    for item in boxes:
        draw.rectangle(item.box, outline=item.colour, width=stroke)
        if item.text:
            _caption(draw, item, font)
    return np.asarray(canvas)


def corner_text(image: UInt8Array, text: str, colour: tuple[int, int, int]) -> UInt8Array:
    """A copy of an RGB image with `text` in its upper right corner."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    size = max(16, canvas.height // 14)
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=ImageFont.load_default(size=size))
    left, top = canvas.width - (x1 - x0) - size, size // 2
    draw.rectangle((left - 6, top - 2, left + x1 + 6, top + y1 + 6), fill=(20, 20, 20))
    draw.text((left, top), text, font=ImageFont.load_default(size=size), fill=colour)
    return np.asarray(canvas)


def _caption(draw: ImageDraw.ImageDraw, item: Box, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    left, top = item.box[0], item.box[1]
    x0, y0, x1, y1 = draw.textbbox((left, top), item.text, font=font)
    lift = min(y1 - y0 + 6, top)
    draw.rectangle((x0 - 2, y0 - lift - 2, x1 + 2, y1 - lift + 2), fill=item.colour)
    draw.text((left, top - lift), item.text, font=font, fill=(255, 255, 255))
