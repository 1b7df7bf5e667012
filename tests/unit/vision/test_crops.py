"""What an embedder sees of a face."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vision.embedders import ALIGNED_POINTS, align, crop_with_margin, similarity_transform


def gradient(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)


def test_the_margin_is_relative_to_the_face():
    image = gradient(250, 250)
    crop = crop_with_margin(image, np.array([80, 60, 160, 140], np.float32), 160, 32)
    assert crop.shape == (160, 160, 3)
    # 80 px of face fill 128 of 160, so the crop spans 100: from 70 to 170, and from 50 to 150
    assert crop[0, 0, 0] == pytest.approx(70, abs=1)
    assert crop[-1, -1, 0] == pytest.approx(169, abs=1)
    assert crop[0, 0, 1] == pytest.approx(50, abs=1)


def test_beyond_the_edge_the_last_pixels_are_repeated_and_the_face_keeps_its_proportions():
    crop = crop_with_margin(gradient(100, 100), np.array([-20, -20, 60, 60], np.float32), 160, 0)
    assert crop[0, 0].tolist() == [0, 0, 0]
    assert crop[39, 39, 0] == 0  # a quarter of the box is outside
    assert crop[100, 100, 0] == pytest.approx(30, abs=1)
    assert crop[-1, -1, 0] == pytest.approx(59, abs=1)


def test_the_margin_is_the_same_on_all_sides():
    crop = crop_with_margin(gradient(250, 250), np.array([100, 60, 160, 140], np.float32), 160, 32)
    # the longer side is 80, so the margin is 10: x from 90 to 170, y from 50 to 150
    assert crop[0, 0, :2].tolist() == pytest.approx([90, 50], abs=1)
    assert crop[-1, -1, :2].tolist() == pytest.approx([169, 149], abs=1)


@pytest.mark.parametrize("box", [[300, 300, 320, 330], [-50, -50, -10, -10]])
def test_a_box_outside_the_image_gives_a_crop_all_the_same(box):
    assert crop_with_margin(gradient(100, 100), np.array(box, np.float32), 160, 32).shape == (160, 160, 3)


@given(st.floats(0.2, 5), st.floats(-3.1, 3.1), st.floats(-100, 100), st.floats(-100, 100))
def test_a_similarity_is_found_again(scale, angle, dx, dy):
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (ALIGNED_POINTS @ matrix.T + [dx, dy]).astype(np.float32)
    found = similarity_transform(ALIGNED_POINTS, moved)
    assert np.allclose(found[:, :2], matrix, atol=1e-3)
    assert np.allclose(found[:, 2], [dx, dy], atol=0.05)


def test_points_in_one_place_do_not_divide_by_zero():
    assert np.isfinite(similarity_transform(np.zeros((5, 2), np.float32), ALIGNED_POINTS)).all()


@pytest.mark.parametrize("times", [1, 2, 5])
def test_aligned_pixels_are_where_the_template_has_them(times):
    size = 112 * times
    image = np.zeros((size, size, 3), np.uint8)
    landmarks = ALIGNED_POINTS * times
    for x, y in landmarks.round().astype(int):
        image[max(y - 2 * times, 0) : y + 2 * times + 1, max(x - 2 * times, 0) : x + 2 * times + 1] = 255
    aligned = align(image, landmarks.astype(np.float32), 112)
    for x, y in ALIGNED_POINTS.round().astype(int):
        assert aligned[y, x, 0] > 200
    assert aligned[70, 20].max() == 0


def test_a_large_face_is_averaged_before_it_is_sampled():
    stripes = np.zeros((1120, 1120, 3), np.uint8)
    stripes[::2] = 255  # sampled every tenth row, these would be all white or all black
    aligned = align(stripes, (ALIGNED_POINTS * 10).astype(np.float32), 112)
    assert aligned[40:70, 40:70].std() < 20
    assert aligned[40:70, 40:70].mean() == pytest.approx(127, abs=12)
