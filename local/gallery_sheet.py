"""The gallery check as a picture: each doubtful template beside its own person and the one it is confused with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from local.draw import BLUE, GREEN, RED
from shared.domain import UInt8Array

TILE_PX: Final = 180
CAPTION_PX: Final = 40
TEXT_PX: Final = 420
GAP_PX: Final = 12
MAX_ROWS: Final = 60

Fetch = Callable[[str, str], bytes | None]
"""(person id, template id) → the stored face as JPEG, or None when it is gone."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Up to three faces, each (person id, template id, caption, colour), and what is thought of them."""

    faces: tuple[tuple[str, str, str, tuple[int, int, int]], ...]
    lines: tuple[str, ...]


def sheet_rows(check: dict[str, Any]) -> list[SheetRow]:
    """The rows of a check: strangers, pairs, then duplicates; at most `MAX_ROWS`."""
    strangers = [_finding_row(found) for found in check["findings"] if found["reason"] != "duplicate"]
    duplicates = [_finding_row(found) for found in check["findings"] if found["reason"] == "duplicate"]
    return [*strangers, *map(_pair_row, check["pairs"]), *duplicates][:MAX_ROWS]


def _finding_row(found: dict[str, Any]) -> SheetRow:
    person, colour = found["person_id"], RED if found["set_aside"] else BLUE
    faces = [(person, found["template_id"], f"enrolled as {person}", colour)]
    if found["own_template"]:
        faces.append((person, found["own_template"], f"{person}, another one", GREEN))
    if found["other_template"]:
        other = found["nearest_person"] or person
        caption = f"{other}, most like it" if found["nearest_person"] else "the one that it repeats"
        faces.append((other, found["other_template"], caption, GREEN))
    similar = [
        f"to {whose}: {value:.2f}"
        for whose, value in (("its own", found["own_similarity"]), ("the other", found["nearest_similarity"]))
        if value is not None
    ]
    head = f"{found['reason'].replace('_', ' ')}{', left out' if found['set_aside'] else ''}"
    return SheetRow(tuple(faces), (head, "; ".join(similar), found["template_id"], found["suggestion"]))


def _pair_row(pair: dict[str, Any]) -> SheetRow:
    faces = tuple((who, name, who, BLUE) for who, name in zip(pair["people"], pair["templates"], strict=True))
    return SheetRow(faces, ("enrolled twice, or twins", f"to each other: {pair['similarity']:.2f}", pair["suggestion"]))


def gallery_sheet(title: str, rows: Sequence[SheetRow], fetch: Fetch) -> UInt8Array:
    """RGB picture: one row of faces and words for each finding."""
    width = 3 * (TILE_PX + GAP_PX) + GAP_PX + TEXT_PX
    height = TILE_PX + CAPTION_PX
    sheet = Image.new("RGB", (width, 56 + max(1, len(rows)) * height), (245, 245, 242))
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX, 16), title, fill=(30, 30, 30), font=ImageFont.load_default(size=20))
    if not rows:
        draw.text((GAP_PX, 70), "nothing to look at", fill=(70, 70, 70), font=ImageFont.load_default(size=15))
    for number, row in enumerate(rows):
        top = 56 + number * height
        for column, (person, template_id, caption, colour) in enumerate(row.faces):
            left = GAP_PX + column * (TILE_PX + GAP_PX)
            sheet.paste(_tile(fetch(person, template_id)), (left, top))
            draw.rectangle((left - 2, top - 2, left + TILE_PX + 1, top + TILE_PX + 1), outline=colour, width=3)
            draw.text((left, top + TILE_PX + 4), caption[:28], fill=colour, font=ImageFont.load_default(size=12))
        _write(draw, row.lines, GAP_PX + 3 * (TILE_PX + GAP_PX), top)
    return np.asarray(sheet)


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], left: int, top: int) -> None:
    """The first line larger; long ones are broken between words."""
    for number, line in enumerate(lines):
        font = ImageFont.load_default(size=15 if number == 0 else 12)
        rest = ""
        for word in line.split():
            if draw.textlength(f"{rest} {word}", font=font) > TEXT_PX - GAP_PX and rest:
                draw.text((left, top), rest, fill=(60, 60, 60), font=font)
                rest, top = "", top + 17
            rest = f"{rest} {word}".strip()
        draw.text((left, top), rest, fill=(30, 30, 30) if number == 0 else (60, 60, 60), font=font)
        top += 22


def _tile(data: bytes | None) -> Image.Image:
    """The face fitted into a square; an empty one when it is gone or unreadable."""
    try:
        with Image.open(BytesIO(data or b"")) as image:
            return ImageOps.pad(image.convert("RGB"), (TILE_PX, TILE_PX), color=(225, 225, 222))
    except (UnidentifiedImageError, OSError):
        return Image.new("RGB", (TILE_PX, TILE_PX), (225, 225, 222))
