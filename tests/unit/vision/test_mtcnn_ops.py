"""The arithmetic around MTCNN's networks, without the networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.vision import _mtcnn_ops as ops


def pooled(pixels, columns, rows):
    """The definition: each place is the mean of the pixels it covers, even partly."""
    out = np.zeros((columns, rows, 3))
    width, height = pixels.shape[:2]
    for i in range(columns):
        for j in range(rows):
            x0, x1 = i * width // columns, -(-(i + 1) * width // columns)
            y0, y1 = j * height // rows, -(-(j + 1) * height // rows)
            out[i, j] = pixels[x0:x1, y0:y1].mean(axis=(0, 1))
    return (out - 127.5) / 128


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_means_are_the_means_of_what_is_covered(width, height, columns, rows, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (width, height, 3), dtype=np.uint8)
    found = ops.Means(pixels).over(ops.bins(width, columns), ops.bins(height, rows))
    assert found.dtype == np.float32
    assert np.allclose(found, pooled(pixels, columns, rows), atol=1e-5)


def test_crops_are_the_parts_inside_the_image_stretched():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    boxes = np.array([[5, 6, 25, 26], [-8, -3, 20, 18], [30, 20, 70, 60]], np.float32)
    found = ops.Means(pixels).crops(boxes, 24)
    inside = [pixels[4:25, 5:26], pixels[0:20, 0:18], pixels[29:50, 19:40]]
    for crop, part in zip(found, inside, strict=True):
        assert np.allclose(crop, pooled(part, 24, 24), atol=1e-5)


def test_a_large_image_has_the_same_crops_and_levels_without_a_table_of_it_all(monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    boxes = np.array([[5, 6, 25, 26], [-8, -3, 20, 18], [50, 60, 90, 99]], np.float32)
    x, y = ops.bins(60, 31), ops.bins(80, 44)
    table = ops.Means(pixels)
    monkeypatch.setattr(ops, "_TABLE_PIXELS", 100)
    parts = ops.Means(pixels)
    assert np.allclose(table.crops(boxes, 24), parts.crops(boxes, 24), atol=1e-6)
    assert np.allclose(table.over(x.part(7, 20), y), parts.over(x.part(7, 20), y), atol=1e-6)


def test_a_box_outside_the_image_is_cropped_without_a_fault():
    pixels = np.full((20, 20, 3), 255, np.uint8)
    boxes = np.array([[-90, -90, -50, -50], [50, 50, 90, 90], [19, 19, 19, 19]], np.float32)
    assert np.allclose(ops.Means(pixels).crops(boxes, 24), 127.5 / 128)


def test_the_first_level_finds_the_smallest_face():
    scales = ops.pyramid(640, 480, min_face_px=24)
    assert scales[0] == pytest.approx(0.5)
    assert 480 * scales[-1] >= ops.WINDOW_PX > 480 * scales[-1] * ops.PYRAMID_FACTOR


def test_a_bounded_size_needs_few_levels():
    everything = ops.pyramid(400, 400, min_face_px=20)
    bounded = ops.pyramid(400, 400, min_face_px=90, max_face_px=160)
    assert len(everything) == 9
    assert len(bounded) == 3
    assert 12 / bounded[-1] >= 160


def test_an_image_smaller_than_the_smallest_face_has_no_level():
    assert ops.pyramid(19, 300, min_face_px=20) == []


def test_windows_map_back_to_the_image():
    face = np.zeros((4, 5), np.float32)
    face[2, 3] = 0.95
    offsets = np.zeros((4, 5, 4), np.float32)
    offsets[2, 3] = [0.1, 0.2, 0.3, 0.4]
    boxes, scores, found = ops.windows(face, offsets, scale=0.5, threshold=0.6)
    # window at (4, 6) of the level: 2 · (2, 3); 1-based corners, divided by the scale
    assert boxes.tolist() == [[10, 14, 32, 36]]
    assert scores.tolist() == pytest.approx([0.95])
    assert found.tolist() == pytest.approx(np.array([[0.1, 0.2, 0.3, 0.4]]))


def test_shift_moves_each_side_by_its_part_of_the_box():
    box = np.array([[0, 0, 9, 19]], np.float32)
    assert ops.shift(box, np.array([[0.1, 0.1, -0.1, 0.2]], np.float32), inclusive=1).tolist() == [[1, 2, 8, 23]]


def test_landmarks_are_parts_of_the_box():
    relative = np.array([[0.0, 0.5, 1.0, 0.2, 0.4, 0.0, 0.5, 1.0, 0.6, 0.8]], np.float32)
    points = ops.place_landmarks(np.array([[11, 21, 20, 40]], np.float32), relative)
    assert points.shape == (1, 5, 2)
    assert points[0, 1].tolist() == [15, 30]
    assert points[0, 2].tolist() == [20, 40]
