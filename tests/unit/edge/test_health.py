"""The picture's health: each fault is said once at its beginning and once at its end, and nothing where all is well."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_uploader.capture.health import (
    BLACK,
    BLINDED,
    COVERED,
    FROZEN,
    MOVED,
    OK,
    HealthOptions,
    PictureHealth,
    edges,
    shrink,
)

FPS = 2.5
FAULT_S = (30.0, 60.0)


def room(seed=7, size=(320, 180)):
    """A scene with things in it: lines, boxes, and texture, RGB uint8."""
    random = np.random.default_rng(seed)
    width, height = size
    picture = np.full((height, width, 3), 120, np.uint8)
    for _ in range(60):
        x, y = random.integers(0, width), random.integers(0, height)
        w, h = random.integers(10, 60, 2)
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), random.integers(30, 220, 3).tolist(), -1)
    return picture


def walker(picture, at_s):
    """Somebody who crosses the picture every ten seconds, and is not always there."""
    width = picture.shape[1]
    left = int((at_s % 10) / 8 * width)
    if left < width:
        picture[50:175, left : left + 40] = (200, 60, 60)
    return picture


class Noise:
    """A sensor's noise, different in each frame; one field of it is rolled, which is cheap."""

    def __init__(self, sigma):
        self._field = np.random.default_rng(1).normal(0, sigma, (460, 640, 1)).astype(np.float32)
        self._turn = 0

    def __call__(self, picture):
        self._turn += 37
        height, width = picture.shape[:2]
        field = np.roll(self._field, self._turn, axis=1)[self._turn % 97 :][:height, :width]
        return np.clip(picture + field, 0, 255).astype(np.uint8)


def watch(frame, *, seconds=80.0, options=None):
    """What is said of frames made by `frame(at_s)`: (when, kind), rounded to seconds."""
    health, said = PictureHealth(options), []
    for number in range(int(seconds * FPS)):
        at_s = number / FPS
        change = health.look(frame(at_s), at_s)
        if change:
            said.append((round(at_s), change.now))
    return said


class Camera:
    """A camera that has noise and sees walkers, and to which something happens for half a minute."""

    def __init__(self, fault=None, sigma=2.0):
        self._room, self._noise, self._fault = room(), Noise(sigma), fault

    def __call__(self, at_s):
        picture = walker(self._room.copy(), at_s)
        if self._fault and FAULT_S[0] <= at_s < FAULT_S[1]:
            picture = self._fault(picture)
        return self._noise(picture)


def turned(picture):
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 10, 1)
    return cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


FAULTS = {
    "black": (lambda p: p // 50, BLACK, 33),
    "blinded": (lambda p: np.clip(p.astype(np.int16) + 240, 0, 255).astype(np.uint8), BLINDED, 35),
    "defocused": (lambda p: cv2.GaussianBlur(p, (0, 0), 6), COVERED, 38),
    "painted over": (lambda p: np.full_like(p, 90), COVERED, 38),
    "shifted": (lambda p: np.roll(p, (12, 20), axis=(0, 1)), MOVED, 40),
    "turned": (turned, MOVED, 40),
    "another view": (lambda p: room(99), MOVED, 40),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_once_within_its_time_and_once_when_it_is_over(name):
    fault, kind, at_s = FAULTS[name]
    said = watch(Camera(fault))
    assert [what for _, what in said] == [kind, OK]
    # A moved view is averaged over some seconds, before and after.
    assert at_s - 1 <= said[0][0] <= at_s + 6
    assert 61 <= said[1][0] <= 68


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0])
def test_nothing_is_said_of_a_camera_that_is_well(sigma):
    assert watch(Camera(sigma=sigma)) == []


def test_lights_that_are_dimmed_are_no_hand_before_the_lens():
    assert watch(Camera(lambda p: p // 3)) == []


def test_somebody_before_the_lens_for_a_few_seconds_is_not_said():
    near = watch(lambda at_s: Camera(FAULTS["painted over"][0])(FAULT_S[0]) if 30 <= at_s < 36 else Camera()(at_s))
    assert near == []


def test_a_lens_through_which_faces_are_followed_is_not_covered():
    camera = Camera(FAULTS["painted over"][0])
    for faces, said in ((True, [OK]), (False, [COVERED])):
        health = PictureHealth()
        for number in range(int(55 * FPS)):
            health.look(camera(number / FPS), number / FPS, faces=faces)
        assert [health.state] == said


def frozen(camera, begin_s, end_s):
    held = camera(begin_s)
    return lambda at_s: held if begin_s <= at_s < end_s else camera(at_s)


def test_a_frozen_picture_is_found_when_it_has_lasted():
    said = watch(frozen(Camera(), 30, 60))
    assert [what for _, what in said] == [FROZEN, OK]
    assert 50 <= said[0][0] <= 51 and 61 <= said[1][0] <= 64


def test_a_frozen_picture_is_found_through_a_codecs_noise():
    """An encoder that is given one picture again and again puts out pictures that differ by what it rounds."""
    camera, random = Camera(), np.random.default_rng(3)
    held = camera(30.0)

    def frame(at_s):
        if not 30 <= at_s < 60:
            return camera(at_s)
        flips = random.random((held.shape[0], held.shape[1], 1)) < 0.05
        return np.clip(held.astype(np.int16) + flips, 0, 255).astype(np.uint8)

    assert [what for _, what in watch(frame)] == [FROZEN, OK]


def test_a_drawn_scene_in_which_nothing_happens_is_not_frozen_for_minutes():
    scene = room()

    def frame(at_s):
        return walker(scene.copy(), at_s) if at_s % 60 < 10 else scene

    assert watch(frame, seconds=240) == []
    assert watch(lambda _: scene, seconds=310) == [(300, FROZEN)]


def test_a_slow_dusk_is_not_a_frozen_picture():
    scene = room().astype(np.float32)
    assert watch(lambda at_s: (scene - at_s / 4).astype(np.uint8), options=HealthOptions(still_s=20.0)) == []


def test_a_gap_is_no_time_that_something_lasted():
    health, camera = PictureHealth(), Camera()
    for number in range(50):
        health.look(camera(number / FPS), number / FPS)
    dark = np.zeros((180, 320, 3), np.uint8)
    assert health.look(dark, 20.0) is None
    assert health.look(dark, 40.0) is None, "20 s passed of which nothing was seen"
    assert health.look(dark, 43.0) is not None


def test_a_view_that_stays_moved_becomes_the_new_one():
    options = HealthOptions(settle_s=8.0)
    said = watch(Camera(FAULTS["another view"][0]), options=options, seconds=58)
    assert [what for _, what in said] == [MOVED, OK]
    assert said[1][0] - said[0][0] in (8, 9)


def test_another_size_begins_anew():
    small, large = room(size=(320, 180)), room(size=(640, 360))
    noise = Noise(2.0)
    assert watch(lambda at_s: noise(small if at_s < 30 else large)) == []


@pytest.mark.parametrize("size", [(3840, 2160), (2160, 3840), (1, 1), (17, 900), (640, 480)])
def test_any_size_is_looked_at(size):
    picture = room(size=size) if min(size) > 1 else np.zeros((1, 1, 3), np.uint8)
    grey = shrink(picture)
    assert max(grey.shape) <= 330
    assert edges(grey).shape == grey.shape
    health = PictureHealth()
    for number in range(40):
        health.look(picture, number / FPS)
