"""Pictures that lie in memory as BGR."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shared.vision.pixels import from_bgr, in_order, reduced, rgb_copy


def photograph(width=1920, height=1080):
    """Smooth, as what a lens shows is, and different in each channel."""
    noise = np.random.default_rng(3).integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("area", [np.s_[:, :], np.s_[3:9, 5:40], np.s_[2:3, 4:5]])
def test_a_copy_has_the_channels_in_order_and_is_the_callers_own(area):
    rgb = photograph(64, 48)
    turned = from_bgr(np.ascontiguousarray(rgb[..., ::-1]))
    for image in (rgb, turned):
        copy = rgb_copy(image[area])
        assert np.array_equal(copy, rgb[area])
        assert copy.flags.c_contiguous and not np.shares_memory(copy, image)


def test_a_picture_in_order_is_left_as_it_is():
    rgb = photograph(64, 48)
    assert in_order(rgb) is rgb
    assert np.array_equal(in_order(from_bgr(np.ascontiguousarray(rgb[..., ::-1]))), rgb)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (2560, 1440), (3840, 2160), (1931, 1083), (700, 500)])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_a_reduced_picture_shows_the_same_with_fewer_pixels(size, step, turned):
    rgb = photograph(*size)
    small = reduced(from_bgr(np.ascontiguousarray(rgb[..., ::-1])) if turned else rgb, step)
    columns, rows = size[0] // step, size[1] // step
    means = cv2.resize(rgb[: rows * step, : columns * step], (columns, rows), interpolation=cv2.INTER_AREA)
    assert small.shape == (rows, columns, 3) and small.flags.c_contiguous
    assert np.abs(small.astype(int) - means).mean() < 1
