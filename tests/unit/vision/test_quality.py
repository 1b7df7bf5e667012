"""Fitness of faces for recognition."""

import dataclasses

import cv2
import numpy as np
import pytest

from shared.domain import Face, Quality
from shared.vision.quality import REASONS, QualityGate, assess, pitch_of, roll_of, yaw_of

GATE = QualityGate(
    min_size_px=40,
    min_sharpness=20,
    min_confidence=0.9,
    max_abs_yaw=0.6,
    max_abs_pitch=0.3,
    max_abs_roll=25,
    max_dark=0.2,
    max_bright=0.1,
    min_contrast=10,
)
GOOD = Quality(
    size_px=80, sharpness=200, yaw=0.1, brightness=120, confidence=0.99, pitch=0.0, roll=1.0, dark=0.0, contrast=30.0
)
LEVEL = np.float32([[0, 0], [10, 0], [5, 5.5], [1, 10], [9, 10]])


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
        ({"pitch": -0.31}, "looking_up"),
        ({"pitch": 0.31}, "looking_down"),
        ({"pitch": None}, None),
        ({"roll": 26.0}, "tilted"),
        ({"roll": -26.0}, "tilted"),
        ({"roll": None}, None),
        ({"dark": 0.21}, "too_dark"),
        ({"bright": 0.11}, "too_bright"),
        ({"contrast": 9.9}, "low_contrast"),
        ({"contrast": None}, None),
        ({"dark": 0.9, "sharpness": 1.0}, "too_dark"),
    ],
)
def test_the_gate_says_why(change, reason):
    assert GATE.reason(dataclasses.replace(GOOD, **change)) == reason
    assert reason is None or reason in REASONS


def test_what_an_earlier_version_stored_passes_what_it_did_not_measure():
    old = Quality.of({"size_px": 80, "sharpness": 200, "yaw": 0.1, "brightness": 120, "confidence": 0.99})
    assert (old.pitch, old.roll, old.dark, old.bright, old.contrast) == (None, None, 0.0, 0.0, None)
    assert GATE.reason(old) is None


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


@pytest.mark.parametrize("angle", [-40, 0, 25])
def test_pitch_and_yaw_are_those_of_the_head_however_it_is_tilted(angle):
    turn = cv2.getRotationMatrix2D((0, 0), -angle, 1.0)[:, :2].astype(np.float32)
    down, up = LEVEL.copy(), LEVEL.copy()
    down[2, 1], up[2, 1] = 8.0, 3.0
    assert pitch_of(LEVEL @ turn.T) == pytest.approx(0.0, abs=1e-5)
    assert pitch_of(down @ turn.T) == pytest.approx(0.25, abs=1e-5)
    assert pitch_of(up @ turn.T) == pytest.approx(-0.25, abs=1e-5)
    assert roll_of(LEVEL @ turn.T) == pytest.approx(angle, abs=1e-3), "clockwise in the picture"


def test_landmarks_in_one_place_have_a_pose_that_no_gate_lets_through():
    nowhere = np.zeros((5, 2), np.float32)
    assert pitch_of(nowhere) == 1.0 and roll_of(nowhere) == 0.0


@pytest.mark.parametrize(("level", "dark", "bright"), [(5, 1.0, 0.0), (120, 0.0, 0.0), (252, 0.0, 1.0)])
def test_exposure_is_what_share_of_the_face_is_lost(level, dark, bright):
    quality = assess(np.full((100, 100, 3), level, np.uint8), face(10, 10, 90, 90))
    assert (quality.dark, quality.bright, quality.contrast) == (dark, bright, 0.0)


def test_dark_hair_about_a_face_does_not_make_it_dark():
    image = np.zeros((112, 112, 3), np.uint8)
    image[28:, 20:92] = 120
    assert assess(image, face(0, 0, 112, 112)).dark == 0.0
    assert assess(np.full((50, 50, 3), 130, np.uint8), face(60, 60, 90, 90)).contrast is None, "nothing was measured"
