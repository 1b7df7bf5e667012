"""Looks at the whole picture, and glances at where faces are expected."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from edge_uploader.capture.sources import Frame
from edge_uploader.selection.looking import Looker
from tests.unit.edge.fakes import ColourDetector, picture

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SIZE = (1920, 1080)


class Onlooking(ColourDetector):
    """Notes how many pixels it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[int] = []

    def detect(self, image):
        self.shown.append(image.shape[0] * image.shape[1])
        return super().detect(image)


def frame(*boxes, size=SIZE):
    return Frame(picture(*boxes, size=size), AT, 0, 0.0)


def looker(**changes):
    detector = Onlooking()
    return Looker(detector, **({"input_px": 640, "low_confidence": 0.3, "min_face_px": 20} | changes)), detector


def boxes_of(faces):
    return np.array(sorted(face.box.tolist() for face in faces))


EVERYWHERE = [
    (900, 500, 960, 580),  # in the middle
    (0, 0, 60, 80),  # in a corner
    (1860, 1000, 1920, 1080),  # in the other
    (200, 300, 500, 700),  # larger than a square of the canvas
    (1500, 400, 1530, 440),  # smaller
]


@pytest.mark.parametrize("box", EVERYWHERE)
def test_a_glance_finds_a_face_where_it_is_expected_and_where_it_has_gone(box):
    look, detector = looker()
    side = max(box[2] - box[0], box[3] - box[1])
    for dx, dy in [(0, 0), (0.8, 0), (0, -0.8)]:
        expected = np.float32([box]) + np.float32([dx, dy, dx, dy]) * side
        (found,) = look.glance(frame(box), expected)
        assert np.abs(found.box - box).max() <= 0.04 * side + 2
        centre = (found.box[:2] + found.box[2:]) / 2
        assert np.abs(found.landmarks.mean(axis=0) - centre).max() < 0.2 * side
    assert max(detector.shown) <= 128 * 128


def test_a_glance_at_many_finds_each_once_however_near_they_are():
    close = [(600 + 90 * i, 400, 660 + 90 * i, 480) for i in range(5)]
    look, _ = looker()
    found = look.glance(frame(*close), np.float32(close))
    assert np.abs(boxes_of(found) - close).max() < 4


def test_what_is_away_from_the_expected_is_not_seen_in_a_glance_but_by_a_look_at_the_whole():
    look, _ = looker()
    both = frame((300, 300, 360, 380), (1500, 700, 1560, 780))
    assert len(look.glance(both, np.float32([[300, 300, 360, 380]]))) == 1
    assert np.abs(boxes_of(look.whole(both)) - [(300, 300, 360, 380), (1500, 700, 1560, 780)]).max() <= 4


def test_a_face_that_a_square_cuts_off_is_left_out_and_one_that_the_frame_cuts_off_is_not():
    look, _ = looker()
    # The square about (600, 400) is 280 px wide and ends at 740.
    assert look.glance(frame((700, 400, 800, 480)), np.float32([[570, 360, 630, 440]])) == []
    (found,) = look.glance(frame((0, 400, 25, 480)), np.float32([[-35, 400, 25, 480]]))
    assert found.box[0] <= 2


def test_small_and_doubtful_faces_are_dropped_by_both_looks():
    box = (900, 500, 930, 540)
    for changes in ({"min_face_px": 60}, {"low_confidence": 0.95}):
        look, _ = looker(**changes)
        assert look.whole(frame(box)) == [] == look.glance(frame(box), np.float32([box]))


@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160), (1080, 1920), (1271, 713), (640, 360), (200, 120)])
def test_the_whole_is_seen_reduced_and_answered_in_the_frames_own_pixels(size):
    width, height = size
    box = (width // 2, height // 3, width // 2 + width // 8, height // 3 + height // 5)
    look, detector = looker()
    (found,) = look.whole(frame(box, size=size))
    assert np.abs(found.box - box).max() <= 1 + max(size) / 640
    assert detector.shown[0] <= 1280 * 1280


def test_a_detector_that_wants_more_pixels_gets_the_frame_itself():
    look, detector = looker(input_px=960)
    look.whole(frame((900, 500, 960, 580)))
    assert detector.shown == [1920 * 1080]


@pytest.mark.parametrize(("count", "worth"), [(0, False), (1, True), (16, True), (17, False), (40, False)])
def test_a_glance_is_worth_it_while_it_shows_clearly_less_than_the_whole(count, worth):
    look, _ = looker()
    assert look.worth_a_glance(frame(), np.zeros((count, 4), np.float32)) is worth
