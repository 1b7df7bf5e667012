"""The photograph that goes with an alert."""

from __future__ import annotations

import numpy as np
import pytest

from functions.recognize.alerts import as_mailed
from shared.errors import InvalidImage
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg, encode_webp

PICTURE = np.full((40, 30, 3), (200, 90, 40), np.uint8)


def test_a_crop_of_a_gateway_is_shown_by_every_mail_program() -> None:
    mailed = as_mailed(encode_webp(PICTURE, 90))
    assert mailed.startswith(b"\xff\xd8\xff")
    shown = decode_image(mailed, ImageLimits())
    assert shown.shape == PICTURE.shape
    assert np.abs(shown.astype(int) - PICTURE).max() < 8, "the same colours, but for what JPEG costs"


def test_jpeg_is_mailed_as_it_is() -> None:
    jpeg = encode_jpeg(PICTURE)
    assert as_mailed(jpeg) is jpeg


def test_what_cannot_be_decoded_is_not_mailed() -> None:
    with pytest.raises(InvalidImage):
        as_mailed(encode_webp(PICTURE, 90)[:40])
