"""Boxes: the arithmetic, against the plain definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.vision.boxes import area, clip, enlarge, iou, nms, overlaps, square

coordinate = st.integers(-50, 50)
box = st.tuples(coordinate, coordinate, st.integers(1, 60), st.integers(1, 60)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
many_boxes = st.lists(box, min_size=1, max_size=20).map(lambda rows: np.array(rows, np.float32))


def plain_nms(boxes, scores, threshold, over):
    waiting = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [i for i in waiting if overlaps(boxes[[best]], boxes[[i]], over)[0, 0] <= threshold]
    return kept


@given(box, box)
def test_iou_counts_shared_cells(first, second):
    cells = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (first, second)]
    expected = len(cells[0] & cells[1]) / len(cells[0] | cells[1])
    assert iou(np.array(first, np.float32), np.array(second, np.float32)) == pytest.approx(expected, abs=1e-6)


@given(many_boxes, st.randoms(use_true_random=False), st.sampled_from(["union", "smaller"]))
@settings(max_examples=60, deadline=None)
def test_nms_is_the_greedy_loop(boxes, random, over):
    scores = np.array([random.choice([0.1, 0.5, 0.9]) for _ in boxes], np.float32)
    assert nms(boxes, scores, 0.4, over).tolist() == plain_nms(boxes, scores, 0.4, over)


def test_nms_of_more_boxes_than_a_block_is_the_greedy_loop():
    random = np.random.default_rng(3)
    low = random.uniform(0, 200, (700, 2))
    boxes = np.concatenate([low, low + random.uniform(5, 40, (700, 2))], axis=1).astype(np.float32)
    scores = random.uniform(size=700).astype(np.float32)
    assert nms(boxes, scores, 0.3).tolist() == plain_nms(boxes, scores, 0.3, "union")


def test_nms_of_nothing_is_nothing():
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []


def test_a_box_inside_another_is_covered_only_over_the_smaller():
    boxes = np.array([[0, 0, 100, 100], [10, 10, 20, 20]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, 0.7).tolist() == [0, 1]
    assert nms(boxes, scores, 0.7, "smaller").tolist() == [0]


@given(many_boxes)
def test_square_keeps_the_centre_and_the_longer_side(boxes):
    squared = square(boxes)
    sides = squared[:, 2:] - squared[:, :2]
    assert np.allclose(sides, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True))
    assert np.allclose(squared[:, :2] + squared[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-3)


def test_clip_keeps_what_is_inside_the_image():
    assert clip(np.array([[-5, 2, 30, 40]], np.float32), width=20, height=10).tolist() == [[0, 2, 20, 10]]


def test_enlarge_is_about_the_centre():
    assert enlarge(np.array([[0, 0, 4, 2]], np.float32), 2.0).tolist() == [[-2, -1, 6, 3]]


def test_a_box_inside_out_has_no_area():
    assert area(np.array([[5, 5, 1, 9]], np.float32)).tolist() == [0]
