"""Boxes, names and the contact sheet."""

from __future__ import annotations

import numpy as np
import pytest

from local.contact_sheet import COLUMNS, TILE_PX, Tile, contact_sheet
from local.draw import BLUE, GREEN, RED, Box, draw_boxes, judged
from shared.domain import UNKNOWN


@pytest.mark.parametrize(
    ("label", "confidence", "colour", "named"),
    [
        (None, 0.0, RED, False),
        (UNKNOWN, 0.9, BLUE, False),
        ("ann", 0.4, BLUE, False),
        ("ann", 0.5, GREEN, True),
    ],
)
def test_colours_tell_what_was_seen(label, confidence: float, colour, named: bool) -> None:
    found, text = judged(label, confidence, 0.5)
    assert found == colour and ("ann" in text) is named


def test_a_box_is_drawn_on_a_copy() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    drawn = draw_boxes(image, [Box((20, 30, 80, 90), GREEN)])
    assert not image.any()
    assert tuple(drawn[60, 20]) == GREEN and tuple(drawn[30, 50]) == GREEN
    assert not drawn[60, 50].any(), "the face itself is not covered"


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (0, 0, 0, 0), (150, 50, 900, 900)])
def test_boxes_beyond_the_picture_do_no_harm(box) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    assert draw_boxes(image, [Box(box, BLUE, "somebody with a long name 0.99")]).shape == image.shape


@pytest.mark.parametrize("count", [0, 1, COLUMNS, COLUMNS + 1])
def test_a_sheet_has_room_for_every_tile(count: int) -> None:
    crop = np.full((80, 60, 3), 200, np.uint8)
    tiles = [Tile(crop, (10, 10, 50, 70), index % 2 == 0, ("a", "b", "c")) for index in range(count)]
    sheet = contact_sheet("title", tiles)
    rows = -(-count // COLUMNS)
    assert sheet.shape[0] >= rows * TILE_PX and sheet.shape[1] >= min(count, COLUMNS) * TILE_PX
    greens = np.all(sheet == GREEN, axis=2).sum()
    assert (greens > 0) == (count > 0)
