"""Fitness of faces for recognition."""

import cv2
import numpy as np
import pytest

from shared.domain import Face, Quality
from shared.vision.quality import QualityGate, assess, yaw_of

GATE = QualityGate(min_size_px=40, min_sharpness=20, min_confidence=0.9, max_abs_yaw=0.6)
GOOD = Quality(size_px=80, sharpness=200, yaw=0.1, brightness=120, confidence=0.99)


def textured(size=200):
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def face(*box, confidence=0.9, landmarks=None):
    return Face(np.array(box, np.float32), confidence, landmarks)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"confidence": 0.5}, "low_confidence"),
        ({"size_px": 39.9}, "too_small"),
        ({"sharpness": 19.9}, "too_blurred"),
        ({"yaw": -0.7}, "turned_away"),
        ({"yaw": 0.7}, "turned_away"),
        ({"yaw": None}, None),
    ],
)
def test_the_gate_says_why(change, reason):
    fields = {name: getattr(GOOD, name) for name in ("size_px", "sharpness", "yaw", "brightness", "confidence")}
    assert GATE.reason(Quality(**fields | change)) == reason


def test_without_a_limit_profiles_pass():
    gate = QualityGate(min_size_px=40, min_sharpness=20, min_confidence=0.9)
    assert gate.reason(Quality(80, 200, 1.0, 120, 0.99)) is None


def test_blur_lowers_sharpness():
    sharp = textured()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 4)
    where = face(20, 20, 180, 180)
    assert assess(blurred, where).sharpness < assess(sharp, where).sharpness / 20


def test_size_is_the_shorter_side_and_brightness_the_mean():
    grey = np.full((100, 100, 3), 60, np.uint8)
    quality = assess(grey, face(10, 10, 40, 70, confidence=0.7))
    assert quality.size_px == 30
    assert quality.brightness == pytest.approx(60, abs=1)
    assert quality.sharpness == 0
    assert quality.confidence == pytest.approx(0.7)
    assert quality.yaw is None


def test_a_face_outside_the_image_is_of_no_use_but_no_fault():
    assert assess(textured(50), face(60, 60, 90, 90)).sharpness == 0


def test_yaw_follows_the_nose_also_on_a_tilted_head():
    upright = np.array([[0, 0], [10, 0], [7.5, 5], [1, 9], [9, 9]], np.float32)
    assert yaw_of(upright) == pytest.approx(0.5)
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert yaw_of((upright @ turn.T).astype(np.float32)) == pytest.approx(0.5, abs=1e-5)


def test_eyes_in_one_place_are_a_profile():
    assert abs(yaw_of(np.zeros((5, 2), np.float32))) == 1
