"""The demo's contact sheet: every stored detection as its crop, with who, where and when under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from local.draw import BLUE, GREEN
from shared.domain import UInt8Array

TILE_PX: Final = 220
CAPTION_PX: Final = 58
COLUMNS: Final = 5
GAP_PX: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A crop with its verified face's box, and three lines of text; green when somebody was recognised."""

    image: UInt8Array
    box: tuple[float, float, float, float]
    known: bool
    lines: tuple[str, str, str]


def contact_sheet(title: str, tiles: Sequence[Tile]) -> UInt8Array:
    """RGB picture of all tiles in rows under a title."""
    columns = min(COLUMNS, max(1, len(tiles)))
    rows = -(-len(tiles) // columns)
    width = max(columns * (TILE_PX + GAP_PX) + GAP_PX, 720)
    sheet = Image.new("RGB", (width, 56 + rows * (TILE_PX + CAPTION_PX + GAP_PX) + GAP_PX), (245, 245, 242))
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX, 16), title, fill=(30, 30, 30), font=ImageFont.load_default(size=20))
    for number, tile in enumerate(tiles):
        left = GAP_PX + (number % columns) * (TILE_PX + GAP_PX)
        top = 56 + (number // columns) * (TILE_PX + CAPTION_PX + GAP_PX)
        _draw_tile(sheet, draw, tile, left, top)
    return np.asarray(sheet)


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    colour = GREEN if tile.known else BLUE
    picture = Image.fromarray(tile.image)
    ImageDraw.Draw(picture).rectangle(tile.box, outline=colour, width=max(1, round(max(picture.size) / 90)))
    fitted = ImageOps.pad(picture, (TILE_PX, TILE_PX), color=(225, 225, 222))
    sheet.paste(fitted, (left, top))
    draw.rectangle((left - 2, top - 2, left + TILE_PX + 1, top + TILE_PX + 1), outline=colour, width=3)
    for number, line in enumerate(tile.lines):
        font = ImageFont.load_default(size=15 if number == 0 else 12)
        fill = colour if number == 0 else (70, 70, 70)
        draw.text((left + 2, top + TILE_PX + 5 + 18 * number), line, fill=fill, font=font)
